//! Guards: what may be the last that tells of lost events stays until an operator decides, and read
//! models of one ledger are never made into another's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daybook_bots::Simulated;
use daybook_ledger::{
    KnownHead, Ledger, OpenError, Reader, Standing, Verdict, VerifyOptions, verify,
};
use daybook_projections::test_kit::same;
use daybook_projections::{
    DatabaseSettings, FeedError, FeedSource, GameDatabase, MigrationError, ProjectionState,
    ProjectionStatus, RebuildError, Step, Tail, Worker, WorkerError, Workers, all_projections,
    disputed_heads, forget, give_over, known_heads, rebuild, status,
};
use daybook_schema::{Event, EventKind, Head, LedgerFormat, LedgerId, Seq};

use crate::fixture::{Played, all_rows, named};
use crate::nats::Bus;
use crate::nats_server::NatsServer;
use crate::rebuilds::rebuild_in_part;

/// Takes the newest commands away from a ledger, and its snapshots, as somebody could who owns the
/// files.
fn cut(data_dir: &Path, commands: usize) {
    drop(std::fs::remove_dir_all(data_dir.join("snapshots")));
    let connection = rusqlite::Connection::open(data_dir.join("ledger.db")).unwrap();
    let triggers: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for trigger in triggers {
        connection.execute(&format!("DROP TRIGGER {trigger}"), []).unwrap();
    }
    let first = format!(
        "SELECT seq FROM events WHERE length(command) = 34 ORDER BY seq DESC LIMIT 1 OFFSET {}",
        commands - 1
    );
    connection.execute(&format!("DELETE FROM events WHERE seq >= ({first})"), []).unwrap();
    let guards = LedgerFormat::NEWEST.sql().split_once("CREATE TRIGGER").unwrap().1;
    connection.execute_batch(&format!("CREATE TRIGGER{guards}")).unwrap();
}

/// Takes everything away after a seq, and the rest of its command.
fn cut_to(data_dir: &Path, seq: i64) {
    let connection = rusqlite::Connection::open(data_dir.join("ledger.db")).unwrap();
    let later = "SELECT count(*) FROM events WHERE length(command) = 34 AND seq > ?1";
    let commands: i64 = connection.query_row(later, [seq], |row| row.get(0)).unwrap();
    cut(data_dir, usize::try_from(commands).unwrap());
}

fn ledger_id(data_dir: &Path) -> LedgerId {
    Reader::open(data_dir).unwrap().genesis().ledger_id
}

fn head(data_dir: &Path) -> Head {
    Reader::open(data_dir).unwrap().head().unwrap()
}

/// Opens a ledger as an operator who holds it to the positions; gives its newest event at the end.
fn open(
    data_dir: &Path,
    seed: u64,
    known: &[KnownHead],
    accept_loss: bool,
) -> Result<Head, OpenError> {
    let options = Simulated::from_seed(seed).options(data_dir).time(daybook_ledger::Time::System);
    let options = options.known_heads(known.to_vec()).accept_loss(accept_loss);
    // In a thread of its own: the engine's answers are waited for, which async code may not.
    std::thread::scope(|scope| {
        scope
            .spawn(|| Ledger::open(options).map(|ledger| ledger.close().wait().unwrap()))
            .join()
            .unwrap()
    })
}

fn epochs(data_dir: &Path) -> Vec<Vec<Head>> {
    let reader = Reader::open(data_dir).unwrap();
    let kinds = [EventKind::LedgerRestored];
    reader
        .events_of_kinds(&kinds, Seq::MIN)
        .map(|stored| match stored.unwrap().event {
            Event::LedgerRestored(restored) => restored.lost_heads.iter().copied().collect(),
            _ => Vec::new(),
        })
        .collect()
}

async fn states(database: &GameDatabase, played: &Played) -> Vec<ProjectionStatus> {
    status(database.path(), &all_projections(), played.path()).await.unwrap()
}

async fn catch_up(database: &GameDatabase, played: &Played) -> Result<(), WorkerError> {
    let source = FeedSource::ledger(played.path());
    Workers::catch_up(database, &all_projections(), &source).await.map(drop)
}

fn is_lost(error: &WorkerError) -> bool {
    match error {
        WorkerError::Feed(FeedError::Lost { .. }) => true,
        WorkerError::Rebuild(error) => {
            matches!(**error, RebuildError::Feed(FeedError::Lost { .. }))
        }
        _ => false,
    }
}

#[tokio::test]
async fn positions_outlast_a_ledger_that_was_cut_until_the_loss_is_accepted() {
    let played = Played::new(6, 4, 61);
    let (database, _) = played.project("game.db").await;
    let before = all_rows(database.path()).await;
    let lost = head(played.path());
    cut(played.path(), 3);
    let newest = head(played.path());
    let known = known_heads(database.path(), ledger_id(played.path())).await.unwrap();
    assert!(known.len() == 3 && known.iter().all(|known| known.head == lost));

    // Neither a worker nor a rebuild, of a new version either, takes them away.
    let error = catch_up(&database, &played).await.unwrap_err();
    assert!(is_lost(&error), "{error}");
    let rebuilt = rebuild(&database, &[named("seasons")], &mut Tail::new(played.path())).await;
    let is_refused = matches!(rebuilt, Err(RebuildError::Feed(FeedError::Lost { .. })));
    assert!(is_refused, "{rebuilt:?}");
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let other_version = "UPDATE projection_positions SET version = 99 WHERE name = 'simulins'";
    connection.execute(other_version, []).unwrap();
    let mut worker = Worker::new(named("simulins"), Box::new(Tail::new(played.path())), &database);
    assert!(is_lost(&worker.step(Duration::ZERO).await.unwrap_err()));
    connection.execute(&other_version.replace("99", "1"), []).unwrap();
    same("nothing was touched", &before, &all_rows(database.path()).await).unwrap();

    // `status` and `verify` say so; the guard refuses.
    for status in states(&database, &played).await {
        assert_eq!(status.state, ProjectionState::LedgerBehind { newest }, "{}", status.name);
        assert!(status.state.needs_operator());
    }
    let options = VerifyOptions { witnesses: known.clone(), ..VerifyOptions::default() };
    let report = verify(played.path(), &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Truncated);
    let refused = open(played.path(), 61, &known, false).unwrap_err();
    assert!(matches!(refused, OpenError::Behind { .. }), "{refused}");

    // Accepted, also twice: one epoch, which names what is lost.
    for _ in 0..2 {
        open(played.path(), 61, &known, true).unwrap();
    }
    open(played.path(), 61, &known, false).unwrap();
    assert_eq!(epochs(played.path()), [vec![lost]]);
    let report = verify(played.path(), &VerifyOptions { full: true, ..options }, &mut |_, _| {});
    let report = report.unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
    assert_eq!(report.accepted_losses.len(), 3);
    assert!(states(&database, &played).await.iter().all(|s| s.state == ProjectionState::Outdated));
    catch_up(&database, &played).await.unwrap();
    let (fresh, _) = played.project("fresh.db").await;
    let fresh = all_rows(fresh.path()).await;
    same("after an accepted loss", &fresh, &all_rows(database.path()).await).unwrap();
}

/// A ledger that was put back and went on in a new epoch has passed a position that nobody named to
/// it.
#[tokio::test]
async fn a_loss_that_was_accepted_elsewhere_counts_by_its_epoch() {
    let played = Played::new(5, 3, 62);
    let (database, _) = played.project("game.db").await;
    let known = known_heads(database.path(), ledger_id(played.path())).await.unwrap();
    cut(played.path(), 2);
    let noted = Head { hash: daybook_schema::EventHash::new([9; 32]), ..known[0].head };
    open(played.path(), 62, &[noted.into()], true).unwrap();
    let reader = Reader::open(played.path()).unwrap();
    let standing = |epoch| reader.standing(known[0].head, epoch).unwrap();
    assert!(matches!(standing(known[0].epoch), Standing::Accepted { .. }));
    assert!(matches!(standing(None), Standing::Lost { .. }), "without its epoch nobody can tell");
    catch_up(&database, &played).await.unwrap();
    let (fresh, _) = played.project("fresh.db").await;
    same("elsewhere", &all_rows(fresh.path()).await, &all_rows(database.path()).await).unwrap();
}

/// More heads than one event names, and each of them counts.
#[tokio::test]
async fn every_lost_head_is_named() {
    let played = Played::new(5, 3, 63);
    let lost: Vec<Head> = played.events().iter().rev().take(19).map(|event| event.head()).collect();
    cut(played.path(), 19);
    let known: Vec<KnownHead> = lost.iter().copied().map(KnownHead::from).collect();
    open(played.path(), 63, &known, true).unwrap();
    open(played.path(), 63, &known, false).unwrap();
    let named: Vec<usize> = epochs(played.path()).iter().map(Vec::len).collect();
    assert_eq!(named, [8, 8, 3]);
}

/// A ledger whose owner chained it anew: the positions are the last witness.
#[tokio::test]
async fn a_ledger_that_was_chained_anew_differs() {
    let (played, other) = (Played::new(5, 3, 64), Played::new(5, 2, 64));
    let (database, _) = played.project("game.db").await;
    // The same ledger with another past: played shorter, and then on by somebody else.
    std::fs::copy(other.path().join("ledger.db"), played.path().join("ledger.db")).unwrap();
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let newest = head(played.path());
    connection
        .execute("UPDATE projection_positions SET seq = ?1", [i64::try_from(newest.seq).unwrap()])
        .unwrap();
    for status in states(&database, &played).await {
        assert_eq!(status.state, ProjectionState::LedgerDiffers { found: newest });
    }
    assert!(is_lost(&catch_up(&database, &played).await.unwrap_err()));
}

#[tokio::test]
async fn a_position_that_is_wrong_is_forgotten_and_kept_as_disputed() {
    let played = Played::new(5, 3, 65);
    let (database, _) = played.project("game.db").await;
    let expected = all_rows(database.path()).await;
    let id = ledger_id(played.path());
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let wrong = "UPDATE projection_positions SET seq = seq + 5 WHERE name = 'seasons'";
    connection.execute(wrong, []).unwrap();
    assert!(is_lost(&catch_up(&database, &played).await.unwrap_err()));
    let known = known_heads(database.path(), id).await.unwrap();
    let wrong = known.iter().map(|known| known.head).max_by_key(|head| head.seq).unwrap();
    assert!(open(played.path(), 65, &known, false).is_err());

    let other = Head { seq: wrong.seq + 1, ..wrong };
    assert_eq!(forget(database.path(), other, Some(id)).await.unwrap(), 0);
    assert_eq!(forget(database.path(), wrong, Some(id)).await.unwrap(), 1);
    let known = known_heads(database.path(), id).await.unwrap();
    open(played.path(), 65, &known, false).unwrap();
    assert!(epochs(played.path()).is_empty(), "no epoch begins");
    catch_up(&database, &played).await.unwrap();
    rebuild(&database, &all_projections(), &mut Tail::new(played.path())).await.unwrap();
    let disputed = disputed_heads(database.path()).await.unwrap();
    assert_eq!(disputed.iter().map(|known| known.head).collect::<Vec<_>>(), [wrong]);
    same("forgotten", &expected, &all_rows(database.path()).await).unwrap();
}

/// What a rebuild that was killed left is a witness too.
#[tokio::test]
async fn what_a_rebuild_left_tells_too() {
    let played = Played::new(5, 3, 66);
    let (database, _) = played.project("game.db").await;
    let id = ledger_id(played.path());
    // The live tables were outdated and stood early; the new ones had come to the end.
    let beside = played.path().join("game.db.rebuild-seasons");
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection.execute("VACUUM INTO ?1", [beside.to_str().unwrap()]).unwrap();
    std::fs::write(played.path().join("game.db.rebuild-seasons.lock"), "").unwrap();
    let early = played.events()[10].head();
    connection
        .execute(
            "UPDATE projection_positions SET seq = ?1, hash = ?2",
            (i64::try_from(early.seq).unwrap(), early.hash.to_string()),
        )
        .unwrap();
    let lost = head(played.path());
    cut(played.path(), 2);
    let known = known_heads(database.path(), id).await.unwrap();
    assert!(known.iter().any(|known| known.head == lost));
    let rebuilt = rebuild(&database, &[named("seasons")], &mut Tail::new(played.path())).await;
    assert!(matches!(rebuilt, Err(RebuildError::Feed(FeedError::Lost { .. }))), "{rebuilt:?}");
    assert!(beside.exists());
    assert_eq!(forget(database.path(), lost, Some(id)).await.unwrap(), 3);
    assert!(!beside.exists());
    rebuild(&database, &[named("seasons")], &mut Tail::new(played.path())).await.unwrap();
}

/// What a killed rebuild left of a past whose loss was accepted is begun anew.
#[tokio::test]
async fn what_a_killed_rebuild_left_of_another_past_is_begun_anew() {
    let played = Played::new(40, 8, 43);
    let (database, _) = played.project("game.db").await;
    rebuild_in_part(&database, &played).await;
    cut_to(played.path(), 1_000);
    let known = known_heads(database.path(), ledger_id(played.path())).await.unwrap();
    assert!(known.iter().all(|known| known.head.seq > head(played.path()).seq), "{known:?}");
    open(played.path(), 43, &known, true).unwrap();
    rebuild(&database, &all_projections(), &mut Tail::new(played.path())).await.unwrap();
    let (fresh, _) = played.project("fresh.db").await;
    same("another past", &all_rows(fresh.path()).await, &all_rows(database.path()).await).unwrap();
}

#[tokio::test]
async fn another_ledgers_file_is_refused_until_it_is_given_over() {
    let (played, other) = (Played::new(6, 3, 67), Played::new(5, 3, 68));
    let (database, _) = played.project("game.db").await;
    let before = all_rows(database.path()).await;
    let (holds, given) = (ledger_id(played.path()), ledger_id(other.path()));
    let error = catch_up(&database, &other).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&holds.to_string()) && text.contains(&given.to_string()), "{text}");
    let rebuilt = rebuild(&database, &[named("seasons")], &mut Tail::new(other.path())).await;
    let is_refused = matches!(rebuilt, Err(RebuildError::Feed(FeedError::AnotherLedger { .. })));
    assert!(is_refused, "{rebuilt:?}");
    // One projection's rows are enough to tell whose the file is.
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection.execute("DELETE FROM projection_positions WHERE name <> 'simulins'", []).unwrap();
    connection.execute_batch("DELETE FROM season_activity; DELETE FROM user_activity").unwrap();
    for table in named("analytics").tables() {
        connection.execute(&format!("DELETE FROM {table}"), []).unwrap();
    }
    let mut worker = Worker::new(named("analytics"), Box::new(Tail::new(other.path())), &database);
    let error = worker.step(Duration::ZERO).await.unwrap_err();
    let is_refused = matches!(error, WorkerError::Feed(FeedError::AnotherLedger { .. }));
    assert!(is_refused, "{error}");
    let told = known_heads(database.path(), given).await.unwrap_err();
    assert!(matches!(told, MigrationError::AnotherLedger { .. }), "{told}");
    for status in states(&database, &other).await.iter().filter(|it| it.name == "simulins") {
        assert_eq!(status.state, ProjectionState::AnotherLedger { holds, given });
    }
    catch_up(&database, &played).await.unwrap();
    same("untouched", &before, &all_rows(database.path()).await).unwrap();

    let (path, from) = (database.path().to_owned(), database.path().to_owned());
    drop((database, connection));
    assert_eq!(give_over(&path, given).await.unwrap(), None);
    // A file of the other's beside is no reason to give this one over.
    std::fs::copy(&path, path.with_extension("db.damaged-20260101T000000000000Z")).unwrap();
    let aside = give_over(&path, holds).await.unwrap().unwrap();
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
    catch_up(&database, &other).await.unwrap();
    let (fresh, _) = other.project("fresh.db").await;
    same("given over", &all_rows(fresh.path()).await, &all_rows(&from).await).unwrap();
    same("kept", &before, &all_rows(&aside).await).unwrap();
}

/// A file that stands for two ledgers is a witness of both: it is given over by neither's id.
#[tokio::test]
async fn a_file_that_stands_for_two_ledgers_is_given_over_to_neither() {
    let (played, other) = (Played::new(5, 3, 71), Played::new(5, 3, 72));
    let (database, _) = played.project("game.db").await;
    let (first, second) = (ledger_id(played.path()), ledger_id(other.path()));
    let path = database.path().to_owned();
    drop(database);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let mixed = "UPDATE projection_positions SET ledger_id = ?1 WHERE name = 'simulins'";
    assert_eq!(connection.execute(mixed, [second.to_string()]).unwrap(), 1);
    drop(connection);
    for (given, holds) in [(first, second), (second, first)] {
        let error = give_over(&path, given).await.unwrap_err();
        let MigrationError::AnotherLedger { given: told, holds: is_held, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((told, is_held), (given, holds));
    }
    assert!(path.exists());
}

/// Two ledgers' workers on one new file: one has it, the other waits, and nothing is made again and
/// again.
#[tokio::test]
async fn two_ledgers_do_not_take_turns_on_one_file() {
    let (first, second) = (Played::new(5, 3, 69), Played::new(5, 3, 70));
    let database = first.database("game.db").await;
    let other = GameDatabase::open(database.path(), DatabaseSettings::default()).await.unwrap();
    let step = async |database: &GameDatabase, played: &Played, name: &str| {
        let feed = Box::new(Tail::new(played.path()));
        Worker::new(named(name), feed, database).step(Duration::ZERO).await
    };
    assert!(matches!(step(&database, &first, "seasons").await.unwrap(), Step::Applied(_)));
    for name in ["seasons", "simulins", "analytics"] {
        let error = step(&other, &second, name).await.unwrap_err();
        let is_refused = matches!(error, WorkerError::Feed(FeedError::AnotherLedger { .. }));
        assert!(is_refused, "{name}: {error}");
    }
    catch_up(&database, &first).await.unwrap();
    let (fresh, _) = first.project("fresh.db").await;
    same("one has it", &all_rows(fresh.path()).await, &all_rows(database.path()).await).unwrap();
    drop(Arc::new(other));
}

/// Where the ledger is not at hand the relay tells by signed notes what became of a head.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_head_is_told_apart_over_the_bus() {
    let bus = Bus::with(71, NatsServer::start()).await;
    let relay = bus.relay();
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("before", &database).await;
    workers.stop().await;
    relay.stop().await;
    let (path, before) = (bus.played.path(), all_rows(database.path()).await);
    let known = known_heads(database.path(), ledger_id(path)).await.unwrap();
    cut(path, 4);

    let relay = bus.relay();
    let follow = async || {
        Workers::catch_up(&database, &all_projections(), &bus.source(None)).await.map(drop)
    };
    let started = std::time::Instant::now();
    while !follow().await.is_err_and(|error| is_lost(&error)) {
        assert!(started.elapsed() < Duration::from_secs(60), "the relay tells");
    }
    same("the position stays", &before, &all_rows(database.path()).await).unwrap();
    open(path, 71, &known, true).unwrap();
    let newest = head(path).seq;
    let (fresh, _) = bus.played.project("fresh.db").await;
    let started = std::time::Instant::now();
    let stands = |known: Vec<KnownHead>| known.iter().all(|known| known.head.seq == newest);
    loop {
        drop(follow().await);
        if stands(known_heads(database.path(), ledger_id(path)).await.unwrap()) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the tables are made anew");
    }
    same("accepted", &all_rows(fresh.path()).await, &all_rows(database.path()).await).unwrap();
    relay.stop().await;
}

/// Tables that a migration took away and brought back are made anew, and the heads that they stood
/// for stay.
#[tokio::test]
async fn a_migration_down_and_up_leaves_no_table_empty_and_no_head_lost() {
    let played = Played::new(5, 3, 72);
    let (database, _) = played.project("game.db").await;
    let (expected, path) = (all_rows(database.path()).await, database.path().to_owned());
    drop(database);
    let (lost, id) = (head(played.path()), ledger_id(played.path()));
    for number in [5, 3] {
        let ours = daybook_projections::Migrations::game();
        let until = Some(daybook_projections::MigrationNumber::Ours(number));
        ours.down(&path, until).await.unwrap();
        let known = known_heads(&path, id).await.unwrap();
        assert!(known.iter().any(|known| known.head == lost), "as it is");
        assert!(status(&path, &all_projections(), played.path()).await.is_ok());
        ours.up(&path, None).await.unwrap();
        let database = played.database("game.db").await;
        catch_up(&database, &played).await.unwrap();
        same("down and up", &expected, &all_rows(&path).await).unwrap();
    }
    // Also where the positions' own table went: the copy from before tells.
    let ours = daybook_projections::Migrations::game();
    ours.down(&path, Some(daybook_projections::MigrationNumber::Ours(1))).await.unwrap();
    let known = known_heads(&path, id).await.unwrap();
    assert!(known.iter().any(|known| known.head == lost && known.source.contains("backups")));
}

/// What cannot be read of what was set aside is not taken for silence.
#[tokio::test]
async fn a_file_that_was_set_aside_is_a_witness() {
    let played = Played::new(5, 3, 73);
    let (database, _) = played.project("game.db").await;
    let (path, id) = (database.path().to_owned(), ledger_id(played.path()));
    let lost = head(played.path());
    drop(database);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF; DROP TABLE bets").unwrap();
    drop(connection);
    cut(played.path(), 3);
    let database = played.database("game.db").await;
    let aside = database.set_aside().unwrap().path.clone();
    catch_up(&database, &played).await.unwrap();
    let known = known_heads(&path, id).await.unwrap();
    assert!(known.iter().any(|known| known.head == lost), "it tells still");
    assert!(matches!(open(played.path(), 73, &known, false), Err(OpenError::Behind { .. })));
    // Also where no other was made yet, or it was removed.
    database.close().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(known_heads(&path, id).await.unwrap().iter().any(|known| known.head == lost));
    let file = std::fs::OpenOptions::new().write(true).open(&aside).unwrap();
    file.set_len(10_000).unwrap();
    let refused = known_heads(&path, id).await.unwrap_err();
    assert!(matches!(refused, MigrationError::Unread { .. }), "{refused}");
}

/// Somebody else's files are refused as they lie, and files that are only called like ours stay.
#[tokio::test]
async fn foreign_files_are_left_as_they_are() {
    let played = Played::new(3, 2, 74);
    let path = played.game_db("game.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE mine (x); CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY)",
        )
        .unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let ours = daybook_projections::Migrations::game();
    for refused in [
        GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap_err(),
        ours.up(&path, None).await.unwrap_err(),
        ours.down(&path, None).await.unwrap_err(),
    ] {
        assert!(matches!(refused, MigrationError::Foreign { .. }), "{refused}");
    }
    assert!(std::fs::read(&path).unwrap() == before, "its journal too");
    assert!(!played.game_db("game.db.lock").exists());
    std::fs::remove_file(&path).unwrap();
    for name in ["game.db.open-notes.txt", "game.db.rebuild-of-monday"] {
        std::fs::write(played.game_db(name), "notes").unwrap();
    }
    std::fs::create_dir(played.game_db("game.db.open-directory")).unwrap();
    drop(played.project("game.db").await);
    let head = head(played.path());
    assert_eq!(forget(&path, head, None).await.unwrap(), 3);
    for name in ["game.db.open-notes.txt", "game.db.rebuild-of-monday", "game.db.open-directory"] {
        assert!(played.game_db(name).exists(), "{name}");
    }
    // What is no file is told at once.
    let pipe = played.game_db("pipe.db");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(known_heads(&pipe, ledger_id(played.path())).await.is_err());
}
