//! Guards: tables that are made anew are the same tables; reads go on meanwhile, and users stay.

use std::time::Duration;

use daybook_projections::test_kit::{Rows, same};
use daybook_projections::{
    BoxFuture, Feed, FeedError, FeedSource, GameDatabase, MigrationNumber, ProjectionState, Reads,
    Tail, Workers, all_projections, rebuild, status,
};
use daybook_schema::{Block, Head};
use tokio::sync::watch;

use crate::fixture::{Played, all_rows, named};

#[tokio::test]
async fn a_rebuild_gives_the_same_rows_and_leaves_what_is_not_the_ledgers() {
    let played = Played::new(12, 8, 31);
    let (database, _) = played.project("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let user: String =
        connection.query_row("SELECT user_id FROM simulins LIMIT 1", [], |row| row.get(0)).unwrap();
    let account = "UPDATE users SET email = 'ada@example.org', display_name = 'Ada' WHERE id = ?1";
    connection.execute(account, [&user]).unwrap();
    let session =
        "INSERT INTO sessions (id, user_id, expires_at, created_at) VALUES ('s', ?1, 2, 1)";
    connection.execute(session, [&user]).unwrap();
    let simulin: String = {
        let query = "SELECT id FROM simulins WHERE user_id = ?1";
        connection.query_row(query, [&user], |row| row.get(0)).unwrap()
    };
    connection.execute("INSERT INTO simulin_names VALUES (?1, 'Rosie')", [&simulin]).unwrap();
    connection.execute("UPDATE simulins SET name = 'Rosie' WHERE id = ?1", [&simulin]).unwrap();
    let before = all_rows(database.path()).await;

    for table in ["bets", "leaderboard_entries", "simulins", "daily_active_users"] {
        connection.execute(&format!("DELETE FROM {table}"), []).unwrap();
    }
    rebuild(&database, &all_projections(), &mut Tail::new(played.path())).await.unwrap();
    same("rebuilt", &before, &all_rows(database.path()).await).unwrap();
    let sessions: i64 =
        connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(sessions, 1);
    let indexes: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name LIKE 'idx_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(indexes, 18, "the seed's thirteen and five of ours");
    let migrations = daybook_projections::Migrations::game();
    assert_eq!(migrations.verify(database.path()).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn reads_and_the_worker_go_on_while_tables_are_made_anew() {
    let played = Played::new(20, 10, 32);
    let (reference, _) = played.project("reference.db").await;
    let expected = all_rows(reference.path()).await;

    let database = played.database("game.db").await;
    let source = FeedSource::ledger(played.path());
    let workers = Workers::start(&database, &all_projections(), &source);
    let reads = Reads::new(&database);
    let stands = reads.wait_for(&["seasons"], 1, Duration::from_secs(60)).await.unwrap();
    assert!(!stands.is_stale);
    let reading = tokio::spawn({
        let reads = reads.clone();
        async move {
            let mut least = 0;
            for _ in 0..200 {
                let counts = reads.season_counts().await.unwrap();
                // Rows never go away, not even for a moment.
                assert!(counts.started >= least, "{} after {least}", counts.started);
                least = counts.started;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let seasons = named("seasons");
    rebuild(&database, &[seasons], &mut Tail::new(played.path())).await.unwrap();
    reading.await.unwrap();
    let newest = played.events().last().unwrap().header.seq.get();
    let names = ["seasons", "simulins", "analytics"];
    let stands = reads.wait_for(&names, newest, Duration::from_secs(60)).await.unwrap();
    assert_eq!((stands.seq, stands.is_stale), (newest, false));
    workers.stop().await;
    same("while it was rebuilt", &expected, &all_rows(database.path()).await).unwrap();
}

#[tokio::test]
async fn tables_of_another_version_are_made_anew_by_themselves() {
    let played = Played::new(6, 4, 33);
    let (database, _) = played.project("game.db").await;
    let expected = all_rows(database.path()).await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let older = "UPDATE projection_positions SET version = 99 WHERE name = 'seasons'";
    connection.execute(older, []).unwrap();
    connection.execute("UPDATE seasons SET coins = 7", []).unwrap();
    let states = status(database.path(), &all_projections(), played.path()).await.unwrap();
    assert_eq!(states[0].state, ProjectionState::Outdated);

    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
    same("another version", &expected, &all_rows(database.path()).await).unwrap();
}

/// A feed that tells when it is asked, and gives nothing before it is let go.
struct Waits {
    tail: Tail,
    asked: watch::Sender<bool>,
    let_go: watch::Receiver<bool>,
}

impl Feed for Waits {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(async move {
            self.asked.send_replace(true);
            self.let_go.wait_for(|let_go| *let_go).await.unwrap();
            self.tail.next(after, timeout).await
        })
    }
}

#[tokio::test]
async fn one_rebuild_of_a_projection_at_a_time() {
    let played = Played::new(5, 3, 36);
    let (database, _) = played.project("game.db").await;
    let ((asked, mut is_asked), (let_go, is_let_go)) =
        (watch::channel(false), watch::channel(false));
    let mut waits = Waits { tail: Tail::new(played.path()), asked, let_go: is_let_go };
    let all = all_projections();
    let second = async {
        is_asked.wait_for(|asked| *asked).await.unwrap();
        let mut tail = Tail::new(played.path());
        let refused = rebuild(&database, &[named("seasons")], &mut tail).await.unwrap_err();
        let_go.send_replace(true);
        refused.to_string()
    };
    let (first, refused) = tokio::join!(rebuild(&database, &all, &mut waits), second);
    assert_eq!(first.unwrap().len(), all.len());
    assert_eq!(refused, "another process is rebuilding `seasons`");
}

/// A ledger that gives nothing, as an answer that is lost or made up would: what is there stays.
#[tokio::test]
async fn nothing_is_put_in_the_place_of_rows() {
    let played = Played::new(5, 3, 37);
    let (database, _) = played.project("game.db").await;
    let before = all_rows(database.path()).await;
    struct Empty;
    impl Feed for Empty {
        fn next(
            &mut self,
            _after: Head,
            _timeout: Duration,
        ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
            Box::pin(async { Ok(None) })
        }
    }
    for projection in all_projections() {
        let error = rebuild(&database, &[projection], &mut Empty).await.unwrap_err();
        assert!(matches!(error, daybook_projections::RebuildError::Nothing { .. }), "{error}");
    }
    same("nothing came", &before, &all_rows(database.path()).await).unwrap();
}

/// A feed that breaks off after some blocks, as a killed process would.
struct BreaksOff {
    tail: Tail,
    blocks_left: usize,
}

impl Feed for BreaksOff {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        let Some(left) = self.blocks_left.checked_sub(1) else {
            return Box::pin(async { Err(FeedError::Bus("it broke off".to_owned())) });
        };
        self.blocks_left = left;
        self.tail.next(after, timeout)
    }
}

/// Rebuilds `seasons` from a ledger up to a third of it or so; then the feed breaks off.
pub async fn rebuild_in_part(database: &GameDatabase, played: &Played) {
    let mut feed = BreaksOff { tail: Tail::new(played.path()), blocks_left: 6 };
    let error = rebuild(database, &[named("seasons")], &mut feed).await.unwrap_err();
    assert_eq!(error.to_string(), "it broke off");
    let beside = played.path().join("game.db.rebuild-seasons");
    let beside = rusqlite::Connection::open(beside).unwrap();
    let query = "SELECT seq FROM projection_positions";
    let seq: i64 = beside.query_row(query, [], |row| row.get(0)).unwrap();
    assert!(seq > 1_000, "something was applied: {seq}");
}

#[tokio::test]
async fn projections_are_made_anew_together_from_wherever_each_was() {
    let played = Played::new(40, 8, 42);
    let (database, _) = played.project("game.db").await;
    let before = all_rows(database.path()).await;
    rebuild_in_part(&database, &played).await;
    let mut tail = Tail::new(played.path());
    let rebuilt = rebuild(&database, &all_projections(), &mut tail).await.unwrap();
    let newest = played.events().last().unwrap().header.seq.get();
    assert!(rebuilt.iter().all(|rebuilt| rebuilt.position.head.seq == newest), "{rebuilt:?}");
    same("from wherever each was", &before, &all_rows(database.path()).await).unwrap();
    let left = std::fs::read_dir(played.path()).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> =
        names.filter(|name| name.contains(".rebuild-") && !name.ends_with(".lock")).collect();
    assert_eq!(left, Vec::<String>::new(), "nothing is left of the files beside");
}

/// What a killed rebuild left is not used once the live tables have another shape.
#[tokio::test]
async fn what_a_killed_rebuild_left_is_begun_anew_when_the_tables_changed() {
    let played = Played::new(5, 3, 38);
    let (database, _) = played.project("game.db").await;
    let seasons = [named("seasons")];
    let mut tail = Tail::new(played.path());
    let rebuilding = rebuild(&database, &seasons, &mut tail);
    // Dropped after its tables are there and before they are in place, or so: either way what
    // follows holds.
    drop(tokio::time::timeout(Duration::from_millis(30), rebuilding).await);
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection.execute_batch("ALTER TABLE seasons ADD COLUMN nick TEXT").unwrap();
    rebuild(&database, &seasons, &mut Tail::new(played.path())).await.unwrap();
    let named: i64 = connection
        .query_row("SELECT count(*) FROM seasons WHERE nick IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(named, 0);
}

/// Rows whose position went with a migration are made anew; so is a file that was put in place of
/// another.
#[tokio::test]
async fn rows_without_a_position_are_made_anew_even_while_a_worker_waits() {
    let played = Played::new(6, 4, 39);
    let (database, _) = played.project("game.db").await;
    let expected = all_rows(database.path()).await;
    let migrations = daybook_projections::Migrations::game();
    let source = FeedSource::ledger(played.path());
    let workers = Workers::start(&database, &all_projections(), &source);
    tokio::time::sleep(Duration::from_millis(700)).await;
    migrations.down(database.path(), Some(MigrationNumber::Ours(1))).await.unwrap();
    migrations.up(database.path(), None).await.unwrap();
    let started = std::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let states = status(database.path(), &all_projections(), played.path()).await.unwrap();
        if states.iter().all(|state| state.state == ProjectionState::Current) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{states:?}");
    }
    workers.stop().await;
    same("migrated under a worker", &expected, &all_rows(database.path()).await).unwrap();
}

/// Rows that stand for another ledger's events are not called current.
#[tokio::test]
async fn status_holds_rows_to_the_ledger() {
    let (played, other) = (Played::new(4, 3, 40), Played::new(6, 3, 41));
    let (database, _) = played.project("game.db").await;
    let states = status(database.path(), &all_projections(), other.path()).await.unwrap();
    let is_another =
        |state: &ProjectionState| matches!(state, ProjectionState::AnotherLedger { .. });
    assert!(states.iter().all(|state| is_another(&state.state)), "{states:?}");
}

/// What a power cut or a failing disk left beside. A position that somebody broke by hand may have
/// been the last that told of lost events: nothing is made in its place until the file was looked
/// at and moved away.
#[tokio::test]
async fn what_is_damaged_beside_or_in_a_position_is_made_anew() {
    let played = Played::new(5, 3, 45);
    let (database, _) = played.project("game.db").await;
    let before = all_rows(database.path()).await;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for boot in [boot.as_str(), "another boot"] {
        std::fs::write(played.path().join("game.db.rebuild-seasons"), [0; 65_536]).unwrap();
        std::fs::write(played.path().join("game.db.rebuild-seasons.lock"), boot).unwrap();
        rebuild(&database, &[named("seasons")], &mut Tail::new(played.path())).await.unwrap();
    }
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection.execute("UPDATE projection_positions SET hash = 'garbage'", []).unwrap();
    drop(connection);
    let path = database.path().to_owned();
    let told = status(&path, &all_projections(), played.path()).await.unwrap_err().to_string();
    assert!(told.contains("was altered and tells nothing"), "{told}");
    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap_err();
    let bets = |rows: &Rows| rows["bets"].clone();
    assert_eq!(bets(&before), bets(&all_rows(&path).await), "untouched");
    database.close().await.unwrap();
    std::fs::rename(&path, played.path().join("looked-at.db")).unwrap();
    let database = played.database("game.db").await;
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
    same("made anew", &before, &all_rows(database.path()).await).unwrap();
}

/// A team's triggers go on to do what they do, and its indexes stay, whatever they are called.
#[tokio::test]
async fn a_teams_triggers_and_indexes_stay() {
    let played = Played::new(5, 3, 46);
    let (database, _) = played.project("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE seen (user_id TEXT PRIMARY KEY); \
             CREATE TRIGGER seen_season AFTER INSERT ON seasons \
             BEGIN INSERT OR IGNORE INTO seen VALUES (NEW.user_id); END; \
             CREATE INDEX \"my \"\"own\"\" index\" ON seasons (coins);",
        )
        .unwrap();
    for _ in 0..2 {
        rebuild(&database, &[named("seasons")], &mut Tail::new(played.path())).await.unwrap();
    }
    let count = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert!(count("SELECT count(*) FROM seen") > 0);
    let own = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'my %' OR name = 'seen_season'";
    assert_eq!(count(own), 2);
}

/// A feed that stands for somebody who migrates the live file while it is asked.
struct Migrates(Tail, rusqlite::Connection);

impl Feed for Migrates {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        for table in ["users", "seasons", "bet_economics"] {
            // It fails from the second time on.
            drop(self.1.execute(&format!("ALTER TABLE {table} ADD COLUMN nick TEXT"), []));
        }
        self.0.next(after, timeout)
    }
}

#[tokio::test]
async fn a_migration_that_comes_between_is_seen() {
    let played = Played::new(5, 3, 47);
    let (database, _) = played.project("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let before: i64 =
        connection.query_row("SELECT count(*) FROM seasons", [], |row| row.get(0)).unwrap();
    let mut feed = Migrates(Tail::new(played.path()), connection);
    rebuild(&database, &all_projections(), &mut feed).await.unwrap();
    for table in ["users", "seasons", "bet_economics"] {
        let query = format!("SELECT count(*), count(nick) FROM {table}");
        let (rows, nicks): (i64, i64) =
            feed.1.query_row(&query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(nicks, 0, "{table}");
        assert!(table != "seasons" || rows == before, "{rows}");
    }
}
