//! `telemetry.db` itself: how it is opened, and set aside where it cannot be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_projections::sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use daybook_projections::sqlx::{self, ConnectOptions, SqliteConnection};
use daybook_projections::{
    DatabaseFiles, MigrationError, Migrations, connect_options, has_orphaned_log,
};

use crate::private_file::{keep_private, make_private};

const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const READERS_MAX: u32 = 2;
/// SQLite's page cache of the connection that writes, in KiB: the index of ids is looked into at
/// random.
const CACHE_KIB: u32 = 32 * 1024;
/// The log is folded in each time that it has so many pages, 1 MiB. A larger one is synced in one
/// go, and for so long the ledger's own syncs wait: a bet in a hundred noticed it.
const CHECKPOINT_PAGES: u32 = 256;

/// `telemetry.db` cannot be used, and is not ours to set aside.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// It is of another version, or holds something else.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// There is something else than a file in its place.
    #[error("`{}` is no file; move it away, and it is made anew", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
}

/// The file, open.
pub(super) struct OpenFile {
    pub(super) connection: SqliteConnection,
    pub(super) files: DatabaseFiles,
    pub(super) readers: SqlitePool,
}

/// Refuses a file that is somebody else's or of another version; whatever else is wrong with it does
/// not keep the service from its start.
///
/// # Errors
/// [`TelemetryError`], which says what to do.
pub(super) async fn refuse_foreign(path: &Path) -> Result<(), TelemetryError> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(TelemetryError::NotAFile { path: path.to_owned() });
    }
    match Migrations::telemetry().status(path).await {
        Err(
            error @ (MigrationError::Newer { .. }
            | MigrationError::Foreign { .. }
            | MigrationError::Changed { .. }),
        ) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Opens the file, making it where there is none. What is damaged, lacks a table or an index, or is a
/// log without its file, is set aside first.
pub(super) async fn open(path: &Path) -> Result<OpenFile, MigrationError> {
    let io_failed = |source| MigrationError::Io { path: path.to_owned(), source };
    if has_orphaned_log(path) {
        set_aside(path, "its log lies there without it").map_err(io_failed)?;
    }
    make_private(path).map_err(io_failed)?;
    keep_private(path).map_err(io_failed)?;
    let migrations = Migrations::telemetry();
    let unusable = match migrations.up(path, None).await {
        Ok(_) => migrations.missing_object(path).await?,
        Err(MigrationError::NotADatabase { .. }) => Some("it is no SQLite database".to_owned()),
        Err(error) if error.is_malformed() || matches!(error, MigrationError::Dropped { .. }) => {
            Some(error.to_string())
        }
        Err(error) => return Err(error),
    };
    if let Some(reason) = unusable {
        set_aside(path, &reason).map_err(io_failed)?;
        make_private(path).map_err(io_failed)?;
        migrations.up(path, None).await?;
    }
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    // A power cut may take the newest events; a killed process takes none.
    let options =
        connect_options(path).synchronous(SqliteSynchronous::Normal).busy_timeout(BUSY_TIMEOUT);
    let writing = options.clone().pragma("cache_size", format!("-{CACHE_KIB}"));
    let writing = writing.pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string());
    let connection = writing.connect().await.map_err(failed)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(Duration::from_secs(2))
        .connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(OpenFile { connection, files: DatabaseFiles::of(path), readers })
}

/// Moves the file and what lies beside it away, for the operator to look at.
pub(super) fn set_aside(path: &Path, reason: &str) -> Result<(), std::io::Error> {
    let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ");
    let named = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    for ending in ["-wal", "-shm", ""] {
        let aside = named(&format!(".set-aside-{at}{ending}"));
        match std::fs::rename(named(ending), aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let aside = named(&format!(".set-aside-{at}"));
    tracing::error!(aside = %aside.display(), reason, "telemetry.db was set aside; another is made");
    Ok(())
}

/// What an error means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// The connection is still good: another has the lock, the disk is full, or a trigger of
    /// somebody's refused it.
    Passing,
    /// The file is damaged.
    Damaged,
    /// Nothing is known: it is opened again, and looked at then.
    Unknown,
}

pub(super) fn meaning(error: &sqlx::Error) -> Means {
    const BUSY: u32 = 5;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const CONSTRAINT: u32 = 19;
    const NOT_A_DATABASE: u32 = 26;
    let code = match error {
        sqlx::Error::Database(error) => {
            error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
        }
        _ => None,
    };
    match code {
        Some(BUSY | FULL | CONSTRAINT) => Means::Passing,
        Some(CORRUPT | NOT_A_DATABASE) => Means::Damaged,
        _ => Means::Unknown,
    }
}
