//! Why a migration was not carried out.

use std::path::{Path, PathBuf};

use daybook_schema::LedgerId;
use sqlx::migrate::MigrateError;

use super::number::MigrationNumber;
use crate::projection::is_passing;
use crate::sqlite::{CORRUPT, NOT_A_DATABASE, result_code};

/// A migration could not be carried out; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A write-ahead log without its database: opening it would make SQLite remove the log.
    #[error(
        "`{}-wal` lies there without its database: put that back, or start `daybook projections run`, which \
         sets the log aside",
        path.display()
    )]
    OrphanedLog {
        /// The database.
        path: PathBuf,
    },
    /// It is no file of SQLite's.
    #[error(
        "`{}` is no SQLite database: look at it and move it away; `daybook projections run` makes the tables \
         anew",
        path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is not there.
    #[error("there is no `{}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A later version made the file, or another's migrations did.
    #[error(
        "`{}` has migration {number}, which this version does not know; use the version that made it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The migration.
        number: MigrationNumber,
    },
    /// The file is somebody else's: a ledger, say.
    #[error(
        "`{}` is not a file of read models or telemetry: it holds `{holds}`",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is in it.
        holds: String,
    },
    /// A file that was set aside, or kept before a migration, cannot be read: it might tell of lost
    /// events.
    #[error(
        "`{}` cannot be read, and might tell of lost events; once you know that the ledger is whole, move it away",
        path.display()
    )]
    Unread {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// A file was set aside as damaged again and again.
    #[error(
        "`{}` was set aside {set_aside} times already (`{}.damaged-…`): look at its disk and at those files, and \
         move them away",
        path.display(),
        path.display()
    )]
    SetAsideTooOften {
        /// The file.
        path: PathBuf,
        /// How often.
        set_aside: usize,
    },
    /// The read models in the file are of another ledger.
    #[error("the read models in `{}` are of ledger {holds}, not of {given}", path.display())]
    AnotherLedger {
        /// The file.
        path: PathBuf,
        /// Whose they are.
        holds: LedgerId,
        /// Whose they should be.
        given: LedgerId,
    },
    /// The file is ours, and tables of it were dropped from outside.
    #[error("tables of `{}` were dropped from outside", path.display())]
    Dropped {
        /// The file.
        path: PathBuf,
    },
    /// Migrations are still to be applied.
    #[error("`{}` lacks migration {number}", path.display())]
    Pending {
        /// The file.
        path: PathBuf,
        /// The first that it lacks.
        number: MigrationNumber,
    },
    /// A migration was changed after it had been applied.
    #[error(
        "migration {number} is not what was applied to `{}`: its checksum differs; put its file back, and write \
         another migration for what shall change", path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The migration.
        number: MigrationNumber,
    },
    /// What a migration left does not hold; it was rolled back.
    #[error("Migration verification failed: {number}: {finding}; nothing was changed")]
    Verification {
        /// The migration.
        number: MigrationNumber,
        /// What does not hold.
        finding: String,
    },
    /// A file of the migrations' directory is not one of a pair.
    #[error("`{}` {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// SQLite could not do it.
    #[error("`{}` cannot be migrated", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: sqlx::Error,
    },
    /// A migration's SQL failed; it was rolled back.
    #[error("migration of `{}` failed, nothing was changed", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: MigrateError,
    },
    /// The file system could not do it.
    #[error("`{}` cannot be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl MigrationError {
    /// What SQLite says of a file, so that it tells what to do.
    pub(crate) fn of_file(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        match result_code(&source) {
            Some(NOT_A_DATABASE) => Self::NotADatabase { path },
            _ => Self::Sqlite { path, source },
        }
    }

    /// Whether SQLite finds the file malformed.
    pub fn is_malformed(&self) -> bool {
        let source = match self {
            Self::Sqlite { source, .. } => source,
            Self::Failed { source: MigrateError::Execute(source), .. } => source,
            _ => return false,
        };
        result_code(source) == Some(CORRUPT)
    }

    /// Whether another process that is migrating the file now may be why.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Pending { .. } => true,
            Self::Sqlite { source, .. } => is_passing(source),
            _ => false,
        }
    }
}
