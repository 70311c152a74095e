//! A ledger that is at hand: the file that another process writes, or an engine of this one.

use std::path::{Path, PathBuf};

use daybook_ledger::{Ledger, Reader};
use daybook_schema::Head;
use tokio::sync::oneshot;

use crate::engine_feed::EngineFeed;
use crate::feed::{Feed, FeedError, Tail};

/// A ledger that is at hand.
#[derive(Clone, Debug)]
pub enum LocalLedger {
    /// The data directory of a ledger that another process writes, or nobody: it is looked at every
    /// 20 ms.
    File(PathBuf),
    /// An engine of this process: its events come the moment they are committed. Whoever follows it
    /// keeps it open.
    Engine(Ledger),
}

impl From<&Path> for LocalLedger {
    fn from(data_dir: &Path) -> Self {
        Self::File(data_dir.to_owned())
    }
}

impl From<&PathBuf> for LocalLedger {
    fn from(data_dir: &PathBuf) -> Self {
        Self::File(data_dir.clone())
    }
}

impl From<&Ledger> for LocalLedger {
    fn from(ledger: &Ledger) -> Self {
        Self::Engine(ledger.clone())
    }
}

impl LocalLedger {
    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        match self {
            Self::File(data_dir) => data_dir,
            Self::Engine(ledger) => ledger.data_dir(),
        }
    }

    /// Follows it.
    #[must_use]
    pub fn feed(&self) -> Box<dyn Feed> {
        match self {
            Self::File(data_dir) => Box::new(Tail::new(data_dir)),
            Self::Engine(ledger) => Box::new(EngineFeed::new(ledger.clone())),
        }
    }

    /// Its newest event.
    pub(crate) async fn head(&self) -> Result<Head, FeedError> {
        let data_dir = match self {
            Self::File(data_dir) => data_dir.clone(),
            Self::Engine(ledger) => return Ok(ledger.head()),
        };
        let (reply, answer) = oneshot::channel();
        let look = move || -> Result<Head, FeedError> { Ok(Reader::open(&data_dir)?.head()?) };
        std::thread::Builder::new()
            .name("daybook-head-of".to_owned())
            .spawn(move || drop(reply.send(look())))
            .map_err(|error| FeedError::Bus(error.to_string()))?;
        answer.await.map_err(|_| FeedError::Bus("the ledger's reader stopped".to_owned()))?
    }
}
