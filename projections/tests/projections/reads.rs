//! Guards: what an API asks of the read models, in a fixed number of statements.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use daybook_bots::STARTS_AT;
use daybook_projections::{FeedSource, Reads, Workers, all_projections};
use daybook_schema::{Period, UserId};
use tracing_subscriber::layer::SubscriberExt;

use crate::fixture::Played;

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
    let mut counts = Vec::new();
    for id in [&short, &long] {
        let counter = Arc::new(AtomicUsize::new(0));
        let layer = tracing_subscriber::registry().with(Statements(Arc::clone(&counter)));
        let _guard = tracing::subscriber::set_default(layer);
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

#[tokio::test]
async fn boards_are_paged_with_ties_and_the_callers_own_rank() {
    let played = Played::new(25, 6, 42);
    let (database, _) = played.project("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    // Ties, so that pages part them.
    let ties = "UPDATE leaderboard_history SET score = score / 20000 * 20000";
    connection.execute(ties, []).unwrap();
    let reads = Reads::new(&database);
    let board = (Period::AllTime, STARTS_AT);
    let whole = reads.leaderboard(board, None, 1_000, None).await.unwrap();
    assert_eq!(whole.first_day, "1970-01-01");
    assert!(whole.rows.len() > 10);
    for row in &whole.rows {
        let better = whole.rows.iter().filter(|other| other.score > row.score).count();
        assert_eq!(row.rank, better as i64 + 1, "{row:?}");
        let own = reads.leaderboard(board, None, 1, Some(row.user_id)).await.unwrap().own;
        assert_eq!(own.as_ref(), Some(row));
    }
    for size in [1, 3, 7] {
        let mut paged = Vec::new();
        loop {
            let page = reads.leaderboard(board, paged.last(), size, None).await.unwrap();
            if page.rows.is_empty() {
                break;
            }
            paged.extend(page.rows);
        }
        assert_eq!(paged, whole.rows, "pages of {size}");
    }
    let nobody = reads.leaderboard(board, None, 1, Some(UserId::random())).await.unwrap();
    assert_eq!(nobody.own, None);
    // A week in which nobody completed a season.
    let later = STARTS_AT.plus_micros(400 * 86_400 * 1_000_000);
    let empty = reads.leaderboard((Period::Weekly, later), None, 10, None).await.unwrap();
    assert_eq!(empty.rows, []);
}

#[tokio::test]
async fn a_read_waits_for_what_its_session_was_answered_and_not_for_ever() {
    let played = Played::new(4, 3, 43);
    let database = played.database("game.db").await;
    let reads = Reads::new(&database);
    let newest = played.events().last().unwrap().header.seq.get();
    let names = ["seasons", "analytics"];

    // Nobody applies anything: what there is is told, and that it is stale.
    let started = Instant::now();
    let stands = reads.wait_for(&names, newest, Duration::from_millis(80)).await.unwrap();
    assert_eq!((stands.seq, stands.is_stale), (0, true));
    assert!(started.elapsed() >= Duration::from_millis(80));

    let source = FeedSource::ledger(played.path());
    let workers = Workers::start(&database, &all_projections(), &source);
    let stands = reads.wait_for(&names, newest, Duration::from_secs(60)).await.unwrap();
    assert_eq!((stands.seq, stands.is_stale), (newest, false));
    workers.stop().await;

    // Another process's workers are seen by their positions.
    let elsewhere = Reads::new(&played.database("game.db").await);
    let stands = elsewhere.wait_for(&names, newest, Duration::ZERO).await.unwrap();
    assert_eq!((stands.seq, stands.is_stale), (newest, false));
}
