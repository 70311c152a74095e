//! Files of an export: batches of rows, written or compared.

mod parquet_file;
mod text_file;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use daybook_schema::Head;
use serde::{Deserialize, Serialize};

use crate::columns::Column;
use crate::rows::Value;
use parquet_file::{ParquetComparison, ParquetWriting};
use text_file::{CsvWriting, JsonlWriting};

/// Rows that are written, or compared, at a time.
pub(crate) const ROWS_PER_BATCH: usize = 8_192;

/// How the files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// With a line of names.
    Csv,
    /// zstd, sorted by seq, row groups of 122,880.
    Parquet,
}

impl Format {
    /// How names of its files end.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.ending())
    }
}

/// A file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written or read", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl FileError {
    pub(crate) fn of(
        path: &Path,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self + '_ {
        |source| Self { path: path.to_owned(), source }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) bytes: u64,
    pub(crate) blake3: blake3::Hash,
}

/// A file that is hashed as it is written.
pub(crate) struct HashedFile {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl HashedFile {
    fn create(path: &Path) -> std::io::Result<Self> {
        // What a kill left is made anew; a link is not followed.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = BufWriter::with_capacity(1 << 16, File::create_new(path)?);
        Ok(Self { file, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Syncs it.
    fn seal(self) -> std::io::Result<Sealed> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Sealed { bytes: self.bytes, blake3: self.hasher.finalize() })
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        let (written_bytes, _) = bytes.split_at(written);
        self.hasher.update(written_bytes);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

enum Target {
    Jsonl(Box<JsonlWriting>),
    Csv(Box<CsvWriting>),
    Parquet(Box<ParquetWriting>),
    Compared(Box<ParquetComparison>),
}

/// A file whose rows come one by one.
pub(crate) struct TableFile {
    pub(crate) path: PathBuf,
    columns: Vec<Column>,
    target: Target,
    batch: Vec<Vec<Value>>,
    pub(crate) rows: u64,
    pub(crate) first: Option<Head>,
    pub(crate) last: Option<Head>,
}

impl TableFile {
    pub(crate) fn create(
        path: PathBuf,
        format: Format,
        columns: Vec<Column>,
    ) -> Result<Self, FileError> {
        let target = (|| -> Result<Target, Failure> {
            let file = HashedFile::create(&path)?;
            Ok(match format {
                Format::Jsonl => Target::Jsonl(Box::new(JsonlWriting::new(file))),
                Format::Csv => Target::Csv(Box::new(CsvWriting::new(file, &columns)?)),
                Format::Parquet => Target::Parquet(Box::new(ParquetWriting::new(file, &columns)?)),
            })
        })();
        let target = target.map_err(FileError::of(&path))?;
        Ok(Self::new(path, columns, target))
    }

    /// A Parquet file that is there, to hold rows to.
    pub(crate) fn compare(path: PathBuf, columns: Vec<Column>) -> Result<Self, FileError> {
        let comparison = ParquetComparison::open(&path, &columns).map_err(FileError::of(&path))?;
        Ok(Self::new(path, columns, Target::Compared(Box::new(comparison))))
    }

    fn new(path: PathBuf, columns: Vec<Column>, target: Target) -> Self {
        let batch = Vec::new();
        Self { path, columns, target, batch, rows: 0, first: None, last: None }
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn push(&mut self, head: Head, row: Vec<Value>) -> Result<(), FileError> {
        self.rows += 1;
        self.first.get_or_insert(head);
        self.last = Some(head);
        self.batch.push(row);
        if self.batch.len() < ROWS_PER_BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), FileError> {
        let batch = std::mem::take(&mut self.batch);
        let written = match &mut self.target {
            Target::Jsonl(file) => file.write(&self.columns, &batch),
            Target::Csv(file) => file.write(&batch),
            Target::Parquet(file) => file.write(&self.columns, &batch),
            Target::Compared(file) => file.hold(&self.columns, &batch),
        };
        written.map_err(FileError::of(&self.path))
    }

    /// Bytes that wait in memory.
    pub(crate) fn waiting_bytes(&self) -> usize {
        match &self.target {
            Target::Parquet(file) => file.waiting_bytes(),
            _ => 0,
        }
    }

    /// Writes what waits in memory.
    pub(crate) fn end_row_group(&mut self) -> Result<(), FileError> {
        self.flush()?;
        match &mut self.target {
            Target::Parquet(file) => file.end_row_group().map_err(FileError::of(&self.path)),
            _ => Ok(()),
        }
    }

    /// Ends the file; of one that was compared, tells whether it agreed.
    pub(crate) fn end(mut self) -> Result<Ended, FileError> {
        self.flush()?;
        let ended = match self.target {
            Target::Jsonl(file) => file.seal().map(Ended::Written),
            Target::Csv(file) => file.seal().map(Ended::Written),
            Target::Parquet(file) => file.seal().map(Ended::Written),
            Target::Compared(file) => Ok(Ended::Compared(file.end())),
        };
        ended.map_err(FileError::of(&self.path))
    }
}

/// How a file ended.
pub(crate) enum Ended {
    Written(Sealed),
    /// What differs, if something does.
    Compared(Option<String>),
}
