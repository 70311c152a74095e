//! The engine's front: submit, query, follow, close.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::JoinHandle;

use daybook_schema::{Head, Seq, StreamId, limits};
use daybook_simulator::State;
use tokio::sync::{oneshot, watch};

use crate::closing::{Closing, Threads};
use crate::committed_events::{CommittedEvents, Cursor};
use crate::database::DatabaseError;
use crate::foreign_panics::contain;
use crate::free_disk::lacks_room;
use crate::lock::WriterLock;
use crate::reader::Reader;
use crate::status::{Health, Status, Stopped};
use crate::stream_heads::StreamHeads;
use crate::submission::{Accepted, Pending, Request, Submission, SubmitError, unavailable};
use crate::subscription::Subscription;

/// A ledger that this process writes: the only one that may.
///
/// It is a handle: clones are the same engine. The engine runs until [`close`](Self::close) or
/// until the last handle is dropped, which waits for the same; in async code close it first.
///
/// # Creating what a retry must find again
///
/// - **A user.** Make the id once, keep it where the account is (pending), and submit
///   [`RegisterUser`](daybook_schema::Command::RegisterUser). A retry with the same id is refused
///   as `USER_ALREADY_REGISTERED`: that is success.
/// - **A season.** Submit [`StartSeason`](daybook_schema::Command::StartSeason) with a command id
///   that the client made and keeps. A retry with the same id gets the first answer; its
///   `season_started` names the season. If the answer is [`SubmitError::Expired`], ask
///   [`Reader::find_command`] whether it was applied.
#[derive(Clone, Debug)]
pub struct Ledger {
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    data_dir: PathBuf,
    status: Arc<Status>,
    requests: SyncSender<Request>,
    /// Requests that wait for the state thread.
    waiting: Arc<AtomicUsize>,
    events: Arc<CommittedEvents>,
    closing: Arc<Closing>,
}

/// What an engine is started with.
pub(crate) struct Started {
    pub(crate) data_dir: PathBuf,
    pub(crate) status: Arc<Status>,
    pub(crate) requests: SyncSender<Request>,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) events: Arc<CommittedEvents>,
    pub(crate) deciding: Vec<JoinHandle<()>>,
    pub(crate) lock: WriterLock,
}

impl Ledger {
    pub(crate) fn start(started: Started) -> Self {
        let Started { data_dir, status, requests, waiting, events, deciding, lock } = started;
        let threads = Threads { deciding, beside: Vec::new(), lock };
        let closing = Arc::new(Closing::new(threads, requests.clone(), Arc::clone(&status)));
        Self { engine: Arc::new(Engine { data_dir, status, requests, waiting, events, closing }) }
    }

    pub(crate) fn run_beside(&self, thread: JoinHandle<()>) {
        self.engine.closing.add(thread);
    }

    pub(crate) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.engine.status)
    }

    /// The directory where everything of it lives.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.engine.data_dir
    }

    /// Hands a command to the engine. The answer, once it is there, means: on disk. Dropping the
    /// answer cancels nothing.
    ///
    /// # Errors
    /// [`SubmitError::Overloaded`] when too many are waiting, [`SubmitError::Locked`] while another
    /// program keeps the file locked, [`SubmitError::Unavailable`] when the engine stopped.
    /// Everything else the answer itself tells.
    pub fn submit(&self, submission: Submission) -> Result<Pending<Accepted>, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Command { submission, reply })?;
        Ok(Pending::new(receiver, &self.engine.status))
    }

    /// Asks for something of the state. The answer leaves when everything that it saw is on disk. A
    /// question that panics is answered [`SubmitError::Panicked`], and the engine goes on; commands
    /// wait while it looks.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<Pending<T>, SubmitError> {
        self.ask(|state, _| question(state))
    }

    /// The newest event of a stream that may get more: a user's, a season's in play, the ledger's.
    /// Of others the engine knows nothing; [`Reader::find_stream_head`] finds them by a scan.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn stream_head(&self, stream: StreamId) -> Result<Pending<Option<Seq>>, SubmitError> {
        self.ask(move |_, heads| heads.previous(stream))
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State, &StreamHeads) -> T + Send + 'static,
    ) -> Result<Pending<T>, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        self.send(Request::Query(Box::new(move |state, heads| {
            let answer = contain(|| question(state, heads))
                .map_err(|reason| SubmitError::Panicked { reason });
            Box::new(move || drop(reply.send(answer)))
        })))?;
        Ok(Pending::new(receiver, &self.engine.status))
    }

    fn send(&self, request: Request) -> Result<(), SubmitError> {
        let Engine { status, requests, waiting, .. } = &*self.engine;
        if let Some(refusal) = status.refusal() {
            return Err(refusal.into());
        }
        // Counted before it is sent: the state thread takes away what it counts. That thread may have
        // looked at what waits before its turn, so the channel may have room where there is none.
        let one_more = |waiting| (waiting < limits::COMMANDS_WAITING_MAX).then_some(waiting + 1);
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| SubmitError::Overloaded)?;
        requests.try_send(request).map_err(|error| {
            waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => SubmitError::Overloaded,
                TrySendError::Disconnected(_) => unavailable(status),
            }
        })
    }

    /// The newest committed event.
    #[must_use]
    pub fn head(&self) -> Head {
        self.engine.status.head()
    }

    /// The newest committed event, for who waits for it to change.
    #[must_use]
    pub fn watch_head(&self) -> watch::Receiver<Head> {
        self.engine.events.watch_head()
    }

    /// How the ledger fares, for those who watch over it.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            // What cannot be told is not held against the disk.
            read_only_free_bytes: lacks_room(self.data_dir()).unwrap_or(None),
            waiting: self.engine.waiting.load(Ordering::Relaxed),
            ..self.engine.status.health()
        }
    }

    /// Waits until nothing is committed any more, and tells why: it failed or was closed. A service
    /// ends then.
    pub async fn stopped(&self) -> Stopped {
        let mut stopped = self.engine.events.watch_stopped();
        let told = stopped.wait_for(Option::is_some).await.map(|told| told.clone());
        told.ok().flatten().unwrap_or_else(|| self.engine.status.why_stopped())
    }

    /// A reader of this ledger.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be opened once more.
    pub fn reader(&self) -> Result<Reader, DatabaseError> {
        Reader::open(&self.engine.data_dir)
    }

    /// Follows the ledger from a seq through catch-up into live. A thousand may do so: what is
    /// committed is shared by all of them.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn subscribe(&self, from: Seq) -> Result<Subscription, DatabaseError> {
        Subscription::new(Arc::clone(&self.engine.events), Cursor::from(from))
    }

    /// The same after a head that is known from before. If the ledger does not have it, the
    /// subscription says [`UnknownHead`](crate::ReadError::UnknownHead): who follows must not go on
    /// over a fork.
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn subscribe_after(&self, head: Head) -> Result<Subscription, DatabaseError> {
        Subscription::new(Arc::clone(&self.engine.events), Cursor::after(head))
    }

    /// Accepts nothing more, answers what was accepted, folds the write-ahead log in, makes a
    /// snapshot, and gives the lock back. It begins at once, for all handles; the answer comes when
    /// it is done.
    ///
    /// The answer is [`SubmitError::Unavailable`] when a commit had failed. Dropping it cancels
    /// nothing.
    pub fn close(&self) -> Pending<Head> {
        Pending::new(self.engine.closing.begin(), &self.engine.status)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.closing.begin_and_wait();
    }
}
