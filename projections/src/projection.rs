//! What a read model is: the one trait to write for a new one.

use daybook_schema::{EventKind, LedgerIdentity, Seq, StoredEvent};
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

/// An event, with the ledger and epoch that derived ids come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectedEvent {
    /// The event as stored.
    pub stored: StoredEvent,
    /// The ledger and its epoch when the event was recorded.
    pub identity: LedgerIdentity,
}

/// Events could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An event tells something that the projection's tables cannot take: asking again is of no
    /// use.
    #[error("{kind} at seq {seq}: {reason}")]
    Event {
        /// The event.
        seq: Seq,
        /// Its kind.
        kind: EventKind,
        /// What does not fit.
        reason: String,
    },
    /// The projection wrote before it was its turn.
    #[error("the projection wrote in `fold`; what it writes belongs into `Changes::write`")]
    WroteInFold,
    /// The projection's own code panicked.
    #[error("the projection panicked: {0}")]
    Panicked(String),
    /// SQLite could not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// What the projection itself stored cannot be read back.
    #[error("what the projection stored cannot be read back: {0}")]
    Stored(#[from] serde_json::Error),
}

impl ApplyError {
    /// That an event does not fit.
    #[must_use]
    pub fn event(event: &ProjectedEvent, reason: impl Into<String>) -> Self {
        let (seq, kind) = (event.stored.header.seq, event.stored.event.kind());
        Self::Event { seq, kind, reason: reason.into() }
    }
}

/// Whether the same may succeed later: the database was busy, its disk full or away.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // SQLite's primary result codes: BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN.
            let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
            matches!(code & 0xff, 5 | 6 | 7 | 9 | 10 | 13 | 14)
        }
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

pub(crate) fn is_disk_full(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code == "13"))
}

/// Events that our projections fold before they give way to other tasks.
pub(crate) const EVENTS_PER_TURN: usize = 2_048;

/// A read model: tables that are a function of the ledger.
///
/// The worker hands over events in the ledger's order, each exactly once as far as the tables can
/// tell: rows and position are committed in one transaction. Where the events are cut MUST NOT
/// matter: to fold and write `a` and then `b` must leave the same rows as `a + b` does.
/// [`crate::test_kit`] holds a projection to that.
///
/// So that a rebuild gives the same rows, these come from the events alone: no clock, no
/// randomness. `examples/lucky_pots.rs` is a whole one.
pub trait Projection: Send + Sync {
    /// Its name, under which its position is kept. `daybook projections` knows those of Daybook; a
    /// program of yours asks [`crate::status()`] and [`crate::rebuild()`] for your own.
    fn name(&self) -> &'static str;

    /// Raised whenever the rows would come out differently: the tables are then rebuilt by
    /// themselves.
    fn version(&self) -> u32;

    /// The tables that are its own, parents before children: emptied and filled by a rebuild.
    fn tables(&self) -> &'static [&'static str];

    /// Makes the tables where they are missing, for a projection whose tables no migration makes. A
    /// table's primary key must be enough for all that is looked up in it: while it is rebuilt a
    /// table has no other index.
    fn schema(&self) -> &'static str {
        ""
    }

    /// Tables of others that it reads, or adds rows to where they are missing, such as `users`.
    fn shared_tables(&self) -> &'static [&'static str] {
        &[]
    }

    /// Statements for what the tables take from elsewhere than the ledger; run when a rebuild is
    /// put in place.
    fn after_rebuild(&self) -> &'static [&'static str] {
        &[]
    }

    /// Folds consecutive events into what they change, and writes nothing yet. Others may write to
    /// the file meanwhile. So it may read what it wrote itself, and nothing that comes from
    /// elsewhere: neither tables of others nor columns that others fill. Give way now and then
    /// (`tokio::task::yield_now`) where there are many events: other tasks share the thread.
    ///
    /// # Errors
    /// [`ApplyError`]; then nothing is written. An event that cannot be applied stops this
    /// projection alone.
    fn fold<'a>(
        &'a self,
        database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>>;
}

/// What events change in a projection's tables.
pub trait Changes: Send {
    /// Writes it, inside the worker's transaction, while nobody else writes to the file: what comes
    /// from other tables is read here. SQLite need not check foreign keys meanwhile, and nothing may
    /// cascade among the projection's own tables; a rebuild checks them at its end.
    ///
    /// # Errors
    /// [`ApplyError`]; the transaction is then rolled back. An event that cannot be applied stops
    /// this projection alone.
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>>;
}
