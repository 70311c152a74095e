//! `game.db`: how it is opened, written and read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use daybook_monitor::Monitor;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::Mutex;

use crate::accounts::open_accounts;
use crate::applied::AppliedSeqs;
use crate::game_file::{self, FileLost, GameFile, OpeningLock, SetAside, Settled};
use crate::migrations::{MigrationError, Migrations, refuse_foreign_file};
use crate::sqlite::{BUSY, CORRUPT, GENERIC, NOT_A_DATABASE, connect_options, look, result_code};

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
    /// `accounts.db`, where it may be: the workers fill people's names from it. It is made to move
    /// there what an earlier version had in `game.db` alone.
    pub accounts: Option<PathBuf>,
    /// Records how long reads take (`db_query`) and applying events does (`project`).
    pub monitor: Monitor,
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
            monitor: Monitor::default(),
        }
    }
}

/// SQLite's page cache of a connection that writes, in KiB: the newest page of each season in play
/// in each index fits in, up to some ten thousand seasons.
const WRITER_CACHE_KIB: u32 = 128 * 1024;
/// A file that another process makes is looked at so often, in all for a second.
const LOOKS: usize = 20;
const LOOKED_AT_EVERY: Duration = Duration::from_millis(50);

/// Makes the file if it is new; tells whether it has what it must have.
async fn make(path: &Path, migrations: &Migrations) -> Result<(), MigrationError> {
    let is_new = !path.exists() || {
        let all = migrations.status(path).await?;
        let is_begun = all.iter().any(|migration| migration.applied);
        // One that was killed while it made the file left a part of the tables, and nothing in them.
        !is_begun || all.iter().any(|migration| !migration.applied) && is_unused(path).await
    };
    if is_new {
        migrations.up(path, None).await?;
    }
    migrations.require_current(path).await
}

/// Whether nothing was ever applied to a file.
async fn is_unused(path: &Path) -> bool {
    let Ok(mut looked) = look(path).await else { return false };
    let connection = &mut looked.connection;
    let has_table = "SELECT count(*) FROM sqlite_schema WHERE name = 'projection_positions'";
    match sqlx::query_scalar::<_, i64>(has_table).fetch_one(&mut *connection).await {
        Ok(0) => true,
        Ok(_) => {
            let applied = "SELECT count(*) FROM projection_positions";
            matches!(sqlx::query_scalar::<_, i64>(applied).fetch_one(connection).await, Ok(0))
        }
        Err(_) => false,
    }
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
    /// One writer at a time within the process: SQLite lets one in, and would let the others try in
    /// turn.
    pub(crate) writing: Arc<Mutex<()>>,
    /// Held while the log is folded in: the pages that it held when that ended last, where readers
    /// kept some of them from it.
    pub(crate) folding: Arc<Mutex<i64>>,
    /// How far the projections have come.
    pub(crate) applied: Arc<AppliedSeqs>,
}

impl GameDatabase {
    /// Opens a file, making it with all its tables where there is none. One that is damaged, or
    /// whose tables were dropped, is set aside first: all of it can be made again.
    ///
    /// # Errors
    /// [`MigrationError`] when it is of another version than this one, holds something else, or
    /// cannot be opened.
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
        let (writing, folding, applied) = (Arc::default(), Arc::default(), Arc::default());
        let (path, migrations) = (path.to_owned(), Arc::new(migrations));
        Ok(Self { path, settings, migrations, file, set_aside, writing, folding, applied })
    }

    /// Closes the file: where no connection of the process is left its log is folded in before this
    /// returns. For the end of a process, after workers and readers.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        let _folded = self.folding.lock().await;
        self.file.close().await
    }

    /// Whether another program keeps it locked at this moment: its workers wait then.
    ///
    /// # Errors
    /// What SQLite says, or that the file is lost.
    pub async fn is_locked(&self) -> Result<bool, sqlx::Error> {
        let mut writer = self.connect_writer().await.map_err(without_loss)?;
        sqlx::query("PRAGMA busy_timeout = 100").execute(&mut *writer).await?;
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut *writer).await;
        let is_locked = begun.as_ref().is_err_and(|error| result_code(error) == Some(BUSY));
        if begun.is_ok() {
            sqlx::query("ROLLBACK").execute(&mut *writer).await?;
        }
        writer.close().await?;
        Ok(is_locked)
    }

    /// Folds the log into the file and empties it, so that nothing that was deleted stays in it.
    /// Tells whether nobody stood in the way.
    ///
    /// # Errors
    /// What SQLite says, or that the file is lost.
    pub async fn empty_log(&self) -> Result<bool, sqlx::Error> {
        let mut writer = self.connect_writer().await.map_err(without_loss)?;
        // Nobody is waited for who reads: workers would wait too.
        sqlx::query("PRAGMA busy_timeout = 100").execute(&mut *writer).await?;
        let _writing = self.writing.lock().await;
        let (is_busy, _, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *writer).await?;
        writer.close().await?;
        Ok(is_busy == 0)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What records how long things take.
    pub(crate) const fn monitor(&self) -> &Monitor {
        &self.settings.monitor
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

    /// A connection that writes read models: NORMAL, because what a power cut takes from them,
    /// whole transactions with their position, comes again from the ledger.
    pub(crate) async fn connect_writer(&self) -> Result<WriterConnection, FileError> {
        self.file.check()?;
        let options = self.options().synchronous(SqliteSynchronous::Normal);
        // What a statement needs to undo itself alone stays in memory; the log is folded in beside
        // the work, by `folded_log`.
        let options = options.pragma("temp_store", "MEMORY").pragma("wal_autocheckpoint", "0");
        let options = options.pragma("cache_size", format!("-{WRITER_CACHE_KIB}"));
        let connection = options.connect().await;
        // Another file may have come between: then this one is not ours either.
        let connection = Some(connection?);
        let writer = WriterConnection { connection, file: Arc::clone(&self.file) };
        self.file.check()?;
        Ok(writer)
    }

    /// What an error of SQLite's means for the file: where it is malformed, or its tables are gone,
    /// it is given up.
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

/// As SQLite's own error.
fn without_loss(error: FileError) -> sqlx::Error {
    match error {
        FileError::Sqlite(error) | FileError::Accounts(error) => error,
        FileError::Lost(lost) => sqlx::Error::Io(std::io::Error::other(lost)),
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

/// A connection that writes. When the file is lost it is not closed: SQLite would fold its log into
/// what is no longer ours.
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
