//! The tables of a range of seqs: each event goes into `events`, and into that of its kind.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use daybook_ledger::{ReadError, Reader};
use daybook_schema::{Seq, StoredEvent, StreamKind, UserId};

use crate::columns::TableName;
use crate::files::{FileError, TableFile};
use crate::manifest::Selection;
use crate::rows::{ColumnError, row};
use crate::seasons::Seasons;

/// Rows could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A payload has no such column.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// A file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// All row groups in memory together have so many bytes at most.
const WAITING_BYTES_MAX: usize = 96 << 20;
/// After so many events that is looked at.
const LOOKED_AT_EVERY: u64 = 16_384;

pub(crate) type Files = BTreeMap<TableName, TableFile>;

/// The tables that a selection asks for.
pub(crate) fn tables_of(selection: &Selection) -> Vec<TableName> {
    let is_asked = |table: &TableName| match table {
        TableName::Events => true,
        TableName::OfKind(kind) => selection.has(*kind),
    };
    TableName::all().filter(is_asked).collect()
}

/// Where rows come from.
pub(crate) struct Source<'a> {
    reader: &'a Reader,
    selection: &'a Selection,
    seasons: Seasons,
    /// Is told how many events were passed.
    passed: &'a mut dyn FnMut(u64),
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        reader: &'a Reader,
        selection: &'a Selection,
        passed: &'a mut dyn FnMut(u64),
    ) -> Self {
        Self { reader, selection, seasons: Seasons::default(), passed }
    }

    /// Fills tables with the events of a range. `file` gives a table its file where it has none when
    /// the first row comes.
    pub(crate) fn fill(
        &mut self,
        (from, until): (Seq, Seq),
        files: &mut Files,
        file: impl Fn(TableName) -> Result<TableFile, FileError>,
    ) -> Result<(), TableError> {
        let mut count = 0;
        for stored in self.reader.events_between(from, until) {
            let stored = stored?;
            let kind = stored.event.kind();
            let season = match kind.stream() {
                StreamKind::Season => self.seasons.with(self.reader, &stored)?,
                StreamKind::Ledger | StreamKind::User => None,
            };
            count += 1;
            if count % LOOKED_AT_EVERY == 0 {
                (self.passed)(LOOKED_AT_EVERY);
                bound_memory(files)?;
            }
            if !is_selected(self.selection, &stored, season.map(|season| season.user_id)) {
                continue;
            }
            for table in [TableName::Events, TableName::OfKind(kind)] {
                let table = match files.entry(table) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(file(table)?),
                };
                let row = row(table.columns(), &stored, season.as_ref())?;
                table.push(stored.head(), row)?;
            }
        }
        (self.passed)(count % LOOKED_AT_EVERY);
        Ok(())
    }
}

/// Ends the largest row group where all together are too large.
fn bound_memory(files: &mut Files) -> Result<(), FileError> {
    let all: usize = files.values().map(TableFile::waiting_bytes).sum();
    if all > WAITING_BYTES_MAX
        && let Some(largest) = files.values_mut().max_by_key(|file| file.waiting_bytes())
    {
        largest.end_row_group()?;
    }
    Ok(())
}

fn is_selected(selection: &Selection, stored: &StoredEvent, season_of: Option<UserId>) -> bool {
    let stream = stored.event.kind().stream();
    let user_id = match stream {
        StreamKind::User => Some(stored.header.stream.as_user()),
        StreamKind::Season => season_of,
        StreamKind::Ledger => None,
    };
    let is_of_season = selection.season.is_none_or(|season_id| {
        stream == StreamKind::Season && stored.header.stream.as_season() == season_id
    });
    is_of_season
        && selection.user.is_none_or(|selected| user_id == Some(selected))
        && selection.has(stored.event.kind())
}
