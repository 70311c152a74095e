//! The store of Daybook: an append-only, hash-chained ledger in SQLite with one writer.
//!
//! [`Ledger`] is the engine: it decides commands, commits their events and answers when they are on
//! disk. [`Reader`] reads events beside it, [`Subscription`] follows them live, [`verify()`] proves
//! that nothing was altered, and [`replay()`] rebuilds the state at any point.
//!
//! ```
//! use daybook_ledger::{Ledger, NewLedger, Options, Reader, Submission};
//! use daybook_schema::{Command, Seq, UserId};
//! use daybook_simulator::{Keyring, SeasonKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let key = SeasonKey::new([7; 32]);
//! let key_id = key.key_id();
//!
//! // Open, creating the ledger if there is none, and put a season key in force.
//! let options = Options::new(directory.path(), Keyring::new([key])).create(NewLedger::random());
//! let ledger = Ledger::open(options)?;
//! ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.wait()?;
//!
//! // A returned answer means: on disk.
//! let user_id = UserId::random();
//! let accepted = ledger.submit(Submission::new(Command::RegisterUser { user_id }))?.wait()?;
//! assert_eq!(accepted.head.seq, 3);
//!
//! // Ask for the state; the answer stands for everything that was committed before.
//! let users = ledger.query(|state| state.users.len())?.wait()?;
//! assert_eq!(users, 1);
//!
//! // Read the events back.
//! let reader = Reader::open(directory.path())?;
//! let kinds: Vec<_> = reader
//!     .events_from(Seq::MIN)
//!     .map(|event| Ok(event?.event.kind().as_str()))
//!     .collect::<Result<_, daybook_ledger::ReadError>>()?;
//! assert_eq!(kinds, ["key_rotated", "user_registered", "commitment_published"]);
//! ledger.close().wait()?;
//! # Ok(())
//! # }
//! ```

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod accept_loss;
mod batch;
mod chain_check;
mod checkpoint;
mod clock;
mod closing;
mod command_ids;
mod committed_events;
mod database;
mod day_keys;
mod decider;
mod event_cut;
mod event_row;
mod files;
mod foreign_panics;
mod free_disk;
mod handed_rows;
mod held_file;
mod housekeeping;
pub mod keys;
mod ledger;
mod ledger_copy;
mod ledger_file;
mod lock;
mod lost_heads;
mod lost_ledgers;
mod newest_head;
mod open;
mod open_batch;
mod open_error;
mod options;
mod read_ahead;
mod reader;
mod recovery;
mod replay;
mod restored;
mod scan;
mod scoped_ids;
mod signed_blocks_and_heads;
mod snapshot;
mod snapshot_thread;
mod state_thread;
mod status;
mod stream_heads;
mod structure_check;
mod submission;
mod subscription;
mod verdict;
mod verify;
mod writer_thread;

pub use clock::{SystemTimeSource, TimeSource};
pub use database::{APPLICATION_ID, DatabaseError, ledger_path};
pub use daybook_schema::{Head, ParseHeadError, StoredEvent};
pub use ed25519_dalek::VerifyingKey;
pub use event_cut::Cut;
pub use files::{UnfinishedFile, copy_aside, create_directories};
pub use free_disk::free_bytes;
pub use housekeeping::{Keeper, Withdrawn};
pub use ledger::Ledger;
pub use ledger_copy::{CopyError, LedgerCopy, copy_ledger};
pub use lock::{LockError, WriterLock};
pub use lost_heads::{KnownHead, Standing};
pub use lost_ledgers::LostLedger;
pub use newest_head::{NewestHead, read_newest_head};
pub use open_error::OpenError;
pub use options::{KnownLedger, NewLedger, Options, Time};
pub use reader::{Events, ReadError, Reader};
pub use replay::{ReplayError, Replayed, replay};
pub use restored::{Restored, RestoredError};
pub use signed_blocks_and_heads::{
    HeadNote, Signer, is_answered_head, is_signed_block, read_head_note,
};
pub use snapshot::snapshots_path;
pub use snapshot_thread::make_snapshot;
pub use status::{Failure, Health, Stopped};
pub use submission::{Accepted, FirstUse, Pending, Submission, SubmitError};
pub use subscription::{Follower, Subscription};
pub use verdict::{Finding, Verdict};
pub use verify::{Report, UnrevealedSeason, VerifyError, VerifyOptions, verify};
