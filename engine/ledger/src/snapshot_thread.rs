//! The thread that makes snapshots beside the work: from the committed ledger, never from the live
//! state, which is neither stopped nor copied.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daybook_schema::{Head, limits};
use daybook_simulator::State;

use crate::database::{self, DatabaseError, LedgerConnection};
use crate::recovery::{self, Recovery};
use crate::replay::{ReplayError, unreadable_page};
use crate::scan::scan;
use crate::shared::Shared;
use crate::snapshot;

/// What the thread needs of its ledger.
pub(crate) struct SnapshotMaker {
    pub(crate) data_dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    /// The seq of the newest snapshot, 0 if there is none.
    pub(crate) newest_seq: u64,
    /// After so many more events the next is due.
    pub(crate) due_events: u64,
}

/// After how many events a snapshot is due: where the state is large they come less often, so that writing
/// them never costs more than reading what they save.
pub(crate) fn due_events(state: &State) -> u64 {
    let entries = (state.users.len() + state.seasons.len()) as u64;
    limits::SNAPSHOT_EVENTS.max(entries.saturating_mul(limits::SNAPSHOT_EVENTS_PER_ENTRY))
}

/// Starts the thread; it ends when the ledger failed, or is closed and its last snapshot made.
pub(crate) fn spawn(mut maker: SnapshotMaker) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("daybook-snapshot".to_owned()).spawn(move || {
        let mut is_over = false;
        while !is_over {
            // Looked at before the head: what was committed before the end is in the last snapshot.
            is_over = maker.wait_for_events();
            let newest = maker.shared.head().seq;
            if maker.shared.failure().is_some() || newest == maker.newest_seq {
                return;
            }
            // A failure is no reason to stop play: the start reads more of the ledger instead.
            if let Err(error) = maker.catch_up() {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "no snapshot was made; the next tries again");
                maker.newest_seq = newest;
            }
        }
    })
}

impl SnapshotMaker {
    /// Waits until a snapshot is due, or the ledger is over; tells whether it is.
    fn wait_for_events(&self) -> bool {
        let due = self.newest_seq.saturating_add(self.due_events);
        let mut is_over = self.shared.is_over();
        while !is_over && !self.shared.wait_beyond(due - 1, Duration::from_secs(3_600)) {
            is_over = self.shared.is_over();
        }
        is_over
    }

    /// Makes snapshots until none is due any more, or the ledger failed. While it is behind it keeps the state
    /// in memory between them, and writes one now and then on the way.
    fn catch_up(&mut self) -> Result<(), ReplayError> {
        let mut build = Build::open(&self.data_dir)?;
        loop {
            self.due_events = due_events(&build.recovery.fold.state);
            let from = build.head().seq;
            let step = self.due_events.saturating_mul(limits::SNAPSHOT_STEPS);
            let target = self.shared.head().seq.min(from.saturating_add(step));
            if build.go_to(target, |worked, reached| self.rest(worked, reached))?.is_break() {
                return Ok(());
            }
            build.write()?;
            let head = build.head();
            tracing::debug!(%head, from, "a snapshot was made");
            self.newest_seq = head.seq;
            let behind = self.shared.head().seq.saturating_sub(head.seq);
            let is_due = if self.shared.is_over() { behind > 0 } else { behind >= self.due_events };
            if !is_due {
                return Ok(());
            }
        }
    }

    /// Rests after some work; breaks off when the ledger failed.
    fn rest(&self, worked: Duration, reached: u64) -> ControlFlow<()> {
        let behind = self.shared.head().seq.saturating_sub(reached);
        self.shared.wait_until_over(worked * rest_parts(behind));
        match self.shared.failure() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }
}

/// How many parts of its time the thread rests for each that it works: the further the ledger has gone ahead,
/// the fewer, so that what a start has left to read stays bounded whatever comes.
const fn rest_parts(behind: u64) -> u32 {
    match behind / limits::SNAPSHOT_BEHIND_EVENTS {
        0 => limits::SNAPSHOT_REST_PARTS,
        1 => 1,
        _ => 0,
    }
}

/// Makes a snapshot of a ledger as it is committed by now, beside a writer or without one. The next start
/// reads only what came after it.
///
/// # Errors
/// [`ReplayError`] when the ledger cannot be read or is damaged, or the snapshot cannot be written.
pub fn make_snapshot(data_dir: &Path) -> Result<Head, ReplayError> {
    let mut build = Build::open(data_dir)?;
    let target = database::newest_head(&build.connection)?;
    // Nothing breaks it off.
    let _ = build.go_to(target.seq, |_, _| ControlFlow::Continue(()))?;
    build.write()?;
    Ok(build.head())
}

/// A snapshot that is being made.
struct Build {
    data_dir: PathBuf,
    connection: LedgerConnection,
    recovery: Recovery,
    /// The seq of the snapshot that it goes on from.
    before: Option<u64>,
}

impl Build {
    /// Goes on from the newest snapshot, or from the genesis.
    fn open(data_dir: &Path) -> Result<Self, ReplayError> {
        let connection = database::open_reader(&database::ledger_path(data_dir))?;
        let fresh = Recovery::from_genesis(&connection)?;
        let genesis = *fresh.fold.state.genesis();
        let found = recovery::newest_snapshot(&connection, (data_dir, &genesis))?.snapshot;
        let before = found.as_ref().map(|found| found.fold.check.head().seq);
        let recovery = found.unwrap_or(fresh);
        Ok(Self { data_dir: data_dir.to_owned(), connection, recovery, before })
    }

    const fn head(&self) -> Head {
        self.recovery.fold.check.head()
    }

    /// Applies the events up to a seq that is committed, and those of its command after it, in short reads.
    /// After each `rest` is told how long it took and how far it came, and may break it off.
    fn go_to(
        &mut self,
        target: u64,
        rest: impl Fn(Duration, u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReplayError> {
        while self.head().seq < target {
            let started = Instant::now();
            self.apply_until(target.min(self.head().seq + limits::ROWS_PER_READ as u64))?;
            if rest(started.elapsed(), self.head().seq).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        while self.recovery.fold.check.finish().is_err() {
            self.apply_until(self.head().seq + 1)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Applies the events of one short read.
    fn apply_until(&mut self, until: u64) -> Result<(), ReplayError> {
        let Self { connection, recovery, .. } = self;
        let from = recovery.fold.check.head().seq + 1;
        let bounds = (from.cast_signed(), until.cast_signed());
        let broken = scan(connection, bounds, |seen| match recovery.apply(seen) {
            Ok(()) => ControlFlow::Continue(()),
            Err(finding) => ControlFlow::Break(finding),
        });
        match broken {
            Ok(None) if self.head().seq == until => Ok(()),
            Ok(None) => Err(recovery::vanished(until).into()),
            Ok(Some(finding)) => Err(finding.into()),
            Err(error) => Err(unreadable_page(&error, self.head()).into()),
        }
    }

    /// Writes the snapshot, unless there is one of this seq.
    fn write(&mut self) -> Result<(), DatabaseError> {
        let seq = self.head().seq;
        if self.before == Some(seq) {
            return Ok(());
        }
        snapshot::write(&self.data_dir, &self.recovery, self.before).map_err(|source| {
            DatabaseError::Io { path: snapshot::snapshots_path(&self.data_dir), source }
        })?;
        self.before = Some(seq);
        Ok(())
    }
}
