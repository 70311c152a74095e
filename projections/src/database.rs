//! `game.db`: where it is, and how it is opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, watch};

use crate::migrations::{MigrationError, Migrations};

/// What a `DATABASE_URL` cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// A database that is reached over the network.
    #[error(
        "`{url}` is a libSQL server's: Daybook keeps game.db in a file beside the ledger and writes rows and \
         position in one transaction there; name a file, and send copies of it on (docs/PROJECTIONS.md)"
    )]
    Remote {
        /// What was given.
        url: String,
    },
    /// Another scheme, or parameters.
    #[error("`{url}` names no SQLite file; write ./game.db, file:game.db or sqlite://game.db")]
    Unknown {
        /// What was given.
        url: String,
    },
}

/// The file that a `DATABASE_URL` names: `./x.db`, `file:x.db` and `sqlite://x.db` mean the same.
///
/// # Errors
/// [`DatabaseUrlError`] when it names something else.
pub fn path_of_url(url: &str) -> Result<PathBuf, DatabaseUrlError> {
    let unknown = || DatabaseUrlError::Unknown { url: url.to_owned() };
    let file = ["sqlite://", "sqlite:", "file://", "file:"]
        .iter()
        .find_map(|prefix| url.strip_prefix(prefix))
        .unwrap_or(url);
    if file.contains("://") {
        let is_libsql = ["libsql://", "http://", "https://", "ws://", "wss://"]
            .iter()
            .any(|prefix| url.starts_with(prefix));
        let remote = DatabaseUrlError::Remote { url: url.to_owned() };
        return Err(if is_libsql { remote } else { unknown() });
    }
    // `file://HOST/…` names another machine's.
    let has_host = url.starts_with("file://") && !file.starts_with('/');
    if file.is_empty() || has_host || file.contains('?') || file == ":memory:" {
        return Err(unknown());
    }
    Ok(PathBuf::from(file))
}

/// How `game.db` is opened.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Connections that read at the same time.
    pub readers_max: u32,
    /// How long a reader waits for one of them.
    pub acquire_timeout: Duration,
    /// How long a writer waits for another's lock.
    pub busy_timeout: Duration,
    /// SQLite's page cache of a connection, in KiB.
    pub cache_kib: u32,
    /// A directory with migrations of a team's own, which the file has too.
    pub migrations: Option<PathBuf>,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            readers_max: 8,
            acquire_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(30),
            cache_kib: 64 * 1024,
            migrations: None,
        }
    }
}

/// A file that another process makes is looked at so often, in all for a second.
const LOOKS: usize = 20;
const LOOKED_AT_EVERY: Duration = Duration::from_millis(50);

/// Makes the file if it is new; tells whether it has what it must have.
async fn make(path: &Path, migrations: &Migrations) -> Result<(), MigrationError> {
    let is_new =
        !path.exists() || migrations.status(path).await?.iter().all(|migration| !migration.applied);
    if is_new {
        if let Some(parent) = path.parent() {
            let failed = |source| MigrationError::Io { path: parent.to_owned(), source };
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        migrations.up(path, None).await?;
    }
    migrations.require_current(path).await
}

/// The seqs up to which projections have applied the ledger, by name.
pub(crate) type Applied = BTreeMap<&'static str, u64>;

/// `game.db`, its migrations applied.
#[derive(Clone, Debug)]
pub struct GameDatabase {
    path: PathBuf,
    settings: DatabaseSettings,
    /// One writer at a time within the process: SQLite lets one in, and would let the others try in turn.
    pub(crate) writing: Arc<Mutex<()>>,
    /// Told of every commit of a projection in this process.
    pub(crate) applied: watch::Sender<Applied>,
}

impl GameDatabase {
    /// Opens a file, making it with all its tables where there is none.
    ///
    /// # Errors
    /// [`MigrationError`] when it is of another version than this one, or cannot be opened.
    pub async fn open(path: &Path, settings: DatabaseSettings) -> Result<Self, MigrationError> {
        let migrations = match &settings.migrations {
            Some(directory) => Migrations::game().and_directory(directory)?,
            None => Migrations::game(),
        };
        // Another process may be making the file at this moment.
        let made = || make(path, &migrations);
        let looks = ConstantBuilder::default().with_delay(LOOKED_AT_EVERY).with_max_times(LOOKS);
        made.retry(looks).sleep(tokio::time::sleep).when(MigrationError::may_pass).await?;
        let (writing, applied) = (Arc::default(), watch::Sender::default());
        Ok(Self { path: path.to_owned(), settings, writing, applied })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that writes read models: NORMAL, because what a power cut takes from them, whole
    /// transactions with their position, comes again from the ledger.
    pub(crate) async fn connect_writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options().synchronous(SqliteSynchronous::Normal).connect().await
    }

    /// Connections that read.
    pub(crate) fn reader_pool(&self) -> SqlitePool {
        // Not opened as read-only, which could not recover a write-ahead log that a crash left.
        let options = self.options().pragma("query_only", "ON");
        SqlitePoolOptions::new()
            .max_connections(self.settings.readers_max)
            .acquire_timeout(self.settings.acquire_timeout)
            .connect_lazy_with(options)
    }

    fn options(&self) -> SqliteConnectOptions {
        connect_options(&self.path)
            .busy_timeout(self.settings.busy_timeout)
            .pragma("cache_size", format!("-{}", self.settings.cache_kib))
    }
}

/// A path as SQLite takes it: an absolute one is never read as a URI, whatever its name.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as a statement names it.
pub(crate) fn path_in_sql(path: &Path) -> String {
    absolute(path).to_string_lossy().into_owned()
}

/// Options that set nothing of a file.
pub(crate) fn look_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(absolute(path))
}

/// Options that all our files have in common.
pub(crate) fn connect_options(path: &Path) -> SqliteConnectOptions {
    look_options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        .statement_cache_capacity(256)
        // A larger log is folded in less often, and each page of it once.
        .pragma("wal_autocheckpoint", "8192")
        .pragma("journal_size_limit", "67108864")
}
