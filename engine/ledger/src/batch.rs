//! Events that are committed together.

use daybook_schema::{Head, LedgerIdentity, StoredEvent, limits};

use crate::containment::contain_and_log;
use crate::cut::Run;
use crate::row::NewRow;
use crate::submission::Answer;

/// Events that are committed together, and the answers that leave afterwards.
pub(crate) struct Batch {
    pub(crate) rows: Vec<NewRow>,
    pub(crate) payloads: Vec<u8>,
    pub(crate) answers: Vec<Answer>,
    /// The head after it.
    pub(crate) head: Head,
    /// The ledger and its epoch after it.
    pub(crate) identity: LedgerIdentity,
    /// Its events for those who follow; none where nobody did when it was begun.
    pub(crate) runs: Option<Vec<Run>>,
}

impl Batch {
    /// An empty one after a head; `is_followed` says whether somebody wants its events.
    pub(crate) fn new(head: Head, identity: LedgerIdentity, is_followed: bool) -> Self {
        let runs = is_followed.then(Vec::new);
        Self { rows: Vec::new(), payloads: Vec::new(), answers: Vec::new(), head, identity, runs }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.answers.len() >= limits::COMMANDS_PER_BATCH_MAX
            || self.rows.len() >= limits::EVENTS_PER_BATCH_MAX
    }

    /// Keeps an event for those who follow; `previous` is what it is chained to.
    pub(crate) fn share(&mut self, previous: Head, event: impl FnOnce() -> StoredEvent) {
        let Some(runs) = &mut self.runs else { return };
        match runs.last_mut() {
            Some(run) if run.events.len() < limits::EVENTS_PER_CUT_MAX => run.events.push(event()),
            _ => runs.push(Run { previous, events: vec![event()] }),
        }
    }
}

impl Drop for Batch {
    /// Each answer on its own: it wakes whoever waits, and two panics at once would end the process.
    fn drop(&mut self) {
        for answer in self.answers.drain(..) {
            contain_and_log(move || drop(answer));
        }
    }
}
