//! SQLite's files: their names, how they are looked at without a write, and what its errors mean.

use std::path::{Path, PathBuf};

use daybook_ledger::copy_aside;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

/// A name with an ending, such as the log's.
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What our files have in their header.
pub(crate) const APPLICATION_ID: i64 = 0x4441_5947;

/// SQLite's files beside a database.
pub(crate) const LOG: &str = "-wal";
pub(crate) const INDEX: &str = "-shm";

/// Whether a log lies there that is not empty, and its database is gone or has nothing in it:
/// SQLite removes such a log when it opens the database.
#[must_use]
pub fn has_orphaned_log(database: &Path) -> bool {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    bytes(database) == 0 && bytes(&with_ending(database, LOG)) > 0
}

/// Where a file really lies: SQLite keeps its log there, and we what we set aside.
pub(crate) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// SQLite's primary result codes.
pub(crate) const GENERIC: u32 = 1;
pub(crate) const BUSY: u32 = 5;
const READ_ONLY: u32 = 8;
pub(crate) const CORRUPT: u32 = 11;
const CANNOT_OPEN: u32 = 14;
pub(crate) const NOT_A_DATABASE: u32 = 26;

/// SQLite's primary result code of an error, if it is one of SQLite's.
#[must_use]
pub fn result_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

/// A path as SQLite takes it: an absolute one is never read as a URI, whatever its name.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as a statement names it.
#[must_use]
pub fn path_in_sql(path: &Path) -> String {
    absolute(path).to_string_lossy().into_owned()
}

/// Options that set nothing of a file.
pub(crate) fn look_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(absolute(path))
}

/// A connection that looks at a file and needs no right to write beside it.
pub struct Look {
    /// The connection.
    pub connection: SqliteConnection,
    /// The directory of the copy that is read, where the file itself cannot be.
    _copy: Option<TempDir>,
}

/// Opens a file to look at it: nothing is written to it, and no log folded in.
///
/// # Errors
/// What SQLite says.
pub async fn look(path: &Path) -> Result<Look, sqlx::Error> {
    // A pipe would be waited for.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let error = format!("`{}` is no file", path.display());
        return Err(sqlx::Error::Io(std::io::Error::other(error)));
    }
    // SQLite would remove such a log, which may be the last that tells of lost events.
    if has_orphaned_log(path) {
        let error = format!("`{}-wal` lies there without its database", path.display());
        return Err(sqlx::Error::Io(std::io::Error::other(error)));
    }
    let read = async |options: SqliteConnectOptions| {
        let mut connection = options.read_only(true).connect().await?;
        sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    // Where nobody has it open nothing need be made beside it.
    let is_at_rest =
        [LOG, INDEX].iter().all(|ending| with_ending(path, ending).symlink_metadata().is_err());
    let error = match read(look_options(path).immutable(is_at_rest)).await {
        Ok(connection) => return Ok(Look { connection, _copy: None }),
        Err(error) => error,
    };
    if !matches!(result_code(&error), Some(READ_ONLY | CANNOT_OPEN)) {
        return Err(error);
    }
    // SQLite reads a log only where it may write beside it. Without a log the file can be read as
    // it lies.
    let log = std::fs::metadata(with_ending(path, LOG));
    if log.is_ok_and(|log| log.len() > 0) {
        let (directory, copy) = copy_aside(path)?;
        let connection = look_options(&copy).connect().await?;
        return Ok(Look { connection, _copy: Some(directory) });
    }
    let connection = read(look_options(path).immutable(true)).await?;
    Ok(Look { connection, _copy: None })
}

/// Options that all our files have in common.
#[must_use]
pub fn connect_options(path: &Path) -> SqliteConnectOptions {
    look_options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        .statement_cache_capacity(256)
        // A larger log is folded in less often, and each page of it once.
        .pragma("wal_autocheckpoint", "8192")
        .pragma("journal_size_limit", "134217728")
        // What is deleted is overwritten: a person's data does not stay in free pages.
        .pragma("secure_delete", "ON")
}
