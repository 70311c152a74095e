//! Opening a ledger for writing: its lock, its file, what is known of it, and its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use daybook_schema::events::LostHeads;
use daybook_schema::{Command, EpochNonce, Game, Genesis, Head, LedgerFormat, UnixMicros, limits};
use rusqlite::Connection;

use crate::check::{Finding, Verdict};
use crate::clock::{SystemTimeSource, TimeSource};
use crate::committed_events::CommittedEvents;
use crate::database::{self, DatabaseError};
use crate::evidence::{self, LostLedger};
use crate::files::create_directories;
use crate::held_file::HeldFile;
use crate::keeper::Keeper;
use crate::keys::KeysError;
use crate::ledger::{Ledger, Started};
use crate::lock::{LockError, WriterLock};
use crate::losses::{self, KnownHead, Standing};
use crate::newest_head::{self, NewestHead};
use crate::options::{Options, Time};
use crate::reader::ReadError;
use crate::recovery::{self, Recovery};
use crate::replay::ReplayError;
use crate::snapshot;
use crate::snapshot_thread::{self, SnapshotMaker};
use crate::state_thread::{self, Decider, Grounds, StateThread};
use crate::status::{Failure, Status, Stopped};
use crate::submission::{Submission, SubmitError};
use crate::writer_thread::{self, HeldConnection, HeldLedger};

/// A ledger could not be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not there, or is not a ledger of this format.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Another process writes it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It is damaged: nothing is written to it. Reading what is sound stays possible.
    #[error("ledger is damaged, nothing is written to it: {0}")]
    Damaged(Finding),
    /// The data directory cannot be made.
    #[error("directory `{}` cannot be made", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite could not do it.
    #[error("ledger cannot be recovered")]
    Sqlite(#[from] rusqlite::Error),
    /// The file system could not do it.
    #[error("ledger cannot be recovered")]
    Io(#[from] std::io::Error),
    /// There is no ledger, and something tells that there was one: none is made in its place.
    #[error(
        "there is no ledger at `{}`, but {} of it; nothing was made: put it back, or name it as the one that \
         a new ledger takes the place of",
        path.display(),
        evidence::listed(lost)
    )]
    Lost {
        /// Where it should be.
        path: PathBuf,
        /// What tells of it; at least one.
        lost: Vec<LostLedger>,
    },
    /// The wall clock is far ahead of the newest event. What is recorded at a wrong time stays so for ever, and
    /// later clients with right clocks would be refused: only a backup helps then.
    #[error(
        "the wall clock says {} s, {} days after the newest event; nothing was written: set the clock right, \
         or say that it is",
        wall.get() / 1_000_000,
        wall.micros_since(*newest) / DAY_MICROS
    )]
    ClockAhead {
        /// What the clock says.
        wall: UnixMicros,
        /// When the newest event was recorded.
        newest: UnixMicros,
    },
    /// Events are known of that the ledger does not have: it is an older copy, or was altered.
    #[error(
        "the ledger ends at {newest} and does not have the head {missing}; nothing was written: put the \
         newer ledger back, or accept the loss, which ends every season in play"
    )]
    Behind {
        /// The ledger's newest event.
        newest: Head,
        /// What it lacks.
        missing: Box<KnownHead>,
    },
    /// The newest head in the keys directory is of no use.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The ledger opened, but could not be brought into its new epoch.
    #[error("the loss was not accepted to its end")]
    Restore(#[from] SubmitError),
    /// Submissions may bring the time of a demo's ledger alone.
    #[error("the ledger is not a demo's: its time comes from the clock")]
    NotADemo,
}

const DAY_MICROS: i64 = 86_400 * 1_000_000;

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(finding) => Self::Damaged(finding),
            ReadError::Sqlite(error) => Self::Sqlite(error),
            ReadError::BrokeOff { .. } | ReadError::UnknownHead { .. } => {
                Self::Io(std::io::Error::other(error.to_string()))
            }
        }
    }
}

impl From<ReplayError> for OpenError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Open(error) => Self::Database(error),
            ReplayError::Damaged(finding) => Self::Damaged(finding),
            ReplayError::Sqlite(error) => Self::Sqlite(error),
        }
    }
}

impl Ledger {
    /// Opens a ledger for writing: takes its lock, holds it to every head that is known of it, syncs what
    /// is on disk, and rebuilds the state from the newest snapshot and the events after it, every link
    /// checked.
    ///
    /// # Errors
    /// [`OpenError`]; then nothing was changed but, at most, a write-ahead log folded in.
    pub fn open(mut options: Options) -> Result<Self, OpenError> {
        let file = LedgerFile::open(&mut options)?;
        let Recovered { recovery, newest_snapshot_seq: newest_seq, missing, outlived_snapshots } =
            file.recover(&mut options)?;
        let Options { data_dir, keys, rulesets, newest_head, time, .. } = options;
        let LedgerFile { held, path, genesis, lock } = file;

        let identity = recovery.fold.state.identity();
        let due_events = snapshot_thread::due_events(&recovery.fold.state);
        let seen_seq = recovery.fold.check.head().seq;
        let has_older_epochs_left = recovery.fold.state.has_older_epochs_left();
        let status = Arc::new(Status::new(recovery.fold.check.head(), identity));
        let events = CommittedEvents::new(&data_dir, genesis.ledger_id, Arc::clone(&status));
        let events = Arc::new(events);
        let waiting = Arc::new(AtomicUsize::new(0));
        let decider = Decider::new(recovery, data_dir.clone(), Grounds { keys, rulesets, time });
        let thread =
            StateThread { decider, status: Arc::clone(&status), waiting: Arc::clone(&waiting) };
        let (requests, incoming) = sync_channel(limits::COMMANDS_WAITING_MAX);
        let (batches, to_commit) = sync_channel(limits::BATCHES_WAITING_MAX);
        let held = HeldLedger { held, path };
        let writer =
            writer_thread::spawn(held, Arc::clone(&status), Arc::clone(&events), to_commit)?;
        let state = state_thread::spawn(thread, incoming, batches)?;
        let maker = SnapshotMaker {
            data_dir: data_dir.clone(),
            status: Arc::clone(&status),
            events: Arc::clone(&events),
            newest_seq,
            due_events,
            seen_seq,
            follows_ring: false,
        };
        let dispatcher = events.start_dispatcher()?;
        let deciding = vec![state, writer];
        let started = Started { data_dir, status, requests, waiting, events, deciding, lock };
        let ledger = Self::start(started);
        ledger.run_beside(dispatcher);
        if !missing.is_empty() || has_older_epochs_left {
            ledger.restore(&missing, (&genesis, newest_head.as_ref()))?;
        }
        outlived_snapshots.iter().try_for_each(std::fs::remove_file)?;
        // Both begin after the loss was accepted: until then what they would replace tells of it.
        ledger.run_beside(snapshot_thread::spawn(maker)?);
        if let Some(newest_head) = newest_head {
            ledger.run_beside(newest_head::spawn(newest_head, ledger.status())?);
        }
        Ok(ledger)
    }

    /// Accepts that events are lost, if any are, and brings what an older epoch left into this one: also
    /// after an interruption.
    fn restore(
        &self,
        missing: &[KnownHead],
        witnesses: (&Genesis, Option<&NewestHead>),
    ) -> Result<(), OpenError> {
        let restore = || {
            if !missing.is_empty() {
                self.begin_epoch(missing, witnesses)?;
            }
            self.finish_restore()
        };
        // In a thread of its own, because it waits for answers, which async code that opens a ledger must not.
        std::thread::scope(|scope| {
            scope.spawn(restore).join().unwrap_or_else(|_| {
                Err(SubmitError::Unavailable(Stopped::Failed(Failure::ThreadStopped)).into())
            })
        })
    }

    /// Accepts that events are lost: what tells of them goes, once a new epoch is on disk.
    fn begin_epoch(
        &self,
        missing: &[KnownHead],
        (genesis, newest_head): (&Genesis, Option<&NewestHead>),
    ) -> Result<(), OpenError> {
        for known in missing {
            tracing::warn!(%known, "the loss of this event is accepted");
        }
        let mut heads: Vec<Head> = missing.iter().map(|known| known.head).collect();
        heads.sort_unstable_by_key(|head| (head.seq, *head.hash.as_bytes()));
        heads.dedup();
        for named in heads.chunks(limits::LOST_HEADS_MAX) {
            let mut nonce = [0; 16];
            getrandom::fill(&mut nonce).map_err(|error| SubmitError::Undecided {
                reason: format!("the system gave no random bytes: {error}"),
            })?;
            let nonce = EpochNonce::new(nonce);
            let lost_heads = LostHeads::take_from(named.iter().copied());
            let accept = Command::AcceptLoss { nonce, lost_heads };
            let accepted = self.submit(Submission::new(accept))?.wait()?;
            tracing::warn!(head = %accepted.head, "a new epoch begins");
        }
        // Killed from here on, the next start goes on without being told again.
        if let Some(newest_head) = newest_head {
            let (identity, head) = self.status().identified_head();
            newest_head.write(identity, head)?;
        }
        Ok(snapshot::remove_unconfirmed(self.data_dir(), genesis)?)
    }

    /// Withdraws the seasons and commitments of older epochs.
    fn finish_restore(&self) -> Result<(), OpenError> {
        let withdrawn = Keeper::new(self).withdraw_outdated()?;
        tracing::warn!(
            seasons_expired = withdrawn.seasons_expired,
            commitments_renewed = withdrawn.commitments_renewed,
            "seasons and commitments of an older epoch were withdrawn"
        );
        Ok(())
    }
}

/// A ledger's file, locked and opened for writing.
struct LedgerFile {
    held: HeldConnection,
    path: PathBuf,
    genesis: Genesis,
    lock: WriterLock,
}

/// A ledger as it is found.
struct Recovered {
    recovery: Recovery,
    /// The seq of the newest snapshot that the ledger confirms, 0 if there is none.
    newest_snapshot_seq: u64,
    /// Heads that are known of and that the ledger does not have: their loss is accepted.
    missing: Vec<KnownHead>,
    /// Snapshots of events whose loss was accepted before; that start was interrupted.
    outlived_snapshots: Vec<PathBuf>,
}

impl LedgerFile {
    fn open(options: &mut Options) -> Result<Self, OpenError> {
        let path = database::ledger_path(&options.data_dir);
        let lock = prepare_file(options, &path)?;
        // Where it really lies: SQLite keeps the log there.
        let path = path.canonicalize()?;
        database::check_file(&path)?;
        let file = HeldFile::take(&path)?;
        let held = HeldConnection { connection: database::open_writer(&path)?, file };
        let genesis = stored_genesis(&path, &held.connection)?;
        if matches!(options.time, Time::FromSubmissions) && !genesis.is_demo {
            return Err(OpenError::NotADemo);
        }
        check_clock(&held.connection, (&genesis, &mut options.time), options.accept_clock)?;
        Ok(Self { held, path, genesis, lock })
    }

    /// Holds the ledger to every head that is known of it, syncs it, and rebuilds its state.
    fn recover(&self, options: &mut Options) -> Result<Recovered, OpenError> {
        let Self { held: HeldConnection { connection, file }, genesis, .. } = self;
        let found = recovery::newest_snapshot(connection, (&options.data_dir, genesis))?;
        let mut known = std::mem::take(&mut options.known_heads);
        if let Some(newest_head) = &options.newest_head {
            known.extend(newest_head.read(genesis.ledger_id)?);
        }
        let mut outlived_snapshots = Vec::new();
        let mut missing = Vec::new();
        for lacking in found.lacking {
            match losses::standing(connection, lacking.head, lacking.epoch)? {
                Standing::Accepted { .. } => outlived_snapshots.push(PathBuf::from(lacking.source)),
                _ => missing.push(lacking),
            }
        }
        for known in known {
            let standing = losses::standing(connection, known.head, known.epoch)?;
            if matches!(standing, Standing::Lost { .. }) {
                missing.push(known);
            }
        }
        if let Some(newest_missing) = missing.iter().max_by_key(|known| known.head.seq)
            && !options.accept_loss
        {
            let newest = database::newest_head(connection)?;
            return Err(OpenError::Behind { newest, missing: Box::new(newest_missing.clone()) });
        }

        // Nothing is trusted that only the page cache held.
        sync_log(&self.path)?;
        writer_thread::checkpoint_whole(connection)?;
        file.sync()?;
        let newest_snapshot_seq =
            found.snapshot.as_ref().map_or(0, |found| found.fold.check.head().seq);
        let mut recovery = match found.snapshot {
            Some(recovery) => recovery,
            None => Recovery::from_genesis(connection)?,
        };
        recovery.go_to_end(connection)?;
        if newest_snapshot_seq == 0 {
            recovery.ids.forget_before_start(recovery.fold.check.newest_recorded_at());
        }
        check_appendable(connection, recovery.fold.check.head())?;
        connection.busy_timeout(Duration::from_millis(limits::WRITER_BUSY_TIMEOUT_MS))?;
        Ok(Recovered { recovery, newest_snapshot_seq, missing, outlived_snapshots })
    }
}

/// Makes the directory and, where it is asked for, the ledger; gives the writer's lock.
fn prepare_file(options: &mut Options, path: &Path) -> Result<WriterLock, OpenError> {
    let data_dir = &options.data_dir;
    match (options.create.is_some(), path.exists()) {
        (false, false) => return Err(DatabaseError::Missing { path: path.to_owned() }.into()),
        (true, false) => {
            let lost = evidence::of_lost_ledgers(options)?;
            if !lost.is_empty() {
                return Err(OpenError::Lost { path: path.to_owned(), lost });
            }
            create_directories(data_dir)
                .map_err(|source| OpenError::Directory { path: data_dir.clone(), source })?;
        }
        (_, true) => {}
    }
    let lock = options.lock.take().map_or_else(|| WriterLock::take(data_dir), Ok)?;
    if let (Some(new), false) = (options.create, path.exists()) {
        let created_at = new.created_at.unwrap_or_else(|| SystemTimeSource::default().wall());
        let genesis = Genesis {
            ledger_id: new.ledger_id,
            format: LedgerFormat::NEWEST,
            created_at,
            is_demo: new.is_demo,
            game: Game::FarmingSeason,
        };
        database::create(path, &genesis)?;
    }
    Ok(lock)
}

/// What an interrupted process left in the log is synced before anybody is told of it: a reader may keep the
/// checkpoint from doing so. (SQLite has no locks on the log that closing this descriptor could give back.)
fn sync_log(path: &Path) -> std::io::Result<()> {
    match std::fs::File::open(database::log_path(path)) {
        Ok(log) => log.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses a wall clock that is far ahead of the newest event, unless somebody says that it is right.
fn check_clock(
    connection: &Connection,
    (genesis, time): (&Genesis, &mut Time),
    accept_clock: Option<UnixMicros>,
) -> Result<(), OpenError> {
    let wall = match time {
        Time::FromSubmissions => return Ok(()),
        Time::System => SystemTimeSource::default().wall(),
        Time::Source(source) => source.wall(),
    };
    let Some(newest) = database::newest_recorded_at(connection)? else { return Ok(()) };
    let is_ahead = wall.micros_since(newest) > limits::CLOCK_AHEAD_MICROS_MAX;
    let is_accepted = accept_clock.is_some_and(|about| {
        wall.micros_since(about).saturating_abs() <= limits::CLOCK_ACCEPTED_MICROS
    });
    match is_ahead && !is_accepted && !genesis.is_demo {
        true => Err(OpenError::ClockAhead { wall, newest }),
        false => Ok(()),
    }
}

/// The genesis, held to its own hash.
fn stored_genesis(path: &Path, connection: &Connection) -> Result<Genesis, OpenError> {
    let stored = database::read_genesis(connection)
        .map_err(|source| DatabaseError::Sqlite { path: path.to_owned(), source })?;
    let (_, stored) = crate::check::ChainCheck::start(stored).map_err(OpenError::Damaged)?;
    Ok(stored.genesis)
}

/// What a writer relies on beyond what it has read: that tables and triggers are the format's own, and
/// that an event after the newest goes after the newest.
fn check_appendable(connection: &rusqlite::Connection, head: Head) -> Result<(), OpenError> {
    if let Some(detail) = database::guard_difference(connection)? {
        let finding = Finding { verdict: Verdict::GuardsMissing, first_bad_seq: None, detail };
        return Err(OpenError::Damaged(finding));
    }
    // In a damaged tree a search from beyond the end comes out among earlier rows.
    let beyond: i64 = connection.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM events WHERE seq > ?1 LIMIT 1)",
        [head.seq.cast_signed()],
        |row| row.get(0),
    )?;
    if beyond == 0 {
        return Ok(());
    }
    let detail =
        "a search for the next event comes out among earlier ones: the file's tree is damaged";
    let finding = Finding::at(Verdict::Unreadable, head.seq.cast_signed() + 1, detail);
    Err(OpenError::Damaged(finding))
}
