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

/// Starts the thread; it ends when the ledger is closed or failed.
pub(crate) fn spawn(mut maker: SnapshotMaker) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("daybook-snapshot".to_owned()).spawn(move || {
        while maker.wait_for_events() {
            // A failure is no reason to stop play: the start reads more of the ledger instead.
            let at = maker.shared.head().seq;
            match maker.make() {
                Ok(Some(head)) => tracing::debug!(%head, "a snapshot was made"),
                Ok(None) => return,
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, "no snapshot was made; the next tries again");
                }
            }
            maker.newest_seq = at;
        }
    })
}

impl SnapshotMaker {
    /// Waits until a snapshot is due; false when the ledger is over.
    fn wait_for_events(&self) -> bool {
        let due = self.newest_seq.saturating_add(limits::SNAPSHOT_EVENTS);
        while !self.shared.wait_beyond(due - 1, Duration::from_secs(3_600)) {
            if self.shared.is_over() {
                return false;
            }
        }
        !self.shared.is_over()
    }

    /// Makes a snapshot of what is committed by now; `None` when the ledger was closed meanwhile.
    fn make(&self) -> Result<Option<Head>, ReplayError> {
        let rest = |worked: Duration| match self
            .shared
            .wait_until_over(worked * limits::SNAPSHOT_REST_PARTS)
        {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        build((&self.data_dir, self.shared.head()), rest)
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
    let made = build((data_dir, target), |_| ControlFlow::Continue(()))?;
    // Nothing breaks it off.
    Ok(made.unwrap_or(target))
}

/// Goes on from the newest snapshot, or from the genesis, to a head, in short reads, and writes the
/// snapshot there. After each read `rest` is told how long it took, and may break it off.
fn build(
    (data_dir, target): (&Path, Head),
    rest: impl Fn(Duration) -> ControlFlow<()>,
) -> Result<Option<Head>, ReplayError> {
    let connection = database::open_reader(&database::ledger_path(data_dir))?;
    let mut recovery = Recovery::from_genesis(&connection)?;
    let genesis = *recovery.fold.state.genesis();
    let found = recovery::newest_snapshot(&connection, (data_dir, &genesis))?.snapshot;
    let before = found.as_ref().map(|found| found.fold.check.head().seq);
    recovery = found.unwrap_or(recovery);
    while recovery.fold.check.head().seq < target.seq {
        let started = Instant::now();
        apply_some(&connection, &mut recovery, target.seq)?;
        if rest(started.elapsed()).is_break() {
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
