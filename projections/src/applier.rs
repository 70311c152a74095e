//! Applying blocks to a database: rows and position in one transaction.

use std::sync::Arc;

use daybook_schema::{Block, Epoch, Event, LedgerIdentity};
use sqlx::{Connection, SqliteConnection};

use crate::position::Position;
use crate::projection::{ApplyError, ProjectedEvent, Projection};

/// What became of events that were handed over.
pub(crate) enum Applied {
    /// They are committed.
    Committed(Position),
    /// Somebody else moved the position meanwhile: nothing was changed.
    Moved,
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

/// Applies events that follow a position, and commits the position after them with the rows.
pub(crate) async fn apply(
    database: &mut SqliteConnection,
    projection: &Arc<dyn Projection>,
    position: &Position,
    events: &[ProjectedEvent],
) -> Result<Applied, ApplyError> {
    let Some(last) = events.last() else { return Ok(Applied::Committed(*position)) };
    let mut transaction = database.begin_with("BEGIN IMMEDIATE").await?;
    let name = projection.name();
    let committed = Position::load(&mut transaction, name).await?;
    if committed.unwrap_or(Position::start(position.version)) != *position {
        transaction.rollback().await?;
        return Ok(Applied::Moved);
    }
    projection.apply(&mut transaction, events).await?;
    let after = Position {
        head: last.stored.head(),
        version: projection.version(),
        identity: Some(last.identity),
        recorded_at: last.stored.header.recorded_at,
    };
    after.store(&mut transaction, name).await?;
    transaction.commit().await?;
    Ok(Applied::Committed(after))
}
