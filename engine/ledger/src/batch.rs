//! Events that are committed together.

use daybook_schema::{Head, LedgerIdentity, StoredEvent, limits};

use crate::event_cut::Run;
use crate::event_row::NewRow;
use crate::foreign_panics::contain_and_log;
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
    /// The head before it.
    pub(crate) previous: Head,
}

/// How much a batch held.
#[derive(Clone, Copy, Default)]
pub(crate) struct Room {
    rows: usize,
    payload_bytes: usize,
    answers: usize,
}

impl Batch {
    /// How much it holds.
    pub(crate) const fn room(&self) -> Room {
        Room {
            rows: self.rows.len(),
            payload_bytes: self.payloads.len(),
            answers: self.answers.len(),
        }
    }

    /// An empty one after a head, with room for as much as one before it held: growing row by row
    /// copies them again and again.
    pub(crate) fn new(head: Head, identity: LedgerIdentity, room: Room) -> Self {
        Self {
            rows: Vec::with_capacity(room.rows),
            payloads: Vec::with_capacity(room.payload_bytes),
            answers: Vec::with_capacity(room.answers),
            head,
            identity,
            previous: head,
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.answers.len() >= limits::COMMANDS_PER_BATCH_MAX
            || self.rows.len() >= limits::EVENTS_PER_BATCH_MAX
    }

    /// Its events in runs, for those who follow; taken before the answers are sent.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let accepted = self.answers.iter().filter_map(|answer| match answer {
            Answer::Command { outcome: Ok(accepted), .. } => Some(&accepted.events),
            _ => None,
        });
        let mut events = self.rows.iter().zip(accepted.flatten()).map(|(row, new)| StoredEvent {
            header: row.header,
            event: new.event.clone(),
            hash: row.hash,
        });
        let (mut runs, mut previous) = (Vec::new(), self.previous);
        loop {
            let run: Vec<StoredEvent> = events.by_ref().take(limits::EVENTS_PER_CUT_MAX).collect();
            let Some(last) = run.last().map(StoredEvent::head) else { return runs };
            runs.push(Run { previous, events: run });
            previous = last;
        }
    }
}

impl Drop for Batch {
    /// Each answer on its own: it wakes whoever waits, and two panics at once would end the
    /// process.
    fn drop(&mut self) {
        for answer in self.answers.drain(..) {
            contain_and_log(move || drop(answer));
        }
    }
}
