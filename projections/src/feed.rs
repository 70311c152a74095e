//! Where a projection's events come from: one trait, and the ledger's own tail.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use daybook_ledger::{DatabaseError, Follower, ReadError, Reader, Standing, ledger_path};
use daybook_schema::{Block, Head, LedgerId, LedgerIdentity, Seq};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::position::Position;

/// Events could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The ledger does not have the head that was asked from; [`Feed::past`] tells why.
    #[error("the ledger does not have the head {after}")]
    UnknownHead {
        /// What was asked from.
        after: Head,
    },
    /// The ledger lacks what read models stand for, and nobody accepted the loss.
    #[error("{}", lost(name, head, has.as_ref()))]
    Lost {
        /// The projection.
        name: String,
        /// What its rows stand for.
        head: Head,
        /// What the ledger has, where that was told: its newest event, or the one at the head's
        /// seq.
        has: Option<Head>,
    },
    /// The read models are of another ledger.
    #[error(
        "the read models are of ledger {holds} (so says the position of `{name}`), not of {given}"
    )]
    AnotherLedger {
        /// The projection.
        name: String,
        /// Whose they are.
        holds: LedgerId,
        /// Whose events were given.
        given: LedgerId,
    },
    /// The ledger is damaged, or cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] ReadError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// A newer version of Daybook wrote events that this one does not know.
    #[error("{0}; use that version here too")]
    Newer(String),
    /// The bus did not give them; it may later.
    #[error("{0}")]
    Bus(String),
}

/// Says that a ledger lacks a head.
fn lost(name: &str, head: &Head, has: Option<&Head>) -> String {
    let found = match has {
        Some(has) if has.seq < head.seq => format!("the ledger ends at {has}"),
        Some(has) => format!("the ledger has {has}"),
        None => "the ledger does not have it".to_owned(),
    };
    format!(
        "`{name}` stands for {head}, and {found}: nothing is changed, for this may be the last that tells of \
         lost events"
    )
}

/// What became of a head that read models stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// The ledger has it.
    Held,
    /// The ledger lacks it, and that was accepted.
    Accepted,
    /// The ledger lacks it.
    Lost {
        /// What it has, where that is told: its newest event, or the one at the head's seq.
        has: Option<Head>,
    },
    /// It is another ledger.
    AnotherLedger {
        /// Which one.
        given: LedgerId,
    },
}

/// Whether the ledger went on without a position: its rows may then be made anew, and else not.
///
/// # Errors
/// [`FeedError::Lost`] and [`FeedError::AnotherLedger`]: they wait for the operator.
pub(crate) async fn is_outlived(
    feed: &mut dyn Feed,
    name: &str,
    position: &Position,
) -> Result<bool, FeedError> {
    let Some(identity) = position.identity else { return Ok(false) };
    let (name, head) = (name.to_owned(), position.head);
    match feed.past(head, identity).await? {
        Past::Held => Ok(false),
        Past::Accepted => Ok(true),
        Past::Lost { has } => Err(FeedError::Lost { name, head, has }),
        Past::AnotherLedger { given } => {
            Err(FeedError::AnotherLedger { name, holds: identity.ledger_id, given })
        }
    }
}

/// Which file a path names: a file that was put in the place of another is another one.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// When a wait ends; one that lies beyond every clock ends far away.
pub(crate) fn deadline(timeout: Duration) -> tokio::time::Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    let now = tokio::time::Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + FAR)
}

/// Gives a projection the events after the one that it has applied.
///
/// Every event that is given MUST be committed, and MUST be chained to the one before it; the first
/// is chained to the head that was asked from. What was given once may be asked for again.
pub trait Feed: Send {
    /// The events after `after`, at least one unless none came within the timeout. The head with
    /// seq 0 is the ledger's beginning, whatever its hash.
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>>;

    /// What became of a head of a ledger in an epoch: rows that stand for a lost one are the last
    /// that tells of it, unless the loss was accepted. A feed that cannot tell that an accepted
    /// loss is one says [`Past::Lost`], as this does.
    fn past(
        &mut self,
        head: Head,
        _identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        let next = self.next(head, Duration::ZERO);
        Box::pin(async move {
            match next.await {
                Ok(_) => Ok(Past::Held),
                Err(FeedError::UnknownHead { .. }) => Ok(Past::Lost { has: None }),
                Err(error) => Err(error),
            }
        })
    }

    /// Whether events come one by one, the moment they are committed: then those of a few
    /// milliseconds are gathered, unless somebody waits for them.
    fn is_immediate(&self) -> bool {
        false
    }
}

/// How often a thread that waits for events looks whether anybody waits for it still.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The ledger's own tail: no server, the default.
///
/// It is read by a thread of its own, which ends with it: what else the process does on threads
/// that may wait cannot hold it up.
#[derive(Debug)]
pub struct Tail {
    data_dir: PathBuf,
    asks: Option<Sender<Ask>>,
}

/// What the thread is asked.
struct Ask {
    after: Head,
    timeout: Duration,
    reply: oneshot::Sender<Result<Option<Block>, FeedError>>,
}

#[derive(Debug)]
struct Open {
    follower: Follower,
    /// What it goes on after.
    after: Head,
    /// The ledger's file.
    file: Option<FileId>,
}

impl Tail {
    /// Follows the ledger of a data directory; it is opened when it is first asked.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), asks: None }
    }

    async fn ask(&mut self, after: Head, timeout: Duration) -> Result<Option<Block>, FeedError> {
        let stopped = || FeedError::Bus("the thread that reads the ledger stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let asks = match self.asks.take() {
            Some(asks) => asks,
            None => self.start().map_err(|error| FeedError::Bus(error.to_string()))?,
        };
        asks.send(Ask { after, timeout, reply }).map_err(|_| stopped())?;
        // Kept before the answer is waited for: a caller that goes away comes back to the same
        // thread.
        self.asks = Some(asks);
        match answer.await {
            Ok(answer) => answer,
            Err(_) => {
                // The next call starts another.
                self.asks = None;
                Err(stopped())
            }
        }
    }

    fn start(&self) -> std::io::Result<Sender<Ask>> {
        let (asks, asked) = channel::<Ask>();
        let data_dir = self.data_dir.clone();
        std::thread::Builder::new().name("daybook-tail".to_owned()).spawn(move || {
            let mut open = None;
            while let Ok(Ask { after, timeout, reply }) = asked.recv() {
                let waits = || !reply.is_closed();
                let found = look(&data_dir, &mut open, after, timeout, &waits);
                // What nobody takes is asked for again.
                drop(reply.send(found));
            }
        })?;
        Ok(asks)
    }
}

/// The events after a head, waited for as long as somebody does.
fn look(
    data_dir: &Path,
    open: &mut Option<Open>,
    after: Head,
    timeout: Duration,
    waits: &dyn Fn() -> bool,
) -> Result<Option<Block>, FeedError> {
    let goes_on = |open: &Open| open.after == after || after.seq == 0 && open.after.seq == 0;
    let mut current = match open.take().filter(goes_on) {
        Some(current) => current,
        None => Open::new(data_dir, after)?,
    };
    let deadline = Instant::now().checked_add(timeout);
    let block = loop {
        let left = deadline.map_or(LOOK_EVERY, |at| at.saturating_duration_since(Instant::now()));
        let block = current.next(left.min(LOOK_EVERY))?;
        if block.is_some() || left.is_zero() || !waits() {
            break block;
        }
    };
    // A ledger that was put in this one's place is opened, and asked, by the next call.
    if block.is_some() || current.file == file_id(&ledger_path(data_dir)) {
        *open = Some(current);
    }
    Ok(block)
}

impl Open {
    fn new(data_dir: &Path, after: Head) -> Result<Self, FeedError> {
        let file = file_id(&ledger_path(data_dir));
        let reader = Reader::open(data_dir)?;
        let after = if after.seq == 0 { reader.genesis_head() } else { after };
        if !reader.has(after)? {
            return Err(FeedError::UnknownHead { after });
        }
        let from = Seq::new(after.seq.saturating_add(1)).unwrap_or(Seq::MAX);
        Ok(Self { follower: Follower::new(reader, from), after, file })
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<Block>, FeedError> {
        let events = self.follower.next_events(timeout)?;
        let ledger_id = self.follower.reader().genesis().ledger_id;
        let block = Block { ledger_id, previous: self.after, events };
        self.after = block.last();
        Ok(Some(block).filter(|block| !block.events.is_empty()))
    }
}

/// What a ledger that is at hand says of a head.
pub(crate) fn past_in(
    data_dir: &Path,
    head: Head,
    identity: LedgerIdentity,
) -> Result<Past, FeedError> {
    let reader = Reader::open(data_dir)?;
    let given = reader.genesis().ledger_id;
    if given != identity.ledger_id {
        return Ok(Past::AnotherLedger { given });
    }
    Ok(match reader.standing(head, Some(identity.epoch))? {
        Standing::Held => Past::Held,
        Standing::Accepted { .. } => Past::Accepted,
        Standing::Lost { has } => Past::Lost { has: Some(has) },
    })
}

impl Feed for Tail {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(self.ask(after, timeout))
    }

    fn past(
        &mut self,
        head: Head,
        identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        Box::pin(past_beside(self.data_dir.clone(), head, identity))
    }
}

/// The same on a thread of its own: what else the process does on threads that may wait cannot hold
/// it up.
pub(crate) async fn past_beside(
    data_dir: PathBuf,
    head: Head,
    identity: LedgerIdentity,
) -> Result<Past, FeedError> {
    let (reply, answer) = oneshot::channel();
    std::thread::Builder::new()
        .name("daybook-past".to_owned())
        .spawn(move || drop(reply.send(past_in(&data_dir, head, identity))))
        .map_err(|error| FeedError::Bus(error.to_string()))?;
    let stopped = || FeedError::Bus("the thread that looks into the ledger stopped".to_owned());
    answer.await.map_err(|_| stopped())?
}
