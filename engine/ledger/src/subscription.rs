//! Following a ledger from any seq through catch-up into live.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_schema::{Seq, StoredEvent};

use crate::database::DatabaseError;
use crate::reader::{ReadError, Reader};

use crate::shared::Shared;

/// How often a ledger that another process writes is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Events from a seq on: those that there are, then those that come, with no gap and no double.
///
/// What is delivered was committed, and is read back from the ledger with every link checked.
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
/// assert!(subscription.next_events(Duration::ZERO)?.is_empty());
/// ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.wait()?;
/// let events = subscription.next_events(Duration::from_secs(5))?;
/// assert_eq!(events.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    reader: Reader,
    next: Seq,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The ledger is written in this process, which tells of every commit.
    Engine(Arc<Shared>),
    /// Another process may write it: look again and again.
    File,
}

impl Subscription {
    /// Follows a ledger that another process writes.
    ///
    /// # Errors
    /// [`DatabaseError`] when the ledger cannot be opened.
    pub fn open(data_dir: &std::path::Path, from: Seq) -> Result<Self, DatabaseError> {
        Ok(Self { reader: Reader::open(data_dir)?, next: from, source: Source::File })
    }

    pub(crate) fn to_engine(reader: Reader, from: Seq, shared: Arc<Shared>) -> Self {
        Self { reader, next: from, source: Source::Engine(shared) }
    }

    /// The next events, at least one unless none came within the timeout.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger is damaged or cannot be read; nothing is skipped by it.
    pub fn next_events(&mut self, timeout: Duration) -> Result<Vec<StoredEvent>, ReadError> {
        let deadline = Instant::now() + timeout;
        loop {
            let events = self.reader.range(self.next, Seq::MAX)?;
            if let Some(last) = events.last() {
                self.next = last.header.seq.next();
                return Ok(events);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let more = match &self.source {
                Source::Engine(shared) => shared.wait_beyond(self.next.get() - 1, left),
                Source::File => {
                    std::thread::sleep(POLL_INTERVAL.min(left));
                    !left.is_zero()
                }
            };
            if !more {
                return Ok(Vec::new());
            }
        }
    }
}
