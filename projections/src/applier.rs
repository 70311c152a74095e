//! Applying blocks to a database: folded while others may write, then rows and position in one
//! transaction.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use daybook_schema::{Block, Epoch, Event, Head, LedgerId, LedgerIdentity, limits};
use futures_util::FutureExt;
use sqlx::{Connection, SqliteConnection};

use crate::feed::{Feed, FeedError};
use crate::position::{Position, other_ledger};
use crate::projection::{ApplyError, Changes, ProjectedEvent, Projection};

/// How long the block after one is waited for: small ones are applied together.
const MORE: Duration = Duration::from_millis(2);

/// Runs foreign code; gives what it panicked with.
pub(crate) async fn contained<T>(foreign: impl Future<Output = T>) -> Result<T, String> {
    let caught = AssertUnwindSafe(foreign).catch_unwind().await;
    caught.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "it told no reason".to_owned())
    })
}

/// Why events were not applied. Nothing was changed.
pub(crate) enum Refused {
    /// Somebody else moved the position, or made the tables anew, meanwhile.
    Moved,
    /// The file holds read models of this other ledger.
    AnotherLedger(LedgerId),
    /// They could not be.
    Failed(ApplyError),
}

impl From<ApplyError> for Refused {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Blocks that follow a head, as many as one transaction takes.
pub(crate) struct Fetched {
    pub(crate) after: Head,
    pub(crate) blocks: Vec<Block>,
    events: usize,
    events_max: usize,
    /// Whether there is likely to be more.
    pub(crate) is_full: bool,
}

impl Fetched {
    /// What a worker applies at once.
    pub(crate) async fn next(
        feed: &mut dyn Feed,
        after: Head,
        timeout: Duration,
    ) -> Result<Self, FeedError> {
        Self::up_to(limits::EVENTS_PER_APPLY_MAX, feed, after, timeout).await
    }

    /// Waits for a block, and takes those that follow it at once.
    pub(crate) async fn up_to(
        events_max: usize,
        feed: &mut dyn Feed,
        after: Head,
        timeout: Duration,
    ) -> Result<Self, FeedError> {
        let mut fetched = Self { after, blocks: Vec::new(), events: 0, events_max, is_full: false };
        let mut wait = timeout;
        while !fetched.is_full && fetched.add(feed, wait).await? {
            wait = timeout.min(MORE);
        }
        Ok(fetched)
    }

    /// Waits for a block, and takes those that are there already.
    pub(crate) async fn next_ready(
        feed: &mut dyn Feed,
        after: Head,
        timeout: Duration,
    ) -> Result<Self, FeedError> {
        let events_max = limits::EVENTS_PER_APPLY_MAX;
        let mut fetched = Self { after, blocks: Vec::new(), events: 0, events_max, is_full: false };
        let mut wait = timeout;
        while !fetched.is_full && fetched.add(feed, wait).await? {
            wait = Duration::ZERO;
        }
        Ok(fetched)
    }

    /// Waits for one more block; tells whether one came.
    pub(crate) async fn add(
        &mut self,
        feed: &mut dyn Feed,
        timeout: Duration,
    ) -> Result<bool, FeedError> {
        let Some(block) = feed.next(self.last(), timeout).await? else { return Ok(false) };
        self.events += block.events.len();
        self.blocks.push(block);
        self.is_full = self.events >= self.events_max;
        Ok(true)
    }

    /// The newest event, or what they begin after.
    pub(crate) fn last(&self) -> Head {
        self.blocks.last().map_or(self.after, Block::last)
    }
}

/// The events of blocks, with the ledger's identity at each.
pub(crate) fn projected(position: &Position, blocks: Vec<Block>) -> Vec<ProjectedEvent> {
    let mut identity = position.identity;
    let mut projected = Vec::with_capacity(blocks.iter().map(|block| block.events.len()).sum());
    for block in blocks {
        let first = LedgerIdentity { ledger_id: block.ledger_id, epoch: Epoch::FIRST };
        let identity = identity.get_or_insert(first);
        for stored in block.events {
            if let Event::LedgerRestored(restored) = &stored.event {
                identity.epoch = restored.epoch;
            }
            projected.push(ProjectedEvent { stored, identity: *identity });
        }
    }
    projected
}

/// What events change that follow a position, not written yet.
pub(crate) struct Folded {
    changes: Box<dyn Changes>,
    before: Position,
    after: Position,
    ledger_id: LedgerId,
    schema: i64,
}

/// Folds one or more events that follow a position.
pub(crate) async fn fold(
    database: &mut SqliteConnection,
    projection: &dyn Projection,
    position: &Position,
    events: &[ProjectedEvent],
) -> Result<Folded, Refused> {
    let last = events.last().ok_or(Refused::Moved)?;
    let after = Position {
        head: last.stored.head(),
        version: projection.version(),
        identity: Some(last.identity),
        recorded_at: last.stored.header.recorded_at,
    };
    let ledger_id = last.identity.ledger_id;
    // All that is read is of one moment, and at that moment the position is this one.
    let mut reading = database.begin().await?;
    let schema = check(&mut reading, projection.name(), position, ledger_id).await?;
    let written = rows_written(&mut reading).await?;
    // Within the call and within what it gives: a panic of either is the projection's own.
    let folding = async { projection.fold(&mut reading, events).await };
    let changes = contained(folding).await.map_err(ApplyError::Panicked)??;
    // What it wrote would be undone here, and be missing from then on.
    if rows_written(&mut reading).await? != written {
        return Err(ApplyError::WroteInFold.into());
    }
    reading.rollback().await?;
    Ok(Folded { changes, before: *position, after, ledger_id, schema })
}

/// Writes what was folded, and commits the position after it with the rows. What was read holds
/// where the position is still the one before, and no migration or rebuild came between: each of
/// these changes the schema's version.
pub(crate) async fn write(
    database: &mut SqliteConnection,
    name: &'static str,
    folded: Folded,
) -> Result<Position, Refused> {
    let Folded { changes, before, after, ledger_id, schema } = folded;
    let mut transaction = database.begin_with("BEGIN IMMEDIATE").await?;
    if check(&mut transaction, name, &before, ledger_id).await? != schema {
        return Err(Refused::Moved);
    }
    let writing = async { changes.write(&mut transaction).await };
    contained(writing).await.map_err(ApplyError::Panicked)??;
    after.store(&mut transaction, name).await?;
    transaction.commit().await?;
    Ok(after)
}

/// That a projection's position, as it is committed, is this one, and that the file is of no other
/// ledger. Gives the version of the file's schema.
async fn check(
    database: &mut SqliteConnection,
    name: &str,
    position: &Position,
    ledger_id: LedgerId,
) -> Result<i64, Refused> {
    let committed = Position::load(database, name).await?;
    if committed.unwrap_or(Position::start(position.version)) != *position {
        return Err(Refused::Moved);
    }
    if let Some(holds) = other_ledger(database, ledger_id).await? {
        return Err(Refused::AnotherLedger(holds));
    }
    Ok(sqlx::query_scalar("PRAGMA schema_version").fetch_one(database).await?)
}

/// How many rows a connection has written since it was opened.
async fn rows_written(database: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT total_changes()").fetch_one(database).await
}
