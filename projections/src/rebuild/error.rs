//! Why a projection's tables could not be made anew.

use std::path::PathBuf;

use crate::database::FileError;
use crate::feed::FeedError;
use crate::game_file::FileLost;
use crate::projection::ApplyError;

/// A projection's tables could not be made anew; the live ones are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The events could not be had.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// An event could not be applied.
    #[error("`{name}` cannot be rebuilt")]
    Apply {
        /// The projection.
        name: &'static str,
        /// Which event, and why.
        source: ApplyError,
    },
    /// SQLite could not do it.
    #[error("the projection cannot be rebuilt")]
    Database(#[from] sqlx::Error),
    /// The live file is lost to this process.
    #[error(transparent)]
    Lost(#[from] FileLost),
    /// The file of the new tables cannot be removed.
    #[error("`{}` cannot be removed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ledger gave no event at all: nothing is put in the place of what there is.
    #[error("`{name}` is not rebuilt: the ledger gave no event")]
    Nothing {
        /// The projection.
        name: &'static str,
    },
    /// Another process rebuilds the same projection.
    #[error("another process is rebuilding `{name}`")]
    Busy {
        /// The projection.
        name: &'static str,
    },
    /// Rows of the new tables refer to rows that are not there.
    #[error("{count} rows of `{table}` refer to nothing")]
    Orphans {
        /// The table.
        table: &'static str,
        /// How many rows.
        count: usize,
    },
}

impl From<FileError> for RebuildError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Lost(lost) => Self::Lost(lost),
            FileError::Sqlite(error) | FileError::Accounts(error) => Self::Database(error),
        }
    }
}
