//! The files of an SQLite database as a process has them open: the database, its log, its index.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::feed::{FileId, file_id};
use crate::sqlite::{INDEX, LOG, with_ending};

/// Which files a database consists of: device and inode of each that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFiles {
    pub(crate) database: Option<FileId>,
    pub(crate) log: Option<FileId>,
    pub(crate) index: Option<FileId>,
}

impl DatabaseFiles {
    /// By `stat` alone: to open a file and close it would give back SQLite's locks on it.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self {
            database: file_id(path),
            log: file_id(&with_ending(path, LOG)),
            index: file_id(&with_ending(path, INDEX)),
        }
    }

    /// Whether log or index were removed, and nothing else became of the files since.
    #[must_use]
    pub fn is_only_log_gone(&self, now: &Self) -> bool {
        let is_same_or_gone = |opened, found: Option<FileId>| found.is_none() || opened == found;
        self.database == now.database
            && self.database.is_some()
            && is_same_or_gone(self.log, now.log)
            && is_same_or_gone(self.index, now.index)
    }

    /// What became of them since, if they are others now.
    #[must_use]
    pub fn difference(&self, now: &Self, path: &Path) -> Option<String> {
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
