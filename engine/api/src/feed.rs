//! The ledger's events for other programs, as server-sent events: from any seq through catch-up into
//! live, without a gap and without a double.
//!
//! A reader is asked for nothing and told at its own pace: the next events are looked for when the
//! connection has room. So a slow one holds the events of one cut, half a MiB at most, and nothing
//! that the writer waits for.

use std::time::Duration;

use axum::body::Bytes;
use daybook_ledger::{Cut, ReadError, Subscription};
use daybook_schema::{EventKind, Head, Seq};
use tokio::time::Instant;

use crate::error::{ApiError, Code};
use crate::open_streams::{Ended, Place};
use crate::service::Service;
use crate::service_token::ServiceToken;
use crate::told_cuts::passed;

/// A connection on which nothing moves is given up by whoever stands between.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Who has come to the newest event is told of those of so long together. Else each batch would be
/// a wake and a write for each reader, on the cores that the writer needs.
const TOLD_TOGETHER_FOR: Duration = Duration::from_millis(20);

/// Who asks for some kinds is told so often how far the others have come.
const PASSED_TOLD_EVERY: Duration = Duration::from_secs(1);

/// Where a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// With this event.
    Seq(Seq),
    /// After this one, which the ledger must have.
    After(Head),
}

/// One reader of the events.
pub(crate) struct Feed {
    service: Service,
    subscription: Subscription,
    kinds: Vec<EventKind>,
    place: Place,
    /// Nothing is looked for before.
    rests_until: Instant,
    /// The newest event that was passed, of no kind that is asked for, and when that is told.
    passed: Option<(Head, Instant)>,
    is_begun: bool,
    is_over: bool,
}

/// The next events, looked for when the time has come.
async fn after_rest(
    until: Instant,
    subscription: &mut Subscription,
) -> Result<Option<Cut>, ReadError> {
    tokio::time::sleep_until(until).await;
    subscription.next().await
}

impl Feed {
    /// Begins where a reader goes on.
    ///
    /// # Errors
    /// [`Code::HeadUnknown`] where the ledger does not have what was read before: whoever goes on
    /// over a fork has two pasts.
    pub(crate) async fn begin(
        service: &Service,
        token: &ServiceToken,
        from: From,
        kinds: Vec<EventKind>,
    ) -> Result<Self, ApiError> {
        let is_known = match from {
            From::Seq(seq) => seq.get() <= service.ledger.head().seq + 1,
            From::After(head) => service.ledger_reads.read(move |reader| reader.has(head)).await?,
        };
        if !is_known {
            return Err(ApiError::new(Code::HeadUnknown));
        }
        let subscription = match from {
            From::Seq(seq) => service.ledger.subscribe(seq),
            From::After(head) => service.ledger.subscribe_after(head),
        };
        let subscription = subscription.map_err(|error| {
            tracing::error!(%error, "the ledger cannot be followed");
            ApiError::new(Code::Unavailable)
        })?;
        let place = service.streams.open_feed(token)?;
        // The token may have been revoked while the past was looked at.
        if service.find_token(&token.hash).await?.is_none() {
            return Err(ApiError::new(Code::Unauthorized));
        }
        let (service, rests_until) = (service.clone(), Instant::now());
        let (is_begun, is_over) = (false, false);
        let passed = None;
        Ok(Self { service, subscription, kinds, place, rests_until, passed, is_begun, is_over })
    }

    fn end(&mut self, why: Ended) -> Bytes {
        self.is_over = true;
        format!("event: end\ndata: {{\"reason\":\"{}\"}}\n\n", why.as_str()).into()
    }

    /// What is told next; none when it is over.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if !self.is_begun {
            self.is_begun = true;
            return Some(Bytes::from_static(b": open\nretry: 3000\n\n"));
        }
        loop {
            if let Some(why) = self.place.ended() {
                return Some(self.end(why));
            }
            let now = Instant::now();
            let silent_until = self.passed.map_or(now + ALIVE_EVERY, |(_, at)| at);
            let told = tokio::select! {
                () = self.place.wait_for_end() => continue,
                told = after_rest(self.rests_until, &mut self.subscription) => told,
                () = tokio::time::sleep_until(silent_until) => {
                    return Some(match self.passed.take() {
                        Some((head, _)) => passed(head).into(),
                        None => Bytes::from_static(b": alive\n\n"),
                    });
                }
            };
            let cut = match told {
                Ok(Some(cut)) => cut,
                Ok(None) => return Some(self.end(Ended::Stopping)),
                Err(error) => {
                    // It ends where the ledger cannot be read; the reader comes again.
                    tracing::warn!(%error, "a reader of the events is given up");
                    return None;
                }
            };
            if cut.head().seq >= self.service.ledger.head().seq {
                self.rests_until = Instant::now() + TOLD_TOGETHER_FOR;
            }
            match self.service.told_cuts.of_kinds(&cut, &self.kinds) {
                Some(told) => {
                    self.passed = None;
                    return Some(told);
                }
                None => {
                    let told_at = self.passed.map_or(now + PASSED_TOLD_EVERY, |(_, at)| at);
                    self.passed = Some((cut.head(), told_at));
                }
            }
        }
    }
}
