//! Making a projection's tables anew from the ledger's beginning, beside the live ones.
//!
//! The new tables grow in a file of their own, without indexes. When they have caught up they go over into
//! `game.db` in one transaction, where the indexes are built at the end: readers see the old rows or the
//! new ones. A rebuild that was killed goes on from where it was.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_schema::{Head, limits};
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row, SqliteConnection};

use crate::applier::{self, Applied, Fetched};
use crate::database::{GameDatabase, connect_options};
use crate::feed::{Feed, FeedError};
use crate::position::Position;
use crate::projection::{ApplyError, Projection};

/// A lock that somebody holds is looked at so often, in all for a tenth of a second.
const LOCK_LOOKS: u32 = 5;
const LOCK_LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

/// A projection's tables could not be made anew; the live ones are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The events could not be had.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// An event could not be applied.
    #[error("the projection cannot be rebuilt")]
    Apply(#[from] ApplyError),
    /// SQLite could not do it.
    #[error("the projection cannot be rebuilt")]
    Database(#[from] sqlx::Error),
    /// The file of the new tables cannot be removed.
    #[error("`{}` cannot be removed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ledger gave no event at all: nothing is put in the place of what there is.
    #[error("`{name}` is not rebuilt: the ledger gave no event")]
    Nothing {
        /// The projection.
        name: &'static str,
    },
    /// Another process rebuilds the same projection.
    #[error("another process is rebuilding `{name}`")]
    Busy {
        /// The projection.
        name: &'static str,
    },
    /// Rows of the new tables refer to rows that are not there.
    #[error("{count} rows of `{table}` refer to nothing")]
    Orphans {
        /// The table.
        table: &'static str,
        /// How many rows.
        count: usize,
    },
}

/// What a rebuild did.
#[derive(Clone, Copy, Debug)]
pub struct Rebuilt {
    /// What the tables stand for now.
    pub position: Position,
    /// How long it took.
    pub seconds: f64,
}

/// Makes a projection's tables anew and puts them in the place of the live ones.
///
/// # Errors
/// [`RebuildError`]; then the live tables are as they were.
pub async fn rebuild(
    database: &GameDatabase,
    projection: &Arc<dyn Projection>,
    feed: &mut dyn Feed,
) -> Result<Rebuilt, RebuildError> {
    let started = Instant::now();
    let mut beside = Beside::open(database, projection.as_ref()).await?;
    let mut overrule = false;
    let mut caught_up_seconds;
    loop {
        match beside.catch_up(projection, feed).await {
            Err(RebuildError::Feed(FeedError::Diverged { .. })) if beside.position.head.seq > 0 => {
                // What an earlier rebuild left is of another past.
                beside.remove().await?;
                beside = Beside::open(database, projection.as_ref()).await?;
                continue;
            }
            other => other?,
        }
        if beside.position.identity.is_none() {
            return Err(RebuildError::Nothing { name: projection.name() });
        }
        caught_up_seconds = started.elapsed().as_secs_f64();
        match beside.put_in_place(database, projection.as_ref(), overrule).await? {
            None => break,
            // Either there is more to apply, or the live tables are of a past that the ledger lost.
            Some(live) => {
                let beyond = feed.next(live.head, Duration::ZERO).await;
                overrule = matches!(beyond, Err(FeedError::Diverged { .. }));
            }
        }
    }
    let position = beside.position;
    tracing::info!(
        projection = projection.name(),
        caught_up_seconds,
        seconds = started.elapsed().as_secs_f64(),
        "the new tables are in place"
    );
    beside.remove().await?;
    database.applied.send_modify(|applied| {
        applied.insert(projection.name(), position.head.seq);
    });
    Ok(Rebuilt { position, seconds: started.elapsed().as_secs_f64() })
}

/// Makes the tables that no migration makes.
pub(crate) async fn make_tables(
    database: &mut SqliteConnection,
    projection: &dyn Projection,
) -> Result<(), sqlx::Error> {
    if !projection.schema().is_empty() {
        database.execute(projection.schema()).await?;
    }
    Ok(())
}

/// Whether there is no row in any of the tables.
pub(crate) async fn are_empty(
    database: &mut SqliteConnection,
    tables: &[&'static str],
) -> Result<bool, sqlx::Error> {
    for table in tables {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        if sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *database).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How far a rebuild that is under way has come.
pub(crate) async fn progress(database: &GameDatabase, name: &str) -> Option<u64> {
    let path = path_beside(database, name);
    let lock = std::fs::File::open(lock_beside(&path, name)).ok()?;
    // Whoever rebuilds holds it; without one, what is there was left by one that was killed.
    let is_going_on = matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock));
    if !is_going_on || !path.exists() {
        return None;
    }
    let mut connection = connect_options(&path).connect().await.ok()?;
    let position = Position::load(&mut connection, name).await.ok()?;
    Some(position.map_or(0, |position| position.head.seq))
}

fn path_beside(database: &GameDatabase, name: &str) -> PathBuf {
    let mut file_name = database.path().file_name().unwrap_or_default().to_owned();
    file_name.push(format!(".rebuild-{name}"));
    database.path().with_file_name(file_name)
}

fn lock_beside(path: &std::path::Path, name: &str) -> PathBuf {
    path.with_extension(format!("rebuild-{name}.lock"))
}

/// The file with the new tables.
struct Beside {
    path: PathBuf,
    connection: SqliteConnection,
    position: Position,
    /// Held while the rebuild goes on; the system gives it back when the process ends.
    _lock: std::fs::File,
}

impl Beside {
    async fn open(
        database: &GameDatabase,
        projection: &dyn Projection,
    ) -> Result<Self, RebuildError> {
        let (name, version) = (projection.name(), projection.version());
        let path = path_beside(database, name);
        let lock_path = lock_beside(&path, name);
        let io_error = |source| RebuildError::Io { path: lock_path.clone(), source };
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&lock_path)
            .map_err(io_error)?;
        let mut looks = 0;
        while let Err(refused) = lock.try_lock() {
            match refused {
                // Whoever asks how a rebuild fares holds it for a moment.
                std::fs::TryLockError::WouldBlock if looks < LOCK_LOOKS => looks += 1,
                std::fs::TryLockError::WouldBlock => return Err(RebuildError::Busy { name }),
                std::fs::TryLockError::Error(source) => return Err(io_error(source)),
            }
            tokio::time::sleep(LOCK_LOOKED_AT_EVERY).await;
        }
        for _ in 0..2 {
            let mut connection = connect_beside(&path).await?;
            let is_whole = std::fs::read_to_string(&lock_path).is_ok_and(|boot| boot == boot_id());
            let found = Position::load(&mut connection, name).await.unwrap_or(None);
            let found = found.filter(|_| is_whole);
            let position = found.unwrap_or(Position::start(version));
            let is_new = !path_has_tables(&mut connection).await?;
            if is_new {
                std::fs::write(&lock_path, boot_id()).map_err(io_error)?;
            }
            let goes_on = found.is_some() && position.version == version;
            if is_new || (goes_on && has_live_tables(&mut connection, database, projection).await?)
            {
                let beside = Self { path, connection, position, _lock: lock };
                return beside.with_tables(database, projection, is_new).await;
            }
            // Of another version, boot or shape, or begun and never committed to.
            connection.close().await?;
            std::fs::write(&lock_path, boot_id()).map_err(io_error)?;
            remove_files(&path)?;
        }
        Err(RebuildError::Busy { name })
    }

    /// Makes the tables as they are in the live file, without their indexes.
    async fn with_tables(
        mut self,
        database: &GameDatabase,
        projection: &dyn Projection,
        is_new: bool,
    ) -> Result<Self, RebuildError> {
        if !is_new {
            return Ok(self);
        }
        let mut live = database.connect_writer().await?;
        make_tables(&mut live, projection).await?;
        let mut transaction = self.connection.begin().await?;
        for table in tables_beside(projection) {
            let sql = sql_of(&mut live, table).await?.ok_or(sqlx::Error::RowNotFound)?;
            transaction.execute(AssertSqlSafe(sql)).await?;
        }
        transaction.commit().await?;
        live.close().await?;
        Ok(self)
    }

    /// Applies all that the feed has.
    async fn catch_up(
        &mut self,
        projection: &Arc<dyn Projection>,
        feed: &mut dyn Feed,
    ) -> Result<(), RebuildError> {
        let mut fetched = fetch(feed, self.position.head).await?;
        while !fetched.blocks.is_empty() {
            let head = fetched.last();
            let events = applier::projected(&self.position, fetched.blocks);
            // The next are fetched while these are applied.
            let (applied, ahead) = tokio::join!(
                applier::apply(&mut self.connection, projection, &self.position, &events),
                fetch(feed, head)
            );
            match applied? {
                Applied::Committed(position) => self.position = position,
                Applied::Moved => return Err(RebuildError::Busy { name: projection.name() }),
            }
            fetched = ahead?;
        }
        Ok(())
    }

    /// Puts the new tables in the place of the live ones, unless these have come further meanwhile: then
    /// tells how far.
    async fn put_in_place(
        &mut self,
        database: &GameDatabase,
        projection: &dyn Projection,
        overrule: bool,
    ) -> Result<Option<Position>, RebuildError> {
        let writing = database.writing.lock().await;
        let mut live = database.connect_writer().await?;
        // Checked at the end instead, table by table: with foreign keys on, emptying a table would look
        // for children of every row.
        sqlx::query("PRAGMA foreign_keys = OFF").execute(&mut live).await?;
        // Indexes are sorted by both cores.
        sqlx::query("PRAGMA threads = 2").execute(&mut live).await?;
        // The log is folded in after the commit, when others may write again.
        sqlx::query("PRAGMA wal_autocheckpoint = 0").execute(&mut live).await?;
        sqlx::query("ATTACH DATABASE ?1 AS beside")
            .bind(self.path.to_string_lossy().into_owned())
            .execute(&mut live)
            .await?;
        let mut transaction = live.begin_with("BEGIN IMMEDIATE").await?;
        let name = projection.name();
        let position = Position::load(&mut transaction, name).await?;
        if let Some(live) = position
            && live.head.seq > self.position.head.seq
            && !overrule
        {
            transaction.rollback().await?;
            return Ok(Some(live));
        }
        for table in projection.shared_tables() {
            let columns = columns_of(&mut transaction, table).await?;
            let sql = format!(
                "INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM beside.{table}"
            );
            transaction.execute(AssertSqlSafe(sql)).await?;
        }
        for table in projection.tables() {
            replace(&mut transaction, table).await?;
        }
        for statement in projection.after_rebuild() {
            transaction.execute(*statement).await?;
        }
        for table in projection.tables() {
            let sql = format!("PRAGMA foreign_key_check({table})");
            let orphans = transaction.fetch_all(AssertSqlSafe(sql)).await?;
            if !orphans.is_empty() {
                return Err(RebuildError::Orphans { table, count: orphans.len() });
            }
        }
        self.position.store(&mut transaction, name).await?;
        sqlx::query("DELETE FROM projection_states WHERE name = ?1")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        drop(writing);
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut live).await?;
        live.close().await?;
        Ok(None)
    }

    async fn remove(self) -> Result<(), RebuildError> {
        self.connection.close().await?;
        remove_files(&self.path)
    }
}

/// What there is after a head, as much as one transaction of a rebuild takes.
async fn fetch(feed: &mut dyn Feed, after: Head) -> Result<Fetched, FeedError> {
    Fetched::up_to(limits::EVENTS_PER_REBUILD_APPLY_MAX, feed, after, Duration::ZERO).await
}

/// Empties a table and fills it from the new one; its indexes are built at the end.
async fn replace(live: &mut SqliteConnection, table: &str) -> Result<(), sqlx::Error> {
    let indexes = sqlx::query(
        "SELECT name, sql FROM main.sqlite_schema \
         WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL",
    )
    .bind(table)
    .fetch_all(&mut *live)
    .await?;
    for index in &indexes {
        let name: String = index.try_get(0)?;
        live.execute(AssertSqlSafe(format!("DROP INDEX main.\"{name}\""))).await?;
    }
    let columns = columns_of(live, table).await?;
    live.execute(AssertSqlSafe(format!("DELETE FROM main.{table}"))).await?;
    live.execute(AssertSqlSafe(format!(
        "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM beside.{table}"
    )))
    .await?;
    for index in &indexes {
        let sql: String = index.try_get(1)?;
        live.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}

/// The stored columns of a table, generated ones left out.
async fn columns_of(live: &mut SqliteConnection, table: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT group_concat('\"' || name || '\"', ', ') FROM pragma_table_xinfo(?1) WHERE hidden = 0",
    )
    .bind(table.to_owned())
    .fetch_one(live)
    .await
}

/// Which run of the machine this is.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The tables that a projection is made anew in.
fn tables_beside(projection: &dyn Projection) -> impl Iterator<Item = &'static str> {
    let own = projection.tables().iter().chain(projection.shared_tables());
    own.copied().chain(["projection_positions"])
}

/// How a table was made.
async fn sql_of(
    database: &mut SqliteConnection,
    table: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1")
        .bind(table.to_owned())
        .fetch_optional(database)
        .await
}

/// Whether what an earlier rebuild left has the tables that the live file has.
async fn has_live_tables(
    beside: &mut SqliteConnection,
    database: &GameDatabase,
    projection: &dyn Projection,
) -> Result<bool, sqlx::Error> {
    let mut live = database.connect_writer().await?;
    for table in tables_beside(projection) {
        if sql_of(beside, table).await? != sql_of(&mut live, table).await? {
            return Ok(false);
        }
    }
    live.close().await?;
    Ok(true)
}

async fn connect_beside(path: &std::path::Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = connect_options(path).create_if_missing(true).foreign_keys(false);
    // What is written here must outlive a killed process, which it does unsynced; after a power cut, which
    // another boot tells, it is begun anew.
    let options = options.synchronous(SqliteSynchronous::Off).pragma("cache_size", "-131072");
    options.connect().await
}

async fn path_has_tables(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(connection).await?;
    Ok(tables > 0)
}

fn remove_files(path: &std::path::Path) -> Result<(), RebuildError> {
    for ending in ["-wal", "-shm", ""] {
        let mut path = path.as_os_str().to_owned();
        path.push(ending);
        let path = PathBuf::from(path);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RebuildError::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}
