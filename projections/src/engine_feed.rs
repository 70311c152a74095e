//! Events of an engine in the same process, as it commits them.

use std::time::Duration;

use daybook_ledger::{Ledger, ReadError, Subscription};
use daybook_schema::{Block, Head, LedgerIdentity, Seq};
use futures_util::future::BoxFuture;

use crate::feed::{Feed, FeedError, Past, past_beside};

/// Follows an engine of this process: nothing is read or hashed again, and nothing is waited for
/// but the next commit.
#[derive(Debug)]
pub struct EngineFeed {
    ledger: Ledger,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    subscription: Subscription,
    /// What it goes on after.
    after: Head,
}

impl EngineFeed {
    /// Follows an engine. It keeps the engine open until it is dropped, or the engine closed.
    #[must_use]
    pub const fn new(ledger: Ledger) -> Self {
        Self { ledger, open: None }
    }

    async fn follow(&mut self, after: Head, timeout: Duration) -> Result<Option<Block>, FeedError> {
        let goes_on = |open: &Open| open.after == after || after.seq == 0 && open.after.seq == 0;
        let open = match self.open.take().filter(goes_on) {
            Some(open) => self.open.insert(open),
            None => {
                let subscription = match after.seq {
                    0 => self.ledger.subscribe(Seq::MIN)?,
                    _ => self.ledger.subscribe_after(after)?,
                };
                self.open.insert(Open { subscription, after })
            }
        };
        let head = self.ledger.head();
        // What is there already, in memory or in the file, is given whatever the timeout.
        let is_there = head.seq > after.seq || after.seq > 0 && head != after;
        let next = open.subscription.next();
        let found = match is_there {
            true => next.await,
            false => match tokio::time::timeout(timeout, next).await {
                Ok(found) => found,
                Err(_) => return Ok(None),
            },
        };
        match found {
            Ok(Some(cut)) => {
                let (ledger_id, previous) = (open.subscription.ledger_id(), cut.previous());
                open.after = cut.head();
                Ok(Some(Block { ledger_id, previous, events: cut.to_vec() }))
            }
            // It was closed: nothing will come, and whoever asks again is not to do so at once.
            Ok(None) => {
                tokio::time::sleep(timeout).await;
                Ok(None)
            }
            Err(error) => {
                self.open = None;
                Err(match error {
                    ReadError::UnknownHead { after } => FeedError::UnknownHead { after },
                    other => other.into(),
                })
            }
        }
    }
}

impl Feed for EngineFeed {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(self.follow(after, timeout))
    }

    fn past(
        &mut self,
        head: Head,
        identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        Box::pin(past_beside(self.ledger.data_dir().to_owned(), head, identity))
    }

    fn is_immediate(&self) -> bool {
        true
    }
}
