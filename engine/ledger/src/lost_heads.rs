//! What became of a head that somebody knows: whoever holds a ledger to one asks here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use daybook_schema::events::LedgerRestored;
use daybook_schema::{Epoch, Event, EventKind, Head, LedgerId, Seq};
use rusqlite::Connection;

use crate::chain_check::check_row;
use crate::database;
use crate::event_row::{COLUMNS, RowView};
use crate::reader::{ReadError, Reader};
use crate::verdict::{Finding, Verdict};

/// A head that a ledger should have, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHead {
    /// The seq and hash.
    pub head: Head,
    /// The epoch that it lies in, where that is known too.
    pub epoch: Option<Epoch>,
    /// What knows it: a file, or an option.
    pub source: String,
}

impl From<Head> for KnownHead {
    fn from(head: Head) -> Self {
        Self { head, epoch: None, source: "given".to_owned() }
    }
}

impl std::fmt::Display for KnownHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.head, self.source)
    }
}

/// What a ledger says of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has it.
    Held,
    /// It does not have it, and that it is lost was accepted.
    Accepted {
        /// The event that accepted it.
        at: Seq,
    },
    /// It does not have it: events were lost or altered, or whoever knows the head is wrong.
    Lost {
        /// What the ledger has: its newest event where it ends before the head, else the event at
        /// the head's seq.
        has: Head,
    },
}

impl Reader {
    /// What became of a head. The genesis is one, with seq 0.
    ///
    /// A head that the ledger lacks is looked for in every `ledger_restored`. To find these takes
    /// as long as reading the ledger once; a process that asks again has what came since read.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub fn standing(&self, head: Head, epoch: Option<Epoch>) -> Result<Standing, ReadError> {
        standing(self.connection(), head, epoch)
    }

    /// The epochs of the ledger, the first one first; read as for [`Self::standing`].
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub fn epochs(&self) -> Result<Vec<Epoch>, ReadError> {
        let restored = restored_events(self.connection())?;
        let later = restored.into_iter().map(|(_, restored)| restored.epoch);
        Ok(std::iter::once(Epoch::FIRST).chain(later).collect())
    }
}

/// See [`Reader::standing`].
pub(crate) fn standing(
    connection: &Connection,
    head: Head,
    epoch: Option<Epoch>,
) -> Result<Standing, ReadError> {
    let found = database::hash_at(connection, head.seq)?;
    if found == Some(head.hash) {
        return Ok(Standing::Held);
    }
    if let Some(at) = accepted_at(connection, head, epoch)? {
        return Ok(Standing::Accepted { at });
    }
    let has = match found {
        Some(hash) => Head { seq: head.seq, hash },
        None => database::newest_head(connection)?,
    };
    Ok(Standing::Lost { has })
}

/// The event by which the loss of a head was accepted: one that names it, or one by which the
/// ledger went on, in another epoch, at or before its seq.
fn accepted_at(
    connection: &Connection,
    head: Head,
    epoch: Option<Epoch>,
) -> Result<Option<Seq>, ReadError> {
    for (at, restored) in restored_events(connection)? {
        let is_named = restored.lost_heads.iter().any(|lost| *lost == head);
        let is_passed = epoch.is_some_and(|epoch| {
            let (new, old) = (restored.epoch, epoch);
            let is_another = new.number > old.number || new.number == old.number && new != old;
            at.get() <= head.seq && is_another
        });
        if is_named || is_passed {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether an epoch began after an event.
pub(crate) fn has_epoch_begun_after(connection: &Connection, seq: u64) -> Result<bool, ReadError> {
    Ok(restored_events(connection)?.iter().any(|(at, _)| at.get() > seq))
}

/// What was found of each ledger, and up to which head it was looked through: whoever asks again
/// and again for heads that are not there has only what came since looked through.
static FOUND: Mutex<BTreeMap<LedgerId, Found>> = Mutex::new(BTreeMap::new());

#[derive(Clone)]
struct Found {
    until: Head,
    restored: Vec<(Seq, LedgerRestored)>,
}

/// Every `ledger_restored`, in order.
fn restored_events(connection: &Connection) -> Result<Vec<(Seq, LedgerRestored)>, ReadError> {
    let ledger_id = database::read_genesis(connection)?.map(|stored| stored.genesis.ledger_id);
    let newest = database::newest_head(connection)?;
    let known = ledger_id.and_then(|id| locked().get(&id).cloned());
    // Another file may lie in the ledger's place now.
    let is_of_it =
        |found: &Found| database::has_head(connection, found.until).is_ok_and(|has_head| has_head);
    let known = known.filter(is_of_it);
    let after = known.as_ref().map_or(0, |found| found.until.seq);
    let mut restored = known.map(|found| found.restored).unwrap_or_default();
    let mut statement = connection.prepare_cached(
        "SELECT seq FROM events WHERE kind = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
    )?;
    let kind = EventKind::LedgerRestored.number();
    let bounds = (kind, after.cast_signed(), newest.seq.cast_signed());
    let seqs = statement.query_map(bounds, |row| row.get::<_, i64>(0))?;
    for seq in seqs.collect::<Result<Vec<i64>, _>>()? {
        if let (at, Event::LedgerRestored(event)) = read_event(connection, seq)? {
            restored.push((at, event));
        }
    }
    if let Some(ledger_id) = ledger_id {
        locked().insert(ledger_id, Found { until: newest, restored: restored.clone() });
    }
    Ok(restored)
}

fn locked() -> MutexGuard<'static, BTreeMap<LedgerId, Found>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One event, held to the hash of the one before it.
fn read_event(connection: &Connection, seq: i64) -> Result<(Seq, Event), ReadError> {
    let missing = || {
        let detail = format!("event {seq}, or the one before it, is missing");
        ReadError::from(Finding::at(Verdict::Gap, seq, detail))
    };
    let before = u64::try_from(seq - 1).map_err(|_| missing())?;
    let previous = database::hash_at(connection, before)?.ok_or_else(missing)?;
    let sql = format!("SELECT {COLUMNS} FROM events WHERE seq = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([seq])?;
    let row = rows.next()?.ok_or_else(missing)?;
    let row = RowView::read(row, row.get(0)?).map_err(Finding::from)?;
    Ok((row.header.seq, check_row(&row, &previous)?))
}
