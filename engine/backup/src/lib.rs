//! Backups of all that a service keeps: made while it runs, verified before they are called done,
//! and put back.
//!
//! A backup is a directory. It has its own name only when it is whole: until then it ends with
//! `.partial`. [`Manifest`] says what it holds.
//!
//! The order in which the files are copied matters. `game.db` and `accounts.db` come before
//! `ledger.db`: so the ledger has every event that the read models stand for. Whoever registered
//! between the two copies is in the ledger alone; [`restore`] gives these accounts up.

mod backup;
mod error;
mod files;
mod keep;
mod manifest;
mod restore;

pub use backup::{Asked, backup};
pub use error::BackupError;
pub use keep::{Kept, keep_newest};
pub use manifest::{FileEntry, MANIFEST, Manifest};
pub use restore::{RestoreAsked, RestoreDone, restore};
