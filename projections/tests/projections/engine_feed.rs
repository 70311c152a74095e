//! Guards: workers in the engine's own process give what those of the file give, and one's own bet
//! at once.

use std::time::Duration;

use daybook_bots::{Play, Simulated};
use daybook_ledger::{Ledger, Submission};
use daybook_projections::{
    DatabaseSettings, EngineFeed, Feed, FeedError, FeedSource, GameDatabase, Reads, Workers,
    all_projections,
};
use daybook_schema::{Command, EventHash, Head, UserId};

use crate::fixture::{Played, all_rows};

const NAMES: [&str; 3] = ["seasons", "simulins", "analytics"];
const PATIENCE: Duration = Duration::from_secs(60);

async fn played_beside_workers(seed: u64) -> (tempfile::TempDir, GameDatabase) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(Simulated::from_seed(seed).options(directory.path())).unwrap();
    let path = directory.path().join("game.db");
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
    let workers = Workers::start(&database, &all_projections(), &FeedSource::ledger(&ledger));
    let playing = ledger.clone();
    let play = move || Play { players: 20, days: 9, seed }.run(&playing, &mut |_, _| {}).unwrap();
    tokio::task::spawn_blocking(play).await.unwrap();
    let newest = ledger.head().seq;
    let stands = Reads::new(&database).wait_for(&NAMES, newest, PATIENCE).await.unwrap();
    assert_eq!((stands.seq, stands.is_stale), (newest, false));
    // Workers that follow a closed engine wait, and stop when they are told to.
    ledger.close().await.unwrap();
    workers.stop().await;
    (directory, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_the_engine_make_the_tables_that_the_tail_gives() {
    let (directory, database) = played_beside_workers(201).await;
    let played = Played { directory };
    let (expected, _) = played.project("expected.db").await;
    assert_eq!(all_rows(database.path()).await, all_rows(expected.path()).await);
}

/// What was committed before the workers came is read from the file, and what comes then from the
/// engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reads_wait_for_their_own_command_and_leave_nothing_behind() {
    let played = Played::new(6, 4, 202);
    let ledger = Ledger::open(Simulated::from_seed(202).options(played.path())).unwrap();
    let database = played.database("game.db").await;
    let workers = Workers::start(&database, &all_projections(), &FeedSource::ledger(&ledger));
    let reads = Reads::new(&database);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (ledger, reads) = (ledger.clone(), reads.clone());
        waiting.spawn(async move {
            let register = Command::RegisterUser { user_id: UserId::random() };
            let accepted = ledger.submit(Submission::new(register)).unwrap().await.unwrap();
            let stands = reads.wait_for(&NAMES, accepted.head.seq, PATIENCE).await.unwrap();
            assert!(!stands.is_stale && stands.seq >= accepted.head.seq);
        });
    }
    while let Some(joined) = waiting.join_next().await {
        joined.unwrap();
    }
    workers.stop().await;
    ledger.close().await.unwrap();
}

/// A head that the ledger does not have is told at once, whether it lies in the past, at the end or
/// beyond.
#[tokio::test]
async fn a_head_that_the_ledger_lacks_is_unknown() {
    let played = Played::new(4, 3, 203);
    let ledger = Ledger::open(Simulated::from_seed(203).options(played.path())).unwrap();
    let head = ledger.head();
    let mut feed = EngineFeed::new(ledger.clone());
    assert_eq!(feed.next(head, Duration::ZERO).await.unwrap(), None);
    for seq in [1, head.seq - 1, head.seq, head.seq + 1, head.seq + 100] {
        let after = Head { seq, hash: EventHash::new([7; 32]) };
        let found = feed.next(after, Duration::ZERO).await;
        assert!(matches!(found, Err(FeedError::UnknownHead { .. })), "{seq}: {found:?}");
    }
    // The beginning is whatever its hash, and all comes without waiting.
    let block = feed.next(Head { seq: 0, hash: EventHash::new([0; 32]) }, Duration::ZERO).await;
    assert_eq!(block.unwrap().unwrap().events[0].header.seq.get(), 1);
    ledger.close().await.unwrap();
}
