//! Guards: an event that a projection cannot apply stops that projection alone, and says where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daybook_projections::sqlx;
use daybook_projections::sqlx::SqliteConnection;
use daybook_projections::{
    ApplyError, BoxFuture, Changes, FeedSource, ProjectedEvent, Projection, ProjectionState, Step,
    Tail, Worker, Workers, all_projections, rebuild, status,
};
use daybook_schema::{EventKind, Seq};

use crate::fixture::{Played, all_rows, named};

/// Counts events, and cannot take one of them until it is mended.
struct Counts {
    poison: Seq,
    mended: Arc<AtomicBool>,
}

impl Projection for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["event_counts"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS event_counts (kind TEXT PRIMARY KEY, events INTEGER NOT NULL)"
    }

    fn fold<'a>(
        &'a self,
        _database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        Box::pin(async move {
            let is_mended = self.mended.load(Ordering::Relaxed);
            let poison = events.iter().find(|event| event.stored.header.seq == self.poison);
            match poison.filter(|_| !is_mended) {
                Some(event) => Err(ApplyError::event(event, "it is poison")),
                None => {
                    let kinds = events.iter().map(|event| event.stored.event.kind()).collect();
                    Ok(Box::new(Counted(kinds)) as Box<dyn Changes>)
                }
            }
        })
    }
}

/// The kinds of events.
struct Counted(Vec<EventKind>);

impl Changes for Counted {
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(async move {
            for kind in self.0 {
                sqlx::query(
                    "INSERT INTO event_counts VALUES (?1, 1) \
                     ON CONFLICT (kind) DO UPDATE SET events = events + 1",
                )
                .bind(kind.as_str())
                .execute(&mut *database)
                .await?;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_poison_event_stops_its_projection_alone_until_that_is_mended() {
    let played = Played::new(5, 3, 21);
    let events = played.events();
    let poison = events[events.len() / 3].header.seq;
    let kind = events[events.len() / 3].event.kind();
    let mended = Arc::new(AtomicBool::new(false));
    let counts: Arc<dyn Projection> = Arc::new(Counts { poison, mended: Arc::clone(&mended) });
    let database = played.database("game.db").await;

    let mut all = all_projections();
    all.push(Arc::clone(&counts));
    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all, &source).await.unwrap();
    let states = status(database.path(), &all, played.path()).await.unwrap();
    for state in &states {
        if state.name == "counts" {
            let ProjectionState::Stopped(stopped) = &state.state else {
                panic!("{:?}", state.state)
            };
            assert_eq!(stopped.seq, poison.get());
            assert_eq!(stopped.kind, kind.as_str());
            assert_eq!(stopped.reason, "it is poison");
            // Everything before it is applied.
            assert_eq!(state.head.seq, poison.get() - 1);
        } else {
            assert_eq!(state.state, ProjectionState::Current, "{}", state.name);
            assert_eq!(state.lag_events, Some(0));
        }
    }

    mended.store(true, Ordering::Relaxed);
    let mut worker = Worker::new(counts, Box::new(Tail::new(played.path())), &database);
    assert_ne!(worker.catch_up().await.unwrap(), Step::Stopped);
    let states = status(database.path(), &all, played.path()).await.unwrap();
    assert!(states.iter().all(|state| state.state == ProjectionState::Current), "{states:?}");
}

/// What somebody put into the way in the file stops `seasons`, with SQLite's own reason.
#[tokio::test]
async fn what_is_in_the_way_is_told_with_the_event_that_met_it() {
    let played = Played::new(3, 3, 22);
    let (reference, _) = played.project("reference.db").await;
    let season: String = {
        let connection = rusqlite::Connection::open(reference.path()).unwrap();
        let query = "SELECT id FROM seasons ORDER BY id LIMIT 1 OFFSET 2";
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    };
    let database = played.database("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let in_the_way = format!(
        "CREATE TRIGGER in_the_way BEFORE INSERT ON bets WHEN new.season_id = '{season}' \
         BEGIN SELECT RAISE(ABORT, 'not in this table'); END"
    );
    connection.execute(&in_the_way, []).unwrap();

    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
    let states = status(database.path(), &all_projections(), played.path()).await.unwrap();
    let seasons = states.iter().find(|state| state.name == "seasons").unwrap();
    let ProjectionState::Stopped(stopped) = &seasons.state else { panic!("{:?}", seasons.state) };
    assert_eq!(stopped.kind, "bet_placed");
    assert!(stopped.reason.contains("not in this table"), "{}", stopped.reason);

    connection.execute("DROP TRIGGER in_the_way", []).unwrap();
    let mut worker = Worker::new(named("seasons"), Box::new(Tail::new(played.path())), &database);
    while worker.step(Duration::ZERO).await.unwrap() != Step::Idle {}
    let (expected, found) = (all_rows(reference.path()).await, all_rows(database.path()).await);
    daybook_projections::test_kit::same("mended", &expected, &found).unwrap();
}

/// Guards: rows of a user who is not there are not written, as a foreign key would not let them.
#[tokio::test]
async fn a_user_who_was_removed_stops_what_refers_to_him() {
    let played = Played::new(3, 3, 23);
    let database = played.database("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    let removed = "CREATE TRIGGER removed AFTER INSERT ON users \
        BEGIN DELETE FROM users WHERE id = new.id; END";
    connection.execute(removed, []).unwrap();
    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
    let states = status(database.path(), &all_projections(), played.path()).await.unwrap();
    for (name, kind) in [("seasons", "season_started"), ("simulins", "simulin_adopted")] {
        let state = states.iter().find(|state| state.name == name).unwrap();
        let ProjectionState::Stopped(stopped) = &state.state else { panic!("{:?}", state.state) };
        assert_eq!(stopped.kind, kind);
        assert!(stopped.reason.contains("is not in `users`"), "{}", stopped.reason);
    }

    connection.execute("DROP TRIGGER removed", []).unwrap();
    let mut tail = Tail::new(played.path());
    rebuild(&database, &all_projections(), &mut tail).await.unwrap();
    let (reference, _) = played.project("reference.db").await;
    let (expected, found) = (all_rows(reference.path()).await, all_rows(database.path()).await);
    daybook_projections::test_kit::same("made anew", &expected, &found).unwrap();
}

/// Guards: triggers and tables of a team's own work as they would without the workers' own ways.
#[tokio::test]
async fn triggers_and_cascades_of_a_team_hold() {
    let played = Played::new(20, 8, 24);
    let database = played.database("game.db").await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE pots_played (pot TEXT PRIMARY KEY); \
             CREATE TRIGGER played AFTER INSERT ON bets \
             BEGIN INSERT OR IGNORE INTO pots_played VALUES (new.pot_id); END; \
             CREATE TABLE praised (season_id TEXT REFERENCES season_activity (season_id) \
             ON DELETE CASCADE); \
             CREATE TRIGGER praise AFTER INSERT ON season_activity \
             BEGIN INSERT INTO praised VALUES (new.season_id); END;",
        )
        .unwrap();
    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
    let states = status(database.path(), &all_projections(), played.path()).await.unwrap();
    assert!(states.iter().all(|state| state.state == ProjectionState::Current), "{states:?}");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM pots_played"), 4);
    assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

/// Panics at one event, somewhere, as often as it meets it.
struct Panics {
    poison: Seq,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OnTheCall,
    Folding,
    OnTheCallToWrite,
    Writing,
}

impl Projection for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["panics_rows"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS panics_rows (seq INTEGER PRIMARY KEY)"
    }

    fn fold<'a>(
        &'a self,
        _database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        let meets = events.iter().any(|event| event.stored.header.seq == self.poison);
        let panics_at = move |place: Place| meets && self.place == place;
        assert!(!panics_at(Place::OnTheCall), "a bug on the call");
        Box::pin(async move {
            assert!(!panics_at(Place::Folding), "a bug in folding");
            let seqs = events.iter().map(|event| event.stored.header.seq).collect();
            let place = Some(self.place).filter(|place| panics_at(*place));
            Ok(Box::new(SeqRows { seqs, place }) as Box<dyn Changes>)
        })
    }
}

struct SeqRows {
    seqs: Vec<Seq>,
    place: Option<Place>,
}

impl Changes for SeqRows {
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        assert!(self.place != Some(Place::OnTheCallToWrite), "a bug on the call to write");
        Box::pin(async move {
            for seq in self.seqs {
                sqlx::query("INSERT INTO panics_rows VALUES (?1)")
                    .bind(seq.get().cast_signed())
                    .execute(&mut *database)
                    .await?;
            }
            assert!(self.place != Some(Place::Writing), "a bug in writing");
            Ok(())
        })
    }
}

/// A projection that panics stops at that event and says so; everything before it is applied, and
/// the others go on.
#[tokio::test]
async fn a_projection_that_panics_stops_at_that_event_and_says_so() {
    let played = Played::new(3, 2, 23);
    let events = played.events();
    let poison = events[events.len() / 2].header.seq;
    for (place, words) in [
        (Place::OnTheCall, "a bug on the call"),
        (Place::Folding, "a bug in folding"),
        (Place::OnTheCallToWrite, "a bug on the call to write"),
        (Place::Writing, "a bug in writing"),
    ] {
        let database = played.database(&format!("game-{place:?}.db")).await;
        let mut all = all_projections();
        all.push(Arc::new(Panics { poison, place }));
        let source = FeedSource::ledger(played.path());
        Workers::catch_up(&database, &all, &source).await.unwrap();
        for state in status(database.path(), &all, played.path()).await.unwrap() {
            if state.name != "panics" {
                assert_eq!(state.state, ProjectionState::Current, "{}", state.name);
                continue;
            }
            let ProjectionState::Stopped(stopped) = &state.state else {
                panic!("{:?}", state.state)
            };
            assert_eq!(stopped.seq, poison.get());
            assert!(stopped.reason.ends_with(words), "{}", stopped.reason);
            assert_eq!(state.head.seq, poison.get() - 1);
        }
        // A worker that runs meets it again and again, and goes on telling.
        let workers = Workers::start(&database, &all, &source);
        tokio::time::sleep(Duration::from_millis(200)).await;
        workers.stop().await;
        let states = status(database.path(), &all, played.path()).await.unwrap();
        let is_stopped = |state: &ProjectionState| matches!(state, ProjectionState::Stopped(_));
        assert_eq!(states.iter().filter(|status| is_stopped(&status.state)).count(), 1);
    }
}

/// Threads that may wait are shared by the whole process: whoever fills them keeps no projection
/// from its events.
#[test]
fn a_process_whose_waiting_threads_are_all_taken_still_projects() {
    let played = Played::new(3, 2, 24);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let taken = runtime.spawn_blocking(move || held.recv().is_ok());
    runtime.block_on(async {
        let (database, positions) = played.project("game.db").await;
        assert!(positions.iter().all(|position| position.head.seq > 0));
        let states = status(database.path(), &all_projections(), played.path()).await.unwrap();
        assert!(states.iter().all(|state| state.state == ProjectionState::Current));
        drop(release);
        taken.await.unwrap();
    });
}

/// A season that nobody watches any more takes no room, however many were watched.
#[tokio::test]
async fn watches_that_ended_leave_nothing() {
    let hub = daybook_projections::NoticeHub::default();
    let season = |number: u32| {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        daybook_schema::SeasonId::from_bytes(bytes)
    };
    for number in 0..100_000 {
        drop(hub.watch(season(number)));
    }
    assert_eq!(hub.seasons_watched(), 0);
    let (mut first, second) = (hub.watch(season(1)), hub.watch(season(1)));
    drop(second);
    assert_eq!(hub.seasons_watched(), 1);
    let hash = daybook_schema::EventHash::new([1; 32]);
    let notice = daybook_projections::Notice { season_id: season(1), seq: 7, hash, kinds: vec![] };
    hub.tell(notice.clone());
    assert_eq!(first.next().await, Some(notice.clone()));
    // Who is slow misses older ones, and gets the newest.
    for seq in 1..=1_000 {
        hub.tell(daybook_projections::Notice { seq, ..notice.clone() });
    }
    let mut newest = 0;
    while newest < 1_000 {
        newest = first.next().await.unwrap().seq;
    }
    drop(first);
    assert_eq!(hub.seasons_watched(), 0);
}

/// Holds another watch, and lets go of it when it is woken.
struct LetsGo(std::sync::Mutex<Option<daybook_projections::Watch>>);

impl std::task::Wake for LetsGo {
    fn wake(self: std::sync::Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

/// Who is told of something may come back to the hub at once.
#[test]
fn a_watcher_that_is_woken_may_end_another_watch() {
    let hub = daybook_projections::NoticeHub::default();
    let season_id = daybook_schema::SeasonId::from_bytes([1; 16]);
    let mut watch = hub.watch(season_id);
    let other = std::sync::Mutex::new(Some(hub.watch(season_id)));
    let waker = std::sync::Arc::new(LetsGo(other)).into();
    let mut next = Box::pin(watch.next());
    assert!(next.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    let hash = daybook_schema::EventHash::new([1; 32]);
    hub.tell(daybook_projections::Notice { season_id, seq: 7, hash, kinds: vec![] });
    drop(next);
    drop(watch);
    assert_eq!(hub.seasons_watched(), 0);
}

/// Writes where it may only read.
struct WritesInFold;

impl Projection for WritesInFold {
    fn name(&self) -> &'static str {
        "early"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["early_rows"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS early_rows (id INTEGER PRIMARY KEY)"
    }

    fn fold<'a>(
        &'a self,
        database: &'a mut SqliteConnection,
        _events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        Box::pin(async move {
            sqlx::query("INSERT INTO early_rows VALUES (NULL)").execute(database).await?;
            Ok(Box::new(Counted(Vec::new())) as Box<dyn Changes>)
        })
    }
}

/// Guards: rows that a projection writes too early are not lost silently.
#[tokio::test]
async fn a_projection_that_writes_in_fold_stops_and_is_told_where_it_may() {
    let played = Played::new(1, 1, 25);
    let database = played.database("early.db").await;
    let early: [Arc<dyn Projection>; 1] = [Arc::new(WritesInFold)];
    Workers::catch_up(&database, &early, &FeedSource::ledger(played.path())).await.unwrap();
    let states = status(database.path(), &early, played.path()).await.unwrap();
    let ProjectionState::Stopped(stopped) = &states[0].state else { panic!("{states:?}") };
    assert_eq!(stopped.seq, 1);
    assert!(stopped.reason.contains("`Changes::write`"), "{}", stopped.reason);
}
