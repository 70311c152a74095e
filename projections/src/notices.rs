//! Live notices: who watches a season is told that something was committed in it, at most once.
//!
//! They say what there is to read, not what it is; nothing depends on one that is lost.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use daybook_schema::{Block, EventHash, EventKind, Head, SeasonId, StreamKind, limits};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::feed::{Feed, FeedError};
use crate::local_ledger::LocalLedger;

/// How long a follower waits for events at a time.
const WAIT: Duration = Duration::from_millis(500);

/// That a command was committed in a season.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The season.
    pub season_id: SeasonId,
    /// The command's newest event in the season; a read that stands for it shows all.
    pub seq: u64,
    /// That event's hash.
    pub hash: EventHash,
    /// What happened, in order.
    pub kinds: Vec<EventKind>,
}

/// The notices of a block: one for each command that has events of a season.
#[must_use]
pub fn notices_of(block: &Block) -> Vec<Notice> {
    let mut notices: Vec<Notice> = Vec::new();
    let mut is_new_command = true;
    for stored in &block.events {
        let header = &stored.header;
        is_new_command |= header.command.place == 0;
        if stored.event.kind().stream() != StreamKind::Season {
            continue;
        }
        let season_id = header.stream.as_season();
        let seq = header.seq.get();
        let kind = stored.event.kind();
        match notices.last_mut().filter(|last| !is_new_command && last.season_id == season_id) {
            Some(notice) => {
                (notice.seq, notice.hash) = (seq, stored.hash);
                notice.kinds.push(kind);
            }
            None => {
                notices.push(Notice { season_id, seq, hash: stored.hash, kinds: vec![kind] });
            }
        }
        is_new_command = false;
    }
    notices
}

/// Notices within a process, for those who watch a season over a connection of their own.
#[derive(Clone, Debug, Default)]
pub struct NoticeHub {
    seasons: Arc<Seasons>,
}

type Seasons = DashMap<SeasonId, broadcast::Sender<Notice>>;

/// Watches a season; dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Watch {
    season_id: SeasonId,
    notices: Option<broadcast::Receiver<Notice>>,
    seasons: Arc<Seasons>,
}

impl Watch {
    /// The next notice that is still there; who is slow misses older ones, and reads the season up
    /// to this one's seq.
    pub async fn next(&mut self) -> Option<Notice> {
        let notices = self.notices.as_mut()?;
        loop {
            match notices.recv().await {
                Ok(notice) => return Some(notice),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.notices = None;
        self.seasons.remove_if(&self.season_id, |_, season| season.receiver_count() == 0);
    }
}

impl NoticeHub {
    /// Watches a season from now on.
    #[must_use]
    pub fn watch(&self, season_id: SeasonId) -> Watch {
        let season = self.seasons.entry(season_id);
        let season = season.or_insert_with(|| broadcast::channel(limits::NOTICES_WAITING_MAX).0);
        let (notices, seasons) = (Some(season.subscribe()), Arc::clone(&self.seasons));
        Watch { season_id, notices, seasons }
    }

    /// How many seasons are watched.
    #[must_use]
    pub fn seasons_watched(&self) -> usize {
        self.seasons.len()
    }

    /// Tells those who watch.
    pub fn tell(&self, notice: Notice) {
        // Taken out of the map first: sending wakes watchers, who may come back to the map at once.
        let season = self.seasons.get(&notice.season_id).map(|season| season.clone());
        if let Some(season) = season {
            // Whoever watched may have gone this moment.
            drop(season.send(notice));
        }
    }

    /// Follows a ledger from its newest event on, for as long as it can be read.
    ///
    /// # Errors
    /// [`FeedError`] when it cannot.
    pub async fn follow(&self, ledger: impl Into<LocalLedger>) -> Result<(), FeedError> {
        let mut follower = Follower::start(&ledger.into()).await?;
        loop {
            follower.next().await?.into_iter().for_each(|notice| self.tell(notice));
        }
    }
}

#[cfg(feature = "nats")]
/// Publishes notices over core NATS on `season.<id>`; tried again when the ledger could not be
/// read.
pub(crate) async fn publish(ledger: LocalLedger, client: async_nats::Client) {
    loop {
        if let Err(error) = publish_from_now(&ledger, &client).await {
            tracing::warn!(%error, "no notices for now");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(feature = "nats")]
async fn publish_from_now(
    ledger: &LocalLedger,
    client: &async_nats::Client,
) -> Result<(), FeedError> {
    let mut follower = Follower::start(ledger).await?;
    loop {
        for notice in follower.next().await? {
            let subject = format!("season.{}", notice.season_id);
            if let Ok(notice) = serde_json::to_vec(&notice) {
                // At most once: what the server does not take is lost.
                drop(client.publish(subject, notice.into()).await);
            }
        }
    }
}

/// Follows a ledger from its newest event on.
struct Follower {
    feed: Box<dyn Feed>,
    head: Head,
}

impl Follower {
    async fn start(ledger: &LocalLedger) -> Result<Self, FeedError> {
        Ok(Self { feed: ledger.feed(), head: ledger.head().await? })
    }

    async fn next(&mut self) -> Result<Vec<Notice>, FeedError> {
        let block = self.feed.next(self.head, WAIT).await?;
        Ok(block.map_or_else(Vec::new, |block| {
            self.head = block.last();
            notices_of(&block)
        }))
    }
}
