//! Why `accounts.db` cannot be opened, and how it was lost.

use std::path::{Path, PathBuf};

use daybook_projections::MigrationError;
use daybook_projections::sqlx;
use daybook_schema::LedgerId;

/// `accounts.db` cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// Its tables are not this version's.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// SQLite could not do it.
    #[error("`{}` cannot be opened", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The ledger has people whom the file lacks: it is gone, an older copy, or lost its log.
    #[error(
        "`{}` lacks the accounts of {users} player(s) that the ledger has: put the right file in place{}, or give \
         these accounts up: `daybook serve --new-accounts`",
        path.display(),
        beside(path)
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// How many players it lacks.
        users: usize,
    },
    /// It is no database, or a damaged one.
    #[error("`{}` is damaged or no database: put the right file in place{}", path.display(), beside(path))]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Another program keeps it locked.
    #[error("another program keeps `{}` locked: end it, and start again", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The people in it play in another ledger.
    #[error(
        "`{}` holds the accounts of ledger {holds}, and the one at hand is {given}: put the right one in its place",
        path.display()
    )]
    AnotherLedger {
        /// The file.
        path: PathBuf,
        /// Whose accounts they are.
        holds: LedgerId,
        /// Which ledger is at hand.
        given: LedgerId,
    },
    /// A write-ahead log without its database.
    #[error(
        "`{}-wal` lies there without its database: put that back, or move the log away",
        path.display()
    )]
    OrphanedLog {
        /// The database.
        path: PathBuf,
    },
}

/// The newest file that a process saved when it lost its accounts, if there is one.
fn beside(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = path.parent().and_then(|parent| std::fs::read_dir(parent).ok());
    let names = entries.into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let rescued = names.filter(|found| found.starts_with(&format!("{name}.rescued-"))).max();
    rescued.map_or_else(String::new, |rescued| format!(" (`{rescued}` lies beside it)"))
}

/// `accounts.db` is lost to this process: nothing more is written, and nobody is answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing more is written to `{}`: {reason}; {rescued}", path.display())]
pub struct AccountsLost {
    /// The file.
    pub path: PathBuf,
    /// What happened to it.
    pub reason: String,
    /// Where what this process saw was saved.
    pub rescued: String,
}
