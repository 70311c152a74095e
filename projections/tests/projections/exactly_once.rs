//! Guards: however events are cut, repeated or begun again, the rows are the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daybook_projections::sqlx::{self, SqliteConnection};
use daybook_projections::test_kit::{CutFeed, check, rows_of, same};
use daybook_projections::{
    ApplyError, BoxFuture, Changes, Feed, FeedError, Past, ProjectedEvent, Projection, Tail,
    Worker, all_projections, rebuild,
};
use daybook_schema::{Block, Head, LedgerIdentity};
use proptest::prelude::*;
use tokio::sync::Semaphore;

use crate::fixture::{Played, all_rows, all_tables, repeats};
use crate::recomputation::Recomputed;

#[tokio::test]
async fn every_projection_holds_to_what_the_test_kit_asks() {
    let played = Played::new(7, 5, 11);
    for projection in all_projections() {
        let rows = check(projection, played.path()).await.unwrap();
        assert!(rows.values().any(|rows| !rows.is_empty()));
    }
}

#[tokio::test]
async fn workers_that_are_dropped_anywhere_leave_what_a_new_one_goes_on_from() {
    let played = Played::new(20, 6, 12);
    let (database, _) = played.project("whole.db").await;
    let expected = all_rows(database.path()).await;

    let database = played.database("dropped.db").await;
    for projection in all_projections() {
        for millis in (1..).step_by(3) {
            let feed = Box::new(Tail::new(played.path()));
            let mut worker = Worker::new(projection.clone(), feed, &database);
            let within = tokio::time::timeout(Duration::from_millis(millis), worker.catch_up());
            if within.await.is_ok() {
                break;
            }
        }
    }
    same("dropped and begun again", &expected, &all_rows(database.path()).await).unwrap();
}

/// Guards: a worker that finds its file migrated opens it again at once, and is where it was.
#[tokio::test]
async fn a_worker_whose_file_was_migrated_keeps_its_position() {
    let played = Played::new(2, 2, 5);
    let database = played.database("migrated.db").await;
    let feed = Box::new(Tail::new(played.path()));
    let mut worker = Worker::new(all_projections().remove(0), feed, &database);
    worker.catch_up().await.unwrap();
    let position = worker.position().expect("it has begun");
    for table in ["first_notes", "second_notes"] {
        let connection = rusqlite::Connection::open(database.path()).unwrap();
        connection.execute(&format!("CREATE TABLE {table} (note TEXT)"), []).unwrap();
        worker.catch_up().await.unwrap();
        assert_eq!(worker.position(), Some(position), "after {table}");
    }
}

/// Counts events; where it shall, it tells that it folds and then waits until it may go on.
struct CountsSlowly {
    folds: Semaphore,
    may_go_on: Option<Semaphore>,
}

impl Projection for CountsSlowly {
    fn name(&self) -> &'static str {
        "slow_counts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["slow_count"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS slow_count (id INTEGER PRIMARY KEY, events INTEGER NOT NULL)"
    }

    fn fold<'a>(
        &'a self,
        database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        Box::pin(async move {
            let before = sqlx::query_scalar("SELECT events FROM slow_count");
            let before: Option<i64> = before.fetch_optional(database).await?;
            self.folds.add_permits(1);
            if let Some(may_go_on) = &self.may_go_on {
                may_go_on.acquire().await.unwrap().forget();
            }
            let count = before.unwrap_or(0) + i64::try_from(events.len()).unwrap();
            Ok(Box::new(Count(count)) as Box<dyn Changes>)
        })
    }
}

struct Count(i64);

impl Changes for Count {
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(async move {
            let statement = "INSERT OR REPLACE INTO slow_count VALUES (1, ?1)";
            sqlx::query(statement).bind(self.0).execute(database).await?;
            Ok(())
        })
    }
}

impl CountsSlowly {
    fn new(may_go_on: Option<Semaphore>) -> Arc<Self> {
        Arc::new(Self { folds: Semaphore::new(0), may_go_on })
    }

    async fn wait_for_fold(&self) {
        self.folds.acquire().await.unwrap().forget();
    }

    fn let_go_on(&self, folds: usize) {
        self.may_go_on.as_ref().unwrap().add_permits(folds);
    }
}

/// What is in its table.
fn slow_count(path: &Path) -> usize {
    let connection = rusqlite::Connection::open(path).unwrap();
    let count = connection.query_row("SELECT events FROM slow_count", [], |row| row.get(0));
    usize::try_from(count.unwrap_or(0_i64)).unwrap()
}

/// Guards: while a worker folds, others write to the file; where one of them has moved its position
/// by then, what it folded is not written.
#[tokio::test]
async fn what_was_folded_is_not_written_after_a_position_that_moved() {
    let played = Played::new(2, 2, 6);
    let database = played.database("moved.db").await;
    let (waits, quick) = (CountsSlowly::new(Some(Semaphore::new(0))), CountsSlowly::new(None));
    let events = played.events().len();
    let until = |seq| Box::new(Until { tail: Tail::new(played.path()), seq });
    let mut waiting = Worker::new(Arc::clone(&waits) as _, until(events as u64 / 2), &database);
    let mut other = Worker::new(quick, until(events as u64), &database);
    let (waited, ()) = tokio::join!(waiting.catch_up(), async {
        waits.wait_for_fold().await;
        other.catch_up().await.unwrap();
        waits.let_go_on(1_000);
    });
    waited.unwrap();
    assert_eq!(waiting.position(), other.position());
    assert_eq!(slow_count(database.path()), events);
}

/// A ledger's events up to a seq.
struct Until {
    tail: Tail,
    seq: u64,
}

impl Feed for Until {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(async move {
            let mut block = self.tail.next(after, timeout).await?;
            if let Some(block) = &mut block {
                block.events.retain(|event| event.header.seq.get() <= self.seq);
            }
            Ok(block.filter(|block| !block.events.is_empty()))
        })
    }

    fn past(
        &mut self,
        head: Head,
        identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        self.tail.past(head, identity)
    }
}

/// Guards: what a worker read of tables that were made anew meanwhile is not written, although the
/// position is the same.
#[tokio::test]
async fn what_was_folded_is_not_written_after_a_rebuild_at_the_same_position() {
    let played = Played::new(2, 2, 7);
    let events = played.events();
    let half = events[events.len() / 2].header.seq.get();
    let database = played.database("rebuilt.db").await;
    let until = |seq| Until { tail: Tail::new(played.path()), seq };
    let (waits, quick) = (CountsSlowly::new(Some(Semaphore::new(0))), CountsSlowly::new(None));
    Worker::new(Arc::clone(&quick) as _, Box::new(until(half)), &database)
        .catch_up()
        .await
        .unwrap();
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection.execute("UPDATE slow_count SET events = 9999", []).unwrap();
    let feed = Box::new(Tail::new(played.path()));
    let mut waiting = Worker::new(Arc::clone(&waits) as _, feed, &database);
    let (waited, ()) = tokio::join!(waiting.catch_up(), async {
        waits.wait_for_fold().await;
        rebuild(&database, &[quick as Arc<dyn Projection>], &mut until(half)).await.unwrap();
        assert_eq!(slow_count(database.path()) as u64, half);
        waits.let_go_on(1_000);
    });
    waited.unwrap();
    assert_eq!(slow_count(database.path()), events.len());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: repeats(4),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any ledger of random play, cut into any blocks, gives the same rows, and these are what a
    /// straight computation from the events gives.
    #[test]
    fn any_cuts_of_any_play_give_the_rows_that_the_events_tell(
        seed in any::<u64>(),
        players in 1_u32..14,
        days in 1_u32..9,
        sizes in prop::collection::vec(1_usize..400, 1..8),
    ) {
        let played = Played::new(players, days, seed);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (database, _) = played.project("whole.db").await;
            let whole = rows_of(database.path(), &all_tables()).await.unwrap();

            let cut = played.database("cut.db").await;
            for projection in all_projections() {
                let feed = CutFeed::new(played.path(), &sizes);
                let mut worker =
                    Worker::new(projection, Box::new(feed), &cut);
                worker.catch_up().await.unwrap();
            }
            same("cut", &whole, &all_rows(cut.path()).await).unwrap();
            Recomputed::of(&played.events(), played.path()).hold(database.path()).await;
        });
    }
}
