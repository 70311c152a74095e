//! Tells those who watch a season what is committed in it.

use std::sync::Arc;

use axum::response::sse;
use dashmap::DashMap;
use daybook_schema::{Event, SeasonId, StoredEvent, StreamKind};
use daybook_simulator::streams::ends_stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Events of a season that wait for one who is slow; past it they are read back from the ledger.
const WAITING_MAX: usize = 64;

/// An event as a stream tells it.
#[derive(Debug)]
pub(crate) struct LiveEvent {
    pub(crate) seq: u64,
    kind: &'static str,
    data: Value,
    pub(crate) ends_season: bool,
}

impl LiveEvent {
    /// An event of a season; none where it is not for players.
    pub(crate) fn of(stored: &StoredEvent) -> Option<Self> {
        let Event::SuspicionFlagged(_) = &stored.event else { return Some(Self::told(stored)) };
        None
    }

    fn told(stored: &StoredEvent) -> Self {
        let mut data = serde_json::to_value(&stored.event).unwrap_or_default();
        if let Some(fields) = data.as_object_mut() {
            let season_id = stored.header.stream.as_season();
            fields.insert("seasonId".to_owned(), json!(season_id));
            fields.insert("at".to_owned(), json!(stored.header.recorded_at.seconds()));
        }
        Self {
            seq: stored.header.seq.get(),
            kind: stored.event.kind().as_str(),
            data,
            ends_season: ends_stream(&stored.event),
        }
    }

    /// As it is sent.
    pub(crate) fn as_sse(&self) -> sse::Event {
        let event = sse::Event::default().id(self.seq.to_string()).event(self.kind);
        event.json_data(&self.data).unwrap_or_default()
    }
}

/// Tells those who watch a season what is committed in it.
#[derive(Debug, Default)]
pub(crate) struct LiveHub(DashMap<SeasonId, broadcast::Sender<Arc<LiveEvent>>>);

impl LiveHub {
    /// Tells of committed events.
    pub(crate) fn tell(&self, events: &[StoredEvent]) {
        if self.0.is_empty() {
            return;
        }
        let of_seasons =
            events.iter().filter(|stored| stored.event.kind().stream() == StreamKind::Season);
        for stored in of_seasons {
            let season_id = stored.header.stream.as_season();
            // Taken out of the map first: sending wakes watchers.
            let Some(watched) = self.0.get(&season_id).map(|season| season.clone()) else {
                continue;
            };
            if let Some(event) = LiveEvent::of(stored) {
                // Whoever watched may have gone this moment.
                drop(watched.send(Arc::new(event)));
            }
        }
    }

    /// Watches a season from now on.
    pub(crate) fn watch(&self, season_id: SeasonId) -> broadcast::Receiver<Arc<LiveEvent>> {
        let season = self.0.entry(season_id);
        season.or_insert_with(|| broadcast::channel(WAITING_MAX).0).subscribe()
    }

    /// One who watched is gone.
    pub(crate) fn leave(&self, season_id: SeasonId) {
        self.0.remove_if(&season_id, |_, season| season.receiver_count() == 0);
    }
}
