//! `game.db`: where it is, and how it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use daybook_ledger::copy_aside;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::accounts::open_accounts;
use crate::applied::AppliedSeqs;
use crate::game_file::{self, FileLost, GameFile, OpeningLock, SetAside, Settled};
use crate::migrations::{MigrationError, Migrations, refuse_foreign_file};

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
    /// `accounts.db`, where it may be: the workers fill people's names from it. It is made to move there what an
    /// earlier version had in `game.db` alone.
    pub accounts: Option<PathBuf>,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            readers_max: 8,
            acquire_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(30),
            cache_kib: 64 * 1024,
            migrations: None,
            accounts: None,
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
        migrations.up(path, None).await?;
    }
    migrations.require_current(path).await
}

/// Makes or migrates a file, and opens it.
async fn open_whole(
    path: &Path,
    migrations: &Migrations,
    settings: &DatabaseSettings,
) -> Result<GameFile, MigrationError> {
    // Another process may be migrating the file at this moment.
    let made = || make(path, migrations);
    let looks = ConstantBuilder::default().with_delay(LOOKED_AT_EVERY).with_max_times(LOOKS);
    made.retry(looks).sleep(tokio::time::sleep).when(MigrationError::may_pass).await?;
    if let Some(accounts) = &settings.accounts {
        open_accounts(accounts, path).await?;
    }
    GameFile::open(path).await
}

/// `game.db`, its migrations applied.
#[derive(Clone, Debug)]
pub struct GameDatabase {
    path: PathBuf,
    settings: DatabaseSettings,
    migrations: Arc<Migrations>,
    /// The file as it was opened: whoever has a connection has this too.
    pub(crate) file: Arc<GameFile>,
    set_aside: Option<SetAside>,
    /// One writer at a time within the process: SQLite lets one in, and would let the others try in turn.
    pub(crate) writing: Arc<Mutex<()>>,
    /// How far the projections have come.
    pub(crate) applied: Arc<AppliedSeqs>,
}

impl GameDatabase {
    /// Opens a file, making it with all its tables where there is none. One that is damaged, or whose tables
    /// were dropped, is set aside first: all of it can be made again.
    ///
    /// # Errors
    /// [`MigrationError`] when it is of another version than this one, holds something else, or cannot be opened.
    pub async fn open(path: &Path, settings: DatabaseSettings) -> Result<Self, MigrationError> {
        let migrations = match &settings.migrations {
            Some(directory) => Migrations::game().and_directory(directory)?,
            None => Migrations::game(),
        };
        if let Some(parent) = path.parent() {
            let failed = |source| MigrationError::Io { path: parent.to_owned(), source };
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        // Where it really lies: SQLite keeps the log there.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = real.as_path();
        match refuse_foreign_file(path).await {
            // It is ours, and set aside.
            Err(MigrationError::Dropped { .. }) => {}
            other => other?,
        }
        let lock = OpeningLock::take(path).await?;
        let set_aside = match game_file::settle(path).await? {
            Settled::SetAside(aside) => Some(aside),
            Settled::Sound { is_known } => {
                game_file::set_aside_unusable(path, &migrations, is_known).await?
            }
        };
        let (file, set_aside) = match open_whole(path, &migrations, &settings).await {
            Ok(file) => (file, set_aside),
            // What is damaged was not looked at before.
            Err(error) if error.is_malformed() && set_aside.is_none() => {
                let Some(aside) = game_file::set_aside_malformed(path, &error)? else {
                    return Err(error);
                };
                (open_whole(path, &migrations, &settings).await?, Some(aside))
            }
            Err(error) => return Err(error),
        };
        let file = Arc::new(file);
        drop(lock);
        let (writing, applied) = (Arc::default(), Arc::default());
        let (path, migrations) = (path.to_owned(), Arc::new(migrations));
        Ok(Self { path, settings, migrations, file, set_aside, writing, applied })
    }

    /// Closes the file: where no connection of the process is left its log is folded in before this returns. For
    /// the end of a process, after workers and readers.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.file.close().await
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `accounts.db`, where it is at hand.
    pub(crate) fn accounts(&self) -> Option<&Path> {
        self.settings.accounts.as_deref()
    }

    /// What was set aside when it was opened, if anything was.
    #[must_use]
    pub const fn set_aside(&self) -> Option<&SetAside> {
        self.set_aside.as_ref()
    }

    /// A connection that writes read models: NORMAL, because what a power cut takes from them, whole
    /// transactions with their position, comes again from the ledger.
    pub(crate) async fn connect_writer(&self) -> Result<WriterConnection, FileError> {
        self.file.check()?;
        let connection = self.options().synchronous(SqliteSynchronous::Normal).connect().await;
        // Another file may have come between: then this one is not ours either.
        let connection = Some(connection?);
        let writer = WriterConnection { connection, file: Arc::clone(&self.file) };
        self.file.check()?;
        Ok(writer)
    }

    /// What an error of SQLite's means for the file: where it is malformed, or its tables are gone, it is
    /// given up.
    pub(crate) async fn judge(&self, error: &sqlx::Error) -> Result<(), FileLost> {
        self.file.check()?;
        match result_code(error) {
            Some(CORRUPT | NOT_A_DATABASE) => Err(self.file.give_up(error.to_string())),
            Some(GENERIC) => self.check_tables().await,
            _ => Ok(()),
        }
    }

    /// Gives the file up where a table is gone that a migration made.
    pub(crate) async fn check_tables(&self) -> Result<(), FileLost> {
        match self.migrations.missing_table(&self.path).await {
            Ok(Some(table)) => {
                Err(self.file.give_up(format!("its table `{table}` was dropped from outside")))
            }
            // What cannot be looked at now is met by whoever needs it.
            _ => Ok(()),
        }
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

/// `game.db` could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Lost(#[from] FileLost),
    #[error(transparent)]
    Sqlite(#[from] sqlx::Error),
    /// The other file: it says nothing of this one.
    #[error("accounts.db cannot be read: {0}")]
    Accounts(sqlx::Error),
}

/// SQLite's primary result codes.
const GENERIC: u32 = 1;
const READ_ONLY: u32 = 8;
pub(crate) const CORRUPT: u32 = 11;
const CANNOT_OPEN: u32 = 14;
pub(crate) const NOT_A_DATABASE: u32 = 26;

/// SQLite's primary result code of an error, if it is one of SQLite's.
pub(crate) fn result_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

/// A connection that writes. When the file is lost it is not closed: SQLite would fold its log into what is no
/// longer ours.
#[derive(Debug)]
pub(crate) struct WriterConnection {
    connection: Option<SqliteConnection>,
    file: Arc<GameFile>,
}

impl WriterConnection {
    /// Closes it, if the file is still there.
    pub(crate) async fn close(mut self) -> Result<(), sqlx::Error> {
        match (self.file.check(), self.connection.take()) {
            (Ok(()), Some(connection)) => connection.close().await,
            (_, connection) => {
                std::mem::forget(connection);
                Ok(())
            }
        }
    }
}

impl Drop for WriterConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.file.check().is_err()
        {
            std::mem::forget(connection);
        }
    }
}

impl std::ops::Deref for WriterConnection {
    type Target = SqliteConnection;

    #[expect(clippy::expect_used, reason = "it is taken only by what takes the whole")]
    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("an open connection")
    }
}

impl std::ops::DerefMut for WriterConnection {
    #[expect(clippy::expect_used, reason = "it is taken only by what takes the whole")]
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("an open connection")
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

/// A connection that looks at a file and needs no right to write beside it.
pub(crate) struct Look {
    pub(crate) connection: SqliteConnection,
    /// The directory of the copy that is read, where the file itself cannot be.
    _copy: Option<TempDir>,
}

/// Opens a file to look at it: nothing is written to it, and no log folded in.
pub(crate) async fn look(path: &Path) -> Result<Look, sqlx::Error> {
    // A pipe would be waited for.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let error = format!("`{}` is no file", path.display());
        return Err(sqlx::Error::Io(std::io::Error::other(error)));
    }
    // SQLite would remove such a log, which may be the last that tells of lost events.
    if game_file::has_orphaned_log(path) {
        let error = format!("`{}-wal` lies there without its database", path.display());
        return Err(sqlx::Error::Io(std::io::Error::other(error)));
    }
    let read = async |options: SqliteConnectOptions| {
        let mut connection = options.read_only(true).connect().await?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    // Where nobody has it open nothing need be made beside it.
    let is_at_rest = ["-wal", "-shm"]
        .iter()
        .all(|ending| game_file::with_ending(path, ending).symlink_metadata().is_err());
    let error = match read(look_options(path).immutable(is_at_rest)).await {
        Ok(connection) => return Ok(Look { connection, _copy: None }),
        Err(error) => error,
    };
    if !matches!(result_code(&error), Some(READ_ONLY | CANNOT_OPEN)) {
        return Err(error);
    }
    // SQLite reads a log only where it may write beside it. Without a log the file can be read as it lies.
    let log = std::fs::metadata(game_file::with_ending(path, "-wal"));
    if log.is_ok_and(|log| log.len() > 0) {
        let (directory, copy) = copy_aside(path)?;
        let connection = look_options(&copy).connect().await?;
        return Ok(Look { connection, _copy: Some(directory) });
    }
    let connection = read(look_options(path).immutable(true)).await?;
    Ok(Look { connection, _copy: None })
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
