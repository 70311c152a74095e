//! Rebuilding the state from the rows, every link checked: recovery, replay and audit alike.

use std::path::Path;

use daybook_schema::{EventHash, Head, StoredEvent, UnixMicros};
use daybook_simulator::{State, evolve};
use rusqlite::Connection;

use crate::chain_check::{self, ChainCheck};
use crate::database::{self, DatabaseError, LedgerConnection};
use crate::read_ahead::{flow, read_ahead};
use crate::scan::{ScanError, ScannedRow, scan, scan_after};
use crate::stream_heads::StreamHeads;
use crate::verdict::{Finding, Verdict};

/// A ledger could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// The ledger is damaged.
    #[error("ledger is damaged: {0}")]
    Damaged(Finding),
    /// SQLite could not do it.
    #[error("ledger cannot be read")]
    Sqlite(#[from] rusqlite::Error),
}

impl From<Finding> for ReplayError {
    fn from(finding: Finding) -> Self {
        Self::Damaged(finding)
    }
}

/// The state at a point of the ledger.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The point.
    pub head: Head,
    /// The time of its event, or of the genesis.
    pub recorded_at: UnixMicros,
    /// The state.
    pub state: State,
}

impl Replayed {
    /// The state's hash.
    #[must_use]
    pub fn state_hash(&self) -> EventHash {
        self.state.hash()
    }
}

/// State and chain as they are after the rows so far.
#[derive(Clone)]
pub(crate) struct Fold {
    pub(crate) check: ChainCheck,
    pub(crate) state: State,
}

impl Fold {
    pub(crate) fn start(connection: &Connection) -> Result<Self, ReplayError> {
        let (check, stored) = ChainCheck::start(database::read_genesis(connection)?)?;
        Ok(Self { check, state: State::new(stored.genesis) })
    }

    /// Checks the next row, shows it with the state before it, and applies it.
    pub(crate) fn apply(
        &mut self,
        seen: ScannedRow<'_>,
        visit: &mut impl FnMut(&State, &StoredEvent),
    ) -> Result<(), Finding> {
        let (row, event) = self.check.next(&seen)?;
        let stored = chain_check::stored(row, event);
        visit(&self.state, &stored);
        self.evolve(&stored);
        Ok(())
    }

    /// The same for a row that was read ahead.
    pub(crate) fn apply_read_ahead(
        &mut self,
        stored: &StoredEvent,
        visit: &mut impl FnMut(&State, &StoredEvent),
    ) -> Result<(), Finding> {
        self.check.next_read_ahead(&stored.header, &stored.hash, &stored.event)?;
        visit(&self.state, stored);
        self.evolve(stored);
        Ok(())
    }

    /// Applies a row that was checked.
    pub(crate) fn evolve(&mut self, stored: &StoredEvent) {
        evolve(&mut self.state, &stored.header, stored.hash, &stored.event);
    }

    pub(crate) fn into_parts(self) -> (State, StreamHeads) {
        (self.state, self.check.into_heads())
    }
}

/// A page that SQLite cannot read is damage at the row after the last that it could.
pub(crate) fn unreadable_page(error: &ScanError, head: Head) -> Finding {
    let seq = error.last.map_or(head.seq.cast_signed() + 1, |last| last + 1);
    Finding::at(Verdict::Unreadable, seq, format!("it cannot be read: {}", error.problem))
}

/// Replays every row, or those up to `until`; each is handed to `visit` with the state before it.
fn fold_rows(
    connection: &LedgerConnection,
    path: &Path,
    until: Option<i64>,
    mut visit: impl FnMut(&State, &StoredEvent),
) -> Result<Fold, ReplayError> {
    let mut fold = Fold::start(connection)?;
    let ahead_until = until.map(|until| u64::try_from(until).unwrap_or(0));
    let broken = read_ahead(connection, path, fold.check.head(), ahead_until, |stored| {
        flow(fold.apply_read_ahead(&stored, &mut visit))
    });
    if let Some(finding) = broken {
        return Err(finding.into());
    }
    let read = fold.check.head().seq.cast_signed();
    let step = |seen: ScannedRow<'_>| flow(fold.apply(seen, &mut visit));
    let broken = match until {
        None => scan_after(connection, 0, read, step),
        Some(until) if read == 0 => scan(connection, i64::MIN, until, step),
        Some(until) => scan(connection, read + 1, until, step),
    };
    match broken {
        Ok(None) => {}
        Ok(Some(finding)) => return Err(finding.into()),
        Err(error) => return Err(unreadable_page(&error, fold.check.head()).into()),
    }
    if until.is_none() {
        fold.check.finish()?;
    }
    Ok(fold)
}

/// Rebuilds the state of a ledger as it was after `until`, or as it is now.
///
/// Every event is handed to `visit` on the way, in order, with the state as it was before it.
///
/// # Errors
/// [`ReplayError`] when the file cannot be opened or a row before `until` is damaged.
pub fn replay(
    data_dir: &Path,
    until: Option<u64>,
    visit: impl FnMut(&State, &StoredEvent),
) -> Result<Replayed, ReplayError> {
    let path = database::ledger_path(data_dir);
    let connection = database::open_reader(&path)?;
    let until = until.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX));
    let fold = fold_rows(&connection, &path, until, visit)?;
    Ok(Replayed {
        head: fold.check.head(),
        recorded_at: fold.check.newest_recorded_at(),
        state: fold.state,
    })
}
