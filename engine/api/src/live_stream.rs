//! A stream of a season's events: those that are committed, from a seq on, for as long as its session
//! lasts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse;
use daybook_schema::{SeasonId, StoredEvent, UserId};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until};

use crate::accounts::now_seconds;
use crate::error::ApiError;
use crate::live_hub::LiveEvent;
use crate::open_session::OpenSession;
use crate::open_streams::{Ended, Place};
use crate::service::Service;

/// How soon a browser comes again after its connection broke.
const COMES_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// One who watches a season; dropped, it leaves nothing behind.
struct Watching {
    service: Service,
    season_id: SeasonId,
    events: Option<broadcast::Receiver<Arc<LiveEvent>>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.events = None;
        self.service.live.leave(self.season_id);
    }
}

/// One stream of a season's events.
pub(crate) struct Stream {
    watching: Watching,
    user_id: UserId,
    /// The newest event that was told.
    last: u64,
    waiting: VecDeque<sse::Event>,
    /// None before it is open.
    place: Option<Place>,
    /// When the session is over by its time.
    until: Instant,
    is_over: bool,
}

impl Stream {
    /// Begins a stream after an event; none where there is nothing to tell, now or later.
    ///
    /// # Errors
    /// Where the user has no such season, has too many streams, or the service is about to stop.
    pub(crate) async fn begin(
        service: &Service,
        session: &OpenSession,
        season_id: SeasonId,
        after: u64,
    ) -> Result<Option<Self>, ApiError> {
        let left = u64::try_from(session.expires_at - now_seconds()).unwrap_or(0);
        // Before the past is read: what comes meanwhile waits here.
        let events = Some(service.live.watch(season_id));
        let mut stream = Self {
            watching: Watching { service: service.clone(), season_id, events },
            user_id: session.user_id,
            last: after,
            waiting: VecDeque::new(),
            place: None,
            until: Instant::now() + Duration::from_secs(left),
            is_over: false,
        };
        let events = service.season_events(session.user_id, season_id).await?;
        // What the season has not come to is no event of it: all of it is told.
        if events.last().is_none_or(|newest| newest.header.seq.get() < after) {
            stream.last = 0;
        }
        stream.take_all(&events);
        if stream.is_over && stream.waiting.len() <= 1 {
            return Ok(None);
        }
        stream.waiting.push_front(sse::Event::default().retry(COMES_AGAIN_AFTER).comment("open"));
        // A request for what is not there ends no other stream.
        stream.place = Some(service.streams.open(session)?);
        Ok(Some(stream))
    }

    /// Reads back what was committed after the newest that was told.
    async fn catch_up(&mut self) -> Result<(), ApiError> {
        let Watching { service, season_id, .. } = &self.watching;
        let events = service.season_events(self.user_id, *season_id).await?;
        self.take_all(&events);
        Ok(())
    }

    fn take_all(&mut self, events: &[StoredEvent]) {
        events.iter().filter_map(LiveEvent::of).for_each(|event| self.take(&event));
    }

    fn take(&mut self, event: &LiveEvent) {
        if event.seq > self.last {
            self.last = event.seq;
            self.waiting.push_back(event.as_sse());
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
            let is_expired = (Instant::now() >= self.until).then_some(Ended::Session);
            let ended = self.place.as_ref().and_then(Place::ended).or(is_expired);
            if let Some(why) = ended.filter(|_| !self.is_over) {
                self.waiting.clear();
                self.end(why);
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            let (events, place) = (self.watching.events.as_mut()?, self.place.as_mut()?);
            tokio::select! {
                () = place.wait_for_end() => {}
                () = sleep_until(self.until) => {}
                told = events.recv() => match told {
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
