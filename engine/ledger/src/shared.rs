//! What the threads of a ledger share: the newest committed head, and how the ledger fares.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daybook_schema::{Head, LedgerIdentity};

use crate::ledger::SubmitError;

#[derive(Debug)]
struct Published {
    head: Head,
    identity: LedgerIdentity,
    failure: Option<String>,
    stopping: bool,
    closed: bool,
    locked_since: Option<Instant>,
    log: LogState,
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
    pub failure: Option<String>,
    /// How long another program has kept `ledger.db` locked: until it lets go nothing is accepted.
    pub locked_for: Option<Duration>,
    /// The bytes that the disk has left, where these are too few: reading alone goes on.
    pub read_only_free_bytes: Option<u64>,
    /// The size of the write-ahead log, in bytes.
    pub log_bytes: u64,
    /// Whether a reader's open transaction keeps the log from being started anew, so that it grows.
    pub is_log_held: bool,
}

/// The newest committed head, for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Shared {
    published: Mutex<Published>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new(head: Head, identity: LedgerIdentity) -> Self {
        let published = Published {
            head,
            identity,
            failure: None,
            stopping: false,
            closed: false,
            locked_since: None,
            log: LogState::default(),
        };
        Self { published: Mutex::new(published), changed: Condvar::new() }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Published) -> T) -> T {
        look(&mut self.published.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest committed head.
    pub(crate) fn head(&self) -> Head {
        self.with(|published| published.head)
    }

    /// The newest committed head, with the ledger's epoch at it.
    pub(crate) fn identified_head(&self) -> (LedgerIdentity, Head) {
        self.with(|published| (published.identity, published.head))
    }

    pub(crate) fn publish(&self, head: Head, identity: LedgerIdentity) {
        self.with(|published| (published.head, published.identity) = (head, identity));
        self.changed.notify_all();
    }

    /// Why nothing is taken for now, if nothing is.
    pub(crate) fn refusal(&self) -> Option<SubmitError> {
        self.with(|published| match (&published.failure, published.locked_since) {
            (Some(reason), _) => Some(SubmitError::Unavailable { reason: reason.clone() }),
            (None, Some(since)) => {
                Some(SubmitError::Locked { for_seconds: since.elapsed().as_secs() })
            }
            (None, None) => None,
        })
    }

    /// How the ledger fares; `read_only_free_bytes` is what the disk says at this moment.
    pub(crate) fn health(&self, read_only_free_bytes: Option<u64>) -> Health {
        self.with(|published| Health {
            head: published.head,
            failure: published.failure.clone(),
            locked_for: published.locked_since.map(|since| since.elapsed()),
            read_only_free_bytes,
            log_bytes: published.log.bytes,
            is_log_held: published.log.is_held,
        })
    }

    /// Since when another program has kept the ledger locked, or that it does no longer.
    pub(crate) fn set_locked(&self, since: Option<Instant>) {
        self.with(|published| published.locked_since = since);
    }

    pub(crate) fn set_log(&self, log: LogState) {
        self.with(|published| published.log = log);
    }

    /// The ledger is about to be closed: nobody waits any more for what may never come.
    pub(crate) fn begin_stop(&self) {
        self.with(|published| published.stopping = true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.with(|published| published.stopping)
    }

    /// Why the ledger stopped, if a commit failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.with(|published| published.failure.clone())
    }

    /// A commit failed or its fate is unknown: nothing is accepted any more.
    pub(crate) fn fail(&self, reason: String) {
        self.with(|published| published.failure.get_or_insert(reason).len());
        self.changed.notify_all();
    }

    /// Fails the ledger if the thread that holds what comes back panics.
    pub(crate) fn guard(self: &Arc<Self>) -> PanicGuard {
        PanicGuard(Arc::clone(self))
    }

    pub(crate) fn close(&self) {
        self.with(|published| published.closed = true);
        self.changed.notify_all();
    }

    /// Whether nothing is committed any more.
    pub(crate) fn is_over(&self) -> bool {
        self.with(|published| published.closed || published.failure.is_some())
    }

    /// Rests so long; true at once when the ledger is closed or failed.
    pub(crate) fn wait_until_over(&self, rest: Duration) -> bool {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let is_on = |published: &mut Published| !published.closed && published.failure.is_none();
        drop(
            self.changed
                .wait_timeout_while(published, rest, is_on)
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.is_over()
    }

    /// Waits until the head lies beyond `seq`, the ledger stopped, or the time is over.
    pub(crate) fn wait_beyond(&self, seq: u64, timeout: Duration) -> bool {
        // One that lies beyond every clock is none.
        let deadline = Instant::now().checked_add(timeout);
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if published.head.seq > seq {
                return true;
            }
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() || published.closed || published.failure.is_some() {
                return false;
            }
            published = self
                .changed
                .wait_timeout(published, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Tells everybody when its thread stopped on a broken invariant.
pub(crate) struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a thread of the engine stopped on a broken invariant".to_owned());
        }
    }
}
