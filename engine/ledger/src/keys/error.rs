//! What can be wrong with a keys directory.

use std::path::PathBuf;

/// The keys directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There are no keys where they were looked for.
    #[error("no keys at `{}`", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something already.
    #[error("`{}` holds keys or other things already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the directory is not a key.
    #[error("`{}` is not a key file of this format: {problem}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A newest head is not what the signing key signed for the ledger.
    #[error(
        "`{}` is not a head that this directory's signing key signed; put the right file back, or remove \
         it if you are sure that the ledger has lost nothing",
        path.display()
    )]
    NotAHead {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read a key.
    #[error("`{}` may be read by others (mode {mode:o}); `chmod {expected:o}` it", path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        expected: u32,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// The file system could not do it.
    #[error("`{}` cannot be used; see to its rights and the room on the disk", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
