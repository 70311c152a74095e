//! The directory of an export: held while it is written or checked, and what lies in it beside the
//! export.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::ExportError;
use crate::manifest::{LOCK, MANIFEST, Manifest};

/// A directory that is held against a second export.
pub(crate) struct DirectoryLock {
    _file: File,
    path: PathBuf,
    was_made: bool,
    made_directory: bool,
}

impl DirectoryLock {
    /// Makes the directory where it is not there, and holds it alone.
    pub(crate) fn take(directory: &Path) -> Result<Self, ExportError> {
        let path = directory.join(LOCK);
        let failed = |source| ExportError::Io { path: path.clone(), source };
        let made_directory = !directory.exists();
        std::fs::create_dir_all(directory).map_err(failed)?;
        let was_made = path.symlink_metadata().is_err();
        refuse_no_file(&path)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).custom_flags(no_follow());
        let file = options.open(&path).map_err(failed)?;
        held(file.try_lock(), directory, &path)?;
        Ok(Self { _file: file, path, was_made, made_directory })
    }

    /// Holds it beside others who only read. Where no export can write there is nothing to hold.
    pub(crate) fn shared(directory: &Path) -> Result<Option<Self>, ExportError> {
        let path = directory.join(LOCK);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        refuse_no_file(&path)?;
        let opened = File::options().read(true).custom_flags(no_follow()).open(&path);
        let file = opened.map_err(|source| ExportError::Io { path: path.clone(), source })?;
        held(file.try_lock_shared(), directory, &path)?;
        Ok(Some(Self { _file: file, path, was_made: false, made_directory: false }))
    }

    /// Leaves the directory as it was found: nothing was written to it.
    pub(crate) fn undo(self) {
        if self.was_made {
            drop(std::fs::remove_file(&self.path));
        }
        if let Some(directory) = self.path.parent().filter(|_| self.made_directory) {
            drop(std::fs::remove_dir(directory));
        }
    }
}

fn held(
    locked: Result<(), TryLockError>,
    directory: &Path,
    path: &Path,
) -> Result<(), ExportError> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ExportError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(ExportError::Io { path: path.to_owned(), source }),
    }
}

/// A link is not followed: what it leads to is not ours to write to.
fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// What is no file could be waited for without end.
fn refuse_no_file(path: &Path) -> Result<(), ExportError> {
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => {
            let source = std::io::Error::other("it is no file; take it away");
            Err(ExportError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// What lies beside the files of the manifest: a tool could read it with them.
pub(crate) fn foreign_files(directory: &Path, manifest: &Manifest) -> Vec<String> {
    let known: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let tables: BTreeSet<&str> = manifest.rows.keys().map(String::as_str).collect();
    let names = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut foreign = Vec::new();
    for name in names(directory) {
        if !tables.contains(name.as_str()) {
            foreign.push(name);
            continue;
        }
        let of_table = names(&directory.join(&name)).map(|file| format!("{name}/{file}"));
        foreign.extend(of_table.filter(|path| !known.contains(path.as_str())));
    }
    // What a kill left is no file of a table yet.
    foreign.retain(|name| name != MANIFEST && name != LOCK && !name.ends_with(".part"));
    foreign.sort();
    foreign
}
