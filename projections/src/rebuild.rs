//! Making projections' tables anew from the ledger's beginning, beside the live ones.
//!
//! The new tables of a projection grow in a file of its own, without indexes. When they have caught
//! up they go over into `game.db` in one transaction, where the indexes are built at the end:
//! readers see the old rows or the new ones. A rebuild that was killed goes on from where it was.
//! Several projections are made anew in one pass: each event is read, checked and decoded once for
//! all of them.

mod error;
mod growing_tables;
mod put_in_place;

use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_schema::limits;
use futures_util::future::try_join_all;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::applier::{self, Fetched};
use crate::database::{GameDatabase, WriterConnection};
use crate::feed::{Feed, FeedError, is_outlived};
use crate::position::Position;
use crate::projection::{ProjectedEvent, Projection, is_disk_full};
pub use error::RebuildError;
use growing_tables::{GrowingTables, Lock};
pub(crate) use growing_tables::{files, make_tables, progress, remove_files};
use put_in_place::Placed;

/// Live tables that have come further than the new ones show that there is more: it is waited for
/// so long before it is looked for again.
const MORE: Duration = Duration::from_millis(100);

/// What a rebuild did.
#[derive(Clone, Copy, Debug)]
pub struct Rebuilt {
    /// The projection.
    pub name: &'static str,
    /// What the tables stand for now.
    pub position: Position,
    /// How long it took until they were in place.
    pub seconds: f64,
}

/// Makes projections' tables anew, all in one pass, and puts them in the place of the live ones,
/// each projection's in a transaction of its own; each is named once. Tells of them in the order in
/// which they were put in place.
///
/// # Errors
/// [`RebuildError`], the first; then the live tables that were not replaced before it are as they
/// were, and a later rebuild goes on from where this one was.
pub async fn rebuild(
    database: &GameDatabase,
    projections: &[Arc<dyn Projection>],
    feed: &mut dyn Feed,
) -> Result<Vec<Rebuilt>, RebuildError> {
    let started = Instant::now();
    let mut growing = Vec::with_capacity(projections.len());
    // In the same order by whomever: of two that meet one goes on.
    let mut projections: Vec<&Arc<dyn Projection>> = projections.iter().collect();
    projections.sort_unstable_by_key(|projection| projection.name());
    let mut locks = Vec::with_capacity(projections.len());
    for projection in &projections {
        locks.push(Lock::take(database, projection.name()).await?);
    }
    for (projection, lock) in projections.iter().zip(locks) {
        check_witnesses(database, projection.name(), feed).await?;
        growing.push(GrowingTables::open(database, projection, lock).await?);
    }
    let mut placed = Vec::with_capacity(projections.len());
    let outcome = place_all(growing, database, started, feed, &mut placed).await;
    // Readers see the new tables, and others may write again while this is cleared up.
    let (mut rebuilt, mut cleared) = (Vec::with_capacity(placed.len()), Ok(()));
    for (report, live, beside) in placed {
        let (folded, removed) = tokio::join!(fold_log(live), beside.remove());
        cleared = cleared.and(folded.map_err(RebuildError::from)).and(removed.map(drop));
        rebuilt.push(report);
    }
    match outcome.and(cleared) {
        Ok(()) => Ok(rebuilt),
        Err(RebuildError::Database(error)) => {
            database.judge(&error).await?;
            Err(error.into())
        }
        Err(error) => Err(error),
    }
}

/// Lets new tables catch up and puts them in place, until all are.
async fn place_all(
    mut growing: Vec<GrowingTables>,
    database: &GameDatabase,
    started: Instant,
    feed: &mut dyn Feed,
    placed: &mut Vec<(Rebuilt, WriterConnection, GrowingTables)>,
) -> Result<(), RebuildError> {
    let mut wait = Duration::ZERO;
    while !growing.is_empty() {
        growing = without_lost(growing, database, feed).await?;
        match catch_up(&mut growing, feed, wait).await {
            // The ledger was put back meanwhile.
            Err(RebuildError::Feed(FeedError::UnknownHead { .. })) => continue,
            other => other?,
        }
        wait = MORE;
        let caught_up_seconds = started.elapsed().as_secs_f64();
        let mut behind = Vec::new();
        for mut beside in growing {
            let (name, position) = (beside.name(), beside.position);
            if position.identity.is_none() {
                return Err(RebuildError::Nothing { name });
            }
            let live = match put_in_place(&mut beside, database, feed).await? {
                Placed::InPlace(live) => live,
                Placed::Further(_) => {
                    behind.push(beside);
                    continue;
                }
                Placed::Reshaped => {
                    behind.push(beside.begin_anew(database).await?);
                    continue;
                }
            };
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(
                projection = name,
                caught_up_seconds,
                seconds,
                "new tables are in place"
            );
            database.applied.advance(name, position.head.seq);
            placed.push((Rebuilt { name, position, seconds }, live, beside));
        }
        growing = behind;
    }
    Ok(())
}

/// What is made anew replaces a position, live or of an earlier rebuild. It may be the last that
/// tells of lost events: then it stays until their loss is accepted, or the position forgotten.
async fn check_witnesses(
    database: &GameDatabase,
    name: &'static str,
    feed: &mut dyn Feed,
) -> Result<(), RebuildError> {
    let mut live = database.connect_writer().await?;
    let position = Position::load(&mut live, name).await?;
    live.close().await?;
    let left = growing_tables::left_position(database, name).await;
    for position in position.into_iter().chain(left) {
        is_outlived(feed, name, &position).await?;
    }
    Ok(())
}

/// What an earlier rebuild left may be of a past that the ledger has no more: that is begun anew,
/// once the loss was accepted.
async fn without_lost(
    growing: Vec<GrowingTables>,
    database: &GameDatabase,
    feed: &mut dyn Feed,
) -> Result<Vec<GrowingTables>, RebuildError> {
    let mut kept = Vec::with_capacity(growing.len());
    for beside in growing {
        let is_outlived = is_outlived(feed, beside.name(), &beside.position).await?;
        kept.push(if is_outlived { beside.begin_anew(database).await? } else { beside });
    }
    Ok(kept)
}

/// Applies all that the feed has to each that lacks it.
async fn catch_up(
    growing: &mut [GrowingTables],
    feed: &mut dyn Feed,
    wait: Duration,
) -> Result<(), RebuildError> {
    let least = growing.iter().map(|beside| beside.position).min_by_key(|at| at.head.seq);
    let Some(mut position) = least else { return Ok(()) };
    // Fewer at first, so that there is soon something to apply.
    let few = limits::EVENTS_PER_APPLY_MAX / 8;
    let first = Fetched::up_to(few, feed, position.head, wait).await?;
    let mut events = applier::projected(&position, first.blocks);
    while let Some(last) = events.last() {
        position.head = last.stored.head();
        position.identity = Some(last.identity);
        // The next are fetched while these are applied.
        let applying = try_join_all(growing.iter_mut().map(|beside| beside.apply(&events)));
        let (applied, ahead) = tokio::join!(applying, fetch(feed, &position));
        applied?;
        events = ahead?;
    }
    Ok(())
}

/// What there is after a position, as much as one transaction of a rebuild takes.
async fn fetch(feed: &mut dyn Feed, after: &Position) -> Result<Vec<ProjectedEvent>, FeedError> {
    let events_max = limits::EVENTS_PER_APPLY_MAX;
    let fetched = Fetched::up_to(events_max, feed, after.head, Duration::ZERO).await?;
    Ok(applier::projected(after, fetched.blocks))
}

/// Puts new tables in place. Live ones that have come further count for nothing if that was in a
/// past that the ledger lost.
async fn put_in_place(
    beside: &mut GrowingTables,
    database: &GameDatabase,
    feed: &mut dyn Feed,
) -> Result<Placed, RebuildError> {
    let placed = match beside.put_in_place(database, None).await {
        Err(RebuildError::Database(error)) if is_disk_full(&error) => {
            beside.make_room()?;
            return Err(error.into());
        }
        other => other?,
    };
    let Placed::Further(further) = placed else { return Ok(placed) };
    match is_outlived(feed, beside.name(), &further).await? {
        true => beside.put_in_place(database, Some(further.head)).await,
        false => Ok(placed),
    }
}

async fn fold_log(mut live: WriterConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *live).await?;
    live.close().await
}

/// Whether there is no row in any of the tables.
pub(crate) async fn are_empty(
    database: &mut SqliteConnection,
    tables: &[&'static str],
) -> Result<bool, sqlx::Error> {
    for table in tables {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        if sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *database).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether tables beside these refer to one of them.
pub(crate) async fn have_foreign_children(
    database: &mut SqliteConnection,
    tables: &[&'static str],
) -> Result<bool, sqlx::Error> {
    let tables = serde_json::json!(tables).to_string();
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema AS child, \
        pragma_foreign_key_list(child.name) AS refers WHERE child.type = 'table' \
        AND child.name NOT IN (SELECT value FROM json_each(?1)) \
        AND lower(refers.\"table\") IN (SELECT value FROM json_each(?1)))";
    sqlx::query_scalar(sql).bind(tables).fetch_one(database).await
}
