//! The thread that makes snapshots beside the work: from the committed ledger, never from the live
//! state, which is neither stopped nor copied.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daybook_schema::{Head, Seq, limits};
use daybook_simulator::State;

use crate::committed_events::CommittedEvents;
use crate::database::{self, DatabaseError, LedgerConnection};
use crate::ledger::Ledger;
use crate::recovery::{self, Recovery};
use crate::replay::{ReplayError, unreadable_page};
use crate::scan::scan;
use crate::snapshot;
use crate::status::Status;

/// How long the thread gathers events while they come.
const GATHER: Duration = Duration::from_millis(20);

/// How far the snapshots of a ledger have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotProgress {
    /// The seq of the newest snapshot, 0 if there is none.
    newest_seq: u64,
    /// After so many more events the next is due.
    due_events: u64,
    /// Nothing is looked at before an event beyond this: at first the newest of the start, then the
    /// newest that was seen, and after a failure what makes the next snapshot due.
    seen_seq: u64,
}

impl SnapshotProgress {
    /// At a start.
    pub(crate) fn of(recovery: &Recovery, newest_seq: u64) -> Self {
        let due_events = due_events(&recovery.fold.state);
        Self { newest_seq, due_events, seen_seq: recovery.fold.check.head().seq }
    }
}

/// Makes the snapshots of an engine.
struct SnapshotMaker {
    data_dir: PathBuf,
    status: Arc<Status>,
    events: Arc<CommittedEvents>,
    progress: SnapshotProgress,
    /// Whether the writer shares its events with this thread: not while it is far behind, for then
    /// it reads the file, and the writer would build what nobody takes.
    follows_ring: bool,
}

/// After how many events a snapshot is due: where the state is large they come less often, so that
/// writing them never costs more than reading what they save.
fn due_events(state: &State) -> u64 {
    let entries = (state.users.len() + state.seasons.len()) as u64;
    limits::SNAPSHOT_EVENTS.max(entries.saturating_mul(limits::SNAPSHOT_EVENTS_PER_ENTRY))
}

/// Starts the thread; it ends when the ledger failed, or is closed and its last snapshot made.
pub(crate) fn spawn(
    ledger: &Ledger,
    progress: SnapshotProgress,
) -> std::io::Result<JoinHandle<()>> {
    let mut maker = SnapshotMaker {
        data_dir: ledger.data_dir().to_owned(),
        status: ledger.status(),
        events: ledger.events(),
        progress,
        follows_ring: false,
    };
    std::thread::Builder::new().name("daybook-snapshot".to_owned()).spawn(move || {
        maker.follow();
        maker.follow_ring(false);
    })
}

impl SnapshotMaker {
    /// Follows what is committed, and makes a snapshot whenever one is due, and at the end.
    fn follow(&mut self) {
        let mut build = None;
        loop {
            // Looked at before the head: what was committed before the end is in the last snapshot.
            let is_over = self.status.is_over();
            let newest = self.status.head().seq;
            if self.status.failure().is_some() || is_over && newest == self.progress.newest_seq {
                return;
            }
            if newest <= self.progress.seen_seq && !is_over {
                self.status.wait_beyond(self.progress.seen_seq);
                continue;
            }
            self.progress.seen_seq = newest;
            // A failure is no reason to stop play: the start reads more of the ledger instead.
            if let Err(error) = self.go_to(newest, is_over, &mut build) {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "no snapshot was made; the next tries again");
                (self.progress.newest_seq, build) = (newest, None);
                // It costs a reading of all since the snapshot before: not again until one is due.
                self.progress.seen_seq = newest.saturating_add(self.progress.due_events - 1);
            }
            if is_over {
                return;
            }
            // Events come in many small batches: a few wakes a second are enough for them.
            self.status.wait_until_over(GATHER);
        }
    }

    /// Applies what is committed up to a seq, and makes a snapshot if one is due then.
    fn go_to(
        &mut self,
        newest: u64,
        is_over: bool,
        build: &mut Option<Build>,
    ) -> Result<(), ReplayError> {
        let build = match build {
            Some(build) => build,
            None => build.insert(Build::open(&self.data_dir)?),
        };
        while build.head().seq < newest && self.status.failure().is_none() {
            self.step(newest, build)?;
            if self.is_due(build.head().seq) {
                self.write(build)?;
            }
        }
        if is_over { self.write(build) } else { Ok(()) }
    }

    /// Whether a snapshot is due at a seq. While the thread is behind they come less often, for
    /// each costs a writing of the whole state, and a newer one is about to follow.
    fn is_due(&self, seq: u64) -> bool {
        let due_events = self.progress.due_events;
        let is_behind = self.status.head().seq.saturating_sub(seq) >= due_events;
        let steps = if is_behind { limits::SNAPSHOT_STEPS } else { 1 };
        seq.saturating_sub(self.progress.newest_seq) >= due_events.saturating_mul(steps)
    }

    /// Applies the next events: as the writer shared them, or from the file. Then it rests, for
    /// what it does takes time from the writer's cores.
    fn step(&mut self, newest: u64, build: &mut Build) -> Result<(), ReplayError> {
        let started = Instant::now();
        let head = build.head();
        let is_near =
            self.status.head().seq.saturating_sub(head.seq) <= limits::SNAPSHOT_NEAR_EVENTS;
        match self.events.cut_at(Seq::clamped(head.seq + 1)) {
            Some(cut) if cut.previous() == head => {
                cut.iter().for_each(|stored| build.recovery.apply_committed(stored));
            }
            _ => {
                self.follow_ring(is_near);
                build.apply_until(newest.min(head.seq + limits::ROWS_PER_READ as u64))?;
            }
        }
        let behind = self.status.head().seq.saturating_sub(build.head().seq);
        self.status.wait_until_over(started.elapsed() * rest_parts(behind));
        Ok(())
    }

    fn follow_ring(&mut self, follows: bool) {
        match (self.follows_ring, follows) {
            (false, true) => self.events.add_follower(),
            (true, false) => self.events.remove_follower(),
            _ => return,
        }
        self.follows_ring = follows;
    }

    fn write(&mut self, build: &mut Build) -> Result<(), ReplayError> {
        build.finish_command()?;
        build.write()?;
        let head = build.head();
        tracing::debug!(%head, from = self.progress.newest_seq, "a snapshot was made");
        self.progress.newest_seq = head.seq;
        self.progress.due_events = due_events(&build.recovery.fold.state);
        Ok(())
    }
}

/// How many parts of its time the thread rests for each that it reads the file: the further the
/// ledger has gone ahead, the fewer, so that what a start has left to read stays bounded whatever
/// comes.
const fn rest_parts(behind: u64) -> u32 {
    match behind / limits::SNAPSHOT_BEHIND_EVENTS {
        0 => limits::SNAPSHOT_REST_PARTS,
        1 => 1,
        _ => 0,
    }
}

/// Makes a snapshot of a ledger as it is committed by now, beside a writer or without one. The next
/// start reads only what came after it.
///
/// # Errors
/// [`ReplayError`] when the ledger cannot be read or is damaged, or the snapshot cannot be written.
pub fn make_snapshot(data_dir: &Path) -> Result<Head, ReplayError> {
    let mut build = Build::open(data_dir)?;
    let target = database::newest_head(&build.connection)?;
    while build.head().seq < target.seq {
        build.apply_until(target.seq.min(build.head().seq + limits::ROWS_PER_READ as u64))?;
    }
    build.finish_command()?;
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
        let found = snapshot::newest_confirmed(&connection, data_dir, &genesis)?.snapshot;
        let before = found.as_ref().map(|found| found.fold.check.head().seq);
        let recovery = found.unwrap_or(fresh);
        Ok(Self { data_dir: data_dir.to_owned(), connection, recovery, before })
    }

    const fn head(&self) -> Head {
        self.recovery.fold.check.head()
    }

    /// Applies the rest of a command that was begun: a snapshot stands for whole ones.
    fn finish_command(&mut self) -> Result<(), ReplayError> {
        while self.recovery.fold.check.finish().is_err() {
            self.apply_until(self.head().seq + 1)?;
        }
        Ok(())
    }

    /// Applies the events of one short read.
    fn apply_until(&mut self, until: u64) -> Result<(), ReplayError> {
        let Self { connection, recovery, .. } = self;
        let from = recovery.fold.check.head().seq + 1;
        let broken =
            scan(connection, from.cast_signed(), until.cast_signed(), |seen| {
                match recovery.apply(seen) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(finding) => ControlFlow::Break(finding),
                }
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
        // Somebody else may have made it meanwhile.
        if snapshot::path_of(&self.data_dir, seq).exists() {
            self.before = Some(seq);
            return Ok(());
        }
        snapshot::write(&self.data_dir, &self.recovery, self.before).map_err(|source| {
            DatabaseError::Io { path: snapshot::snapshots_path(&self.data_dir), source }
        })?;
        self.before = Some(seq);
        Ok(())
    }
}
