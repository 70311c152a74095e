//! Rows read, decoded and held to their hashes by several threads, ahead of the one that goes through
//! them in order.
//!
//! Only runs of sound rows are handed on. Where anything is not as it should be the reading ahead
//! ends before it, and the plain scan, which goes on from there, says what it is.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use daybook_schema::{EventHash, Head, StoredEvent, limits};
use rusqlite::Connection;

use crate::chain_check::{check_row, stored};
use crate::database::{self, LedgerConnection};
use crate::scan::scan;
use crate::verdict::Finding;

/// Rows of one run.
const RUN_ROWS: u64 = limits::ROWS_PER_READ as u64;
/// Runs of a thread that wait to be taken.
const RUNS_WAITING: usize = 2;
/// For fewer runs no thread is started.
const RUNS_MIN: u64 = 8;

/// Consecutive rows that hold to their own hashes.
struct SoundRun {
    /// The hash that the first row's is over.
    previous: EventHash,
    rows: Vec<StoredEvent>,
}

/// Hands on the rows after a head, in order and each held to its hash, for as long as they are sound;
/// gives what `take` broke off with. It may end at any whole run, also at once.
pub(crate) fn read_ahead<B>(
    connection: &LedgerConnection,
    path: &Path,
    after: Head,
    until: Option<u64>,
    mut take: impl FnMut(StoredEvent) -> ControlFlow<B>,
) -> Option<B> {
    let newest = database::newest_head(connection).map_or(0, |head| head.seq);
    let end = until.map_or(newest, |until| until.min(newest));
    let runs = end.saturating_sub(after.seq) / RUN_ROWS;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(limits::READ_AHEAD_THREADS_MAX);
    if runs < RUNS_MIN || threads < 2 || connection.is_copy() || !begins_soundly(connection) {
        return None;
    }
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for first in (0..).take(threads) {
            let (send, receive) = sync_channel(RUNS_WAITING);
            let thread = std::thread::Builder::new().name("daybook-ahead".to_owned());
            let reading = move || read_runs(path, after, (first..runs).step_by(threads), &send);
            thread.spawn_scoped(scope, reading).ok()?;
            readers.push(receive);
        }
        take_runs(after, &readers, runs, &mut take)
    })
}

/// Goes on where a row holds.
pub(crate) fn flow(held: Result<(), Finding>) -> ControlFlow<Finding> {
    match held {
        Ok(()) => ControlFlow::Continue(()),
        Err(finding) => ControlFlow::Break(finding),
    }
}

/// Whether no row lies before the first: it would be found too late.
fn begins_soundly(connection: &Connection) -> bool {
    let before = "SELECT count(*) FROM (SELECT 1 FROM events WHERE seq < 1 LIMIT 1)";
    connection.query_row(before, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 0)
}

/// Takes the runs of the readers in turn, as long as each goes on from the one before.
fn take_runs<B>(
    after: Head,
    readers: &[Receiver<SoundRun>],
    runs: u64,
    take: &mut impl FnMut(StoredEvent) -> ControlFlow<B>,
) -> Option<B> {
    let mut hash = after.hash;
    for (_, reader) in (0..runs).zip(readers.iter().cycle()) {
        let run = reader.recv().ok()?;
        if run.previous != hash {
            return None;
        }
        for stored in run.rows {
            hash = stored.hash;
            if let ControlFlow::Break(broken) = take(stored) {
                return Some(broken);
            }
        }
    }
    None
}

/// Reads runs until one is not sound, or nobody takes them any more.
fn read_runs(
    path: &Path,
    after: Head,
    runs: impl Iterator<Item = u64>,
    send: &SyncSender<SoundRun>,
) {
    let Ok(connection) = database::open_reader(path) else { return };
    for run in runs {
        let first = after.seq + 1 + run * RUN_ROWS;
        let Some(run) = read_run(&connection, first) else { return };
        if send.send(run).is_err() {
            return;
        }
    }
}

/// A run of rows; none where one is missing or does not hold.
fn read_run(connection: &Connection, first: u64) -> Option<SoundRun> {
    let previous = database::hash_at(connection, first - 1).ok()??;
    let (mut hash, mut rows) = (previous, Vec::new());
    rows.reserve_exact(limits::ROWS_PER_READ);
    let last = first + RUN_ROWS - 1;
    let broken = scan(connection, first.cast_signed(), last.cast_signed(), |seen| {
        let expected = first + rows.len() as u64;
        let Some(row) = seen.ok().filter(|row| row.header.seq.get() == expected) else {
            return ControlFlow::Break(());
        };
        let Ok(event) = check_row(&row, &hash) else { return ControlFlow::Break(()) };
        hash = row.hash;
        rows.push(stored(&row, event));
        ControlFlow::Continue(())
    });
    let is_whole = matches!(broken, Ok(None)) && rows.len() == limits::ROWS_PER_READ;
    is_whole.then_some(SoundRun { previous, rows })
}
