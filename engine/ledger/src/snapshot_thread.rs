//! The thread that makes snapshots beside the work: from the committed ledger, never from the live
//! state, which is neither stopped nor copied.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use daybook_schema::{Head, limits};

use crate::database::{self, DatabaseError, LedgerConnection};
use crate::handed_rows::{CommittedRows, Handed};
use crate::ledger::Ledger;
use crate::recovery::{self, Recovery};
use crate::replay::{ReplayError, unreadable_page};
use crate::scan::scan;
use crate::snapshot;
use crate::status::Status;

/// How long the thread gathers rows while they come.
const GATHER: Duration = Duration::from_millis(20);

/// What the thread begins with.
pub(crate) struct Beginning {
    /// The ledger as the start recovered it.
    pub(crate) recovery: Recovery,
    /// The seq of the newest snapshot, 0 if there is none.
    pub(crate) newest_snapshot_seq: u64,
}

/// Makes the snapshots of an engine.
struct SnapshotMaker {
    data_dir: PathBuf,
    status: Arc<Status>,
    /// The ledger as far as it was followed; none after a failure, until the next snapshot is due.
    build: Option<Build>,
    /// The seq of the newest snapshot, or of the newest failure.
    newest_seq: u64,
    /// After so many more events the next is due.
    due_events: u64,
}

/// After how many events a snapshot is due: where there is much to write they come less often, so
/// that writing them never costs more than reading what they save.
fn due_events(recovery: &Recovery) -> u64 {
    let state = &recovery.fold.state;
    let entries = (state.users.len() + state.seasons.len()) as u64;
    // An id takes a fifth of what a user and a season do, and is decoded sooner.
    let ids = recovery.ids.applied_count() as u64;
    let events = entries.saturating_mul(limits::SNAPSHOT_EVENTS_PER_ENTRY).saturating_add(ids);
    events.max(limits::SNAPSHOT_EVENTS)
}

/// Starts the thread; it ends when the writer has, and its last snapshot is made.
pub(crate) fn spawn(
    ledger: &Ledger,
    beginning: Beginning,
    handed: Handed,
) -> std::io::Result<JoinHandle<()>> {
    let Beginning { recovery, newest_snapshot_seq } = beginning;
    let mut maker = SnapshotMaker {
        data_dir: ledger.data_dir().to_owned(),
        status: ledger.status(),
        due_events: due_events(&recovery),
        build: Some(Build::of(ledger.data_dir(), recovery, newest_snapshot_seq)),
        newest_seq: newest_snapshot_seq,
    };
    std::thread::Builder::new()
        .name("daybook-snapshot".to_owned())
        .spawn(move || maker.follow(&handed))
}

impl SnapshotMaker {
    /// Follows what is committed, and makes a snapshot whenever one is due, and at the end.
    fn follow(&mut self, handed: &Handed) {
        while let Some(first) = handed.next() {
            let mut next = Some(first);
            while let Some(rows) = next {
                if self.status.failure().is_some() {
                    return;
                }
                // A failure is no reason to stop play: the start reads more of the ledger instead.
                let newest = rows.rows.last().map_or(rows.previous.seq, |row| row.header.seq.get());
                if let Err(error) = self.take(&rows) {
                    self.give_up(&error, newest);
                }
                std::thread::yield_now();
                next = handed.next_by_now();
            }
            // Rows come in many small batches: a few wakes a second are enough for them.
            self.status.wait_until_over(GATHER);
        }
        if self.status.failure().is_some() {
            return;
        }
        let newest = self.status.head().seq;
        if newest != self.newest_seq
            && let Err(error) = self.finish(newest)
        {
            self.give_up(&error, newest);
        }
    }

    /// Says that no snapshot was made. The next is tried when it is due, for it costs a reading of all
    /// since the snapshot before.
    fn give_up(&mut self, error: &ReplayError, newest: u64) {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::warn!(error, "no snapshot was made; the next tries again");
        (self.newest_seq, self.build) = (newest, None);
    }

    /// Applies rows that were handed over, those before them that were not, and makes a snapshot if
    /// one is due then.
    fn take(&mut self, rows: &CommittedRows) -> Result<(), ReplayError> {
        let is_due = |seq: u64| seq.saturating_sub(self.newest_seq) >= self.due_events;
        let Some(build) = &mut self.build else {
            if is_due(rows.previous.seq) {
                self.build = Some(Build::open(&self.data_dir)?);
                return self.take(rows);
            }
            return Ok(());
        };
        build.go_to(rows.previous.seq, &self.status)?;
        for row in rows.views() {
            if row.header.seq.get() > build.head().seq {
                build.recovery.apply_committed(row)?;
            }
        }
        if is_due(build.head().seq) { self.write() } else { Ok(()) }
    }

    /// Goes to the end of what was committed, and makes the last snapshot.
    fn finish(&mut self, newest: u64) -> Result<(), ReplayError> {
        let build = match &mut self.build {
            Some(build) => build,
            None => self.build.insert(Build::open(&self.data_dir)?),
        };
        build.go_to(newest, &self.status)?;
        self.write()
    }

    fn write(&mut self) -> Result<(), ReplayError> {
        let Some(build) = &mut self.build else { return Ok(()) };
        build.finish_command()?;
        build.write()?;
        let head = build.head();
        tracing::debug!(%head, from = self.newest_seq, "a snapshot was made");
        self.newest_seq = head.seq;
        self.due_events = due_events(&build.recovery);
        Ok(())
    }
}

/// Makes a snapshot of a ledger as it is committed by now, beside a writer or without one. The next
/// start reads only what came after it.
///
/// # Errors
/// [`ReplayError`] when the ledger cannot be read or is damaged, or the snapshot cannot be written.
pub fn make_snapshot(data_dir: &Path) -> Result<Head, ReplayError> {
    let mut build = Build::open(data_dir)?;
    let newest = database::newest_head(build.connection()?)?;
    while build.head().seq < newest.seq {
        build.apply_next(newest.seq)?;
    }
    build.finish_command()?;
    build.write()?;
    Ok(build.head())
}

/// A snapshot that is being made.
struct Build {
    data_dir: PathBuf,
    /// Opened when rows are to be read.
    connection: Option<LedgerConnection>,
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
        Ok(Self { data_dir: data_dir.to_owned(), connection: Some(connection), recovery, before })
    }

    /// Goes on from what a start recovered.
    fn of(data_dir: &Path, recovery: Recovery, newest_snapshot_seq: u64) -> Self {
        let before = Some(newest_snapshot_seq).filter(|seq| *seq > 0);
        Self { data_dir: data_dir.to_owned(), connection: None, recovery, before }
    }

    fn connection(&mut self) -> Result<&LedgerConnection, DatabaseError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => database::open_reader(&database::ledger_path(&self.data_dir))?,
        };
        Ok(self.connection.insert(connection))
    }

    const fn head(&self) -> Head {
        self.recovery.fold.check.head()
    }

    /// Applies the rest of a command that was begun: a snapshot stands for whole ones.
    fn finish_command(&mut self) -> Result<(), ReplayError> {
        while self.recovery.fold.check.finish().is_err() {
            self.apply_next(self.head().seq + 1)?;
        }
        Ok(())
    }

    /// Reads and applies what lies before a seq, unless the ledger fails meanwhile.
    fn go_to(&mut self, seq: u64, status: &Status) -> Result<(), ReplayError> {
        while self.head().seq < seq && status.failure().is_none() {
            self.apply_next(seq)?;
        }
        Ok(())
    }

    /// Applies the events of one short read, up to a seq at most.
    fn apply_next(&mut self, until: u64) -> Result<(), ReplayError> {
        let head = self.head();
        let until = until.min(head.seq + limits::ROWS_PER_READ as u64);
        self.connection()?;
        let Self { connection: Some(connection), recovery, .. } = self else { return Ok(()) };
        let from = head.seq + 1;
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

#[cfg(test)]
mod tests {
    use daybook_schema::{Command, KeyId, UserId};
    use daybook_simulator::{Keyring, SeasonKey};

    use super::*;
    use crate::event_row::NewRow;
    use crate::handed_rows;
    use crate::options::{NewLedger, Options};
    use crate::replay::replay;
    use crate::submission::Submission;

    const KEY: [u8; 32] = [7; 32];

    /// The rows from a seq on, as the writer hands them over.
    fn committed_from(data_dir: &Path, first: u64) -> CommittedRows {
        let connection = database::open_reader(&database::ledger_path(data_dir)).unwrap();
        let hash = database::hash_at(&connection, first - 1).unwrap().unwrap();
        let previous = Head { seq: first - 1, hash };
        let mut committed = CommittedRows { previous, rows: Vec::new(), payloads: Vec::new() };
        let broken = scan(&connection, first.cast_signed(), i64::MAX, |seen| {
            let row = seen.unwrap();
            let start = committed.payloads.len();
            committed.payloads.extend_from_slice(row.payload);
            let payload = start..committed.payloads.len();
            committed.rows.push(NewRow { header: row.header, payload, hash: row.hash });
            ControlFlow::<()>::Continue(())
        });
        assert!(matches!(broken, Ok(None)));
        committed
    }

    /// Guards: what was not handed over is read from the file, and what was seen is not applied twice.
    #[test]
    fn rows_that_were_left_out_are_read_and_none_is_applied_twice() {
        let directory = tempfile::tempdir().unwrap();
        let key_id: KeyId = SeasonKey::new(KEY).key_id();
        let options = Options::new(directory.path(), Keyring::new([SeasonKey::new(KEY)]));
        let ledger = Ledger::open(options.create(NewLedger::random())).unwrap();
        let rotate = Command::RotateKey { key_id, compromised: false };
        ledger.submit(Submission::new(rotate)).unwrap().wait().unwrap();
        for number in 1..=20 {
            let user_id = UserId::from_bytes([number; 16]);
            ledger
                .submit(Submission::new(Command::RegisterUser { user_id }))
                .unwrap()
                .wait()
                .unwrap();
        }
        ledger.close().wait().unwrap();
        let connection = database::open_reader(&database::ledger_path(directory.path())).unwrap();
        let recovery = Recovery::from_genesis(&connection).unwrap();
        let mut maker = SnapshotMaker {
            data_dir: directory.path().to_owned(),
            status: ledger.status(),
            build: Some(Build::of(directory.path(), recovery, 0)),
            newest_seq: 0,
            due_events: u64::MAX,
        };
        for first in [2, 30, 12, 40] {
            let committed = committed_from(directory.path(), first);
            maker.take(&committed).unwrap();
            let build = maker.build.as_ref().unwrap();
            let replayed = replay(directory.path(), None, |_, _| {}).unwrap();
            assert_eq!(build.head(), replayed.head);
            assert_eq!(build.recovery.fold.state.hash(), replayed.state_hash(), "from {first}");
        }
    }

    /// Guards: rows that nobody takes do not fill memory.
    #[test]
    fn no_more_rows_wait_than_may() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new(directory.path(), Keyring::new([SeasonKey::new(KEY)]));
        let ledger = Ledger::open(options.create(NewLedger::random())).unwrap();
        let rotate =
            Command::RotateKey { key_id: SeasonKey::new(KEY).key_id(), compromised: false };
        ledger.submit(Submission::new(rotate)).unwrap().wait().unwrap();
        ledger.close().wait().unwrap();
        let one = committed_from(directory.path(), 1);
        let many = |count: usize| CommittedRows {
            previous: one.previous,
            rows: std::iter::repeat_n(&one.rows[0], count).cloned().collect(),
            payloads: one.payloads.clone(),
        };
        let (hand_over, handed) = handed_rows::channel();
        hand_over.hand(many(limits::ROWS_HANDED_MAX - 1));
        hand_over.hand(many(2));
        hand_over.hand(many(1));
        drop(hand_over);
        let taken: Vec<usize> =
            std::iter::from_fn(|| handed.next()).map(|it| it.rows.len()).collect();
        assert_eq!(taken, [limits::ROWS_HANDED_MAX - 1, 1]);
    }
}
