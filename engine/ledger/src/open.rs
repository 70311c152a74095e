//! Opening a ledger for writing: its lock, its file, what is known of it, and its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use daybook_schema::chain::FORMAT_VERSION;
use daybook_schema::{Command, EpochNonce, Genesis, Head, LedgerId, UnixMicros, limits};
use daybook_simulator::{Rulesets, SeasonKeys};
use rusqlite::Connection;

use crate::check::{Finding, Verdict};
use crate::clock::{SystemTimeSource, TimeSource};
use crate::database::{self, DatabaseError};
use crate::evidence::{self, LostLedger};
use crate::files::create_directories;
use crate::keys::KeysError;
use crate::ledger::{Ledger, Submission, SubmitError};
use crate::lock::{self, LockError, WriterLock};
use crate::newest_head::{self, NewestHead};
use crate::recovery::{self, KnownHead, Recovery};
use crate::replay::ReplayError;

use crate::shared::Shared;
use crate::snapshot_thread::{self, SnapshotMaker};
use crate::state_thread::{self, Decider, Grounds};
use crate::{snapshot, writer_thread};

/// Where the engine's time comes from.
pub enum Time {
    /// The system's clocks.
    System,
    /// Clocks of the caller's, for tests.
    Source(Box<dyn TimeSource>),
    /// Each submission's own time ([`Submission::at`]): for a demo's ledger alone.
    FromSubmissions,
}

/// What a new ledger begins with.
#[derive(Clone, Copy, Debug)]
pub struct NewLedger {
    /// Its id.
    pub ledger_id: LedgerId,
    /// When it is created; now, if none is given.
    pub created_at: Option<UnixMicros>,
    /// Whether it is a demo's.
    pub is_demo: bool,
}

impl NewLedger {
    /// A ledger with a random id, created now.
    #[must_use]
    pub fn random() -> Self {
        Self { ledger_id: LedgerId::random(), created_at: None, is_demo: false }
    }
}

/// How a ledger is opened.
pub struct Options {
    data_dir: PathBuf,
    keys: Box<dyn SeasonKeys + Send>,
    rulesets: Rulesets,
    newest_head: Option<NewestHead>,
    known_heads: Vec<KnownHead>,
    known_ledgers: Vec<KnownLedger>,
    instead_of: Vec<LedgerId>,
    accept_loss: bool,
    accept_clock: Option<UnixMicros>,
    create: Option<NewLedger>,
    time: Time,
    lock: Option<WriterLock>,
}

/// A ledger that somebody knows of, and who: a file, or an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLedger {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// What knows it.
    pub source: String,
}

impl Options {
    /// The ledger of a data directory, with its season keys.
    #[must_use]
    pub fn new(data_dir: &Path, keys: impl SeasonKeys + Send + 'static) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            keys: Box::new(keys),
            rulesets: Rulesets::default(),
            newest_head: None,
            known_heads: Vec::new(),
            known_ledgers: Vec::new(),
            instead_of: Vec::new(),
            accept_loss: false,
            accept_clock: None,
            create: None,
            time: Time::System,
            lock: None,
        }
    }

    /// Keeps the newest head, signed, in the keys directory, and holds the ledger to the one that is there.
    #[must_use]
    pub fn newest_head(self, newest_head: NewestHead) -> Self {
        Self { newest_head: Some(newest_head), ..self }
    }

    /// Holds the ledger to heads that were noted elsewhere: by people, or as the positions of read models.
    #[must_use]
    pub fn known_heads<K: Into<KnownHead>>(self, heads: impl IntoIterator<Item = K>) -> Self {
        let Self { mut known_heads, .. } = self;
        known_heads.extend(heads.into_iter().map(Into::into));
        Self { known_heads, ..self }
    }

    /// Ledgers that are known of elsewhere, as by the positions of read models: where the ledger is gone no
    /// other is made in its place.
    #[must_use]
    pub fn known_ledgers(self, ledgers: impl IntoIterator<Item = KnownLedger>) -> Self {
        let Self { mut known_ledgers, .. } = self;
        known_ledgers.extend(ledgers);
        Self { known_ledgers, ..self }
    }

    /// Makes a new ledger although this one, which is known of, is gone.
    #[must_use]
    pub fn instead_of(self, ledger_id: LedgerId) -> Self {
        let Self { mut instead_of, .. } = self;
        instead_of.push(ledger_id);
        Self { instead_of, ..self }
    }

    /// The sets of rules, where they are others than RULEBOOK.md's.
    #[must_use]
    pub fn rulesets(self, rulesets: Rulesets) -> Self {
        Self { rulesets, ..self }
    }

    /// Goes on although the wall clock is far ahead of the newest event: it is right, and this is about the
    /// time, give or take a day.
    #[must_use]
    pub fn accept_clock(self, about: UnixMicros) -> Self {
        Self { accept_clock: Some(about), ..self }
    }

    /// Goes on with a ledger that lacks events that are known of. Since players may know the keys of the
    /// lost days, a new epoch begins: seasons in play are expired and commitments renewed.
    #[must_use]
    pub fn accept_loss(self, accept_loss: bool) -> Self {
        Self { accept_loss, ..self }
    }

    /// Creates the ledger where there is none. It may be said at every start: where anything tells of a ledger
    /// that is gone, none is made in its place ([`OpenError::Lost`]).
    #[must_use]
    pub fn create(self, new: NewLedger) -> Self {
        Self { create: Some(new), ..self }
    }

    /// Goes on with the writer's lock of the data directory, taken before.
    #[must_use]
    pub fn lock(self, lock: WriterLock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Takes the time from elsewhere than the system's clocks.
    #[must_use]
    pub fn time(self, time: Time) -> Self {
        Self { time, ..self }
    }
}

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
        missing: KnownHead,
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
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let path = database::ledger_path(&options.data_dir);
        let permitted = evidence::Permitted {
            newest_head: options.newest_head.as_ref(),
            known_heads: &options.known_heads,
            known_ledgers: &options.known_ledgers,
            instead_of: &options.instead_of,
        };
        let lock =
            prepare_file((&options.data_dir, &path), &permitted, (options.create, options.lock))?;
        let Options { data_dir, keys, rulesets, newest_head, known_heads, accept_loss, .. } =
            options;
        let (time, accept_clock) = (options.time, options.accept_clock);
        // Where it really lies: SQLite keeps the log there.
        let path = path.canonicalize()?;
        // Closed after the connection in every case: it is declared before it.
        let held_file = lock::hold_file(&path)?;
        let connection = database::open_writer(&path)?;
        let genesis = stored_genesis(&path, &connection)?;
        if matches!(time, Time::FromSubmissions) && !genesis.is_demo {
            return Err(OpenError::NotADemo);
        }
        let mut time = time;
        check_clock(&connection, (&genesis, &mut time), accept_clock)?;
        let found = recovery::newest_snapshot(&connection, (&data_dir, &genesis))?;
        let mut known = known_heads;
        if let Some(newest_head) = &newest_head
            && let Some(head) = newest_head.read(genesis.ledger_id)?
        {
            let source = newest_head.path(genesis.ledger_id).display().to_string();
            known.push(KnownHead { head, source });
        }
        let mut missing = found.missing;
        for known in known {
            if !database::has_head(&connection, known.head)? {
                missing.push(known);
            }
        }
        if let Some(newest_missing) = missing.iter().max_by_key(|known| known.head.seq)
            && !accept_loss
        {
            let newest = database::newest_head(&connection)?;
            return Err(OpenError::Behind { newest, missing: newest_missing.clone() });
        }

        // Nothing is trusted that only the page cache held.
        sync_log(&path)?;
        writer_thread::checkpoint_whole(&connection)?;
        held_file.sync_all()?;
        connection.busy_timeout(Duration::from_millis(limits::WRITER_BUSY_TIMEOUT_MS))?;
        let newest_seq = found.snapshot.as_ref().map_or(0, |found| found.fold.check.head().seq);
        let mut recovery = match found.snapshot {
            Some(recovery) => recovery,
            None => Recovery::from_genesis(&connection)?,
        };
        recovery.go_to_end(&connection)?;
        if newest_seq == 0 {
            recovery.ids.forget_before_start(recovery.fold.check.newest_recorded_at());
        }
        check_appendable(&connection, recovery.fold.check.head())?;

        let identity = recovery.fold.state.identity();
        let has_older_epochs_left = recovery.fold.state.has_older_epochs_left();
        let shared = Arc::new(Shared::new(recovery.fold.check.head(), identity));
        let maker =
            SnapshotMaker { data_dir: data_dir.clone(), shared: Arc::clone(&shared), newest_seq };
        let grounds = Grounds { keys, rulesets, time };
        let decider = Decider::new(recovery, (data_dir.clone(), Arc::clone(&shared)), grounds);
        let (requests, incoming) = sync_channel(limits::COMMANDS_WAITING_MAX);
        let (batches, to_commit) = sync_channel(limits::BATCHES_WAITING_MAX);
        let writer =
            writer_thread::spawn((connection, held_file), (path, Arc::clone(&shared)), to_commit)?;
        let state = state_thread::spawn((decider, Arc::clone(&shared)), incoming, batches)?;
        let mut ledger = Self::start((data_dir, lock), shared, (requests, vec![state, writer]));
        if !missing.is_empty() || has_older_epochs_left {
            ledger.restore(&missing, (&genesis, newest_head.as_ref()))?;
        }
        // Both begin after the loss was accepted: until then what they would replace tells of it.
        ledger.run_beside(snapshot_thread::spawn(maker)?);
        if let Some(newest_head) = newest_head {
            let shared = ledger.shared();
            ledger.run_beside(newest_head::spawn(newest_head, shared)?);
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
                let reason = "the restore stopped on a broken invariant".to_owned();
                Err(SubmitError::Unavailable { reason }.into())
            })
        })
    }

    /// Accepts that events are lost: what tells of them goes, once a new epoch is on disk.
    fn begin_epoch(
        &self,
        missing: &[KnownHead],
        (genesis, newest_head): (&Genesis, Option<&NewestHead>),
    ) -> Result<(), OpenError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| SubmitError::Unavailable {
            reason: format!("the system gave no random bytes: {error}"),
        })?;
        for known in missing {
            tracing::warn!(%known, "the loss of this event is accepted");
        }
        let restore = Command::RestoreLedger { nonce: EpochNonce::new(nonce) };
        let accepted = self.submit(Submission::new(restore))?.wait()?;
        tracing::warn!(head = %accepted.head, "a new epoch begins");
        // Killed from here on, the next start goes on without being told again.
        if let Some(newest_head) = newest_head {
            let (identity, head) = self.shared().identified_head();
            newest_head.write(identity, head)?;
        }
        Ok(snapshot::remove_unconfirmed(self.data_dir(), genesis)?)
    }

    /// Withdraws the seasons and commitments of older epochs.
    fn finish_restore(&self) -> Result<(), OpenError> {
        let withdrawn = self.withdraw_outdated()?;
        tracing::warn!(
            seasons_expired = withdrawn.seasons_expired,
            commitments_renewed = withdrawn.commitments_renewed,
            "seasons and commitments of an older epoch were withdrawn"
        );
        Ok(())
    }
}

/// Makes the directory and, where it is asked for, the ledger; gives the writer's lock.
fn prepare_file(
    (data_dir, path): (&Path, &Path),
    permitted: &evidence::Permitted<'_>,
    (create, lock): (Option<NewLedger>, Option<WriterLock>),
) -> Result<WriterLock, OpenError> {
    match (create.is_some(), path.exists()) {
        (false, false) => return Err(DatabaseError::Missing { path: path.to_owned() }.into()),
        (true, false) => {
            let lost = evidence::of_lost_ledgers(data_dir, permitted)?;
            if !lost.is_empty() {
                return Err(OpenError::Lost { path: path.to_owned(), lost });
            }
            create_directories(data_dir)
                .map_err(|source| OpenError::Directory { path: data_dir.to_owned(), source })?;
        }
        (_, true) => {}
    }
    let lock = lock.map_or_else(|| WriterLock::take(data_dir), Ok)?;
    if let (Some(new), false) = (create, path.exists()) {
        let created_at = new.created_at.unwrap_or_else(|| SystemTimeSource::default().wall());
        let genesis = Genesis {
            ledger_id: new.ledger_id,
            format_version: FORMAT_VERSION,
            created_at,
            is_demo: new.is_demo,
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
