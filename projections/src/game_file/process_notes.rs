//! The word that a process leaves beside a file that it has open: which files those are, what was
//! committed, and why a projection waits.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::database_files::DatabaseFiles;
use crate::position::Position;
use crate::sqlite::with_ending;

/// What files that were set aside as damaged are called, before the time.
pub(crate) const DAMAGED: &str = ".damaged-";

/// Why a projection waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What it met.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: i64,
}

/// What a process says of the file that it has open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Word {
    /// Which run of the machine it was written in.
    pub(crate) boot: String,
    pub(crate) process: u32,
    pub(crate) files: DatabaseFiles,
    /// The position that each projection committed.
    #[serde(default)]
    pub(crate) positions: BTreeMap<String, Position>,
    /// Why each waits that does.
    pub(crate) waits: BTreeMap<String, Wait>,
    /// Why the file was given up, if it was.
    pub(crate) given_up: Option<Wait>,
}

/// Room for a word; a file that was made with it can be written to on a full disk.
const WORD_BYTES: usize = 8_192;

/// The file of a word, locked.
#[derive(Debug)]
pub(crate) struct WordFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) word: Word,
}

impl WordFile {
    pub(crate) fn create(database: &Path, files: DatabaseFiles) -> std::io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let process = std::process::id();
        let word = Word {
            boot: boot_id(),
            process,
            files,
            positions: BTreeMap::new(),
            waits: BTreeMap::new(),
            given_up: None,
        };
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = with_ending(database, &format!("{WORD}{process}-{number}"));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => {
                    file.try_lock().map_err(std::io::Error::from)?;
                    let word_file = Self { file, path, word };
                    word_file.write()?;
                    return Ok(word_file);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Written over what was there, in one piece; blanks behind it are none of JSON's.
    pub(crate) fn write(&self) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(&self.word)?;
        bytes.resize(bytes.len().max(WORD_BYTES), b' ');
        self.file.write_all_at(&bytes, 0)?;
        // A longer one may have been there before.
        self.file.set_len(bytes.len() as u64)
    }
}

const WORD: &str = ".open-";

/// What processes say that they committed to a file: those that have it open or were killed, and
/// those whose file was set aside.
pub(crate) fn said_positions(database: &Path) -> Vec<(String, Position, PathBuf)> {
    let said = words(database).into_iter().chain(words_aside(database));
    let positions = |found: Found| {
        let path = found.path;
        let word = found.word.into_iter().flat_map(|word| word.positions);
        word.map(move |(name, position)| (name, position, path.clone()))
    };
    said.flat_map(positions).collect()
}

/// Which run of the machine this is.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// A word that was found beside a file.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) word: Option<Word>,
    /// Whether the process lives that wrote it.
    pub(crate) is_alive: bool,
}

/// Files beside a database whose names go on like this.
pub(crate) fn beside(database: &Path, ending: &str) -> Vec<PathBuf> {
    let name = database.file_name().unwrap_or_default().to_string_lossy();
    let beginning = format!("{name}{ending}");
    let directory = database.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(directory.unwrap_or(Path::new("."))).into_iter().flatten();
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning))
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    found.sort();
    found
}

impl Found {
    pub(crate) fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lock = File::open(&path).and_then(|file| match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(false),
        });
        Self { word: serde_json::from_str(&text).ok(), is_alive: lock.unwrap_or(true), path }
    }
}

/// What the word of a file that was set aside is called, after its name.
pub(crate) const WORD_ASIDE: &str = "-word";

/// The words of files that were set aside.
fn words_aside(database: &Path) -> Vec<Found> {
    let mut found = beside(database, DAMAGED);
    found.retain(|path| path.to_string_lossy().ends_with(WORD_ASIDE));
    found.into_iter().map(Found::read).collect()
}

pub(crate) fn words(database: &Path) -> Vec<Found> {
    // Nothing else that is called so is ours: a process and a number.
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let numbers = name.rsplit_once(WORD).and_then(|(_, numbers)| numbers.split_once('-'));
        numbers.is_some_and(|(process, number)| {
            process.parse::<u32>().is_ok() && number.parse::<u64>().is_ok()
        })
    };
    beside(database, WORD).into_iter().filter(is_ours).map(Found::read).collect()
}

/// Why a projection waits, as the process says that runs it; or why a process gave the file up, if
/// nothing was started since.
pub(crate) fn wait_of(database: &Path, name: &str) -> (Option<Wait>, Option<Wait>) {
    let words = words(database);
    let said = words.iter().filter_map(|found| found.word.as_ref().map(|word| (found, word)));
    let waits = said.clone().filter(|(found, _)| found.is_alive);
    let is_kept = said.clone().any(|(found, word)| found.is_alive && word.given_up.is_none());
    let given_up = said.filter_map(|(_, word)| word.given_up.clone()).next().filter(|_| !is_kept);
    (waits.filter_map(|(_, word)| word.waits.get(name).cloned()).next(), given_up)
}
