//! The mark that a ledger was put back from a backup: players may know the keys of days that it
//! lacks, so the next start that writes begins a new epoch.

use std::path::{Path, PathBuf};

use daybook_schema::{Head, LedgerId};
use serde::{Deserialize, Serialize};

use crate::files::{sync_directory, write_private};

/// The mark's file in a data directory.
const FILE: &str = "restored.json";
/// The version of what stands in it.
const VERSION: u32 = 1;

/// A ledger was put back from a backup, and was not written since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    daybook_restored: u32,
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The event with which it ends.
    pub head: Head,
    /// Whether an event was named up to which it was restored: then nothing shows that none is lost.
    pub is_cut: bool,
    /// Which restore it was: the same one may be done again where it was cut off.
    pub of: String,
}

/// The mark cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    /// The file system could not do it.
    #[error("`{}` cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what a restore writes.
    #[error(
        "`{}` is not what `restore` writes; nothing was written: restore the backup once more",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// It tells of another ledger than the one that lies beside it.
    #[error(
        "`{}` tells that {restored} was restored here, but the ledger is {found}; nothing was written: take \
         away what does not belong here",
        path.display()
    )]
    AnotherLedger {
        /// The file.
        path: PathBuf,
        /// The ledger that it tells of.
        restored: LedgerId,
        /// The ledger that is there.
        found: LedgerId,
    },
}

impl Restored {
    /// A mark for a ledger that ends with this event.
    #[must_use]
    pub const fn new(ledger_id: LedgerId, head: Head, is_cut: bool, of: String) -> Self {
        Self { daybook_restored: VERSION, ledger_id, head, is_cut, of }
    }

    /// Where the mark of a data directory is.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// Reads the mark of a data directory, if there is one.
    ///
    /// # Errors
    /// [`RestoredError`] when it cannot be read.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, RestoredError> {
        let path = Self::path(data_dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RestoredError::Io { path, source }),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(restored) if restored.daybook_restored == VERSION => Ok(Some(restored)),
            _ => Err(RestoredError::Unreadable { path }),
        }
    }

    /// Writes it, synced, before the ledger is put in its place.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, data_dir: &Path) -> Result<(), RestoredError> {
        let path = Self::path(data_dir);
        let bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        let written = bytes.and_then(|bytes| write_private(&path, &bytes));
        written.map_err(|source| RestoredError::Io { path, source })
    }

    /// Takes it away once its new epoch is on disk, or none is needed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(data_dir: &Path) -> Result<(), RestoredError> {
        let path = Self::path(data_dir);
        let removed = std::fs::remove_file(&path).and_then(|()| sync_directory(data_dir));
        match removed {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RestoredError::Io { path, source })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 1 writes it, for ever.
    const VERSION_1: &str = r#"{
  "daybook_restored": 1,
  "ledger_id": "ldg_2dbd9c20-94e3-7c37-80f9-60f09871a684",
  "head": "1074051:b76ed91ecc6b22438083522a1cdce72f3d96ed6bc8fecb5733c9611829d87ce1",
  "is_cut": false,
  "of": "39ca18f67b5453f88323620885298f427c01a32d8d93cc5d1abddbd8041701a0"
}"#;

    #[test]
    fn a_mark_of_version_1_is_read_and_written_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(Restored::path(directory.path()), VERSION_1).unwrap();
        let mark = Restored::read(directory.path()).unwrap().unwrap();
        assert_eq!((mark.head.seq, mark.is_cut), (1_074_051, false));
        mark.write(directory.path()).unwrap();
        let written = std::fs::read_to_string(Restored::path(directory.path())).unwrap();
        assert_eq!(written, VERSION_1);
        // One of a later version is not guessed at.
        let later = VERSION_1.replace("restored\": 1", "restored\": 2");
        std::fs::write(Restored::path(directory.path()), later).unwrap();
        let refused = Restored::read(directory.path());
        assert!(matches!(refused, Err(RestoredError::Unreadable { .. })), "{refused:?}");
    }
}
