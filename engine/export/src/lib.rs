//! Daybook's ledger as files for other tools: JSONL, CSV or Parquet.
//!
//! An [`Export`] writes one table `events`, with each event as it is stored, and one for each kind
//! of events, with a typed column for each field. Columns are only ever added. A [`Manifest`] tells
//! what was written: it grows when files are whole, so that a killed export goes on. [`check`] holds
//! files and manifest to the ledger.

mod check;
mod columns;
mod directory;
mod error;
mod export;
mod files;
mod manifest;
mod rows;
mod seasons;
mod shape;
mod tables;

pub use check::{Checked, check};
pub use error::ExportError;
pub use export::{Export, going_on};
pub use files::{FileError, Format};
pub use manifest::{FileEntry, MANIFEST, Manifest, ManifestError, Selection};
pub use rows::ColumnError;
pub use tables::TableError;
