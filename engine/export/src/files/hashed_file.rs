//! A file that is hashed as it is written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Why a file could not be written.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) bytes: u64,
    pub(crate) blake3: blake3::Hash,
}

/// A file that is hashed as it is written; without a file its bytes are hashed alone.
pub(crate) struct HashedFile {
    file: Option<BufWriter<File>>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl HashedFile {
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        // What a kill left is made anew; a link is not followed.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = BufWriter::with_capacity(1 << 16, File::create_new(path)?);
        Ok(Self { file: Some(file), ..Self::nowhere() })
    }

    pub(super) fn nowhere() -> Self {
        Self { file: None, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// Syncs it.
    pub(super) fn seal(self) -> std::io::Result<Sealed> {
        if let Some(file) = self.file {
            let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.sync_all()?;
        }
        Ok(Sealed { bytes: self.bytes, blake3: self.hasher.finalize() })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = match &mut self.file {
            Some(file) => file.write(bytes)?,
            None => bytes.len(),
        };
        let (written_bytes, _) = bytes.split_at(written);
        self.hasher.update(written_bytes);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}
