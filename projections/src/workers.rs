//! All projections of a process, a worker each.

#[cfg(feature = "nats")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "nats")]
use daybook_ledger::VerifyingKey;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[cfg(feature = "nats")]
use crate::bus::{JetStreamFeed, NatsSettings};
use crate::database::GameDatabase;
use crate::feed::Feed;
use crate::filling_from_accounts::Filler;
use crate::game_file::FileLost;
use crate::local_ledger::LocalLedger;
use crate::position::Position;
use crate::projection::Projection;
use crate::shared_tail::SharedTail;
use crate::worker::{Step, Worker, WorkerError};

/// Workers that are told to stop get so long for it.
const STOP_MAX: Duration = Duration::from_secs(3);

/// Where the workers' events come from.
#[derive(Clone, Debug)]
pub enum FeedSource {
    /// A ledger that is at hand.
    Ledger(LocalLedger),
    /// JetStream, filled by a relay.
    #[cfg(feature = "nats")]
    JetStream {
        /// The server and its stream.
        settings: Box<NatsSettings>,
        /// Whose blocks are believed.
        key: VerifyingKey,
        /// The ledger's data directory, where it is at hand.
        data_dir: Option<PathBuf>,
    },
}

impl FeedSource {
    /// A ledger that is at hand: that of a data directory, or an engine of this process.
    pub fn ledger(ledger: impl Into<LocalLedger>) -> Self {
        Self::Ledger(ledger.into())
    }

    /// Feeds for projections that one process follows, one each.
    pub(crate) fn feeds(&self, projections: &[Arc<dyn Projection>]) -> Vec<Box<dyn Feed>> {
        match self {
            Self::Ledger(LocalLedger::File(data_dir)) => {
                let tails = SharedTail::several(data_dir, projections.len());
                tails.into_iter().map(|tail| Box::new(tail) as Box<dyn Feed>).collect()
            }
            _ => projections.iter().map(|projection| self.feed(projection.name())).collect(),
        }
    }

    /// A feed; its name is what a server knows it by, such as the projection's.
    #[must_use]
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "a bus has names"))]
    pub fn feed(&self, name: &str) -> Box<dyn Feed> {
        match self {
            Self::Ledger(ledger) => ledger.feed(),
            #[cfg(feature = "nats")]
            Self::JetStream { settings, key, data_dir } => {
                let feed = JetStreamFeed::new((**settings).clone(), *key, name);
                Box::new(match data_dir {
                    Some(data_dir) => feed.with_ledger(data_dir),
                    None => feed,
                })
            }
        }
    }
}

/// The workers of a process.
pub struct Workers {
    stop: watch::Sender<bool>,
    running: JoinSet<Result<(), FileLost>>,
}

impl Workers {
    /// Starts a worker for each projection.
    #[must_use]
    pub fn start(
        database: &GameDatabase,
        projections: &[Arc<dyn Projection>],
        source: &FeedSource,
    ) -> Self {
        let stop = watch::Sender::new(false);
        let mut running = JoinSet::new();
        for (projection, feed) in projections.iter().zip(source.feeds(projections)) {
            let worker = Worker::new(Arc::clone(projection), feed, database);
            running.spawn(worker.run(stop.subscribe()));
        }
        if let Some(accounts) = database.accounts() {
            running.spawn(Filler::new(accounts, database).run(stop.subscribe()));
        }
        Self { stop, running }
    }

    /// Waits until the file is lost to them: it was removed, another is in its place, it is
    /// malformed, or its tables were dropped. They write no more; the process should end, and the
    /// next makes the tables anew.
    pub async fn file_lost(&mut self) -> FileLost {
        loop {
            match self.running.join_next().await {
                Some(Ok(Err(lost))) => return lost,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Lets each finish its transaction, and ends. Who waits for a server or rebuilds is not waited
    /// for: what is not committed is rolled back, and begun again later.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let joined = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, joined).await.is_err() {
            self.running.shutdown().await;
        }
    }

    /// Applies all that there is, all projections at once, and tells how far each came. Of one that
    /// an event stopped it tells the beginning; [`status`](crate::status()) tells the event.
    ///
    /// # Errors
    /// The first [`WorkerError`] that one met.
    pub async fn catch_up(
        database: &GameDatabase,
        projections: &[Arc<dyn Projection>],
        source: &FeedSource,
    ) -> Result<Vec<Position>, WorkerError> {
        let mut running = JoinSet::new();
        let feeds = source.feeds(projections);
        for (index, (projection, feed)) in projections.iter().zip(feeds).enumerate() {
            let mut worker = Worker::new(Arc::clone(projection), feed, database);
            running.spawn(async move {
                let (caught_up, position) = (worker.catch_up().await, worker.position());
                worker.close().await;
                (index, caught_up, position)
            });
        }
        let mut positions = vec![Position::start(0); projections.len()];
        while let Some(joined) = running.join_next().await {
            let (index, caught_up, position) =
                joined.map_err(|error| WorkerError::Panicked(error.to_string()))?;
            let step: Step = caught_up?;
            if let (Some(place), Some(position), true) =
                (positions.get_mut(index), position, step != Step::Stopped)
            {
                *place = position;
            }
        }
        if let Some(accounts) = database.accounts() {
            Filler::new(accounts, database).fill().await?;
        }
        Ok(positions)
    }
}
