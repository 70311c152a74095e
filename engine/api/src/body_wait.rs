//! How long a request's body took to come: that is the client's time, not ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long was waited for the body of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyWait(Arc<AtomicU64>);

/// Counts until it is dropped: also where the waiting is cut off.
pub(crate) struct Waiting {
    of: BodyWait,
    since: Instant,
}

impl BodyWait {
    /// Begins to wait.
    pub(crate) fn begin(self) -> Waiting {
        Waiting { of: self, since: Instant::now() }
    }

    /// How long was waited.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let nanos = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.of.0.fetch_add(nanos, Ordering::Relaxed);
    }
}
