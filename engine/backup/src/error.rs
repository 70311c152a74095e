//! Why a backup was not made, or not put back.

use std::path::{Path, PathBuf};

use daybook_api::AccountsError;
use daybook_ledger::{CopyError, DatabaseError, KnownHead, LockError, ReadError, RestoredError};
use daybook_projections::sqlx;
use daybook_schema::Head;

/// A backup was not made, or not put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system could not do it.
    #[error("`{}` cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not do it.
    #[error("`{}` cannot be copied", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// SQLite finds a file damaged.
    #[error("`{}` is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The ledger cannot be copied.
    #[error("the ledger in `{}` cannot be copied", path.display())]
    Ledger {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: CopyError,
    },
    /// There is no ledger.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The ledger lacks events that are known of: a copy of it is no backup.
    #[error(
        "the ledger ends at {newest} and does not have the head {missing}: a copy of it would be no backup, and \
         none was made; put the newer ledger back"
    )]
    Behind {
        /// Its newest event.
        newest: Head,
        /// What it lacks.
        missing: Box<KnownHead>,
    },
    /// The accounts lack users of the ledger's: a backup of them is none.
    #[error(
        "`{}` has no account of {users} users whom the ledger has: nobody could log in after a restore, and no \
         backup was made; put the right file back, or say --without-accounts where users have no accounts",
        path.display()
    )]
    LacksAccounts {
        /// The accounts.
        path: PathBuf,
        /// How many users they lack.
        users: usize,
    },
    /// It was restored, and not started since.
    #[error(
        "`{}` was restored and has not been started since: start it once, then make a backup; the one that it was \
         restored from is the same until then",
        path.display()
    )]
    NotStarted {
        /// The directory.
        path: PathBuf,
    },
    /// Another process makes a backup there.
    #[error("another process makes a backup in `{}`; wait for it, or name another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is no whole backup.
    #[error("`{}` is no whole backup: it has no backup.json{}", path.display(), newest_of(newest.as_deref()))]
    NoBackup {
        /// The directory.
        path: PathBuf,
        /// The newest backup in it, where it is a directory of backups.
        newest: Option<PathBuf>,
    },
    /// What the manifest says is not of this version, or nothing that a backup writes.
    #[error("`{}` is not what this version of daybook writes: {detail}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file is not what it was when the backup was made.
    #[error(
        "`{}` is not what it was when the backup was made: {detail}; nothing was restored, take another backup",
        path.display()
    )]
    Altered {
        /// The file.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// Something lies where the backup is to be put.
    #[error(
        "`{}` is in the way: a backup is restored where nothing is; move it away, or name another directory with \
         --data",
        path.display()
    )]
    InTheWay {
        /// What lies there.
        path: PathBuf,
    },
    /// A service runs there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The accounts cannot be brought up to date.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The accounts could not be written.
    #[error("the restored accounts could not be written: {0}")]
    Settling(String),
    /// The mark of the restore cannot be written.
    #[error(transparent)]
    Restored(#[from] RestoredError),
}

fn newest_of(newest: Option<&Path>) -> String {
    newest.map_or(String::new(), |newest| {
        format!("; it holds several, the newest is `{}`", newest.display())
    })
}

/// An error about a file.
pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> BackupError {
    move |source| BackupError::Io { path: path.to_owned(), source }
}
