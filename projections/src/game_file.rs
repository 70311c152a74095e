//! The file that a process has open: whether it is still there, and what is done when it is not.
//!
//! Whoever has `game.db` open keeps a word file beside it, locked as long as the process lives. It tells which
//! files those are, what was committed, and why a projection waits: also where nothing can be written to
//! `game.db` itself. When the file is lost, nothing more is written, and SQLite is not closed: it would fold a
//! log into what is no longer ours. The next start sets aside what may be damaged, under another name.

mod set_aside;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};

use crate::feed::{FileId, file_id};
use crate::migrations::MigrationError;
use crate::position::Position;
use crate::sqlite::{APPLICATION_ID, INDEX, LOG, connect_options, with_ending};
pub use set_aside::SetAside;
pub(crate) use set_aside::{
    GIVEN_OVER, OpeningLock, Settled, WHOLE, damaged, is_told_by_its_word, set_aside,
    set_aside_malformed, set_aside_unusable, settle,
};

/// The file that a process had open is lost to it: nothing more is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing more is written to `{}`: {reason}", path.display())]
pub struct FileLost {
    /// The file.
    pub path: PathBuf,
    /// What happened to it.
    pub reason: String,
}

/// What processes say that they committed to a file: those that have it open or were killed, and those whose file
/// was set aside.
pub(crate) fn said_positions(database: &Path) -> Vec<(String, Position, PathBuf)> {
    let said = words(database).into_iter().chain(words_aside(database));
    let positions = |found: Found| {
        let path = found.path;
        let word = found.word.into_iter().flat_map(|word| word.positions);
        word.map(move |(name, position)| (name, position, path.clone()))
    };
    said.flat_map(positions).collect()
}

/// Which files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Files {
    database: Option<FileId>,
    log: Option<FileId>,
    index: Option<FileId>,
}

impl Files {
    /// By `stat` alone: to open a file and close it would give back SQLite's locks on it.
    fn of(path: &Path) -> Self {
        Self {
            database: file_id(path),
            log: file_id(&with_ending(path, LOG)),
            index: file_id(&with_ending(path, INDEX)),
        }
    }

    fn difference(&self, now: &Self, path: &Path) -> Option<String> {
        let files = [
            ("", self.database, now.database),
            (LOG, self.log, now.log),
            (INDEX, self.index, now.index),
        ];
        files.into_iter().find(|(_, opened, found)| opened != found).map(|(ending, _, found)| {
            let name = with_ending(path, ending);
            match found {
                None => format!("`{}` was removed", name.display()),
                Some(_) => format!("another file was put in the place of `{}`", name.display()),
            }
        })
    }
}

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
struct Word {
    /// Which run of the machine it was written in.
    boot: String,
    process: u32,
    files: Files,
    /// The position that each projection committed.
    #[serde(default)]
    positions: BTreeMap<String, Position>,
    /// Why each waits that does.
    waits: BTreeMap<String, Wait>,
    /// Why the file was given up, if it was.
    given_up: Option<Wait>,
}

/// Room for a word; a file that was made with it can be written to on a full disk.
const WORD_BYTES: usize = 8_192;

/// The file of a word, locked.
#[derive(Debug)]
struct WordFile {
    file: File,
    path: PathBuf,
    word: Word,
}

impl WordFile {
    fn create(database: &Path, files: Files) -> std::io::Result<Self> {
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
    fn write(&self) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(&self.word)?;
        bytes.resize(bytes.len().max(WORD_BYTES), b' ');
        self.file.write_all_at(&bytes, 0)?;
        // A longer one may have been there before.
        self.file.set_len(bytes.len() as u64)
    }
}

const WORD: &str = ".open-";

/// `game.db` as this process has it open.
pub(crate) struct GameFile {
    path: PathBuf,
    files: Files,
    /// Open as long as anything of this process is: log and index stay the same files.
    anchor: Mutex<Option<SqliteConnection>>,
    word: Mutex<Option<WordFile>>,
    given_up: OnceLock<FileLost>,
}

impl std::fmt::Debug for GameFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GameFile").field("path", &self.path).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GameFile {
    /// Opens a file that is there.
    pub(crate) async fn open(path: &Path) -> Result<Self, MigrationError> {
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        let before = file_id(path);
        let mut anchor = connect_options(path).connect().await.map_err(failed)?;
        // A first read makes log and index.
        let id: i64 = sqlx::query_scalar("PRAGMA application_id")
            .fetch_one(&mut anchor)
            .await
            .map_err(failed)?;
        if id != APPLICATION_ID {
            let set = format!("PRAGMA application_id = {APPLICATION_ID}");
            anchor.execute(AssertSqlSafe(set)).await.map_err(failed)?;
            // Into the file itself: by that it is known for ours, whatever becomes of its log.
            anchor.execute("PRAGMA wal_checkpoint(PASSIVE)").await.map_err(failed)?;
        }
        let files = Files::of(path);
        if files.database != before {
            let io_error = std::io::Error::other("another file was put in its place meanwhile");
            return Err(failed(sqlx::Error::Io(io_error)));
        }
        let word = match WordFile::create(path, files) {
            Ok(word) => Some(word),
            Err(error) => {
                let path = path.display().to_string();
                tracing::warn!(path, %error, "how the projections fare cannot be written down");
                None
            }
        };
        Ok(Self {
            path: path.to_owned(),
            files,
            anchor: Mutex::new(Some(anchor)),
            word: Mutex::new(word),
            given_up: OnceLock::new(),
        })
    }

    /// Closes the file, if it is still there: its log is folded in before this returns, where no connection is
    /// left. Dropped without this, it is closed in the background.
    pub(crate) async fn close(&self) -> Result<(), sqlx::Error> {
        if self.check().is_err() {
            return Ok(());
        }
        let anchor = locked(&self.anchor).take();
        if let Some(anchor) = anchor {
            anchor.close().await?;
        }
        // SQLite may have removed the log; that is no loss.
        let word = locked(&self.word).take();
        if let Some(word) = word {
            drop(std::fs::remove_file(&word.path));
        }
        Ok(())
    }

    /// Whether all files are still those that were opened.
    ///
    /// # Errors
    /// [`FileLost`], and then for ever.
    pub(crate) fn check(&self) -> Result<(), FileLost> {
        if let Some(lost) = self.given_up.get() {
            return Err(lost.clone());
        }
        match self.files.difference(&Files::of(&self.path), &self.path) {
            None => Ok(()),
            Some(reason) => Err(self.give_up(reason)),
        }
    }

    /// Gives the file up: nothing of this process writes to it any more.
    pub(crate) fn give_up(&self, reason: String) -> FileLost {
        let lost = FileLost { path: self.path.clone(), reason };
        if self.given_up.set(lost.clone()).is_ok() {
            tracing::error!(error = %lost, "the file of the read models is given up");
            let wait = Wait { reason: lost.reason.clone(), since: now() };
            self.say(|word| word.given_up = Some(wait));
        }
        self.given_up.get().cloned().unwrap_or(lost)
    }

    /// Writes down what a projection committed; it waits no longer.
    pub(crate) fn say_applied(&self, name: &str, position: &Position) {
        self.say(|word| {
            word.waits.remove(name);
            word.positions.insert(name.to_owned(), *position);
        });
    }

    /// Writes down why a projection waits.
    pub(crate) fn say_waits(&self, name: &str, reason: &str) {
        let reason: String = reason.chars().take(1_000).collect();
        self.say(|word| {
            let since = word.waits.get(name).map_or_else(now, |wait| wait.since);
            word.waits.insert(name.to_owned(), Wait { reason, since });
        });
    }

    /// Writes down that a projection waits no longer.
    pub(crate) fn say_goes_on(&self, name: &str) {
        let waits = |word: &WordFile| word.word.waits.contains_key(name);
        if locked(&self.word).as_ref().is_some_and(waits) {
            self.say(|word| drop(word.waits.remove(name)));
        }
    }

    fn say(&self, change: impl FnOnce(&mut Word)) {
        if let Some(file) = locked(&self.word).as_mut() {
            change(&mut file.word);
            if let Err(error) = file.write() {
                let path = file.path.display().to_string();
                tracing::warn!(path, %error, "how the projections fare cannot be written down");
            }
        }
    }
}

impl Drop for GameFile {
    fn drop(&mut self) {
        let anchor = locked(&self.anchor).take();
        if anchor.is_none() {
            return;
        }
        let is_lost = self.check().is_err();
        let word = locked(&self.word).take();
        if is_lost {
            // Closing would fold the log into what is no longer ours. The word stays for the next start.
            std::mem::forget(anchor);
        } else if let Some(word) = word {
            drop(std::fs::remove_file(&word.path));
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Which run of the machine this is.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// A word that was found beside a file.
struct Found {
    path: PathBuf,
    word: Option<Word>,
    /// Whether the process lives that wrote it.
    is_alive: bool,
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
    fn read(path: PathBuf) -> Self {
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
const WORD_ASIDE: &str = "-word";

/// The words of files that were set aside.
fn words_aside(database: &Path) -> Vec<Found> {
    let mut found = beside(database, set_aside::DAMAGED);
    found.retain(|path| path.to_string_lossy().ends_with(WORD_ASIDE));
    found.into_iter().map(Found::read).collect()
}

fn words(database: &Path) -> Vec<Found> {
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

/// Why a projection waits, as the process says that runs it; or why a process gave the file up, if nothing was
/// started since.
pub(crate) fn wait_of(database: &Path, name: &str) -> (Option<Wait>, Option<Wait>) {
    let words = words(database);
    let said = words.iter().filter_map(|found| found.word.as_ref().map(|word| (found, word)));
    let waits = said.clone().filter(|(found, _)| found.is_alive);
    let is_kept = said.clone().any(|(found, word)| found.is_alive && word.given_up.is_none());
    let given_up = said.filter_map(|(_, word)| word.given_up.clone()).next().filter(|_| !is_kept);
    (waits.filter_map(|(_, word)| word.waits.get(name).cloned()).next(), given_up)
}
