//! Guards: a season with all that is in it is read in a fixed number of statements, never one more
//! a row.
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

/// Counts the selects that sqlx runs, but for those that only count.
struct Selects(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Selects {
    fn on_event(
        &self,
        event: &tracing::Event<'_>,
        _context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "summary" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        if event.metadata().target() == "sqlx::query" {
            let mut text = Text(String::new());
            event.record(&mut text);
            if text.0.contains("SELECT") && !text.0.contains("SELECT count") {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
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
    let layer = tracing_subscriber::registry().with(Selects(Arc::clone(&counter)));
    tracing::subscriber::set_global_default(layer).unwrap();
    let mut seen = Vec::new();
    for id in [&short, &long] {
        let details = reads.season_with_details(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(details.season.id.to_string(), **id);
        let query = "SELECT count(*) FROM bets WHERE season_id = ?1";
        let bets: i64 = connection.query_row(query, [id], |row| row.get(0)).unwrap();
        assert_eq!(details.bets.len() as i64, bets);
        // A statement is logged when the next one of its connection runs, at the latest.
        reads.season_counts().await.unwrap();
        reads.season_counts().await.unwrap();
        let selects = counter.swap(0, Ordering::Relaxed);
        seen.push((selects, details.bets.len(), details.days.len()));
    }
    let [(of_short, short_bets, _), (of_long, long_bets, long_days)] = seen[..] else {
        panic!("two seasons")
    };
    assert!(short_bets < long_bets && long_days > 14, "one is longer: {seen:?}");
    assert_eq!((of_short, of_long), (6, 6), "{seen:?}");
    let unknown = "ssn_0193a0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b".parse().unwrap();
    assert!(reads.season_with_details(unknown).await.unwrap().is_none());
}
