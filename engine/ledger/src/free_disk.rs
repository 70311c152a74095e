//! The free space on the ledger's disk: where there is too little, the ledger is read-only.

use std::io;
use std::path::{Path, PathBuf};

use daybook_schema::limits;

/// The free bytes of a directory's disk, as far as this process may use them.
///
/// # Errors
/// What the system says where it cannot tell.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The free bytes of a directory's disk, where they are too few to write.
pub(crate) fn lacks_room(directory: &Path) -> io::Result<Option<u64>> {
    let free_bytes = free_bytes(directory)?;
    Ok((free_bytes < limits::DISK_FREE_BYTES_MIN).then_some(free_bytes))
}

/// The room on the ledger's disk.
pub(crate) struct FreeDisk {
    data_dir: PathBuf,
    /// The free bytes where they are too few.
    pub(crate) lacks_room: Option<u64>,
}

impl FreeDisk {
    pub(crate) const fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, lacks_room: None }
    }

    /// Looks at the room that is left; what cannot be told is not held against the disk.
    pub(crate) fn look(&mut self) {
        let Ok(lacks_room) = lacks_room(&self.data_dir) else { return };
        match (self.lacks_room, lacks_room) {
            (None, Some(free_bytes)) => {
                tracing::warn!(
                    free_bytes,
                    "the disk is all but full: read-only until there is room"
                );
            }
            (Some(_), None) => tracing::info!("there is room again: writing goes on"),
            _ => {}
        }
        self.lacks_room = lacks_room;
    }
}
