//! Guards: a season with all that is in it is read in a fixed number of statements, never one more a row.
//!
//! A binary of its own: statements are counted over the whole process.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

#[path = "../projections/fixture.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daybook_projections::Reads;
use fixture::Played;
use tracing_subscriber::layer::SubscriberExt;

/// Counts the statements that sqlx runs.
struct Statements(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Statements {
    fn on_event(
        &self,
        event: &tracing::Event<'_>,
        _context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        if event.metadata().target() == "sqlx::query" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_season_with_all_its_details_takes_the_same_statements_however_long_it_is() {
    let played = Played::new(6, 10, 41);
    let (database, _) = played.project("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let season = |order: &str| -> String {
        let query = format!(
            "SELECT season_id FROM bets GROUP BY season_id ORDER BY count(*) {order} LIMIT 1"
        );
        connection.query_row(&query, [], |row| row.get(0)).unwrap()
    };
    let (short, long) = (season("ASC"), season("DESC"));
    let reads = Reads::new(&database);
    let counter = Arc::new(AtomicUsize::new(0));
    let layer = tracing_subscriber::registry().with(Statements(Arc::clone(&counter)));
    tracing::subscriber::set_global_default(layer).unwrap();
    // The pool's connection is made first: what it sets up is not counted.
    reads.season_counts().await.unwrap();
    let mut counts = Vec::new();
    for id in [&short, &long] {
        counter.store(0, Ordering::Relaxed);
        let details = reads.season_with_details(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(details.season.id.to_string(), **id);
        let bets: usize = {
            let query = "SELECT count(*) FROM bets WHERE season_id = ?1";
            connection.query_row(query, [id], |row| row.get::<_, i64>(0)).unwrap() as usize
        };
        assert_eq!(details.bets.len(), bets);
        counts.push((counter.load(Ordering::Relaxed), details.bets.len(), details.days.len()));
    }
    assert!(counts[0].1 < counts[1].1 && counts[1].2 > 14, "one is longer: {counts:?}");
    assert_eq!(counts[0].0, counts[1].0, "statements: {counts:?}");
    // Five that read; the transaction around them makes the rest.
    assert!((5..=7).contains(&counts[0].0), "{counts:?}");
    assert!(
        reads
            .season_with_details("ssn_0193a0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}
