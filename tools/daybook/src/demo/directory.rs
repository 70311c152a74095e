//! The demo's directory: empty, or an earlier demo's own, which is then replaced.

use std::path::Path;

use anyhow::{Context, Result, bail};
use daybook_ledger::{DatabaseError, Reader, WriterLock, keys};

/// What a demo leaves in its directory beside its keys, in the order of removal: the ledger comes last,
/// because it is what tells that the directory is a demo's.
const FILES: [&str; 3] = ["ledger.db-wal", "ledger.db-shm", "ledger.db"];
const LOCK: &str = "ledger.lock";
const KEYS: &str = "keys";

/// Whether a directory has nothing in it.
pub(super) fn is_empty(directory: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(directory)
        .with_context(|| format!("`{}` cannot be read", directory.display()))?;
    Ok(entries.next().is_none())
}

/// Makes the directory, or empties it of an earlier demo, and takes its writer's lock; refuses any
/// other, and leaves it as it was.
pub(super) fn prepare(data: &Path) -> Result<WriterLock> {
    let shown = data.display();
    if data.exists() && !data.is_dir() {
        bail!("`{shown}` is not a directory; name another with --data");
    }
    std::fs::create_dir_all(data)
        .with_context(|| format!("`{shown}` cannot be made; name another directory with --data"))?;
    check(data)?;
    let lock = WriterLock::take(data)?;
    // Once more, now that nobody else can change it.
    if check(data)? {
        keys::remove(&data.join(KEYS))?;
        FILES.iter().try_for_each(|name| remove(&data.join(name)))?;
    }
    Ok(lock)
}

/// Whether the directory holds an earlier demo; refuses one that holds anything else.
fn check(data: &Path) -> Result<bool> {
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
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != LOCK && !name.starts_with("ledger.db.new") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("`{}` cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
