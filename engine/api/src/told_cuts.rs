//! Committed events as readers of the feed are told them, kept for as long as many may want them.

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use daybook_ledger::Cut;
use daybook_schema::{EventKind, Head, StoredEvent};

/// Cuts that are kept as they were told: whoever follows live shares them.
const CUTS_KEPT: usize = 64;

/// Events as they are told.
#[derive(Debug)]
pub(crate) struct Told {
    text: Bytes,
    events: Vec<(EventKind, Range<usize>)>,
}

impl Told {
    fn of(cut: &Cut) -> Self {
        let (mut text, mut events) = (String::new(), Vec::with_capacity(cut.len()));
        for stored in cut.iter() {
            let began = text.len();
            let json = serde_json::to_string(stored).unwrap_or_default();
            // Neither has a line break. Writing to a text does not fail.
            let _ = write!(text, "id: {}\ndata: {json}\n\n", stored.head());
            events.push((stored.event.kind(), began..text.len()));
        }
        Self { text: text.into(), events }
    }

    /// Those of some kinds; of all where none is named.
    fn of_kinds(&self, kinds: &[EventKind], newest: Head) -> Bytes {
        if kinds.is_empty() {
            return self.text.clone();
        }
        let mut some = Vec::new();
        for (_, place) in self.events.iter().filter(|(kind, _)| kinds.contains(kind)) {
            some.extend_from_slice(self.text.get(place.clone()).unwrap_or_default());
        }
        if self.events.last().is_some_and(|(kind, _)| !kinds.contains(kind)) {
            some.extend_from_slice(passed(newest).as_bytes());
        }
        some.into()
    }
}

/// What was passed is passed, also where none of it is asked for.
pub(crate) fn passed(newest: Head) -> String {
    format!("id: {newest}\n\n")
}

/// What a cut is chained to, where it ends, and how it is told.
type OfCut = ((Head, Head), Arc<Told>);

/// The newest cuts as they were told, by what they are chained to and where they end.
#[derive(Debug, Default)]
pub(crate) struct ToldCuts(Mutex<VecDeque<OfCut>>);

impl ToldCuts {
    /// A cut as it is told to who asks for some kinds of events; for all where none is named. None
    /// where there is nothing of them.
    pub(crate) fn of_kinds(&self, cut: &Cut, kinds: &[EventKind]) -> Option<Bytes> {
        // Whoever asks for rare ones has the others put in no words.
        let is_asked_for = |stored: &StoredEvent| kinds.contains(&stored.event.kind());
        if !kinds.is_empty() && !cut.iter().any(is_asked_for) {
            return None;
        }
        Some(self.of(cut).of_kinds(kinds, cut.head()))
    }

    fn of(&self, cut: &Cut) -> Arc<Told> {
        let ends = (cut.previous(), cut.head());
        let known = |cuts: &VecDeque<OfCut>| {
            let found = cuts.iter().rev().find(|(of, _)| *of == ends);
            found.map(|(_, told)| Arc::clone(told))
        };
        if let Some(told) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return told;
        }
        let told = Arc::new(Told::of(cut));
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cuts.len() >= CUTS_KEPT {
            cuts.pop_front();
        }
        cuts.push_back((ends, Arc::clone(&told)));
        told
    }
}
