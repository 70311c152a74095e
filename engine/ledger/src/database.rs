//! Opening `ledger.db`: what makes a file a ledger, and how connections are set up.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_schema::{EventHash, Game, Genesis, Head, LedgerFormat, LedgerId, UnixMicros, limits};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tempfile::TempDir;

use crate::files::{UnfinishedFile, copy_aside, lacks_descriptors, sqlite_path};
use crate::held_file::FileUse;

/// `DAYB`: SQLite's application id of a ledger.
pub const APPLICATION_ID: i32 = 0x4441_5942;

/// The ledger's file in a data directory.
#[must_use]
pub fn ledger_path(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger.db")
}

/// A file could not be opened as a ledger.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no such file.
    #[error("no ledger at `{}`", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{}` is not a Daybook ledger", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a format that this version does not know.
    #[error(
        "`{}` has ledger format {found}, this version knows formats up to {}; use a newer daybook",
        path.display(),
        LedgerFormat::NEWEST.number()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// The ledger is that of a game which this version does not know.
    #[error(
        "`{}` is a ledger of the game `{found}`, this version knows {}; use a daybook that knows it",
        path.display(),
        Game::ALL.iter().map(|game| game.as_str()).collect::<Vec<_>>().join(", ")
    )]
    UnknownGame {
        /// The file.
        path: PathBuf,
        /// Its game.
        found: String,
    },
    /// The ledger does not begin as it should: nothing that follows can be believed.
    #[error("`{}` is damaged: {detail}", path.display())]
    BrokenGenesis {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        detail: String,
    },
    /// A write-ahead log lies there without its ledger.
    #[error("`{}-wal` belongs to a ledger that is not there; put that back", path.display())]
    StrayLog {
        /// Where the ledger should be.
        path: PathBuf,
    },
    /// SQLite could not do it.
    #[error("`{}` cannot be opened", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file system could not do it.
    #[error("`{}` cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The genesis row as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredGenesis {
    pub(crate) genesis: Genesis,
    pub(crate) hash: EventHash,
}

/// A connection to a ledger's file.
///
/// INVARIANT: the connection stands first, and so is closed first.
#[derive(Debug)]
pub(crate) struct LedgerConnection {
    connection: Connection,
    _used: FileUse,
    /// The directory of the copy that is read, where the file itself cannot be.
    _copy: Option<TempDir>,
}

impl LedgerConnection {
    /// Whether a copy is read, because the file itself cannot be.
    pub(crate) const fn is_copy(&self) -> bool {
        self._copy.is_some()
    }

    /// Whether it reads the very file that another connection reads.
    pub(crate) fn is_of_same_file(&self, other: &Self) -> bool {
        !self.is_copy() && !other.is_copy() && self._used.is_of_same_file(&other._used)
    }
}

impl std::ops::Deref for LedgerConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

fn sqlite_error(path: &Path) -> impl Fn(rusqlite::Error) -> DatabaseError {
    move |source| match (cannot_open(&source), lacks_descriptors()) {
        (true, Some(source)) => DatabaseError::Io { path: path.to_owned(), source },
        _ => DatabaseError::Sqlite { path: path.to_owned(), source },
    }
}

/// Opens an existing ledger for writing, with every setting that durability rests on.
pub(crate) fn open_writer(path: &Path) -> Result<LedgerConnection, DatabaseError> {
    check_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open_file(path, flags)?;
    check_identity(path, &connection)?;
    set_up_writer(&connection).map_err(sqlite_error(path))?;
    Ok(connection)
}

fn open_file(path: &Path, flags: OpenFlags) -> Result<LedgerConnection, DatabaseError> {
    let io_error = |source| DatabaseError::Io { path: path.to_owned(), source };
    let file = sqlite_path(path).map_err(io_error)?;
    let used = FileUse::of(path).map_err(io_error)?;
    let connection = Connection::open_with_flags(file, flags).map_err(sqlite_error(path))?;
    used.check(path).map_err(io_error)?;
    Ok(LedgerConnection { connection, _used: used, _copy: None })
}

fn set_up_writer(connection: &Connection) -> rusqlite::Result<()> {
    set_up(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A log may be folded into a file that it is not of, where one of them was moved. So nothing is
    // folded in but on purpose, after a look at the files.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Folds the log in and closes a writer's connection, which removes the log if it is the last one.
pub(crate) fn fold_and_close(ledger: LedgerConnection) -> rusqlite::Result<()> {
    // The connection is closed before its use ends.
    let LedgerConnection { _used, connection, .. } = ledger;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    crate::checkpoint::fold_in_whole(&connection)?;
    connection.close().map_err(|(_, error)| error)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(limits::BUSY_TIMEOUT_MS))?;
    connection.pragma_update(None, "cache_size", -i64::from(limits::CACHE_KIB))?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Opens an existing ledger for reading; a writer may be at work.
pub(crate) fn open_reader(path: &Path) -> Result<LedgerConnection, DatabaseError> {
    check_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = open_file(path, flags)?;
        check_identity(path, &connection)?;
        set_up(&connection).map_err(sqlite_error(path))?;
        Ok(connection)
    };
    match open() {
        // SQLite reads a write-ahead log only where it may write beside it. Where it may not and
        // there is no log, nobody is at work and the file can be read as it lies; with a log a copy
        // is read.
        Err(DatabaseError::Sqlite { source, .. }) if cannot_open(&source) => {
            if has_log(path) {
                open_copy(path)
            } else {
                open_immutable(path)
            }
        }
        other => other,
    }
}

fn cannot_open(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, ReadOnly};
    matches!(error.sqlite_error_code(), Some(CannotOpen | ReadOnly))
}

/// The write-ahead log beside a ledger.
pub(crate) fn log_path(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

fn has_log(path: &Path) -> bool {
    std::fs::metadata(log_path(path)).is_ok_and(|log| log.len() > 0)
}

/// A copy of the file with its log, in the system's temporary directory as long as it is read.
fn open_copy(path: &Path) -> Result<LedgerConnection, DatabaseError> {
    let io_error = |source| DatabaseError::Io { path: path.to_owned(), source };
    let (directory, copy) = copy_aside(path).map_err(io_error)?;
    let used = FileUse::of(path).map_err(io_error)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).map_err(sqlite_error(path))?;
    let connection = LedgerConnection { connection, _used: used, _copy: Some(directory) };
    check_identity(path, &connection)?;
    set_up(&connection).map_err(sqlite_error(path))?;
    Ok(connection)
}

fn open_immutable(path: &Path) -> Result<LedgerConnection, DatabaseError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| DatabaseError::Io { path: path.to_owned(), source })?;
    let bytes = absolute.as_os_str().as_bytes();
    let escaped: String = bytes
        .iter()
        .map(|&byte| match byte {
            b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{escaped}?immutable=1");
    let used =
        FileUse::of(path).map_err(|source| DatabaseError::Io { path: path.to_owned(), source })?;
    let connection = Connection::open_with_flags(uri, flags).map_err(sqlite_error(path))?;
    let connection = LedgerConnection { connection, _used: used, _copy: None };
    check_identity(path, &connection)?;
    set_up(&connection).map_err(sqlite_error(path))?;
    Ok(connection)
}

/// Whether there is a file that may be read. It is not opened: closing any descriptor of a file
/// gives back every lock that the process has on it, SQLite's too, and another program that then
/// closes the ledger would take itself for the last and remove the log under a writer.
pub(crate) fn check_file(path: &Path) -> Result<(), DatabaseError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => rustix::fs::access(path, rustix::fs::Access::READ_OK)
            .map_err(|errno| DatabaseError::Io { path: path.to_owned(), source: errno.into() }),
        Ok(_) => Err(DatabaseError::NotALedger { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(DatabaseError::Missing { path: path.to_owned() })
        }
        // A file stands where the directory should be.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(DatabaseError::Missing { path: path.to_owned() })
        }
        Err(source) => Err(DatabaseError::Io { path: path.to_owned(), source }),
    }
}

fn check_identity(path: &Path, connection: &Connection) -> Result<(), DatabaseError> {
    let not_a_ledger = || DatabaseError::NotALedger { path: path.to_owned() };
    let number = |pragma: &str| match connection.pragma_query_value(None, pragma, |row| row.get(0))
    {
        Ok(value) => Ok(value),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(not_a_ledger())
        }
        Err(source) => Err(sqlite_error(path)(source)),
    };
    let application: i64 = number("application_id")?;
    if application != i64::from(APPLICATION_ID) {
        return Err(not_a_ledger());
    }
    let found: i64 = number("user_version")?;
    match LedgerFormat::from_number(found) {
        Some(format) => check_game(path, connection, format),
        None if found > i64::from(LedgerFormat::NEWEST.number()) => {
            Err(DatabaseError::NewerFormat { path: path.to_owned(), found })
        }
        None => Err(not_a_ledger()),
    }
}

/// Refuses another game's ledger. A genesis that is not as it should be is none: its hash tells,
/// later.
fn check_game(
    path: &Path,
    connection: &Connection,
    format: LedgerFormat,
) -> Result<(), DatabaseError> {
    if format == LedgerFormat::V1 {
        return Ok(());
    }
    let game: rusqlite::Result<String> =
        connection.query_row("SELECT game FROM genesis WHERE id = 1", [], |row| row.get(0));
    match game {
        Ok(found) if is_game_name(&found) && found.parse::<Game>().is_err() => {
            Err(DatabaseError::UnknownGame { path: path.to_owned(), found })
        }
        _ => Ok(()),
    }
}

/// Whether a text has the form of a game's name.
fn is_game_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=limits::GAME_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

/// Creates a ledger: a whole one or none.
pub(crate) fn create(path: &Path, genesis: &Genesis) -> Result<(), DatabaseError> {
    let io_error = |source| DatabaseError::Io { path: path.to_owned(), source };
    if has_log(path) {
        return Err(DatabaseError::StrayLog { path: path.to_owned() });
    }
    let file = UnfinishedFile::begin(path).map_err(io_error)?;
    write_new(&sqlite_path(file.path()).map_err(io_error)?, genesis).map_err(sqlite_error(path))?;
    file.finish().map_err(io_error)
}

fn write_new(path: &Path, genesis: &Genesis) -> rusqlite::Result<()> {
    finish_new(begin_new(path, genesis)?)
}

/// Makes a file with the tables of a ledger and its genesis, to be filled before it is one.
pub(crate) fn begin_new(path: &Path, genesis: &Genesis) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", limits::LEDGER_PAGE_BYTES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", genesis.format.number())?;
    connection.execute_batch(genesis.format.sql())?;
    connection.execute(
        "INSERT INTO genesis (id, ledger_id, format_version, created_at, is_demo, game, hash) \
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
        rusqlite::params![
            genesis.ledger_id.as_bytes(),
            genesis.format.number(),
            genesis.created_at.get(),
            genesis.is_demo,
            genesis.game.as_str(),
            genesis.hash().as_bytes(),
        ],
    )?;
    Ok(connection)
}

/// Closes a file that was begun. It is not synced.
pub(crate) fn finish_new(connection: Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.close().map_err(|(_, error)| error)
}

/// The format that a file says it has.
fn stored_format(connection: &Connection) -> rusqlite::Result<Option<LedgerFormat>> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map(LedgerFormat::from_number)
}

/// Reads the genesis; `None` where the row is missing or not of its format's form.
pub(crate) fn read_genesis(connection: &Connection) -> rusqlite::Result<Option<StoredGenesis>> {
    let Some(format) = stored_format(connection)? else { return Ok(None) };
    // The first format's ledgers are of one game, and name none.
    let game = match format {
        LedgerFormat::V1 => "'farming_season'",
        LedgerFormat::V2 => "game",
    };
    let row = connection
        .query_row(
            &format!(
                "SELECT ledger_id, created_at, is_demo, hash, {game} FROM genesis \
                 WHERE id = 1 AND format_version = ?1 AND (SELECT count(*) FROM genesis) = 1"
            ),
            [format.number()],
            |row| {
                let id: [u8; 16] = row.get(0)?;
                let hash: [u8; 32] = row.get(3)?;
                let game: String = row.get(4)?;
                let genesis = Genesis {
                    ledger_id: LedgerId::from_bytes(id),
                    format,
                    created_at: UnixMicros::new(row.get(1)?),
                    is_demo: match row.get(2)? {
                        0 => false,
                        1 => true,
                        other => return Err(rusqlite::Error::IntegralValueOutOfRange(2, other)),
                    },
                    game: game.parse().map_err(|error| {
                        let text = rusqlite::types::Type::Text;
                        rusqlite::Error::FromSqlConversionFailure(4, text, Box::new(error))
                    })?,
                };
                Ok(StoredGenesis { genesis, hash: EventHash::new(hash) })
            },
        )
        .optional();
    match row {
        Err(
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..),
        ) => Ok(None),
        Err(error) if lacks_table_or_column(&error) => Ok(None),
        other => other,
    }
}

/// Whether SQLite says that a statement does not fit the tables that there are.
fn lacks_table_or_column(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_ERROR)
}

/// The newest event, or the genesis.
pub(crate) fn newest_head(connection: &Connection) -> rusqlite::Result<Head> {
    connection.query_row(
        "SELECT seq, hash FROM (SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1) \
         UNION ALL SELECT 0, hash FROM genesis LIMIT 1",
        [],
        |row| {
            let (seq, hash): (i64, [u8; 32]) = (row.get(0)?, row.get(1)?);
            Ok(Head { seq: seq.unsigned_abs(), hash: EventHash::new(hash) })
        },
    )
}

/// When the newest event was recorded; none where there is no event yet.
pub(crate) fn newest_recorded_at(connection: &Connection) -> rusqlite::Result<Option<UnixMicros>> {
    connection
        .query_row("SELECT recorded_at FROM events ORDER BY seq DESC LIMIT 1", [], |row| row.get(0))
        .optional()
        .map(|found| found.map(UnixMicros::new))
}

/// The hash of the event at a seq; of the genesis, which no event's row is, at seq 0.
pub(crate) fn hash_at(connection: &Connection, seq: u64) -> rusqlite::Result<Option<EventHash>> {
    connection
        .prepare_cached(
            "SELECT hash FROM events WHERE seq = ?1 UNION ALL SELECT hash FROM genesis WHERE ?1 = 0",
        )?
        .query_row([seq.cast_signed()], |row| row.get::<_, [u8; 32]>(0))
        .optional()
        .map(|found| found.map(EventHash::new))
}

/// Whether the ledger has a head; the genesis is one, with seq 0.
pub(crate) fn has_head(connection: &Connection, head: Head) -> rusqlite::Result<bool> {
    Ok(hash_at(connection, head.seq)? == Some(head.hash))
}

/// What differs between the file's tables and triggers and those of its format, if anything does.
pub(crate) fn guard_difference(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let objects = |connection: &Connection| -> rusqlite::Result<Vec<(String, String)>> {
        let mut statement = connection.prepare(
            // What ANALYZE leaves does no harm; no other object can have such a name.
            "SELECT name, coalesce(sql, '') FROM sqlite_schema \
             WHERE name NOT IN ('sqlite_stat1', 'sqlite_stat4') ORDER BY type, name",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    let format = stored_format(connection)?.unwrap_or(LedgerFormat::NEWEST);
    let template = Connection::open_in_memory()?;
    template.execute_batch(format.sql())?;
    let expected = objects(&template)?;
    let found = objects(connection)?;
    let missing = expected.iter().find(|object| !found.contains(object));
    let foreign = found.iter().find(|object| !expected.contains(object));
    Ok(match (missing, foreign) {
        (Some((name, _)), _) => Some(format!("`{name}` is missing or is not what it should be")),
        (None, Some((name, _))) => Some(format!("`{name}` does not belong to a ledger")),
        (None, None) => None,
    })
}
