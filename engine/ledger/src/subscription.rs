//! Following a ledger from any seq through catch-up into live.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_schema::{EventHash, Head, LedgerId, Seq, StoredEvent};

use crate::committed_events::{CommittedEvents, Cursor, Found, ListenerNumber};
use crate::database::DatabaseError;
use crate::event_cut::{Cut, Run};
use crate::reader::{ReadError, Reader};

/// How often a ledger that another process writes is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Events of an engine from a seq on: those that there are, then those that come, with no gap and
/// no double.
///
/// What is delivered was committed: the newest as the engine committed it, older events read back
/// from the ledger with every link checked. A subscription that waits holds no thread, no file and
/// a few hundred bytes. Subscriptions outlive the ledger's handles: they keep no engine open.
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
/// ledger.close().wait()?;
/// assert!(subscription.next_events(Duration::MAX)?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    events: Arc<CommittedEvents>,
    number: ListenerNumber,
    cursor: Cursor,
}

impl Subscription {
    pub(crate) fn new(events: Arc<CommittedEvents>, cursor: Cursor) -> Result<Self, DatabaseError> {
        let number = events.add_listener()?;
        Ok(Self { events, number, cursor })
    }

    /// Whose events they are.
    #[must_use]
    pub fn ledger_id(&self) -> LedgerId {
        self.events.ledger_id
    }

    /// The next events; none of them when none came within the timeout, and `None` when the ledger
    /// was closed or failed and all that was committed has been given. For sync code: it blocks.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger is damaged or cannot be read, and [`ReadError::UnknownHead`]
    /// when it does not have the head that was asked from; nothing is skipped by it.
    pub fn next_events(&mut self, timeout: Duration) -> Result<Option<Cut>, ReadError> {
        // One that lies beyond every clock is none.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            match self.events.find(self.cursor) {
                Found::Events(cut) => return Ok(Some(self.take(cut))),
                Found::Ended => return Ok(None),
                Found::Asked(answer) => {
                    let cut = answer.blocking_recv().map_err(|_| broke_off())??;
                    if !cut.is_empty() {
                        return Ok(Some(self.take(cut)));
                    }
                }
                Found::NotYet => {
                    if !self.events.wait_for(self.cursor.next, deadline) {
                        return Ok(Some(Cut::whole(self.nothing())));
                    }
                }
            }
        }
    }

    /// The next events, at least one; `None` when the ledger was closed or failed and all that was
    /// committed has been given. It may be dropped at any time: nothing is lost by it.
    ///
    /// # Errors
    /// As [`Self::next_events`].
    pub async fn next(&mut self) -> Result<Option<Cut>, ReadError> {
        loop {
            match self.events.find(self.cursor) {
                Found::Events(cut) => return Ok(Some(self.take(cut))),
                Found::Ended => return Ok(None),
                Found::Asked(answer) => {
                    let cut = answer.await.map_err(|_| broke_off())??;
                    if !cut.is_empty() {
                        return Ok(Some(self.take(cut)));
                    }
                }
                Found::NotYet => {
                    let Self { events, number, cursor } = &*self;
                    let _waiting = Waiting { events, number: *number };
                    poll_fn(|context| events.poll_for(cursor.next, *number, context)).await;
                }
            }
        }
    }

    fn take(&mut self, cut: Cut) -> Cut {
        self.cursor = Cursor::after(cut.head());
        cut
    }

    /// A run without events.
    fn nothing(&self) -> Run {
        let before = Head { seq: self.cursor.next.get() - 1, hash: EventHash::new([0; 32]) };
        Run { previous: self.cursor.after.unwrap_or(before), events: Vec::new() }
    }
}

fn broke_off() -> ReadError {
    ReadError::BrokeOff { reason: "the thread that reads ended".to_owned() }
}

/// Leaves no waker behind, also where the wait is given up.
struct Waiting<'a> {
    events: &'a CommittedEvents,
    number: ListenerNumber,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.events.forget_waker(self.number);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.events.remove_listener(self.number);
    }
}

/// Follows the file of a ledger that another process writes, from a seq on; it is looked at every
/// 20 ms.
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
