//! How an engine fares, and its newest committed head: what its threads tell each other, and those
//! who watch over it.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daybook_schema::{Head, LedgerIdentity};

/// Why an engine failed. Nothing is accepted any more; the next start recovers from what is on
/// disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The disk is full.
    #[error(
        "the disk is full; make room and start again, everything that was acknowledged is kept"
    )]
    DiskFull,
    /// A file of the ledger is no longer where it was opened.
    #[error(
        "`{}` was moved, replaced or removed while the ledger was open; put ledger.db and ledger.db-wal back \
         where they were, if they are anywhere, and start again",
        path.display()
    )]
    FileMoved {
        /// The file.
        path: PathBuf,
    },
    /// SQLite could not commit.
    #[error("a commit failed ({reason}); start again to recover")]
    CommitFailed {
        /// What SQLite said.
        reason: String,
    },
    /// Another program kept the file locked until the ledger was closed.
    #[error(
        "another program kept ledger.db locked until the end; what was decided meanwhile was not applied"
    )]
    LockedToTheEnd,
    /// A thread of the engine panicked: a fault of Daybook's.
    #[error("a thread of the engine stopped on a broken invariant")]
    ThreadStopped,
}

impl Failure {
    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DiskFull => "DISK_FULL",
            Self::FileMoved { .. } => "FILE_MOVED",
            Self::CommitFailed { .. } => "COMMIT_FAILED",
            Self::LockedToTheEnd => "LOCKED_TO_THE_END",
            Self::ThreadStopped => "THREAD_STOPPED",
        }
    }
}

/// Why an engine commits nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// It was closed.
    #[error("it was closed")]
    Closed,
    /// It failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why nothing is taken.
pub(crate) enum Refusal {
    Stopped(Stopped),
    /// Another program has kept the file locked so long.
    Locked(Duration),
}

/// The write-ahead log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogState {
    pub(crate) bytes: u64,
    /// Whether somebody's open transaction keeps it from being started anew.
    pub(crate) is_held: bool,
}

/// How a ledger fares that is open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The newest committed event.
    pub head: Head,
    /// Why it stopped, if it did: nothing is accepted any more.
    pub stopped: Option<Stopped>,
    /// How long another program has kept `ledger.db` locked: until it lets go nothing is accepted.
    pub locked_for: Option<Duration>,
    /// The bytes that the disk has left, where these are too few: reading alone goes on.
    pub read_only_free_bytes: Option<u64>,
    /// The size of the write-ahead log, in bytes.
    pub log_bytes: u64,
    /// Whether a reader's open transaction keeps the log from being started anew, so that it grows.
    pub is_log_held: bool,
    /// Commands and questions that wait for the state thread; at most
    /// [`COMMANDS_WAITING_MAX`](daybook_schema::limits::COMMANDS_WAITING_MAX).
    pub waiting: usize,
    /// Batches that were committed since it was opened: each is one transaction and one sync.
    pub batches: u64,
}

#[derive(Debug)]
struct Known {
    head: Head,
    identity: LedgerIdentity,
    failure: Option<Failure>,
    /// Whether it is being closed, and whether nothing is committed any more because it was.
    is_closing: bool,
    is_closed: bool,
    locked_since: Option<Instant>,
    log: LogState,
    batches: u64,
    /// How many threads wait for a newer head.
    head_waiters: usize,
    /// Whether somebody who follows waits for events, whom the dispatcher wakes.
    is_dispatch_wanted: bool,
}

/// What the threads of an engine tell each other.
#[derive(Debug)]
pub(crate) struct Status {
    known: Mutex<Known>,
    /// A newer head, or the end.
    head_changed: Condvar,
    /// A newer head where somebody who follows waits, or the end.
    dispatch: Condvar,
    /// The end.
    over: Condvar,
}

impl Status {
    pub(crate) fn new(head: Head, identity: LedgerIdentity) -> Self {
        let known = Known {
            head,
            identity,
            failure: None,
            is_closing: false,
            is_closed: false,
            locked_since: None,
            batches: 0,
            log: LogState::default(),
            head_waiters: 0,
            is_dispatch_wanted: false,
        };
        Self {
            known: Mutex::new(known),
            head_changed: Condvar::new(),
            dispatch: Condvar::new(),
            over: Condvar::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest committed head.
    pub(crate) fn head(&self) -> Head {
        self.known().head
    }

    /// The newest committed head, with the ledger's epoch at it.
    pub(crate) fn identified_head(&self) -> (LedgerIdentity, Head) {
        let known = self.known();
        (known.identity, known.head)
    }

    pub(crate) fn publish(&self, head: Head, identity: LedgerIdentity) {
        let mut known = self.known();
        (known.head, known.identity) = (head, identity);
        known.batches += 1;
        // Each wake costs the writer: nobody is woken who does not wait.
        let (wakes_waiters, wakes_dispatcher) = (known.head_waiters > 0, known.is_dispatch_wanted);
        drop(known);
        if wakes_waiters {
            self.head_changed.notify_all();
        }
        if wakes_dispatcher {
            self.dispatch.notify_one();
        }
    }

    /// How the ledger fares, but for the disk and the queue.
    pub(crate) fn health(&self) -> Health {
        let known = self.known();
        Health {
            head: known.head,
            stopped: known.stopped(),
            locked_for: known.locked_since.map(|since| since.elapsed()),
            read_only_free_bytes: None,
            log_bytes: known.log.bytes,
            is_log_held: known.log.is_held,
            waiting: 0,
            batches: known.batches,
        }
    }

    /// Since when another program has kept the ledger locked, or that it does no longer.
    pub(crate) fn set_locked(&self, since: Option<Instant>) {
        self.known().locked_since = since;
    }

    pub(crate) fn set_log(&self, log: LogState) {
        self.known().log = log;
    }

    /// The ledger is about to be closed: nobody waits any more for what may never come. True for
    /// who says so first.
    pub(crate) fn begin_close(&self) -> bool {
        !std::mem::replace(&mut self.known().is_closing, true)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.known().is_closing
    }

    /// Why the ledger failed, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.known().failure.clone()
    }

    /// Why nothing is taken for now, if nothing is.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let known = self.known();
        let stopped = known.stopped().or_else(|| known.is_closing.then_some(Stopped::Closed));
        let locked = || known.locked_since.map(|since| Refusal::Locked(since.elapsed()));
        stopped.map(Refusal::Stopped).or_else(locked)
    }

    /// Why nothing is committed any more; that it was closed, where nothing is known.
    pub(crate) fn why_stopped(&self) -> Stopped {
        self.known().stopped().unwrap_or(Stopped::Closed)
    }

    /// A commit failed or its fate is unknown: nothing is accepted any more.
    pub(crate) fn fail(&self, failure: Failure) {
        self.known().failure.get_or_insert(failure);
        self.tell_end();
    }

    /// Fails the ledger if the thread that holds what comes back panics.
    pub(crate) fn guard(self: &Arc<Self>) -> PanicGuard {
        PanicGuard(Arc::clone(self))
    }

    /// Nothing is committed any more.
    pub(crate) fn close(&self) {
        self.known().is_closed = true;
        self.tell_end();
    }

    fn tell_end(&self) {
        self.head_changed.notify_all();
        self.dispatch.notify_all();
        self.over.notify_all();
    }

    /// Whether nothing is committed any more.
    pub(crate) fn is_over(&self) -> bool {
        self.known().is_over()
    }

    /// Rests so long; true at once when the ledger is closed or failed.
    pub(crate) fn wait_until_over(&self, rest: Duration) -> bool {
        let is_on = |known: &mut Known| !known.is_over();
        let waited = self.over.wait_timeout_while(self.known(), rest, is_on);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_over()
    }

    /// Waits until the head lies beyond `seq`, or the ledger is over; tells whether the head does.
    pub(crate) fn wait_beyond(&self, seq: u64) -> bool {
        let mut known = self.known();
        known.head_waiters += 1;
        let is_awaited = |known: &mut Known| known.head.seq <= seq && !known.is_over();
        let waited = self.head_changed.wait_while(known, is_awaited);
        let mut known = waited.unwrap_or_else(PoisonError::into_inner);
        known.head_waiters -= 1;
        known.head.seq > seq
    }

    /// Somebody who follows waits: the next head wakes the dispatcher.
    pub(crate) fn want_dispatch(&self) {
        self.known().is_dispatch_wanted = true;
    }

    /// Waits until there is a newer head that somebody waits for, or the end; tells whether it is
    /// the end.
    pub(crate) fn wait_for_dispatch(&self, seen: u64) -> bool {
        let is_idle = |known: &mut Known| {
            !(known.is_over() || known.is_dispatch_wanted && known.head.seq > seen)
        };
        let waited = self.dispatch.wait_while(self.known(), is_idle);
        let mut known = waited.unwrap_or_else(PoisonError::into_inner);
        known.is_dispatch_wanted = false;
        known.is_over()
    }
}

impl Known {
    fn is_over(&self) -> bool {
        self.is_closed || self.failure.is_some()
    }

    fn stopped(&self) -> Option<Stopped> {
        let failed = self.failure.clone().map(Stopped::Failed);
        failed.or_else(|| self.is_closed.then_some(Stopped::Closed))
    }
}

/// Tells everybody when its thread stopped on a broken invariant.
pub(crate) struct PanicGuard(Arc<Status>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Failure::ThreadStopped);
        }
    }
}
