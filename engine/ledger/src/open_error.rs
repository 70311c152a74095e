//! Why a ledger could not be opened for writing.

use std::path::PathBuf;

use daybook_schema::{Head, UnixMicros};

use crate::database::DatabaseError;
use crate::keys::error::KeysError;
use crate::lock::LockError;
use crate::lost_heads::KnownHead;
use crate::lost_ledgers::{LostLedger, listed};
use crate::reader::ReadError;
use crate::replay::ReplayError;
use crate::restored::RestoredError;
use crate::submission::SubmitError;
use crate::verdict::Finding;

/// A ledger could not be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not there, or is not a ledger of this format.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Another process writes it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It is damaged: nothing is written to it. Reading what is sound stays possible.
    #[error("ledger is damaged, nothing is written to it: {0}")]
    Damaged(Finding),
    /// The data directory cannot be made.
    #[error("directory `{}` cannot be made", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not do it.
    #[error("ledger cannot be recovered")]
    Sqlite(#[from] rusqlite::Error),
    /// The file system could not do it.
    #[error("ledger cannot be recovered")]
    Io(#[from] std::io::Error),
    /// There is no ledger, and something tells that there was one: none is made in its place.
    #[error(
        "there is no ledger at `{}`, but {} of it; nothing was made: put it back, or name it as the one that \
         a new ledger takes the place of",
        path.display(),
        listed(lost)
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// What tells of it; at least one.
        lost: Vec<LostLedger>,
    },
    /// The wall clock is far ahead of the newest event. What is recorded at a wrong time stays so
    /// for ever, and later clients with right clocks would be refused: only a backup helps then.
    #[error(
        "the wall clock says {} s, {} days after the newest event; nothing was written: set the clock right, \
         or say that it is",
        wall.get() / 1_000_000,
        wall.micros_since(*newest) / DAY_MICROS
    )]
    ClockAhead {
        /// What the clock says.
        wall: UnixMicros,
        /// When the newest event was recorded.
        newest: UnixMicros,
    },
    /// Events are known of that the ledger does not have: it is an older copy, or was altered.
    #[error(
        "the ledger ends at {newest} and does not have the head {missing}; nothing was written: put the \
         newer ledger back, or accept the loss, which ends every season in play"
    )]
    Behind {
        /// The ledger's newest event.
        newest: Head,
        /// What it lacks.
        missing: Box<KnownHead>,
    },
    /// The newest head in the keys directory is of no use.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The mark of a restore is of no use.
    #[error(transparent)]
    Restored(#[from] RestoredError),
    /// The ledger opened, but could not be brought into its new epoch.
    #[error("the loss was not accepted to its end")]
    Restore(#[from] SubmitError),
    /// Submissions may bring the time of a demo's ledger alone.
    #[error("the ledger is not a demo's: its time comes from the clock")]
    NotADemo,
}

const DAY_MICROS: i64 = 86_400 * 1_000_000;

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(finding) => Self::Damaged(finding),
            ReadError::Sqlite(error) => Self::Sqlite(error),
            ReadError::BrokeOff { .. } | ReadError::UnknownHead { .. } => {
                Self::Io(std::io::Error::other(error.to_string()))
            }
        }
    }
}

impl From<ReplayError> for OpenError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Open(error) => Self::Database(error),
            ReplayError::Damaged(finding) => Self::Damaged(finding),
            ReplayError::Sqlite(error) => Self::Sqlite(error),
        }
    }
}
