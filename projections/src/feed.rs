//! Where a projection's events come from: one trait, and the ledger's own tail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_ledger::{DatabaseError, ReadError, Reader, Subscription, ledger_path};
use daybook_schema::{Block, Head, LedgerId, Seq};
use futures_util::future::BoxFuture;

/// Events could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The ledger does not have the head that was asked from: it was put back from an older copy, or the
    /// read models are of another ledger.
    #[error("the ledger does not have the head {after}")]
    Diverged {
        /// What was asked from.
        after: Head,
    },
    /// The ledger is damaged, or cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] ReadError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// The bus did not give them; it may later.
    #[error("{0}")]
    Bus(String),
}

/// Which file a path names: a file that was put in the place of another is another one.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Gives a projection the events after the one that it has applied.
///
/// Every event that is given MUST be committed, and MUST be chained to the one before it; the first is
/// chained to the head that was asked from. What was given once may be asked for again.
pub trait Feed: Send {
    /// The events after `after`, at least one unless none came within the timeout. The head with seq 0 is
    /// the ledger's beginning, whatever its hash.
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>>;
}

/// The ledger's own tail: no server, the default.
#[derive(Debug)]
pub struct Tail {
    data_dir: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    reader: Reader,
    subscription: Subscription,
    /// What the subscription goes on after.
    after: Head,
    /// The ledger's file.
    file: Option<FileId>,
}

impl Tail {
    /// Follows the ledger of a data directory; it is opened when it is first asked.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), open: None }
    }

    /// Runs a look at the ledger on a thread that may wait.
    async fn look<T: Send + 'static>(
        &mut self,
        look: impl FnOnce(&Path, &mut Option<Open>) -> Result<T, FeedError> + Send + 'static,
    ) -> Result<T, FeedError> {
        let data_dir = self.data_dir.clone();
        let mut open = self.open.take();
        let waited = tokio::task::spawn_blocking(move || {
            let looked = look(&data_dir, &mut open);
            (looked, open)
        });
        let (looked, open) =
            waited.await.map_err(|_| FeedError::Bus("the ledger's reader stopped".to_owned()))?;
        self.open = open;
        looked
    }
}

impl Open {
    fn new(data_dir: &Path, after: Head) -> Result<Self, FeedError> {
        let file = file_id(&ledger_path(data_dir));
        let reader = Reader::open(data_dir)?;
        let after = if after.seq == 0 { reader.genesis_head() } else { after };
        if !reader.has(after)? {
            return Err(FeedError::Diverged { after });
        }
        let from = Seq::new(after.seq.saturating_add(1)).unwrap_or(Seq::MAX);
        let subscription = Subscription::open(data_dir, from)?;
        Ok(Self { reader, subscription, after, file })
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<Block>, FeedError> {
        let events = self.subscription.next_events(timeout)?;
        let block = Block { ledger_id: self.ledger_id(), previous: self.after, events };
        self.after = block.last();
        Ok(Some(block).filter(|block| !block.events.is_empty()))
    }

    const fn ledger_id(&self) -> LedgerId {
        self.reader.genesis().ledger_id
    }
}

impl Feed for Tail {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(self.look(move |data_dir, open| {
            let goes_on =
                |open: &Open| open.after == after || after.seq == 0 && open.after.seq == 0;
            let mut current = match open.take().filter(goes_on) {
                Some(current) => current,
                None => Open::new(data_dir, after)?,
            };
            let block = current.next(timeout)?;
            // A ledger that was put in this one's place is opened, and asked, by the next call.
            if block.is_some() || current.file == file_id(&ledger_path(data_dir)) {
                *open = Some(current);
            }
            Ok(block)
        }))
    }
}
