//! `accounts.db`: people, their credentials and sessions. All of it is synced before it is
//! answered (`synchronous=FULL`).
//!
//! One connection writes. Before each transaction and after it the files are compared by `stat`
//! with those that were opened: what is written to a file that was moved away is lost, so nobody
//! is answered then. What this process saw is saved beside it, and the process ends.

pub(crate) mod attempts;
pub(crate) mod erasures;
mod error;
mod file;
pub(crate) mod pauses;
pub(crate) mod reset_links;
mod restored;
pub(crate) mod service_tokens;
pub(crate) mod sessions;
mod simulins;
pub(crate) mod upkeep;
pub(crate) mod users;

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use daybook_monitor::{Metric, Monitor, Timer};
use daybook_projections::sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use daybook_projections::sqlx::{self, ConnectOptions, SqliteConnection};
use daybook_projections::{
    DatabaseFiles, MeasuredPool, MigrationError, Migrations, connect_options, has_orphaned_log,
};
use daybook_schema::LedgerId;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

pub use self::error::{AccountsError, AccountsLost};
use self::file::{BUSY, is_lost, rescue, result_code, set_busy_timeout};
use crate::error::{ApiError, Code};
use crate::private_file::{keep_private, make_private};
use crate::tokens::Secret;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS_MAX: u32 = 4;
/// How long a transaction waits for those before it.
const WAITS_AT_MOST: Duration = Duration::from_secs(5);
/// A reader that stands in the way of emptying the log is waited for so long, in milliseconds:
/// meanwhile nothing is written.
const READER_WAITED_FOR_MS: u32 = 100;
/// How long the end of a process waits for a rescue.
const RESCUED_WITHIN: Duration = Duration::from_secs(60);
/// How often the files are looked at while nothing is written.
const WATCHED_EVERY: Duration = Duration::from_millis(500);
const SECRET_NAME: &str = "hashing";

/// The connection that writes, and whether a transaction was left open.
struct Writer {
    connection: SqliteConnection,
    is_left_open: bool,
}

struct Inner {
    path: PathBuf,
    files: DatabaseFiles,
    writer: Arc<Mutex<Option<Writer>>>,
    readers: SqlitePool,
    query: Metric,
    secret: Secret,
    lost: watch::Sender<Option<AccountsLost>>,
}

/// `accounts.db`, open.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// A transaction that writes. Dropped without a commit it is rolled back.
pub(crate) struct Writing {
    guard: Option<OwnedMutexGuard<Option<Writer>>>,
    accounts: Accounts,
    _measured: Timer,
}

impl std::ops::Deref for Writing {
    type Target = SqliteConnection;

    #[expect(clippy::expect_used, reason = "it is there until the commit, which takes the whole")]
    fn deref(&self) -> &SqliteConnection {
        let writer = self.guard.as_ref().and_then(|guard| guard.as_ref());
        &writer.expect("an open connection").connection
    }
}

impl std::ops::DerefMut for Writing {
    #[expect(clippy::expect_used, reason = "it is there until the commit, which takes the whole")]
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        let writer = self.guard.as_mut().and_then(|guard| guard.as_mut());
        &mut writer.expect("an open connection").connection
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Whoever comes next waits for it; where there is no runtime any more, it does it itself.
        if let (Some(mut guard), Ok(runtime)) =
            (self.guard.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                if let Some(writer) = guard.as_mut() {
                    writer.roll_back().await;
                }
            });
        }
    }
}

impl Writer {
    /// Ends a transaction that was left open.
    async fn roll_back(&mut self) {
        if self.is_left_open {
            // Where there is none any more SQLite says so.
            drop(sqlx::query("ROLLBACK").execute(&mut self.connection).await);
            self.is_left_open = false;
        }
    }
}

/// What SQLite could not do: its words go to the log.
pub(crate) fn failed(error: sqlx::Error) -> ApiError {
    let is_full = matches!(&error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code == "13"));
    let is_busy = matches!(&error, sqlx::Error::PoolTimedOut);
    match (is_full, is_busy) {
        (true, _) => ApiError::new(Code::ReadOnly),
        (_, true) => ApiError::new(Code::Overloaded),
        _ => {
            tracing::error!(%error, "accounts.db cannot be used");
            ApiError::new(Code::Unavailable)
        }
    }
}

impl Accounts {
    /// Opens the file, making it with all its tables where there is none. What it is asked is
    /// measured as `db_query`.
    ///
    /// # Errors
    /// [`AccountsError`] when it is of a later version, or cannot be opened.
    pub async fn open(path: &Path, monitor: &Monitor) -> Result<Self, AccountsError> {
        if has_orphaned_log(path) {
            return Err(AccountsError::OrphanedLog { path: path.to_owned() });
        }
        let failed = |source| match result_code(&source) {
            Some(BUSY) => AccountsError::Locked { path: path.to_owned() },
            _ => AccountsError::Sqlite { path: path.to_owned(), source },
        };
        // Nobody else may read what people are called and what their passwords hash to.
        let io_failed = |error| failed(sqlx::Error::Io(error));
        make_private(path).map_err(io_failed)?;
        keep_private(path).map_err(io_failed)?;
        match Migrations::accounts().up(path, None).await {
            Err(error)
                if error.is_malformed() || matches!(error, MigrationError::NotADatabase { .. }) =>
            {
                return Err(AccountsError::Damaged { path: path.to_owned() });
            }
            Err(MigrationError::Sqlite { source, .. }) if result_code(&source) == Some(BUSY) => {
                return Err(AccountsError::Locked { path: path.to_owned() });
            }
            other => other?,
        };
        // Where it really lies: SQLite keeps the log there.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let options =
            connect_options(&path).synchronous(SqliteSynchronous::Full).busy_timeout(BUSY_TIMEOUT);
        let mut connection = options.connect().await.map_err(failed)?;
        let secret = secret(&mut connection).await.map_err(failed)?;
        let secret = secret.ok_or(AccountsError::Random)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(options.pragma("query_only", "ON"));
        let files = DatabaseFiles::of(&path);
        let writer = Arc::new(Mutex::new(Some(Writer { connection, is_left_open: false })));
        let lost = watch::Sender::new(None);
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                files,
                writer,
                readers,
                query: monitor.metric("db_query"),
                secret,
                lost,
            }),
        })
    }

    /// The ledger that the people of a file play in, if one ever served them. The file is looked at
    /// and not changed.
    ///
    /// # Errors
    /// [`AccountsError::Sqlite`] when it cannot be read.
    pub async fn served_by(path: &Path) -> Result<Option<LedgerId>, AccountsError> {
        if !std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
            return Ok(None);
        }
        let failed = |source| AccountsError::Sqlite { path: path.to_owned(), source };
        let mut connection =
            connect_options(path).read_only(true).connect().await.map_err(failed)?;
        let has = "SELECT count(*) FROM sqlite_schema WHERE name = 'served_ledger'";
        let has: i64 = sqlx::query_scalar(has).fetch_one(&mut connection).await.map_err(failed)?;
        let served: Option<String> = match has {
            0 => None,
            _ => sqlx::query_scalar("SELECT ledger_id FROM served_ledger")
                .fetch_optional(&mut connection)
                .await
                .map_err(failed)?,
        };
        sqlx::Connection::close(connection).await.map_err(failed)?;
        Ok(served.and_then(|ledger_id| ledger_id.parse().ok()))
    }

    /// The service's own key.
    pub(crate) fn secret(&self) -> &Secret {
        &self.inner.secret
    }

    /// Whether it is lost to this process.
    pub(crate) fn is_lost(&self) -> bool {
        self.inner.lost.borrow().is_some()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Connections that read, for one query.
    pub(crate) fn readers(&self) -> MeasuredPool<'_> {
        MeasuredPool::new(&self.inner.readers, &self.inner.query)
    }

    /// Begins a transaction that writes; the only one of its time.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where the file is lost or SQLite cannot do it.
    pub(crate) async fn begin(&self) -> Result<Writing, ApiError> {
        let waited = Arc::clone(&self.inner.writer).lock_owned();
        let Ok(mut guard) = tokio::time::timeout(WAITS_AT_MOST, waited).await else {
            return Err(ApiError::new(Code::Overloaded));
        };
        self.check(&mut guard).await?;
        let Some(writer) = guard.as_mut() else {
            return Err(ApiError::new(Code::Unavailable));
        };
        writer.roll_back().await;
        writer.is_left_open = true;
        let measured = self.inner.query.start();
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut writer.connection).await;
        if let Err(error) = begun {
            if is_lost(&error) {
                self.give_up(&mut guard, error.to_string()).await;
            }
            return Err(failed(error));
        }
        Ok(Writing { guard: Some(guard), accounts: self.clone(), _measured: measured })
    }

    /// Whether the files are still those that were opened. If not, what this process saw is saved,
    /// and the process is told to end.
    async fn check(&self, writer: &mut Option<Writer>) -> Result<(), ApiError> {
        let unavailable = || ApiError::new(Code::Unavailable);
        if self.inner.lost.borrow().is_some() {
            return Err(unavailable());
        }
        let now = DatabaseFiles::of(&self.inner.path);
        let Some(reason) = self.inner.files.difference(&now, &self.inner.path) else {
            return Ok(());
        };
        self.give_up(writer, reason).await;
        Err(unavailable())
    }

    /// Saves what this process saw, and tells it to end. Whoever waits for it may go away meanwhile:
    /// it is carried out to its end.
    async fn give_up(&self, writer: &mut Option<Writer>, reason: String) {
        let (accounts, writer) = (self.clone(), writer.take());
        // Neither is ever closed: SQLite would fold a log into what is no longer ours.
        std::mem::forget(self.inner.readers.clone());
        std::mem::forget(Arc::clone(&self.inner));
        let rescuing = tokio::spawn(async move {
            let rescued = match writer {
                Some(mut writer) => {
                    writer.roll_back().await;
                    rescue(&accounts.inner.path, ManuallyDrop::new(writer.connection)).await
                }
                None => "it was closed before".to_owned(),
            };
            let lost = AccountsLost { path: accounts.inner.path.clone(), reason, rescued };
            tracing::error!(error = %lost, "accounts.db is lost to this process");
            accounts.inner.lost.send_replace(Some(lost));
        });
        drop(rescuing.await);
    }

    /// Looks at the files now and then, and waits until they are lost.
    pub async fn lost(&self) -> AccountsLost {
        let mut lost = self.inner.lost.subscribe();
        loop {
            if let Some(lost) = lost.borrow_and_update().clone() {
                return lost;
            }
            tokio::select! {
                _ = lost.changed() => {}
                () = tokio::time::sleep(WATCHED_EVERY) => {
                    let now = DatabaseFiles::of(&self.inner.path);
                    if self.inner.files.difference(&now, &self.inner.path).is_some() {
                        let mut guard = Arc::clone(&self.inner.writer).lock_owned().await;
                        drop(self.check(&mut guard).await);
                    }
                }
            }
        }
    }

    /// Folds the log into the file and empties it; tells whether nobody stood in the way.
    pub(crate) async fn empty_log(&self) -> Result<bool, ApiError> {
        let waited = Arc::clone(&self.inner.writer).lock_owned();
        let Ok(mut guard) = tokio::time::timeout(WAITS_AT_MOST, waited).await else {
            return Err(ApiError::new(Code::Overloaded));
        };
        self.check(&mut guard).await?;
        let Some(writer) = guard.as_mut() else { return Err(ApiError::new(Code::Unavailable)) };
        writer.roll_back().await;
        let connection = &mut writer.connection;
        set_busy_timeout(connection, READER_WAITED_FOR_MS).await.map_err(failed)?;
        let emptied: Result<(i64, i64, i64), sqlx::Error> =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
        let usual = u32::try_from(BUSY_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        set_busy_timeout(connection, usual).await.map_err(failed)?;
        let (is_busy, _, _) = emptied.map_err(failed)?;
        Ok(is_busy == 0)
    }

    /// Closes the file: its log is folded in before this returns. For the end of a process.
    pub async fn close(&self) {
        let mut guard = Arc::clone(&self.inner.writer).lock_owned().await;
        if self.check(&mut guard).await.is_err() || guard.is_none() {
            // A rescue that is under way is waited for.
            let mut lost = self.inner.lost.subscribe();
            let rescued = lost.wait_for(Option::is_some);
            drop(tokio::time::timeout(RESCUED_WITHIN, rescued).await);
            return;
        }
        self.inner.readers.close().await;
        if let Some(mut writer) = guard.take() {
            writer.roll_back().await;
            let closed = sqlx::Connection::close(writer.connection).await;
            if let Err(error) = closed {
                tracing::warn!(%error, "accounts.db was not closed; the next start folds its log in");
            }
        }
    }
}

impl Writing {
    /// Commits, synced; then the files are looked at once more.
    pub(crate) async fn commit(mut self) -> Result<(), ApiError> {
        let committed = sqlx::query("COMMIT").execute(&mut *self).await;
        if let Err(error) = committed {
            // Whether it is on the disk is not known: nobody may build on it.
            if is_lost(&error)
                && let Some(mut guard) = self.guard.take()
            {
                let reason = format!("a commit failed: {error}");
                self.accounts.give_up(&mut guard, reason).await;
            }
            return Err(failed(error));
        }
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        if let Some(writer) = guard.as_mut() {
            writer.is_left_open = false;
        }
        self.accounts.check(&mut guard).await
    }
}

/// The service's own key: made once.
async fn secret(connection: &mut SqliteConnection) -> Result<Option<Secret>, sqlx::Error> {
    let Ok(fresh) = Secret::random() else { return Ok(None) };
    sqlx::query("INSERT OR IGNORE INTO secrets (name, value) VALUES (?1, ?2)")
        .bind(SECRET_NAME)
        .bind(fresh.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    let stored: Vec<u8> = sqlx::query_scalar("SELECT value FROM secrets WHERE name = ?1")
        .bind(SECRET_NAME)
        .fetch_one(connection)
        .await?;
    Ok(Secret::from_stored(&stored))
}

/// Now, in seconds since 1970.
pub(crate) fn now_seconds() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A column that holds what this version does not know.
pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| {
        tracing::error!(%error, "accounts.db holds what this version does not know");
        ApiError::new(Code::Internal)
    })
}
