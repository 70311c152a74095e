//! The file in which a projection's new tables grow.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteSynchronous;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};

use super::{RebuildError, make_tables};
use crate::applier::{self, Applied};
use crate::database::{GameDatabase, connect_options};
use crate::position::Position;
use crate::projection::{ProjectedEvent, Projection};

/// A lock that somebody holds is looked at so often, in all for a tenth of a second.
const LOCK_LOOKS: u32 = 5;
const LOCK_LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

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
pub(super) struct Beside {
    pub(super) projection: Arc<dyn Projection>,
    pub(super) path: PathBuf,
    connection: SqliteConnection,
    /// What its tables stand for.
    pub(super) position: Position,
    /// Held while the rebuild goes on; the system gives it back when the process ends.
    _lock: std::fs::File,
}

impl Beside {
    /// Opens what an earlier rebuild left, or makes the file.
    pub(super) async fn open(
        database: &GameDatabase,
        projection: &Arc<dyn Projection>,
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
            if is_new
                || (goes_on
                    && has_live_tables(&mut connection, database, projection.as_ref()).await?)
            {
                let projection = Arc::clone(projection);
                let beside = Self { projection, path, connection, position, _lock: lock };
                return beside.with_tables(database, is_new).await;
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
        is_new: bool,
    ) -> Result<Self, RebuildError> {
        if !is_new {
            return Ok(self);
        }
        let mut live = database.connect_writer().await?;
        let projection = self.projection.as_ref();
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

    pub(super) fn name(&self) -> &'static str {
        self.projection.name()
    }

    /// Applies those of some events that follow its position.
    pub(super) async fn apply(&mut self, events: &[ProjectedEvent]) -> Result<(), RebuildError> {
        let applied_seq = self.position.head.seq;
        let first = events.partition_point(|event| event.stored.header.seq.get() <= applied_seq);
        let events = events.get(first..).unwrap_or_default();
        let name = self.name();
        let applying =
            applier::apply(&mut self.connection, &self.projection, &self.position, events);
        match applying.await.map_err(|source| RebuildError::Apply { name, source })? {
            Applied::Committed(position) => self.position = position,
            Applied::Moved => return Err(RebuildError::Busy { name }),
        }
        Ok(())
    }

    pub(super) async fn begin_anew(self, database: &GameDatabase) -> Result<Self, RebuildError> {
        let projection = Arc::clone(&self.projection);
        self.remove().await?;
        Self::open(database, &projection).await
    }

    pub(super) async fn remove(self) -> Result<(), RebuildError> {
        // Removed first: SQLite does not then fold the log into a file that nobody will read.
        let removed = remove_files(&self.path);
        self.connection.close().await?;
        removed
    }
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
    let options = options.synchronous(SqliteSynchronous::Off);
    // It grows at its end, is read once and removed: large pages, and a log that is never folded in. What a
    // statement needs to undo itself alone stays in memory.
    let options = options.pragma("cache_size", "-131072").page_size(16_384);
    let options = options.pragma("wal_autocheckpoint", "0").pragma("temp_store", "MEMORY");
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
