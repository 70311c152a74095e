//! One writer a ledger: a lock file that names the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The writer's lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process writes this ledger.
    #[error(
        "ledger is being written by process {holder} (lock `{}`); stop it first, or only read",
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as it wrote itself.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error("lock file `{}` cannot be taken", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The right to write a ledger, given back when it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
}

impl WriterLock {
    /// Takes the lock of a data directory, which must exist.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process, or this one, has it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join("ledger.lock");
        let io_error = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(200).read_to_string(&mut holder).map_err(io_error)?;
                let holder = match holder.trim() {
                    "" => "that has just begun".to_owned(),
                    named => named.to_owned(),
                };
                return Err(LockError::Held { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(source)),
        }
        let name = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        file.set_len(0).map_err(io_error)?;
        file.rewind().map_err(io_error)?;
        writeln!(file, "{} ({name})", std::process::id()).map_err(io_error)?;
        Ok(Self { file })
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was just begun has the descriptor too, for a moment.
        drop(self.file.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_though_a_child_has_its_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let lock = WriterLock::take(directory.path()).unwrap();
        assert!(matches!(WriterLock::take(directory.path()), Err(LockError::Held { .. })));
        let of_child = lock.file.try_clone().unwrap();
        drop(lock);
        drop(WriterLock::take(directory.path()).unwrap());
        drop(of_child);
    }
}
