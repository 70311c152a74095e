//! The file that a process has open: whether it is still there, and what is done when it is not.
//!
//! Whoever has `game.db` open keeps a word file beside it, locked as long as the process lives. It
//! tells which files those are, what was committed, and why a projection waits: also where nothing
//! can be written to `game.db` itself. When the file is lost, nothing more is written, and SQLite
//! is not closed: it would fold a log into what is no longer ours. The next start sets aside what
//! may be damaged, under another name.

mod process_notes;
mod set_aside;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};

use crate::database_files::DatabaseFiles;
use crate::feed::file_id;
use crate::migrations::MigrationError;
use crate::position::Position;
use crate::sqlite::{APPLICATION_ID, connect_options};
pub use process_notes::Wait;
use process_notes::{Word, WordFile};
pub(crate) use process_notes::{beside, boot_id, said_positions, wait_of};
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

/// `game.db` as this process has it open.
pub(crate) struct GameFile {
    path: PathBuf,
    files: DatabaseFiles,
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
        let files = DatabaseFiles::of(path);
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

    /// Closes the file, if it is still there: its log is folded in before this returns, where no
    /// connection is left. Dropped without this, it is closed in the background.
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
        match self.files.difference(&DatabaseFiles::of(&self.path), &self.path) {
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
            // Closing would fold the log into what is no longer ours. The word stays for the next
            // start.
            std::mem::forget(anchor);
        } else if let Some(word) = word {
            drop(std::fs::remove_file(&word.path));
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
