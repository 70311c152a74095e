//! The file in which a projection's new tables grow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteSynchronous;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};

use super::error::RebuildError;
use crate::applier::{self, Refused};
use crate::database::GameDatabase;
use crate::game_file::{self, boot_id};
use crate::position::Position;
use crate::projection::{ApplyError, ProjectedEvent, Projection, is_disk_full};
use crate::sqlite::{connect_options, look};

/// A lock that somebody holds is looked at so often, in all for a tenth of a second.
const LOCK_LOOKS: u32 = 5;
const LOCK_LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

/// How far a rebuild that is under way has come.
pub(crate) async fn progress(database: &Path, name: &str) -> Option<u64> {
    let path = path_beside(database, name);
    let lock = std::fs::File::open(lock_beside(&path, name)).ok()?;
    // Whoever rebuilds holds it; without one, what is there was left by one that was killed.
    let is_going_on = matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock));
    if !is_going_on || !path.exists() {
        return None;
    }
    let mut looked = look(&path).await.ok()?;
    let position = Position::load(&mut looked.connection, name).await.ok()?;
    Some(position.map_or(0, |position| position.head.seq))
}

/// What an earlier rebuild left stands for, if anything can be read of it.
pub(super) async fn left_position(database: &GameDatabase, name: &str) -> Option<Position> {
    let path = path_beside(database.path(), name);
    if !path.exists() {
        return None;
    }
    let mut looked = look(&path).await.ok()?;
    Position::load(&mut looked.connection, name).await.ok()?
}

fn path_beside(database: &Path, name: &str) -> PathBuf {
    crate::sqlite::with_ending(database, &format!(".rebuild-{name}"))
}

fn lock_beside(path: &Path, name: &str) -> PathBuf {
    path.with_extension(format!("rebuild-{name}.lock"))
}

/// The file with the new tables.
pub(super) struct GrowingTables {
    pub(super) projection: Arc<dyn Projection>,
    pub(super) path: PathBuf,
    connection: SqliteConnection,
    /// What its tables stand for.
    pub(super) position: Position,
    lock: Lock,
}

/// Held while a rebuild goes on; the system gives it back when the process ends.
pub(super) struct Lock {
    path: PathBuf,
    _file: std::fs::File,
}

impl Lock {
    /// Takes a projection's.
    pub(super) async fn take(
        database: &GameDatabase,
        name: &'static str,
    ) -> Result<Self, RebuildError> {
        let path = lock_beside(&path_beside(database.path(), name), name);
        let io_error = |source| RebuildError::Io { path: path.clone(), source };
        let file =
            std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io_error)?;
        let mut looks = 0;
        while let Err(refused) = file.try_lock() {
            match refused {
                // Whoever asks how a rebuild fares holds it for a moment.
                std::fs::TryLockError::WouldBlock if looks < LOCK_LOOKS => looks += 1,
                std::fs::TryLockError::WouldBlock => return Err(RebuildError::Busy { name }),
                std::fs::TryLockError::Error(source) => return Err(io_error(source)),
            }
            tokio::time::sleep(LOCK_LOOKED_AT_EVERY).await;
        }
        Ok(Self { path, _file: file })
    }
}

impl GrowingTables {
    /// Opens what an earlier rebuild left, or makes the file.
    pub(super) async fn open(
        database: &GameDatabase,
        projection: &Arc<dyn Projection>,
        lock: Lock,
    ) -> Result<Self, RebuildError> {
        let (name, version) = (projection.name(), projection.version());
        let path = path_beside(database.path(), name);
        let io_error = |source| RebuildError::Io { path: lock.path.clone(), source };
        // What was written before the machine stopped may be torn.
        if std::fs::read_to_string(&lock.path).is_ok_and(|boot| boot == boot_id()) {
            let left = left_beside(&path, database, projection.as_ref()).await;
            if let Some((connection, position)) = left.filter(|(_, left)| left.version == version) {
                let projection = Arc::clone(projection);
                return Ok(Self { projection, path, connection, position, lock });
            }
        }
        let removed = remove_files(&path);
        removed.map_err(|source| RebuildError::Io { path: path.clone(), source })?;
        std::fs::write(&lock.path, boot_id()).map_err(io_error)?;
        let connection = connect_beside(&path).await?;
        let position = Position::start(version);
        let projection = Arc::clone(projection);
        let beside = Self { projection, path, connection, position, lock };
        beside.with_tables(database).await
    }

    /// Makes the tables as they are in the live file, without their indexes.
    async fn with_tables(mut self, database: &GameDatabase) -> Result<Self, RebuildError> {
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
        if events.is_empty() {
            return Ok(());
        }
        let (name, connection) = (self.name(), &mut self.connection);
        let applying = async {
            let projection = self.projection.as_ref();
            let folded = applier::fold(connection, projection, &self.position, events).await?;
            applier::write(connection, name, folded).await
        };
        match applying.await {
            Ok(position) => self.position = position,
            Err(Refused::Moved | Refused::AnotherLedger(_)) => {
                return Err(RebuildError::Busy { name });
            }
            Err(Refused::Failed(source)) => {
                if matches!(&source, ApplyError::Database(error) if is_disk_full(error)) {
                    self.make_room()?;
                }
                return Err(RebuildError::Apply { name, source });
            }
        }
        Ok(())
    }

    /// On a full disk: others need the room, the ledger first of all.
    pub(super) fn make_room(&self) -> Result<(), RebuildError> {
        let removed = remove_files(&self.path);
        removed.map_err(|source| RebuildError::Io { path: self.path.clone(), source })
    }

    /// Whether the live tables still look as these do.
    pub(super) async fn has_shape_of(
        &mut self,
        live: &mut SqliteConnection,
    ) -> Result<bool, sqlx::Error> {
        has_live_tables(&mut self.connection, live, self.projection.as_ref()).await
    }

    pub(super) async fn begin_anew(self, database: &GameDatabase) -> Result<Self, RebuildError> {
        let projection = Arc::clone(&self.projection);
        let lock = self.remove().await?;
        Self::open(database, &projection, lock).await
    }

    /// Removes the file; gives the lock.
    pub(super) async fn remove(self) -> Result<Lock, RebuildError> {
        // Removed first: SQLite does not then fold the log into a file that nobody will read.
        let removed = self.make_room();
        self.connection.close().await?;
        removed.map(|()| self.lock)
    }
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

/// What an earlier rebuild left and how far it had come, if it is of any use: whole, and with the
/// tables that the live file has.
async fn left_beside(
    path: &Path,
    database: &GameDatabase,
    projection: &dyn Projection,
) -> Option<(SqliteConnection, Position)> {
    if !path.exists() {
        return None;
    }
    let mut connection = connect_beside(path).await.ok()?;
    let position = Position::load(&mut connection, projection.name()).await.ok()??;
    let mut live = database.connect_writer().await.ok()?;
    let has_them = has_live_tables(&mut connection, &mut live, projection).await;
    has_them.is_ok_and(|has_them| has_them).then_some((connection, position))
}

/// Whether what an earlier rebuild left has the tables that the live file has.
async fn has_live_tables(
    beside: &mut SqliteConnection,
    live: &mut SqliteConnection,
    projection: &dyn Projection,
) -> Result<bool, sqlx::Error> {
    for table in tables_beside(projection) {
        if sql_of(beside, table).await? != sql_of(live, table).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn connect_beside(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = connect_options(path).create_if_missing(true).foreign_keys(false);
    // What is written here must outlive a killed process, which it does unsynced; after a power
    // cut, which another boot tells, it is begun anew.
    let options = options.synchronous(SqliteSynchronous::Off);
    // It grows at its end, is read once and removed: large pages, and a log that is never folded
    // in. What a statement needs to undo itself alone stays in memory.
    let options = options.pragma("cache_size", "-131072").page_size(16_384);
    let options = options.pragma("wal_autocheckpoint", "0").pragma("temp_store", "MEMORY");
    options.connect().await
}

/// Removes a file of new tables.
pub(crate) fn remove_files(path: &Path) -> std::io::Result<()> {
    for ending in ["-wal", "-shm", ""] {
        let mut path = path.as_os_str().to_owned();
        path.push(ending);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The files in which new tables grow, or were left by a rebuild that was killed.
pub(crate) fn files(database: &Path) -> Vec<PathBuf> {
    let mut files = game_file::beside(database, ".rebuild-");
    // One that is ours has its lock beside it.
    files.retain(|path| crate::sqlite::with_ending(path, ".lock").exists());
    files
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
