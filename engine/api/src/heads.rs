//! Heads that are given out: the last of each command. Hashes within a command stay in the house.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use daybook_ledger::Signer;
use daybook_schema::{Epoch, Event, Head, LedgerIdentity, Seq, StoredEvent};

/// Heads that are kept at hand.
const KEPT_MAX: usize = 1 << 15;

/// The newest heads, oldest first.
#[derive(Debug)]
pub(crate) struct Heads(RwLock<VecDeque<Head>>);

impl Heads {
    pub(crate) fn new(newest: Head) -> Self {
        Self(RwLock::new(VecDeque::from([newest])))
    }

    /// Takes over the heads of committed events.
    pub(crate) fn push(&self, events: &[StoredEvent]) {
        let last_ones = events.iter().filter(|stored| is_last(stored)).map(StoredEvent::head);
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.extend(last_ones);
        let surplus = kept.len().saturating_sub(KEPT_MAX);
        drop(kept.drain(..surplus));
    }

    /// What follows the newest of them.
    pub(crate) fn next_seq(&self) -> Seq {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Seq::clamped(kept.back().map_or(0, |head| head.seq) + 1)
    }

    /// The newest head that is no later than a seq, if it is at hand.
    pub(crate) fn at(&self, seq: u64) -> Option<Head> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if kept.back()?.seq < seq {
            return None;
        }
        let before = kept.partition_point(|head| head.seq <= seq).checked_sub(1)?;
        kept.get(before).copied()
    }
}

/// Whether an event is its command's last.
pub(crate) const fn is_last(stored: &StoredEvent) -> bool {
    stored.header.command.place + 1 == stored.header.command.size
}

/// The ledger's epochs, and from which event on each is.
#[derive(Debug)]
pub(crate) struct Epochs {
    newest: LedgerIdentity,
    begun: Vec<(Seq, Epoch)>,
}

impl Epochs {
    /// The epochs that the ledger's own events tell of.
    pub(crate) fn new(newest: LedgerIdentity, of_ledger: &[StoredEvent]) -> Self {
        let begun = of_ledger.iter().filter_map(|stored| match &stored.event {
            Event::LedgerRestored(restored) => Some((stored.header.seq, restored.epoch)),
            _ => None,
        });
        Self { newest, begun: begun.collect() }
    }

    /// The ledger and the epoch in which an event was made: what derived ids come from.
    pub(crate) fn identity_at(&self, seq: Seq) -> LedgerIdentity {
        let begun = self.begun.iter().rev().find(|(from, _)| *from <= seq);
        let epoch = begun.map_or(Epoch::FIRST, |(_, epoch)| *epoch);
        LedgerIdentity { epoch, ..self.newest }
    }

    /// The ledger in its newest epoch.
    pub(crate) const fn newest(&self) -> LedgerIdentity {
        self.newest
    }

    /// A head, signed with ledger and epoch, as a header has it.
    pub(crate) fn sign(&self, signer: &Signer, head: Head) -> String {
        let seq = Seq::clamped(head.seq);
        BASE64.encode(signer.sign_answered_head(self.identity_at(seq), head))
    }
}
