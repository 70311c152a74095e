//! The engine's front: open, submit, query, subscribe, close.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::task::Poll;
use std::thread::JoinHandle;

use daybook_schema::chain::FORMAT_VERSION;
use daybook_schema::{
    Command, CommandHash, CommandId, Event, Genesis, LedgerId, Seq, StreamKind, UnixMicros, UserId,
    limits,
};
use daybook_simulator::{NewEvent, Rejections, SeasonKeys, State};
use tokio::sync::oneshot;

use crate::check::{Finding, Verdict};
use crate::clock::{SystemTimeSource, TimeSource};
use crate::command_ids::{CommandIds, Outcome};
use crate::database::{self, DatabaseError};
use crate::lock::{LockError, WriterLock};
use crate::reader::Reader;
use crate::replay::{Fold, ReplayError, fold_rows};
use crate::row::{Head, StoredEvent};
use crate::shared::Shared;
use crate::state_thread::{self, Decider, Request};
use crate::subscription::Subscription;
use crate::writer_thread;

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
    create: Option<NewLedger>,
    time: Time,
    lock: Option<WriterLock>,
}

impl Options {
    /// The ledger of a data directory, with its season keys.
    #[must_use]
    pub fn new(data_dir: &Path, keys: impl SeasonKeys + Send + 'static) -> Self {
        let keys = Box::new(keys);
        Self { data_dir: data_dir.to_owned(), keys, create: None, time: Time::System, lock: None }
    }

    /// Creates the ledger where there is none.
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
    #[error("ledger is damaged, nothing is written to it: {0}; `daybook verify` tells more")]
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
    /// Submissions may bring the time of a demo's ledger alone.
    #[error("the ledger is not a demo's: its time comes from the clock")]
    NotADemo,
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

/// A command on its way to the engine.
#[derive(Clone, Debug)]
pub struct Submission {
    pub(crate) command: Command,
    pub(crate) id: Option<CommandId>,
    pub(crate) at: Option<UnixMicros>,
}

impl Submission {
    /// A command without an id of its own: sent again, it is another command.
    #[must_use]
    pub const fn new(command: Command) -> Self {
        Self { command, id: None, at: None }
    }

    /// With the id that the client made (`Idempotency-Key`): sent again, it gets the same answer.
    #[must_use]
    pub const fn with_id(self, id: CommandId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// At a time, for a ledger that was opened with [`Time::FromSubmissions`].
    #[must_use]
    pub const fn at(self, at: UnixMicros) -> Self {
        Self { at: Some(at), ..self }
    }
}

/// A command was applied: its events are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The seq of its first event.
    pub first_seq: Seq,
    /// Seq and hash of its last event.
    pub head: Head,
    /// The time of its events.
    pub recorded_at: UnixMicros,
    /// Its events.
    pub events: Vec<NewEvent>,
}

/// A command was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The rules refuse it.
    #[error("{0}")]
    Rejected(Box<Rejections>),
    /// Its id was used for another command.
    #[error("this command id was used for another command")]
    Conflict,
    /// Its id is too old to be known, or too far ahead: certainly not applied now.
    #[error(
        "command id is expired: its time must lie after {floor_ms} ms and at most a minute after \
         {server_ms} ms (server time)",
        floor_ms = floor.millis(),
        server_ms = server_time.millis()
    )]
    Expired {
        /// The server's time.
        server_time: UnixMicros,
        /// Ids of this time or before are refused.
        floor: UnixMicros,
    },
    /// Too many commands are waiting; try again later.
    #[error("too many commands are waiting, at most {} may", limits::COMMANDS_WAITING_MAX)]
    Overloaded,
    /// The engine stopped; whether the command was applied is told by a retry with the same id.
    #[error("ledger is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// An answer on its way: await it in async code, or [`wait`](Self::wait) for it elsewhere.
#[derive(Debug)]
pub struct Pending<T> {
    receiver: oneshot::Receiver<Result<T, SubmitError>>,
    shared: Arc<Shared>,
}

impl<T> Pending<T> {
    /// Blocks until the answer is there. In async code await the value instead; there this panics.
    ///
    /// # Errors
    /// [`SubmitError`] when the command was not applied.
    pub fn wait(self) -> Result<T, SubmitError> {
        let shared = self.shared;
        self.receiver.blocking_recv().unwrap_or_else(|_| Err(unavailable(&shared)))
    }
}

impl<T> Pending<T> {
    /// The answer if it is there already; it is given once.
    pub fn try_wait(&mut self) -> Option<Result<T, SubmitError>> {
        match self.receiver.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(unavailable(&self.shared))),
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|received| received.unwrap_or_else(|_| Err(unavailable(&self.shared))))
    }
}

pub(crate) fn unavailable(shared: &Shared) -> SubmitError {
    let reason = shared.failure().unwrap_or_else(|| "it was closed".to_owned());
    SubmitError::Unavailable { reason }
}

/// A ledger that this process writes: the only one that may.
#[derive(Debug)]
pub struct Ledger {
    data_dir: PathBuf,
    shared: Arc<Shared>,
    requests: Option<SyncSender<Request>>,
    threads: Vec<JoinHandle<()>>,
    _lock: WriterLock,
}

impl Ledger {
    /// Opens a ledger for writing: takes its lock, syncs what is on disk, and rebuilds the state
    /// from its events, every link checked.
    ///
    /// # Errors
    /// [`OpenError`]; then nothing was changed but, at most, a write-ahead log folded in.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let Options { data_dir, keys, create, time, lock } = options;
        let path = database::ledger_path(&data_dir);
        if create.is_some() {
            std::fs::create_dir_all(&data_dir)
                .map_err(|source| OpenError::Directory { path: data_dir.clone(), source })?;
        } else if !path.exists() {
            return Err(DatabaseError::Missing { path }.into());
        }
        let lock = lock.map_or_else(|| WriterLock::take(&data_dir), Ok)?;
        if let (Some(new), false) = (create, path.exists()) {
            let created_at = new.created_at.unwrap_or_else(|| SystemTimeSource::default().wall());
            let genesis = Genesis {
                ledger_id: new.ledger_id,
                format_version: FORMAT_VERSION,
                created_at,
                is_demo: new.is_demo,
            };
            database::create(&path, &genesis)?;
        }
        let connection = database::open_writer(&path)?;
        writer_thread::checkpoint_whole(&connection)?;
        std::fs::File::open(&path)?.sync_all()?;
        let (fold, ids) = recover(&connection)?;
        check_appendable(&connection, fold.check.head())?;
        let genesis = database::read_genesis(&connection)?;
        let is_demo = genesis.is_some_and(|stored| stored.genesis.is_demo);
        if matches!(time, Time::FromSubmissions) && !is_demo {
            return Err(OpenError::NotADemo);
        }

        let shared = Arc::new(Shared::new(fold.check.head()));
        let decider = Decider::new(fold, ids, (keys, time));
        let (requests, incoming) = sync_channel(limits::COMMANDS_WAITING_MAX);
        let (batches, to_commit) = sync_channel(limits::BATCHES_WAITING_MAX);
        let writer = writer_thread::spawn(connection, (path, Arc::clone(&shared)), to_commit)?;
        let state = state_thread::spawn((decider, Arc::clone(&shared)), incoming, batches)?;
        Ok(Self {
            data_dir,
            shared,
            requests: Some(requests),
            threads: vec![state, writer],
            _lock: lock,
        })
    }

    /// Hands a command to the engine. The answer, once it is there, means: on disk.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] when too many are waiting, [`SubmitError::Unavailable`] when the
    /// engine stopped. Everything else the answer itself tells.
    pub fn submit(&self, submission: Submission) -> Result<Pending<Accepted>, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Command { submission, reply })?;
        Ok(Pending { receiver, shared: Arc::clone(&self.shared) })
    }

    /// Asks for something of the state. The answer leaves when everything that it saw is on disk.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<Pending<T>, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Query(Box::new(move |state| {
            let answer = question(state);
            Box::new(move || drop(reply.send(Ok(answer))))
        })))?;
        Ok(Pending { receiver, shared: Arc::clone(&self.shared) })
    }

    fn send(&self, request: Request) -> Result<(), SubmitError> {
        if self.shared.failure().is_some() {
            return Err(unavailable(&self.shared));
        }
        let Some(requests) = &self.requests else { return Err(unavailable(&self.shared)) };
        requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Overloaded,
            TrySendError::Disconnected(_) => unavailable(&self.shared),
        })
    }

    /// The newest committed event.
    #[must_use]
    pub fn head(&self) -> Head {
        self.shared.head()
    }

    /// A reader of this ledger.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be opened once more.
    pub fn reader(&self) -> Result<Reader, DatabaseError> {
        Reader::open(&self.data_dir)
    }

    /// Follows the ledger from a seq through catch-up into live.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn subscribe(&self, from: Seq) -> Result<Subscription, DatabaseError> {
        Ok(Subscription::to_engine(self.reader()?, from, Arc::clone(&self.shared)))
    }

    /// Answers what was accepted, folds the write-ahead log in, and gives the lock back.
    ///
    /// # Errors
    /// [`SubmitError::Unavailable`] when a commit had failed.
    pub fn close(mut self) -> Result<Head, SubmitError> {
        self.stop();
        match self.shared.failure() {
            Some(_) => Err(unavailable(&self.shared)),
            None => Ok(self.shared.head()),
        }
    }

    fn stop(&mut self) {
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so by its guard.
            drop(thread.join());
        }
        self.shared.close();
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop();
    }
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

/// Rebuilds state, chain and the ids that are remembered.
fn recover(connection: &rusqlite::Connection) -> Result<(Fold, CommandIds), OpenError> {
    let mut ids = CommandIds::default();
    let fold = fold_rows(connection, None, |state, stored| {
        let header = &stored.header;
        let Some(mark) = header.command.mark else { return };
        let outcome = Outcome::Applied { first: header.seq, size: header.command.size };
        let scoped = (mark.id, command_user(state, stored));
        let answer: (CommandHash, Outcome) = (mark.hash, outcome);
        ids.remember(scoped, answer, header.recorded_at);
    })?;
    ids.forget_before_start(fold.check.newest_recorded_at());
    Ok((fold, ids))
}

/// Whose command it was, from its first event and the state before it.
fn command_user(state: &State, stored: &StoredEvent) -> Option<UserId> {
    let stream = stored.header.stream;
    match (&stored.event, stored.event.kind().stream()) {
        (Event::SeasonStarted(event), _) => Some(event.user_id),
        (_, StreamKind::User) => Some(stream.as_user()),
        (_, StreamKind::Season) => {
            state.seasons.get(&stream.as_season()).map(|season| season.user_id)
        }
        (_, StreamKind::Ledger) => None,
    }
}
