//! Consecutive events as they are handed on.

use std::ops::Deref;
use std::sync::Arc;

use daybook_schema::{Head, StoredEvent};

/// Consecutive events, and what the first is chained to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) previous: Head,
    pub(crate) events: Vec<StoredEvent>,
}

impl Run {
    /// The newest of its events; `previous` where it has none.
    pub(crate) fn head(&self) -> Head {
        self.events.last().map_or(self.previous, StoredEvent::head)
    }

    /// What the event at a place of it is chained to.
    fn before(&self, place: usize) -> Head {
        let before = place.checked_sub(1).and_then(|place| self.events.get(place));
        before.map_or(self.previous, StoredEvent::head)
    }
}

/// Consecutive events, shared by all who follow.
#[derive(Clone, Debug)]
pub struct Cut {
    run: Arc<Run>,
    first: usize,
}

impl Cut {
    pub(crate) const fn new(run: Arc<Run>, first: usize) -> Self {
        Self { run, first }
    }

    pub(crate) fn whole(run: Run) -> Self {
        Self::new(Arc::new(run), 0)
    }

    /// What the first of its events is chained to.
    #[must_use]
    pub fn previous(&self) -> Head {
        self.run.before(self.first)
    }

    /// The newest of its events; [`Self::previous`] where it has none.
    #[must_use]
    pub fn head(&self) -> Head {
        self.run.head()
    }
}

impl Deref for Cut {
    type Target = [StoredEvent];

    fn deref(&self) -> &[StoredEvent] {
        self.run.events.get(self.first..).unwrap_or_default()
    }
}
