//! What the threads of a ledger share: the newest committed head, and whether it still runs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daybook_schema::{Head, LedgerIdentity};

#[derive(Debug)]
struct Published {
    head: Head,
    identity: LedgerIdentity,
    failure: Option<String>,
    closed: bool,
}

/// The newest committed head, for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Shared {
    published: Mutex<Published>,
    changed: Condvar,
}

impl Shared {
    pub(crate) fn new(head: Head, identity: LedgerIdentity) -> Self {
        let published = Published { head, identity, failure: None, closed: false };
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
        let deadline = Instant::now() + timeout;
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if published.head.seq > seq {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
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
