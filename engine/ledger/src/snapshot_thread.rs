//! The thread that makes snapshots beside the work: from the committed ledger, never from the live
//! state, which is neither stopped nor copied.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daybook_schema::{Head, limits};

use crate::database::{self, DatabaseError};
use crate::recovery::{self, Recovery};
use crate::replay::ReplayError;

use crate::scan::scan;
use crate::shared::Shared;
use crate::snapshot;

/// What the thread needs of its ledger.
pub(crate) struct SnapshotMaker {
    pub(crate) data_dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    /// The seq of the newest snapshot, 0 if there is none.
    pub(crate) newest_seq: u64,
}

/// Starts the thread; it ends when the ledger failed, or is closed and its last snapshot made.
pub(crate) fn spawn(mut maker: SnapshotMaker) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("daybook-snapshot".to_owned()).spawn(move || {
        loop {
            // Looked at before the head: what was committed before the end is in the last snapshot.
            let is_over = maker.wait_for_events();
            let at = maker.shared.head().seq;
            if maker.shared.failure().is_some() || at == maker.newest_seq {
                return;
            }
            // A failure is no reason to stop play: the start reads more of the ledger instead.
            match maker.make() {
                Ok(Some(head)) => tracing::debug!(%head, "a snapshot was made"),
                Ok(None) => return,
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, "no snapshot was made; the next tries again");
                }
            }
            maker.newest_seq = at;
            if is_over {
                return;
            }
        }
    })
}

impl SnapshotMaker {
    /// Waits until a snapshot is due, or the ledger is over; tells whether it is.
    fn wait_for_events(&self) -> bool {
        let due = self.newest_seq.saturating_add(limits::SNAPSHOT_EVENTS);
        let mut is_over = self.shared.is_over();
        while !is_over && !self.shared.wait_beyond(due - 1, Duration::from_secs(3_600)) {
            is_over = self.shared.is_over();
        }
        is_over
    }

    /// Makes a snapshot of what is committed by now; `None` when the ledger failed meanwhile.
    fn make(&self) -> Result<Option<Head>, ReplayError> {
        let rest = |worked: Duration, reached: u64| {
            let backlog = self.shared.head().seq.saturating_sub(reached);
            self.shared.wait_until_over(worked * rest_parts(backlog));
            match self.shared.failure() {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        };
        build((&self.data_dir, self.shared.head()), rest)
    }
}

/// How many parts of its time the thread rests for each that it works: the further the ledger has gone ahead,
/// the fewer, so that what a start has left to read stays bounded whatever comes.
const fn rest_parts(backlog: u64) -> u32 {
    match backlog / limits::SNAPSHOT_EVENTS {
        0..=2 => limits::SNAPSHOT_REST_PARTS,
        3..=4 => 1,
        _ => 0,
    }
}

/// Makes a snapshot of a ledger as it is committed by now, beside a writer or without one. The next start
/// reads only what came after it.
///
/// # Errors
/// [`ReplayError`] when the ledger cannot be read or is damaged, or the snapshot cannot be written.
pub fn make_snapshot(data_dir: &Path) -> Result<Head, ReplayError> {
    let connection = database::open_reader(&database::ledger_path(data_dir))?;
    let target = database::newest_head(&connection)?;
    let made = build((data_dir, target), |_, _| ControlFlow::Continue(()))?;
    // Nothing breaks it off.
    Ok(made.unwrap_or(target))
}

/// Goes on from the newest snapshot, or from the genesis, to a head, in short reads, and writes the
/// snapshot there. After each read `rest` is told how long it took and how far it came, and may break it off.
fn build(
    (data_dir, target): (&Path, Head),
    rest: impl Fn(Duration, u64) -> ControlFlow<()>,
) -> Result<Option<Head>, ReplayError> {
    let connection = database::open_reader(&database::ledger_path(data_dir))?;
    let mut recovery = Recovery::from_genesis(&connection)?;
    let genesis = *recovery.fold.state.genesis();
    let found = recovery::newest_snapshot(&connection, (data_dir, &genesis))?.snapshot;
    let before = found.as_ref().map(|found| found.fold.check.head().seq);
    if before == Some(target.seq) {
        return Ok(Some(target));
    }
    recovery = found.unwrap_or(recovery);
    while recovery.fold.check.head().seq < target.seq {
        let started = Instant::now();
        apply_some(&connection, &mut recovery, target.seq)?;
        if rest(started.elapsed(), recovery.fold.check.head().seq).is_break() {
            return Ok(None);
        }
    }
    // What was published ends a command.
    recovery.fold.check.finish()?;
    snapshot::write(data_dir, &recovery, before)
        .map_err(|source| DatabaseError::Io { path: snapshot::snapshots_path(data_dir), source })?;
    Ok(Some(recovery.fold.check.head()))
}

/// Applies the events of one short read.
fn apply_some(
    connection: &rusqlite::Connection,
    recovery: &mut Recovery,
    target: u64,
) -> Result<(), ReplayError> {
    let from = recovery.fold.check.head().seq + 1;
    let until = target.min(from + limits::ROWS_PER_READ as u64 - 1);
    let broken = scan(connection, (from.cast_signed(), until.cast_signed()), |seen| match recovery
        .apply(seen)
    {
        Ok(()) => ControlFlow::Continue(()),
        Err(finding) => ControlFlow::Break(finding),
    });
    match broken {
        Ok(None) if recovery.fold.check.head().seq == until => Ok(()),
        Ok(None) => Err(recovery::vanished(until).into()),
        Ok(Some(finding)) => Err(finding.into()),
        Err(error) => {
            Err(crate::replay::unreadable_page(&error, recovery.fold.check.head()).into())
        }
    }
}
