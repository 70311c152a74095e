//! Suspicions on their way into the ledger. Each is put on record once a day of its season; who
//! raises the same a million times has one waiting.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use daybook_schema::{DayNumber, SeasonId, SuspicionCode, UserId};
use tokio::sync::Notify;

/// What was suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suspicion {
    pub(crate) user_id: UserId,
    pub(crate) season_id: SeasonId,
    /// The day it concerns; none where it is the current one.
    pub(crate) day_number: Option<DayNumber>,
    pub(crate) code: SuspicionCode,
}

/// What waits to be put on record: at most one of each kind and day of a season in play.
#[derive(Debug, Default)]
pub(crate) struct Suspicions {
    waiting: Mutex<BTreeSet<Suspicion>>,
    raised: Notify,
}

impl Suspicions {
    /// Raises one: it is put on record soon.
    pub(crate) fn raise(&self, suspicion: Suspicion) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(suspicion);
        self.raised.notify_one();
    }

    /// Waits until one is raised.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// Takes all that wait.
    pub(crate) fn take(&self) -> BTreeSet<Suspicion> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
