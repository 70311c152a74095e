//! The ledger's file as this process has it open: what must not be closed while anything reads it.
//!
//! Closing any descriptor of a file gives back every lock that the process has on it, SQLite's too.
//! Another program that then closed the ledger would take itself for the last one and remove the
//! log under a writer. So a descriptor of our own stays open as long as any connection of this
//! process to that file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lock::LockError;

/// Which file a path names.
type FileId = (u64, u64);

/// What this process has of a ledger's file.
#[derive(Debug, Default)]
struct Opened {
    /// Connections, and the writer.
    uses: usize,
    /// Our own descriptor, once there was a writer.
    file: Option<Arc<File>>,
    /// Whether a writer of this process holds the system's lock.
    is_held: bool,
}

static OPENED: Mutex<BTreeMap<FileId, Opened>> = Mutex::new(BTreeMap::new());

fn opened() -> MutexGuard<'static, BTreeMap<FileId, Opened>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_id(found: &std::fs::Metadata) -> FileId {
    (found.dev(), found.ino())
}

/// Says that something of this process has a file open. It MUST be dropped after that is closed.
#[derive(Debug)]
pub(crate) struct FileUse {
    id: FileId,
}

impl FileUse {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let id = file_id(&std::fs::metadata(path)?);
        opened().entry(id).or_default().uses += 1;
        Ok(Self { id })
    }

    pub(crate) const fn is_of_same_file(&self, other: &Self) -> bool {
        self.id.0 == other.id.0 && self.id.1 == other.id.1
    }

    /// Whether the path still names the file that is meant: it was opened meanwhile.
    pub(crate) fn check(&self, path: &Path) -> io::Result<()> {
        self.check_found(&std::fs::metadata(path)?)
    }

    fn check_found(&self, found: &std::fs::Metadata) -> io::Result<()> {
        if file_id(found) == self.id {
            return Ok(());
        }
        Err(io::Error::other("another file was put in its place while it was opened; try again"))
    }
}

impl Drop for FileUse {
    fn drop(&mut self) {
        let mut opened = opened();
        let Some(ours) = opened.get_mut(&self.id) else { return };
        ours.uses -= 1;
        if ours.uses == 0 {
            // Within the mutex: whoever opens the file next does so after this close.
            opened.remove(&self.id);
        }
    }
}

/// The system's own lock (`flock`) of the ledger's file, beside the lock file: that may have been
/// removed under the one who holds it.
#[derive(Debug)]
pub(crate) struct HeldFile {
    file: Arc<File>,
    used: FileUse,
}

impl HeldFile {
    /// Takes the lock of a ledger's file.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process, or this one, has it.
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let io_error = |source| LockError::Io { path: path.to_owned(), source };
        let held = || {
            let holder = "that took it before its lock file was removed".to_owned();
            LockError::Held { path: path.to_owned(), holder }
        };
        let used = FileUse::of(path).map_err(io_error)?;
        let mut opened = opened();
        let ours = opened.entry(used.id).or_default();
        if ours.is_held {
            return Err(release(opened, used, held()));
        }
        let file = match ours.file.clone() {
            Some(file) => file,
            None => match open_same(path, &used) {
                Ok(file) => Arc::clone(ours.file.insert(Arc::new(file))),
                Err(error) => return Err(release(opened, used, io_error(error))),
            },
        };
        let refused = match file.try_lock() {
            Ok(()) => {
                ours.is_held = true;
                drop(opened);
                return Ok(Self { file, used });
            }
            Err(TryLockError::WouldBlock) => held(),
            Err(TryLockError::Error(error)) => io_error(error),
        };
        drop(file);
        Err(release(opened, used, refused))
    }

    /// Waits until the file's bytes are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Opens the file that is meant, and no other. It does not wait, as for a pipe it would.
fn open_same(path: &Path, used: &FileUse) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    used.check_found(&file.metadata()?)?;
    Ok(file)
}

/// Gives the mutex back before the use, which takes it.
fn release<T>(opened: MutexGuard<'_, BTreeMap<FileId, Opened>>, used: FileUse, error: T) -> T {
    drop(opened);
    drop(used);
    error
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        if let Some(ours) = opened().get_mut(&self.used.id) {
            ours.is_held = false;
            // What cannot be given back goes with the descriptor.
            drop(self.file.unlock());
        }
    }
}
