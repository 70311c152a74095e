//! The demo's directory: empty, or an earlier demo's own, which is then replaced.

use std::path::Path;

use anyhow::{Context, Result, bail};
use daybook_ledger::{DatabaseError, Reader, ledger_path};

/// What a demo leaves in its directory: all that a later one may remove.
const FILES: [&str; 7] = [
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "ledger.db.new",
    "ledger.db.new-journal",
    "ledger.db.new-wal",
    "ledger.db.new-shm",
];
const LOCK: &str = "ledger.lock";
const KEYS: &str = "keys";

/// Whether a directory has nothing in it.
pub(super) fn is_empty(directory: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(directory)
        .with_context(|| format!("`{}` cannot be read", directory.display()))?;
    Ok(entries.next().is_none())
}

/// Makes the directory, or empties it of an earlier demo; refuses any other.
pub(super) fn prepare(data: &Path) -> Result<()> {
    let shown = data.display();
    if data.exists() && !data.is_dir() {
        bail!("`{shown}` is not a directory; name another with --data");
    }
    std::fs::create_dir_all(data).with_context(|| format!("`{shown}` cannot be made"))?;
    if only_leftovers(data)? {
        return Ok(());
    }
    match Reader::open(data) {
        Ok(reader) if reader.genesis().is_demo => {}
        Ok(_) => bail!(
            "`{shown}` holds a ledger that is not a demo's; name another directory with --data"
        ),
        Err(DatabaseError::Missing { .. }) => {
            bail!("`{shown}` is not empty and holds no demo; name another directory with --data")
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("`{shown}` holds no demo that could be replaced"));
        }
    }
    refuse_if_written(data)?;
    for name in FILES {
        remove(&data.join(name))?;
    }
    let keys = data.join(KEYS);
    if keys.exists() {
        std::fs::remove_dir_all(&keys)
            .with_context(|| format!("`{}` cannot be removed", keys.display()))?;
    }
    Ok(())
}

/// Whether there is nothing but what a start that failed may have left.
fn only_leftovers(data: &Path) -> Result<bool> {
    let entries =
        std::fs::read_dir(data).with_context(|| format!("`{}` cannot be read", data.display()))?;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != LOCK && !name.starts_with("ledger.db.new") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An earlier demo that is still played must not be pulled away from under itself.
fn refuse_if_written(data: &Path) -> Result<()> {
    let lock = data.join(LOCK);
    let Ok(file) = std::fs::File::open(&lock) else { return Ok(()) };
    if matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
        bail!(
            "`{}` is being written by another process; wait for it, or name another directory with --data",
            ledger_path(data).display()
        );
    }
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
