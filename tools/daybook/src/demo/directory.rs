//! The demo's directory: empty, or an earlier demo's own, which is then replaced.

use std::path::Path;

use anyhow::{Context, Result, bail};
use daybook_ledger::{
    DatabaseError, Reader, UnfinishedFile, WriterLock, create_directories, keys, ledger_path,
    snapshots_path,
};

/// What a demo leaves in its directory beside its keys, in the order of removal: the ledger comes
/// last, because it is what tells that the directory is a demo's.
const FILES: [&str; 14] = [
    "restored.json",
    "game.db-wal",
    "game.db-shm",
    "game.db",
    "game.db.lock",
    "telemetry.db-wal",
    "telemetry.db-shm",
    "telemetry.db",
    "accounts.db-wal",
    "accounts.db-shm",
    "accounts.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "ledger.db",
];
const LOCK: &str = "ledger.lock";
const KEYS: &str = "keys";

/// Where a demo's keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeysPlace {
    /// Into the data directory: they are replaced with the demo.
    Within,
    /// Into a directory that was named.
    Elsewhere,
}

/// Refuses a directory that holds anything but an earlier demo, and leaves all as it was.
pub(super) fn check(data: &Path, keys_dir: &Path) -> Result<KeysPlace> {
    let shown = data.display();
    if data.exists() && !data.is_dir() {
        bail!("`{shown}` is not a directory; name another with --data");
    }
    let absolute = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let within = absolute(&data.join(KEYS))?;
    let (named, data_itself) = (absolute(keys_dir)?, absolute(data)?);
    if named == data_itself {
        bail!("the keys cannot lie in `{shown}` itself; name another directory with --keys");
    }
    refuse_foreign_keys(data)?;
    if data.exists() {
        // Whoever plays there is asked first: SQLite's files must not be touched beside it.
        let lock = data.join(LOCK).exists().then(|| WriterLock::take(data)).transpose()?;
        holds_demo(data)?;
        drop(lock);
    }
    Ok(if named == within { KeysPlace::Within } else { KeysPlace::Elsewhere })
}

/// Makes the directory, or empties it of an earlier demo, and takes its writer's lock.
pub(super) fn prepare(data: &Path) -> Result<WriterLock> {
    let shown = data.display();
    create_directories(data)
        .with_context(|| format!("`{shown}` cannot be made; name another directory with --data"))?;
    let lock = WriterLock::take(data)?;
    // Once more, now that nobody else can change it.
    if holds_demo(data)? {
        refuse_foreign_keys(data)?;
        // What could not be made anew is not removed.
        for file in [ledger_path(data), data.join(KEYS).join("signing.key")] {
            drop(UnfinishedFile::begin(&file).with_context(|| {
                format!("the demo in `{shown}` cannot be replaced; it was left as it is")
            })?);
        }
        remove_snapshots(data)?;
        keys::remove(&data.join(KEYS))?;
        FILES.iter().try_for_each(|name| remove(&data.join(name)))?;
    }
    Ok(lock)
}

/// Refuses a data directory beside whose keys lie other things: they would be lost with them.
fn refuse_foreign_keys(data: &Path) -> Result<()> {
    let keys = data.join(KEYS);
    let snapshots = snapshots_path(data);
    if std::fs::symlink_metadata(&snapshots).is_ok_and(|found| !found.is_dir()) {
        bail!(
            "`{}` is a link or no directory, and what it leads to would be lost; move it away, or name \
             another directory with --data",
            snapshots.display()
        );
    }
    if keys::holds_only_keys(&keys) {
        return Ok(());
    }
    bail!(
        "`{}` is a link or holds other things than keys, which would be lost; move it away, or name \
         another directory with --data",
        keys.display()
    )
}

/// Whether the directory holds an earlier demo; refuses one that holds anything else.
fn holds_demo(data: &Path) -> Result<bool> {
    let shown = data.display();
    if only_leftovers(data)? {
        return Ok(false);
    }
    match Reader::open(data) {
        Ok(reader) if reader.genesis().is_demo => Ok(true),
        Ok(_) => bail!(
            "`{shown}` holds a ledger that is not a demo's; name another directory with --data"
        ),
        Err(DatabaseError::Missing { .. }) => {
            bail!("`{shown}` is not empty and holds no demo; name another directory with --data")
        }
        Err(error) => {
            Err(error).with_context(|| format!("`{shown}` holds no demo that could be replaced"))
        }
    }
}

/// Whether there is nothing but what a start that failed may have left.
fn only_leftovers(data: &Path) -> Result<bool> {
    let entries =
        std::fs::read_dir(data).with_context(|| format!("`{}` cannot be read", data.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_empty_keys = name == KEYS && is_empty(&entry.path());
        if name != LOCK && !name.starts_with("ledger.db.new") && !is_empty_keys {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// The demo's snapshots; other things that lie there stay.
fn remove_snapshots(data: &Path) -> Result<()> {
    let directory = snapshots_path(data);
    let Ok(entries) = std::fs::read_dir(&directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let seq = name.strip_suffix(".new").unwrap_or(&name).strip_suffix(".snapshot");
        let is_ours = seq.is_some_and(|seq| seq.len() == 20 && seq.parse::<u64>().is_ok());
        if is_ours && entry.file_type()?.is_file() {
            remove(&entry.path())?;
        }
    }
    // Refused where other things lie in it.
    drop(std::fs::remove_dir(&directory));
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("`{}` cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
