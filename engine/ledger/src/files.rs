//! Files and directories: made so that they outlive a power cut, and handed to SQLite as paths.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What a file's name ends with until the file is whole.
pub(crate) const UNFINISHED: &str = ".new";

/// Syncs the names in a directory.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory).and_then(|directory| directory.sync_all())
}

/// A file that is being made under an unfinished name: it gets its own name when it is whole, and
/// else is removed. So there is a whole file or none, also after a power cut.
#[derive(Debug)]
pub struct UnfinishedFile {
    final_path: PathBuf,
    path: PathBuf,
    is_finished: bool,
}

impl UnfinishedFile {
    /// Begins a file. What an interrupted beginning left is removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let shown = unfinished.display();
                let in_the_way = format!("`{shown}` is in the way, remove it: {error}");
                return Err(io::Error::new(error.kind(), in_the_way));
            }
            _ => {}
        }
        Ok(Self { final_path: path.to_owned(), path: unfinished, is_finished: false })
    }

    /// Where it is made.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs it, gives it its name, and syncs that.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        std::fs::rename(&self.path, &self.final_path)?;
        self.is_finished = true;
        sync_directory(self.final_path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.is_finished {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Writes a file of mode 0600 whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = UnfinishedFile::begin(path)?;
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(file.path())?.write_all(bytes)?;
    file.finish()
}

/// Makes a directory and those above it that are missing, each synced into the one above it: what
/// is synced within them later would else be lost with their names in a power cut.
///
/// # Errors
/// What the file system says.
pub fn create_directories(path: &Path) -> io::Result<()> {
    create_directories_with(DirBuilder::new().recursive(true), path)
}

/// The same, with a mode of their own.
pub(crate) fn create_directories_of_mode(path: &Path, mode: u32) -> io::Result<()> {
    create_directories_with(DirBuilder::new().recursive(true).mode(mode), path)
}

fn create_directories_with(builder: &DirBuilder, path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    builder.create(&path)?;
    if missing.is_empty() {
        // Somebody may have made it and been killed before its name was synced; where its parent
        // may not be looked into, that is not ours to see to.
        drop(path.parent().map(sync_directory));
        return Ok(());
    }
    missing.iter().rev().filter_map(|made| made.parent()).try_for_each(sync_directory)
}

/// A path as SQLite takes it: an absolute one is never read as a URI, whatever its name.
pub(crate) fn sqlite_path(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

/// A copy of an SQLite file with its log, to read where the file itself cannot be read without
/// writing beside it. It goes with its directory.
///
/// # Errors
/// What the file system says: the log cannot be read, or the temporary directory has no room.
pub fn copy_aside(path: &Path) -> io::Result<(TempDir, PathBuf)> {
    let directory = tempfile::Builder::new().prefix("daybook-look-").tempdir()?;
    let copy = directory.path().join("copy.db");
    std::fs::copy(path, &copy)?;
    let [log, log_copy] = [path, &copy].map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    });
    match std::fs::copy(log, log_copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok((directory, copy)),
    }
}

/// Whether the process has as many files open as it may: SQLite says no more than that it cannot
/// open one.
pub(crate) fn lacks_descriptors() -> Option<io::Error> {
    let error = File::open("/dev/null").err()?;
    let errno = rustix::io::Errno::from_io_error(&error)?;
    matches!(errno, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE).then_some(error)
}
