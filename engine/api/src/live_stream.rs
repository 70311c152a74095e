//! A stream of a season's events: those that are committed, from a seq on, for as long as its session
//! lasts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse;
use daybook_schema::{SeasonId, UserId};
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
