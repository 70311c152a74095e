//! The engine's front: open, submit, query, subscribe, close.

use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use daybook_schema::{Command, CommandId, DayNumber, Head, Seq, UnixMicros, limits};
use daybook_simulator::{NewEvent, Rejections, State};
use tokio::sync::oneshot;

use crate::database::DatabaseError;
use crate::files::lacks_room;
use crate::lock::WriterLock;
use crate::reader::Reader;

use crate::containment::contain;
use crate::live::Live;
use crate::shared::{Health, Shared};
use crate::state_thread::Request;
use crate::subscription::Subscription;

/// How long the engine's own commands wait where others fill the queue.
const WAIT_FOR_TURN: Duration = Duration::from_millis(5);

/// A command on its way to the engine.
#[derive(Clone, Debug)]
pub struct Submission {
    pub(crate) command: Command,
    pub(crate) id: Option<CommandId>,
    pub(crate) expected_day: Option<DayNumber>,
    pub(crate) at: Option<UnixMicros>,
}

impl Submission {
    /// A command without an id of its own: sent again, it is another command.
    #[must_use]
    pub const fn new(command: Command) -> Self {
        Self { command, id: None, expected_day: None, at: None }
    }

    /// With the id that the client made (`Idempotency-Key`): sent again, it gets the same answer.
    #[must_use]
    pub fn with_id(self, id: CommandId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// For bets that are meant for this day: on another they are refused as `WRONG_DAY`, so that a copy that
    /// comes late does not bet on the next one. The day is checked and not recorded; only
    /// [`Command::PlaceBets`] looks at it.
    #[must_use]
    pub fn on_day(self, expected_day: DayNumber) -> Self {
        Self { expected_day: Some(expected_day), ..self }
    }

    /// At a time, for a ledger that was opened with [`Time::FromSubmissions`](crate::Time::FromSubmissions).
    #[must_use]
    pub fn at(self, at: UnixMicros) -> Self {
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
    /// Its id is too old to be known, or too far ahead: certainly not applied now, though an earlier sending
    /// may have been.
    #[error(
        "command id is expired: its time must lie {}at most a minute after {} ms (server time)",
        floor.map_or(String::new(), |floor| format!("after {} ms and ", floor.millis())),
        server_time.millis()
    )]
    Expired {
        /// The server's time.
        server_time: UnixMicros,
        /// Ids of this time or before are refused, where there is such a time.
        floor: Option<UnixMicros>,
        /// The time for a new id: one that is made with it is not expired.
        new_id_time: UnixMicros,
    },
    /// Too many commands are waiting; try again later.
    #[error("too many commands are waiting, at most {} may", limits::COMMANDS_WAITING_MAX)]
    Overloaded,
    /// The disk is all but full: reading goes on, writing does when there is room again. The command was
    /// certainly not applied.
    #[error(
        "the ledger is read-only: its disk has {free_bytes} bytes left and needs {}; make room",
        limits::DISK_FREE_BYTES_MIN
    )]
    ReadOnly {
        /// What is left.
        free_bytes: u64,
    },
    /// Another program keeps `ledger.db` locked. The command was certainly not applied; play goes on by
    /// itself when the lock is gone.
    #[error(
        "another program has kept ledger.db locked for {for_seconds} s: nothing is written until it lets go"
    )]
    Locked {
        /// How long.
        for_seconds: u64,
    },
    /// The question panicked; the engine goes on.
    #[error("the question panicked: {reason}")]
    Panicked {
        /// What it panicked with.
        reason: String,
    },
    /// The engine could not decide the command. It was certainly not applied.
    #[error("the command cannot be decided: {reason}")]
    Undecided {
        /// Why.
        reason: String,
    },
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
    /// The state's and the writer's, which end when no request can come any more.
    threads: Vec<JoinHandle<()>>,
    live: Arc<Live>,
    /// Those beside the work, which end when the ledger is closed.
    beside: Vec<JoinHandle<()>>,
    _lock: WriterLock,
}

/// What was withdrawn because its key or epoch is no longer good, and what took its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Seasons in play that were expired.
    pub seasons_expired: usize,
    /// Commitments that were published anew.
    pub commitments_renewed: usize,
}

impl Ledger {
    pub(crate) fn start(
        (data_dir, lock): (PathBuf, WriterLock),
        shared: Arc<Shared>,
        (requests, threads): (SyncSender<Request>, Vec<JoinHandle<()>>),
    ) -> Self {
        let requests = Some(requests);
        let live = Arc::new(Live::new(&data_dir, Arc::clone(&shared)));
        Self { data_dir, shared, requests, threads, live, beside: Vec::new(), _lock: lock }
    }

    pub(crate) fn run_beside(&mut self, thread: JoinHandle<()>) {
        self.beside.push(thread);
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Expires the seasons in play whose key or epoch is no longer good, and renews every waiting
    /// commitment that is not of the key and epoch in force: what a rotation and a restore need.
    ///
    /// # Errors
    /// [`SubmitError`] of the first command that was refused; called again, it goes on.
    pub fn withdraw_outdated(&self) -> Result<Withdrawn, SubmitError> {
        let seasons = self.in_turn(|| self.query(State::withdrawn_seasons))?.wait()?;
        let expire = seasons
            .iter()
            .map(|&(user_id, season_id)| Command::ExpireSeason { user_id, season_id });
        self.submit_all(expire)?;
        let users = self.in_turn(|| self.query(State::users_to_renew))?.wait()?;
        self.submit_all(users.iter().map(|&user_id| Command::RenewCommitment { user_id }))?;
        Ok(Withdrawn { seasons_expired: seasons.len(), commitments_renewed: users.len() })
    }

    /// Submits commands with a bounded number of them waiting.
    fn submit_all(&self, commands: impl Iterator<Item = Command>) -> Result<(), SubmitError> {
        let mut waiting: VecDeque<Pending<Accepted>> = VecDeque::new();
        for command in commands {
            if waiting.len() >= limits::COMMANDS_PER_BATCH_MAX
                && let Some(first) = waiting.pop_front()
            {
                first.wait()?;
            }
            waiting.push_back(self.in_turn(|| self.submit(Submission::new(command.clone())))?);
        }
        waiting.into_iter().try_for_each(|pending| pending.wait().map(drop))
    }

    /// What the engine asks of itself waits for its turn where others fill the queue.
    fn in_turn<T>(&self, ask: impl Fn() -> Result<T, SubmitError>) -> Result<T, SubmitError> {
        loop {
            match ask() {
                Err(SubmitError::Overloaded | SubmitError::Locked { .. }) => {
                    std::thread::sleep(WAIT_FOR_TURN);
                }
                other => return other,
            }
        }
    }

    /// Hands a command to the engine. The answer, once it is there, means: on disk. Dropping the answer
    /// cancels nothing.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] when too many are waiting, [`SubmitError::Locked`] while another program
    /// keeps the file locked, [`SubmitError::Unavailable`] when the engine stopped. Everything else the answer itself tells.
    pub fn submit(&self, submission: Submission) -> Result<Pending<Accepted>, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Command { submission, reply })?;
        Ok(Pending { receiver, shared: Arc::clone(&self.shared) })
    }

    /// Asks for something of the state. The answer leaves when everything that it saw is on disk. A question
    /// that panics is answered [`SubmitError::Panicked`], and the engine goes on; commands wait while it
    /// looks.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<Pending<T>, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Query(Box::new(move |state| {
            let answer =
                contain(|| question(state)).map_err(|reason| SubmitError::Panicked { reason });
            Box::new(move || drop(reply.send(answer)))
        })))?;
        Ok(Pending { receiver, shared: Arc::clone(&self.shared) })
    }

    fn send(&self, request: Request) -> Result<(), SubmitError> {
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
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

    /// How the ledger fares, for those who watch over it.
    #[must_use]
    pub fn health(&self) -> Health {
        // What cannot be told is not held against the disk.
        self.shared.health(lacks_room(self.data_dir()).unwrap_or(None))
    }

    /// A reader of this ledger.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be opened once more.
    pub fn reader(&self) -> Result<Reader, DatabaseError> {
        Reader::open(&self.data_dir)
    }

    /// Follows the ledger from a seq through catch-up into live. A thousand may do so: each event is read
    /// once for all of them.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn subscribe(&self, from: Seq) -> Result<Subscription, DatabaseError> {
        Subscription::new(Arc::clone(&self.live), from)
    }

    /// Answers what was accepted, folds the write-ahead log in, makes a snapshot, and gives the lock back.
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
        self.shared.begin_stop();
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so by its guard.
            drop(thread.join());
        }
        self.shared.close();
        for thread in self.beside.drain(..) {
            drop(thread.join());
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop();
    }
}
