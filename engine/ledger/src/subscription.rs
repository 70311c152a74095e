//! Following a ledger from any seq through catch-up into live.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_schema::{Seq, StoredEvent};

use crate::database::DatabaseError;
use crate::live::{Found, ListenerNumber, Live};
use crate::reader::{ReadError, Reader};

/// How often a ledger that another process writes is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Consecutive events, shared by all who follow.
#[derive(Clone, Debug)]
pub struct Cut {
    events: Arc<[StoredEvent]>,
    first: usize,
}

impl Cut {
    pub(crate) fn new(events: Arc<[StoredEvent]>, first: usize) -> Self {
        Self { events, first }
    }

    fn none() -> Self {
        Self::new(Arc::default(), 0)
    }
}

impl Deref for Cut {
    type Target = [StoredEvent];

    fn deref(&self) -> &[StoredEvent] {
        self.events.get(self.first..).unwrap_or_default()
    }
}

/// Events of an engine from a seq on: those that there are, then those that come, with no gap and no double.
///
/// What is delivered was committed, and is read back from the ledger with every link checked. A subscription
/// that waits holds no thread, no file and a few hundred bytes.
///
/// ```
/// # use daybook_ledger::{Ledger, NewLedger, Options, Submission};
/// # use daybook_schema::{StoredEvent, Command, Seq};
/// # use daybook_simulator::{Keyring, SeasonKey};
/// # use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let key = SeasonKey::new([7; 32]);
/// # let key_id = key.key_id();
/// # let options = Options::new(directory.path(), Keyring::new([key])).create(NewLedger::random());
/// # let ledger = Ledger::open(options)?;
/// let mut subscription = ledger.subscribe(Seq::MIN)?;
/// let nothing = subscription.next_events(Duration::ZERO)?.ok_or("the ledger was closed")?;
/// assert!(nothing.is_empty());
/// ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.wait()?;
/// // In async code: subscription.next().await?
/// let events = subscription.next_events(Duration::from_secs(5))?.ok_or("the ledger was closed")?;
/// assert_eq!(events.len(), 1);
/// ledger.close()?;
/// assert!(subscription.next_events(Duration::MAX)?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    live: Arc<Live>,
    number: ListenerNumber,
    next: Seq,
}

impl Subscription {
    pub(crate) fn new(live: Arc<Live>, from: Seq) -> Result<Self, DatabaseError> {
        let number = live.add_listener()?;
        Ok(Self { live, number, next: from })
    }

    /// The next events; none of them when none came within the timeout, and `None` when the ledger was closed
    /// or failed and all that was committed has been given. For sync code: it blocks.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger is damaged or cannot be read; nothing is skipped by it.
    pub fn next_events(&mut self, timeout: Duration) -> Result<Option<Cut>, ReadError> {
        // One that lies beyond every clock is none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            match self.live.find(self.next)? {
                Found::Events(cut) => return Ok(Some(self.take(cut))),
                Found::Ended => return Ok(None),
                Found::Asked(answer) => {
                    let read = answer.blocking_recv().map_err(|_| broke_off())??;
                    if let Some(cut) = self.take_read(read) {
                        return Ok(Some(cut));
                    }
                }
                Found::NotYet => {
                    if !self.live.wait_for(self.next, deadline) {
                        return Ok(Some(Cut::none()));
                    }
                }
            }
        }
    }

    /// The next events, at least one; `None` when the ledger was closed or failed and all that was committed
    /// has been given. It may be dropped at any time: nothing is lost by it.
    ///
    /// # Errors
    /// As [`Self::next_events`].
    pub async fn next(&mut self) -> Result<Option<Cut>, ReadError> {
        loop {
            match self.live.find(self.next)? {
                Found::Events(cut) => return Ok(Some(self.take(cut))),
                Found::Ended => return Ok(None),
                Found::Asked(answer) => {
                    let read = answer.await.map_err(|_| broke_off())??;
                    if let Some(cut) = self.take_read(read) {
                        return Ok(Some(cut));
                    }
                }
                Found::NotYet => {
                    let _waiting = Waiting { live: &self.live, number: self.number };
                    poll_fn(|context| self.live.poll_for(self.next, (self.number, context))).await;
                }
            }
        }
    }

    fn take(&mut self, cut: Cut) -> Cut {
        if let Some(last) = cut.last() {
            self.next = last.header.seq.next();
        }
        cut
    }

    fn take_read(&mut self, read: Vec<StoredEvent>) -> Option<Cut> {
        (!read.is_empty()).then(|| self.take(Cut::new(read.into(), 0)))
    }
}

fn broke_off() -> ReadError {
    ReadError::BrokeOff { reason: "the thread that reads ended".to_owned() }
}

/// Leaves no waker behind, also where the wait is given up.
struct Waiting<'a> {
    live: &'a Live,
    number: ListenerNumber,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.live.forget_waker(self.number);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.live.remove_listener(self.number);
    }
}

/// Follows the file of a ledger that another process writes, from a seq on; it is looked at every 20 ms.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    next: Seq,
}

impl Follower {
    /// Follows a ledger with a reader of its own.
    #[must_use]
    pub const fn new(reader: Reader, from: Seq) -> Self {
        Self { reader, next: from }
    }

    /// What reads the file.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The next events, at least one unless none came within the timeout. It blocks.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger is damaged or cannot be read; nothing is skipped by it.
    pub fn next_events(&mut self, timeout: Duration) -> Result<Vec<StoredEvent>, ReadError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let events = self.reader.range(self.next, Seq::MAX)?;
            if let Some(last) = events.last() {
                self.next = last.header.seq.next();
                return Ok(events);
            }
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Vec::new());
            }
            std::thread::sleep(POLL_INTERVAL.min(left));
        }
    }
}
