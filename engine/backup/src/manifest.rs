//! What a backup says of itself: `backup.json`.

use std::path::{Path, PathBuf};

use daybook_schema::{Epoch, Head, LedgerId};
use serde::{Deserialize, Serialize};

use crate::error::{BackupError, io};

/// Its name in a backup.
pub const MANIFEST: &str = "backup.json";
/// What the names of backups begin with.
pub(crate) const PREFIX: &str = "backup-";
/// What they end with until they are whole.
pub(crate) const PARTIAL: &str = ".partial";
const VERSION: u32 = 1;
/// The databases of a backup, in the order in which a restore puts them in place: the ledger last, for
/// as long as it is not there nothing starts.
pub(crate) const DATABASES: [&str; 4] = ["telemetry.db", "game.db", "accounts.db", "ledger.db"];

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the manifest.
    pub daybook_backup: u32,
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Whether it is a demo's.
    pub is_demo: bool,
    /// Its newest event in the backup.
    pub head: Head,
    /// The epoch at that event.
    pub epoch: Epoch,
    /// The newest event before the accounts were copied.
    pub head_before_accounts: Head,
    /// When the backup was begun.
    pub taken_at: jiff::Timestamp,
    /// Its files.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it is in the backup, such as `ledger.db` or `keys/signing.key`.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its BLAKE3 hash, in hex: `b3sum` prints the same.
    pub blake3: String,
}

impl Manifest {
    pub(crate) const fn version() -> u32 {
        VERSION
    }

    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`] where there is none, [`BackupError::Manifest`] where it is of no
    /// use.
    pub fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let newest = all_in(backup).pop().map(|(path, _)| path);
                return Err(BackupError::NoBackup { path: backup.to_owned(), newest });
            }
            Err(error) => return Err(io(&path)(error)),
        };
        let refused = |detail: String| BackupError::Manifest { path: path.clone(), detail };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
        if manifest.daybook_backup != VERSION {
            let found = manifest.daybook_backup;
            return Err(refused(format!("it is of version {found}, this one knows {VERSION}")));
        }
        // It says where files are read and written.
        let is_plain = |entry: &&FileEntry| match entry.path.strip_prefix("keys/") {
            Some(name) => is_of_keys(name) && !name.contains('/') && !name.starts_with('.'),
            None => DATABASES.contains(&entry.path.as_str()),
        };
        match manifest.files.iter().find(|entry| !is_plain(entry)) {
            Some(entry) => Err(refused(format!("`{}` is no file of a backup", entry.path))),
            None => Ok(manifest),
        }
    }

    /// The entry of a file.
    pub(crate) fn entry(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|entry| entry.path == name)
    }
}

/// Whether a file of a keys directory belongs in a backup: keys, and who is erased. The newest heads
/// stay where they are: one that is put back would say that the ledger was never longer.
pub(crate) fn is_of_keys(name: &str) -> bool {
    name.ends_with(".key") || name == "erased"
}

/// The whole backups in a directory, the oldest first.
pub(crate) fn all_in(directory: &Path) -> Vec<(PathBuf, Manifest)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, Manifest)> = entries
        .map(|entry| entry.path())
        .filter(|path| is_backup_name(path) && path.join(MANIFEST).is_file())
        .filter_map(|path| Manifest::read(&path).ok().map(|manifest| (path, manifest)))
        .collect();
    found.sort_by(|(a, first), (b, second)| (first.taken_at, a).cmp(&(second.taken_at, b)));
    found
}

fn is_backup_name(path: &Path) -> bool {
    time_in(path).is_some_and(|time| parse_name_time(time).is_some())
}

/// Whether it is the directory of a backup that is not whole.
pub(crate) fn is_partial(path: &Path) -> bool {
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let time = time_in(path).and_then(|time| time.strip_suffix(PARTIAL));
    is_directory && time.is_some_and(|time| parse_name_time(time).is_some())
}

fn time_in(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)
}

fn parse_name_time(time: &str) -> Option<jiff::civil::DateTime> {
    let (seconds, milliseconds) = time.strip_suffix('Z')?.split_at_checked(15)?;
    let is_number = milliseconds.len() == 3 && milliseconds.bytes().all(|it| it.is_ascii_digit());
    jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", seconds).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 1 writes it, for ever.
    const VERSION_1: &str = r#"{
  "daybook_backup": 1,
  "ledger_id": "ldg_2dbd9c20-94e3-7c37-80f9-60f09871a684",
  "is_demo": false,
  "head": "1074051:b76ed91ecc6b22438083522a1cdce72f3d96ed6bc8fecb5733c9611829d87ce1",
  "epoch": {
    "number": 1,
    "nonce": "00000000000000000000000000000000"
  },
  "head_before_accounts": "1074050:549c8f02f8764e2961c9332435b56486bced39fcfd4a3e340a97761355ea817a",
  "taken_at": "2026-11-30T15:28:23.896039919Z",
  "files": [
    {
      "path": "ledger.db",
      "bytes": 101498880,
      "blake3": "4e39ab2410df6a70d7ffa16ec82aa8117c70f2d045edbebcf18dcbd57129b66d"
    }
  ]
}"#;

    #[test]
    fn a_manifest_of_version_1_is_read_and_written_as_it_is() {
        let manifest: Manifest = serde_json::from_str(VERSION_1).unwrap();
        assert_eq!((manifest.head.seq, manifest.head_before_accounts.seq), (1_074_051, 1_074_050));
        assert_eq!(serde_json::to_string_pretty(&manifest).unwrap(), VERSION_1);
    }
}
