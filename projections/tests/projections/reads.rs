//! Guards: what an API asks of the read models, in a fixed number of statements.

use std::time::{Duration, Instant};

use daybook_bots::STARTS_AT;
use daybook_projections::{FeedSource, LeaderboardRow, Reads, Workers, all_projections};
use daybook_schema::{Period, UserId};

use crate::fixture::Played;

#[tokio::test]
async fn boards_are_paged_with_ties_and_the_callers_own_rank() {
    let played = Played::new(25, 6, 42);
    let (database, _) = played.project("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    // Ties, so that pages part them.
    let ties = "UPDATE leaderboard_history SET score = score / 20000 * 20000";
    connection.execute(ties, []).unwrap();
    let reads = Reads::new(&database);
    let (period, at) = (Period::AllTime, STARTS_AT);
    let whole = reads.leaderboard(period, at, None, 1_000, None).await.unwrap();
    assert_eq!(whole.first_day, "1970-01-01");
    assert!(whole.rows.len() > 10);
    for row in &whole.rows {
        let better = whole.rows.iter().filter(|other| other.score > row.score).count();
        assert_eq!(row.rank, better as i64 + 1, "{row:?}");
        let own = reads.leaderboard(period, at, None, 1, Some(row.user_id)).await.unwrap().own;
        assert_eq!(own.as_ref(), Some(row));
    }
    for size in [1, 3, 7] {
        let mut paged = Vec::new();
        loop {
            let after = paged.last().map(LeaderboardRow::cursor);
            let page = reads.leaderboard(period, at, after.as_ref(), size, None).await.unwrap();
            if page.rows.is_empty() {
                break;
            }
            paged.extend(page.rows);
        }
        assert_eq!(paged, whole.rows, "pages of {size}");
    }
    let nobody = reads.leaderboard(period, at, None, 1, Some(UserId::random())).await.unwrap();
    assert_eq!(nobody.own, None);
    // A week in which nobody completed a season.
    let later = STARTS_AT.plus_micros(400 * 86_400 * 1_000_000);
    let empty = reads.leaderboard(Period::Weekly, later, None, 10, None).await.unwrap();
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
