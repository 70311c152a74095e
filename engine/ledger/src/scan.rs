//! Reading rows in order, in short transactions, so that the write-ahead log can be kept small.

use std::ops::ControlFlow;

use daybook_schema::limits;
use rusqlite::Connection;

use crate::event_row::{COLUMNS, Refused, RowView};

/// What a scan sees of a row.
pub(crate) type ScannedRow<'row> = Result<RowView<'row>, Refused>;

/// Visits the rows with `from <= seq <= until` in order until `visit` breaks.
///
/// # Errors
/// What SQLite says when a page cannot be read, with the seq of the last row that could.
pub(crate) fn scan<B>(
    connection: &Connection,
    from: i64,
    until: i64,
    mut visit: impl FnMut(ScannedRow<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, ScanError> {
    walk(connection, from, until, &mut visit).map(|end| match end {
        End::Broken(value) => Some(value),
        End::Last(_) => None,
    })
}

/// Visits every row after `base`, and makes sure of it: a damaged page can end SQLite's walk early,
/// and a seq that was changed in place lies where no bound would look for it. With a base of 0
/// these are all rows, whatever their seq. Those up to `read` were visited already.
///
/// # Errors
/// As [`scan`]; also when rows are left that no walk comes to.
pub(crate) fn scan_after<B>(
    connection: &Connection,
    base: i64,
    read: i64,
    mut visit: impl FnMut(ScannedRow<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, ScanError> {
    let lowest = if base == 0 { i64::MIN } else { base + 1 };
    let mut reached = Some(read).filter(|read| *read > base);
    loop {
        let from = reached.map_or(lowest, |last| last + 1);
        match walk(connection, from, i64::MAX, &mut visit)? {
            End::Broken(value) => return Ok(Some(value)),
            End::Last(last) => {
                let before = reached;
                reached = last.or(reached);
                let failed = |problem| ScanError { last: reached, problem };
                let count =
                    count_from(connection, lowest).map_err(|error| failed(error.to_string()))?;
                let seen = reached.map_or(0, |last| last - base);
                if count == seen {
                    return Ok(None);
                }
                // More rows than were seen: a writer is at work, or no walk comes to them.
                if count < seen || reached == before {
                    return Err(failed(format!("{count} rows are there, {seen} can be walked")));
                }
            }
        }
    }
}

fn count_from(connection: &Connection, lowest: i64) -> rusqlite::Result<i64> {
    // Without a bound SQLite counts cells alone, three times as fast.
    if lowest == i64::MIN {
        return connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0));
    }
    connection.query_row("SELECT count(*) FROM events WHERE seq >= ?1", [lowest], |row| row.get(0))
}

/// How a walk ended.
enum End<B> {
    /// The visitor had seen enough.
    Broken(B),
    /// After the last row, whose seq it was.
    Last(Option<i64>),
}

fn walk<B>(
    connection: &Connection,
    from: i64,
    until: i64,
    visit: &mut impl FnMut(ScannedRow<'_>) -> ControlFlow<B>,
) -> Result<End<B>, ScanError> {
    let mut next = from;
    let mut last = None;
    let failed = |last: Option<i64>| {
        move |error: rusqlite::Error| ScanError { last, problem: error.to_string() }
    };
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
            let seq = row.get(0).map_err(failed(last))?;
            last = Some(seq);
            if let ControlFlow::Break(value) = visit(RowView::read(row, seq)) {
                return Ok(End::Broken(value));
            }
        }
        match last {
            Some(last) if count == limits::ROWS_PER_READ && last < until => next = last + 1,
            _ => return Ok(End::Last(last)),
        }
    }
}

/// SQLite could not go on with a scan.
#[derive(Debug)]
pub(crate) struct ScanError {
    /// The last row that could be read.
    pub(crate) last: Option<i64>,
    /// What SQLite said, or what does not fit.
    pub(crate) problem: String,
}
