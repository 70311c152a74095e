//! Why an export was not made, or could not be checked.

use std::path::PathBuf;

use daybook_ledger::ReadError;

use crate::files::FileError;
use crate::manifest::ManifestError;
use crate::tables::TableError;

/// An export was not made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The manifest is not one to go on from.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Rows could not be made or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory has other files in it.
    #[error("`{}` is not empty, and no export was begun in it; name another directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not there as the export wrote it, or is not the export's.
    #[error("`{}` {problem}; nothing was written: put it right, or name another directory", path.display())]
    NotAsWritten {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Another export writes to the directory.
    #[error("another export writes to `{}`; wait for it, or name another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// No event of the range or time that is asked for is there.
    #[error("there is no event of what is asked for; the ledger ends at event {head}")]
    NothingYet {
        /// The newest.
        head: u64,
    },
    /// The directory or a file in it cannot be made.
    #[error("`{}` cannot be made", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}
