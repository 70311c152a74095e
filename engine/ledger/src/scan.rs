//! Reading rows in order, in short transactions, so that the write-ahead log can be kept small.

use std::ops::ControlFlow;

use daybook_schema::limits;
use rusqlite::Connection;

use crate::row::{COLUMNS, RowView, UnreadableRow};

/// What a scan sees of a row.
pub(crate) type Seen<'row> = Result<RowView<'row>, UnreadableRow>;

/// Visits the rows with `from <= seq <= until` in order until `visit` breaks.
///
/// # Errors
/// What SQLite says when a page cannot be read, with the seq of the last row that could.
pub(crate) fn scan<B>(
    connection: &Connection,
    (from, until): (i64, i64),
    mut visit: impl FnMut(Seen<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, ScanError> {
    let mut next = from;
    let mut last = None;
    let failed = |last: Option<i64>| move |source| ScanError { last, source };
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq LIMIT ?3"
        ))
        .map_err(failed(last))?;
    loop {
        let mut rows = statement
            .query((next, until, i64::try_from(limits::ROWS_PER_READ).unwrap_or(i64::MAX)))
            .map_err(failed(last))?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed(last))? {
            count += 1;
            last = Some(row.get(0).map_err(failed(last))?);
            let seen = RowView::read(row).map_err(failed(last))?;
            if let ControlFlow::Break(value) = visit(seen) {
                return Ok(Some(value));
            }
        }
        match last {
            Some(last) if count == limits::ROWS_PER_READ && last < until => next = last + 1,
            _ => return Ok(None),
        }
    }
}

/// SQLite could not go on with a scan.
#[derive(Debug, thiserror::Error)]
#[error("rows after {} cannot be read", last.map_or("the start".to_owned(), |seq| seq.to_string()))]
pub(crate) struct ScanError {
    /// The last row that could be read.
    pub(crate) last: Option<i64>,
    /// What SQLite said.
    pub(crate) source: rusqlite::Error,
}
