//! Files of a backup: copied by SQLite or byte by byte, hashed, synced.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_projections::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use daybook_projections::sqlx::{self, ConnectOptions, Connection, SqliteConnection};
use daybook_projections::{look, path_in_sql, result_code};

use crate::error::{BackupError, io};
use crate::manifest::FileEntry;

/// How long a copy waits for another program's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 1 << 20;
/// SQLite's result where nothing may be written beside a file.
const CANNOT_OPEN: u32 = 14;

/// Makes a directory that its owner alone may look into.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io(path))
}

/// Makes a new file that its owner alone may read.
pub(crate) fn make_private_file(path: &Path) -> Result<File, BackupError> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(io(path))
}

/// Copies a database while others write it: what it held at one moment. The copy has no log, and
/// its structure is checked.
pub(crate) async fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Sqlite { path, source }
    };
    make_private_file(to)?;
    let options = SqliteConnectOptions::new()
        .filename(std::path::absolute(from).map_err(io(from))?)
        .busy_timeout(BUSY_TIMEOUT)
        .read_only(true);
    let copied = match options.connect().await {
        Ok(mut connection) => vacuum_into(&mut connection, to).await,
        Err(error) => Err(error),
    };
    match copied {
        Ok(()) => {}
        // Where nothing may be written beside it: nobody is at work there.
        Err(error) if result_code(&error) == Some(CANNOT_OPEN) => {
            let mut looked = look(from).await.map_err(failed(from))?;
            vacuum_into(&mut looked.connection, to).await.map_err(failed(from))?;
        }
        Err(error) => return Err(failed(from)(error)),
    }
    // A reader makes no files beside it then.
    let options = SqliteConnectOptions::new()
        .filename(std::path::absolute(to).map_err(io(to))?)
        .journal_mode(SqliteJournalMode::Delete);
    let mut copy = options.connect().await.map_err(failed(to))?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_all(&mut copy)
        .await
        .map_err(failed(to))?;
    copy.close().await.map_err(failed(to))?;
    match found.first().map(String::as_str) {
        Some("ok") => Ok(()),
        found => {
            let detail = found.unwrap_or("SQLite says nothing of it").to_owned();
            Err(BackupError::Damaged { path: from.to_owned(), detail })
        }
    }
}

async fn vacuum_into(connection: &mut SqliteConnection, to: &Path) -> Result<(), sqlx::Error> {
    sqlx::query("VACUUM INTO ?1").bind(path_in_sql(to)).execute(connection).await.map(drop)
}

/// Syncs a file and tells what it is.
pub(crate) fn seal(directory: &Path, name: &str) -> Result<FileEntry, BackupError> {
    let path = directory.join(name);
    let mut file = File::open(&path).map_err(io(&path))?;
    file.sync_all().map_err(io(&path))?;
    let (bytes, blake3) = read_through(&mut file, &mut std::io::sink()).map_err(io(&path))?;
    Ok(FileEntry { path: name.to_owned(), bytes, blake3 })
}

/// Copies a file of a backup, held to what the manifest says of it, and syncs the copy.
pub(crate) fn copy_held(
    backup: &Path,
    entry: &FileEntry,
    directory: &Path,
) -> Result<(), BackupError> {
    let (from, to) = (backup.join(&entry.path), directory.join(&entry.path));
    refuse_log_beside(&from)?;
    let mut source = open_entry(&from)?;
    let mut copy = make_private_file(&to)?;
    let read = read_through(&mut source, &mut copy).map_err(io(&to))?;
    hold(&from, entry, &read)?;
    copy.sync_all().map_err(io(&to))
}

/// Holds a file of a backup to what the manifest says of it.
pub(crate) fn check_held(backup: &Path, entry: &FileEntry) -> Result<(), BackupError> {
    let path = backup.join(&entry.path);
    refuse_log_beside(&path)?;
    let mut source = open_entry(&path)?;
    let read = read_through(&mut source, &mut std::io::sink()).map_err(io(&path))?;
    hold(&path, entry, &read)
}

/// A backup's files have no log: one that lies beside would be read with them. Whoever only reads
/// leaves an empty one.
fn refuse_log_beside(path: &Path) -> Result<(), BackupError> {
    for ending in ["-wal", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let log = PathBuf::from(name);
        if log.symlink_metadata().is_ok_and(|found| !found.is_file() || found.len() > 0) {
            let detail = "a backup's file has no log, so something was written to it".to_owned();
            return Err(BackupError::Altered { path: log, detail });
        }
    }
    Ok(())
}

fn open_entry(path: &Path) -> Result<File, BackupError> {
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (path, detail) = (path.to_owned(), "it is missing".to_owned());
            Err(BackupError::Altered { path, detail })
        }
        other => other.map_err(io(path)),
    }
}

fn hold(path: &Path, entry: &FileEntry, read: &(u64, String)) -> Result<(), BackupError> {
    let (bytes, blake3) = read;
    let detail = match (*bytes == entry.bytes, *blake3 == entry.blake3) {
        (true, true) => return Ok(()),
        (false, _) => format!("it has {bytes} bytes, and had {}", entry.bytes),
        (true, false) => "its hash is another".to_owned(),
    };
    Err(BackupError::Altered { path: path.to_owned(), detail })
}

/// Reads to the end, writing on; tells how many bytes there were, and their hash.
fn read_through(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<(u64, String)> {
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk)?;
        let read = chunk.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok((bytes, hasher.finalize().to_hex().to_string()));
        }
        hasher.update(read);
        to.write_all(read)?;
        bytes += count as u64;
    }
}

/// Syncs the names in a directory.
pub(crate) fn sync_directory(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io(path))
}

/// What lies where a database or a directory is to be put: a file, its log, or whatever has its name.
/// An empty directory of snapshots is nothing.
pub(crate) fn in_the_way(directory: &Path, name: &str) -> Option<PathBuf> {
    let endings = ["", "-wal", "-shm", "-journal"];
    endings.iter().map(|ending| directory.join(format!("{name}{ending}"))).find(|path| {
        let is_empty_directory =
            std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        let is_there = path.symlink_metadata().is_ok();
        is_there && (name.ends_with(".db") || !is_empty_directory)
    })
}
