//! Live events of a season: those that are committed, from a seq on, for as long as its session
//! lasts.

mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse;
use dashmap::DashMap;
use daybook_schema::{Event, SeasonId, Seq, StoredEvent, StreamKind, UserId};
use daybook_simulator::streams::ends_stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};

use crate::accounts::now_seconds;
use crate::error::ApiError;
use crate::service::Service;
use crate::sessions::OpenSession;
pub(crate) use streams::{Ended, Place, Streams};

/// Events of a season that wait for one who is slow; past it they are read back from the ledger.
const WAITING_MAX: usize = 64;
/// How soon a browser comes again after its connection broke.
const COMES_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// An event as a stream tells it.
#[derive(Debug)]
pub(crate) struct LiveEvent {
    seq: u64,
    kind: &'static str,
    data: Value,
    ends_season: bool,
}

impl LiveEvent {
    /// An event of a season; none where it is not for players.
    fn of(stored: &StoredEvent) -> Option<Self> {
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

    fn told_as_sse(&self) -> sse::Event {
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

    fn watch(&self, season_id: SeasonId) -> broadcast::Receiver<Arc<LiveEvent>> {
        let season = self.0.entry(season_id);
        season.or_insert_with(|| broadcast::channel(WAITING_MAX).0).subscribe()
    }

    fn leave(&self, season_id: SeasonId) {
        self.0.remove_if(&season_id, |_, season| season.receiver_count() == 0);
    }
}

/// One stream of a season's events.
pub(crate) struct Stream {
    service: Service,
    user_id: UserId,
    season_id: SeasonId,
    /// The newest event that was told.
    last: u64,
    waiting: VecDeque<sse::Event>,
    receiver: Option<broadcast::Receiver<Arc<LiveEvent>>>,
    place: Place,
    /// When the session is over by its time.
    until: Instant,
    is_over: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.receiver = None;
        self.service.live.leave(self.season_id);
    }
}

impl Stream {
    /// Begins a stream after an event.
    ///
    /// # Errors
    /// Where the season's past cannot be read, or the service is about to stop.
    pub(crate) async fn begin(
        service: &Service,
        session: &OpenSession,
        season_id: SeasonId,
        after: u64,
    ) -> Result<Self, ApiError> {
        let left = u64::try_from(session.expires_at - now_seconds()).unwrap_or(0);
        let mut stream = Self {
            service: service.clone(),
            user_id: session.user_id,
            season_id,
            last: after,
            waiting: VecDeque::new(),
            // Before the past is read: what comes meanwhile waits here.
            receiver: Some(service.live.watch(season_id)),
            place: service.streams.open(session)?,
            until: Instant::now() + Duration::from_secs(left),
            is_over: false,
        };
        stream.waiting.push_back(sse::Event::default().retry(COMES_AGAIN_AFTER).comment("open"));
        stream.catch_up().await?;
        Ok(stream)
    }

    /// Whether there is nothing to tell, now or later.
    pub(crate) fn has_nothing(&self) -> bool {
        self.is_over && self.waiting.len() <= 2
    }

    /// Reads back what was committed after the newest that was told.
    async fn catch_up(&mut self) -> Result<(), ApiError> {
        for stored in self.service.season_events(self.user_id, self.season_id).await? {
            if let Some(event) = LiveEvent::of(&stored) {
                self.take(&event);
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &LiveEvent) {
        if event.seq > self.last {
            self.last = event.seq;
            self.waiting.push_back(event.told_as_sse());
        }
        if event.ends_season {
            self.end(Ended::Season);
        }
    }

    fn end(&mut self, why: Ended) {
        if !self.is_over {
            self.is_over = true;
            let data = json!({ "reason": why.as_str() });
            let event = sse::Event::default().event("end").json_data(data);
            self.waiting.push_back(event.unwrap_or_default());
        }
    }

    /// The next event; none when it is over.
    pub(crate) async fn next(&mut self) -> Option<sse::Event> {
        loop {
            // Whoever may not listen any more is told nothing more.
            if let Some(why) = self.place.ended().filter(|_| !self.is_over) {
                self.waiting.clear();
                self.end(why);
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            let receiver = self.receiver.as_mut()?;
            tokio::select! {
                () = self.place.wait_for_end() => {}
                () = sleep_until(self.until) => self.end(Ended::Session),
                told = receiver.recv() => match told {
                    Ok(event) => self.take(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        // It ends where the ledger cannot be read; the client comes again.
                        self.catch_up().await.ok()?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }
    }
}

impl Service {
    /// The events of a season that is in play, or was: from the ledger itself.
    ///
    /// # Errors
    /// [`Code::NotFound`](crate::Code::NotFound) where the user has no such season.
    pub(crate) async fn season_events(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Vec<StoredEvent>, ApiError> {
        let head: Seq = self.season_stream_head(user_id, season_id).await?;
        self.ledger_reads.read(move |reader| reader.stream_from_head(head)).await
    }
}
