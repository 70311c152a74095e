//! Files of an export: batches of rows, written, or hashed as if they were.

mod hashed_file;
mod parquet_file;
mod text_file;

use std::path::{Path, PathBuf};

use daybook_schema::Head;
use serde::{Deserialize, Serialize};

use crate::columns::Column;
use crate::rows::Value;
use hashed_file::HashedFile;
pub(crate) use hashed_file::Sealed;
use parquet_file::ParquetWriting;
use text_file::{CsvWriting, JsonlWriting};

/// Rows that are written at a time.
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

enum Target {
    Jsonl(Box<JsonlWriting>),
    Csv(Box<CsvWriting>),
    Parquet(Box<ParquetWriting>),
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
    /// A file that is not there yet, or that a kill left.
    pub(crate) fn create(
        path: PathBuf,
        format: Format,
        columns: Vec<Column>,
    ) -> Result<Self, FileError> {
        let file = HashedFile::create(&path).map_err(|error| FileError::of(&path)(error.into()))?;
        Self::new(path, format, columns, file)
    }

    /// The same without a file: what it would be is told at its end.
    pub(crate) fn hashed(
        path: PathBuf,
        format: Format,
        columns: Vec<Column>,
    ) -> Result<Self, FileError> {
        Self::new(path, format, columns, HashedFile::nowhere())
    }

    fn new(
        path: PathBuf,
        format: Format,
        columns: Vec<Column>,
        file: HashedFile,
    ) -> Result<Self, FileError> {
        let target = match format {
            Format::Jsonl => Ok(Target::Jsonl(Box::new(JsonlWriting::new(file)))),
            Format::Csv => CsvWriting::new(file, &columns).map(|it| Target::Csv(Box::new(it))),
            Format::Parquet => {
                ParquetWriting::new(file, &columns).map(|it| Target::Parquet(Box::new(it)))
            }
        };
        let target = target.map_err(FileError::of(&path))?;
        Ok(Self { path, columns, target, batch: Vec::new(), rows: 0, first: None, last: None })
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

    /// Ends the file.
    pub(crate) fn end(mut self) -> Result<Sealed, FileError> {
        self.flush()?;
        let sealed = match self.target {
            Target::Jsonl(file) => file.seal(),
            Target::Csv(file) => file.seal(),
            Target::Parquet(file) => file.seal(),
        };
        sealed.map_err(FileError::of(&self.path))
    }
}
