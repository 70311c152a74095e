//! What an export says of itself: `manifest.json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use daybook_ledger::{ReadError, Reader};
use daybook_schema::{EventKind, Head, LedgerId, SeasonId, Seq, UnixMicros, UserId};
use serde::{Deserialize, Serialize};

use crate::files::Format;

/// Its name in the directory.
pub const MANIFEST: &str = "manifest.json";
/// What an export holds while it writes.
pub(crate) const LOCK: &str = "manifest.json.lock";
/// Its name while it is written.
pub(crate) const MANIFEST_PART: &str = "manifest.json.part";
/// The version of what stands in it.
const VERSION: u32 = 1;

/// Which events are exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The first event.
    pub from: Seq,
    /// The last event; the newest without it.
    pub until: Option<Seq>,
    /// Those that were recorded at this time or later, in microseconds since 1970.
    pub from_time: Option<UnixMicros>,
    /// Those that were recorded before this time.
    pub until_time: Option<UnixMicros>,
    /// Those of these kinds; all where none is named.
    pub kinds: Vec<EventKind>,
    /// Those of one season.
    pub season: Option<SeasonId>,
    /// Those of one user and the user's seasons.
    pub user: Option<UserId>,
}

impl Selection {
    /// Whether events of a kind are asked for.
    pub(crate) fn has(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it is, from the directory of the manifest.
    pub path: String,
    /// `events`, or a kind of events.
    pub table: String,
    /// The seqs that it was made of: the first.
    pub covers_from: Seq,
    /// The last of them.
    pub covers_until: Seq,
    /// How many rows it has.
    pub rows: u64,
    /// The first of them.
    pub first: Option<Head>,
    /// The last.
    pub last: Option<Head>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its BLAKE3 hash, in hex.
    pub blake3: String,
}

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the manifest.
    pub daybook_export: u32,
    /// How the files are written.
    pub format: Format,
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Its game.
    pub game: String,
    /// Whether it is a demo's.
    pub is_demo: bool,
    /// Which events were asked for.
    pub selection: Selection,
    /// The head before the first of them.
    pub after: Head,
    /// The head up to which the files go.
    pub until: Head,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// A manifest is not one that this version can go on from.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read or written.
    #[error("`{}` cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It is no manifest.
    #[error("`{}` is no manifest of an export", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("`{}` is of version {version}, this one knows {VERSION}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It tells of another ledger.
    #[error("the export is of ledger {found}, this ledger is {expected}")]
    AnotherLedger {
        /// That of the manifest.
        found: LedgerId,
        /// The one that is read.
        expected: LedgerId,
    },
    /// The ledger does not have its newest head.
    #[error(
        "the ledger does not have the head {head} up to which the export goes: it lost events, or has another past"
    )]
    AnotherPast {
        /// The head.
        head: Head,
    },
    /// It contradicts itself or the ledger.
    #[error("the manifest is not what an export writes: {detail}")]
    Inconsistent {
        /// What is wrong with it.
        detail: String,
    },
    /// Something else was asked for when it was begun.
    #[error(
        "the export was begun with another {what}: {found}, now {asked}; name another directory"
    )]
    AskedOtherwise {
        /// What.
        what: &'static str,
        /// What the manifest has.
        found: String,
        /// What is asked for.
        asked: String,
    },
}

impl Manifest {
    pub(crate) fn begin(
        reader: &Reader,
        format: Format,
        selection: Selection,
        after: Head,
    ) -> Self {
        let genesis = reader.genesis();
        Self {
            daybook_export: VERSION,
            format,
            ledger_id: genesis.ledger_id,
            game: genesis.game.as_str().to_owned(),
            is_demo: genesis.is_demo,
            selection,
            after,
            until: after,
            rows: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        // What is no file could be waited for without end.
        let is_file = std::fs::metadata(path).map(|found| found.is_file());
        let text = match is_file {
            Ok(false) => Err(std::io::Error::other("it is no file")),
            _ => std::fs::read(path),
        };
        let text = text.map_err(|source| ManifestError::Io { path: path.to_owned(), source })?;
        let unreadable = |source| ManifestError::Unreadable { path: path.to_owned(), source };
        let version: serde_json::Value = serde_json::from_slice(&text).map_err(unreadable)?;
        let version = version.get("daybook_export").and_then(serde_json::Value::as_u64);
        if let Some(version) = version.and_then(|version| u32::try_from(version).ok())
            && version != VERSION
        {
            return Err(ManifestError::OtherVersion { path: path.to_owned(), version });
        }
        serde_json::from_slice(&text).map_err(unreadable)
    }

    /// Puts it in place in one step, synced.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), ManifestError> {
        let path = directory.join(MANIFEST);
        let beside = directory.join(MANIFEST_PART);
        let written = (|| {
            // What a kill left; a link is not followed.
            drop(std::fs::remove_file(&beside));
            let mut file = File::create_new(&beside)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            File::open(directory)?.sync_all()
        })();
        written.map_err(|source| ManifestError::Io { path, source })
    }

    /// Whether the ledger has the past that the files tell.
    ///
    /// # Errors
    /// [`ManifestError::AnotherLedger`], [`ManifestError::AnotherPast`] and [`ManifestError::Read`].
    pub(crate) fn hold_to(&self, reader: &Reader) -> Result<(), ManifestError> {
        let expected = reader.genesis().ledger_id;
        if self.ledger_id != expected {
            return Err(ManifestError::AnotherLedger { found: self.ledger_id, expected });
        }
        for head in [self.after, self.until] {
            if !reader.has(head)? {
                return Err(ManifestError::AnotherPast { head });
            }
        }
        Ok(())
    }
}
