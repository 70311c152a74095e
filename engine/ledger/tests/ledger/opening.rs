//! Guards: one writer, whole recovery, and no write to what is damaged, foreign or newer.

use daybook_ledger::{
    DatabaseError, Ledger, LockError, NewLedger, OpenError, Options, Reader, SubmitError, Verdict,
    VerifyError, VerifyOptions, replay, verify,
};
use daybook_schema::{Command, LedgerFormat, Seq};
use daybook_simulator::Keyring;

use crate::fixture::{Fixture, season_key};

#[test]
fn a_second_writer_is_refused_and_told_who_the_first_is() {
    let fixture = Fixture::new();
    let error = Ledger::open(fixture.options()).unwrap_err();
    let OpenError::Lock(LockError::Held { holder, .. }) = error else { panic!("{error}") };
    assert!(holder.starts_with(&std::process::id().to_string()), "{holder}");
    // Readers are welcome.
    assert!(Reader::open(fixture.path()).unwrap().head().unwrap().seq > 0);
}

/// Somebody looks into the ledger with SQLite's own shell, or a script, while it is written. When
/// the last connection to a file is closed SQLite removes the log: that must never seem to be
/// theirs.
#[test]
fn another_program_that_opens_and_closes_the_ledger_leaves_the_log_alone() {
    let mut fixture = Fixture::new();
    let look = |fixture: &Fixture| {
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                      c.execute('SELECT count(*) FROM events').fetchall(); c.close()";
        let mut python = std::process::Command::new("python3");
        let status = python.args(["-c", script]).arg(fixture.database()).status().unwrap();
        assert!(status.success());
    };
    let user_id = fixture.register(1);
    look(&fixture);
    let season_id = fixture.start(user_id);
    // Readers come and go in the writer's own process too.
    drop(Reader::open(fixture.path()).unwrap());
    look(&fixture);
    fixture.bets(user_id, season_id);
    look(&fixture);
    let head = fixture.ledger().head();
    assert_eq!(Reader::open(fixture.path()).unwrap().head().unwrap(), head);
    fixture.close();
    assert_eq!(fixture.verify(true).head, head);
}

#[test]
fn recovery_gives_the_state_that_was_left() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    fixture.bets(user_id, season_id);
    let hash = |fixture: &Fixture| fixture.ledger().query(|s| s.hash()).unwrap().wait().unwrap();
    let before = (fixture.ledger().head(), hash(&fixture));
    fixture.close();
    fixture.open();
    assert_eq!((fixture.ledger().head(), hash(&fixture)), before);
    // Play goes on from there, stream links included.
    fixture.advance(user_id, season_id, 1);
    fixture.close();
    let report = fixture.verify(true);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
}

#[test]
fn replay_gives_the_state_at_any_point() {
    let fixture = Fixture::played();
    let whole = replay(fixture.path(), None, |_, _| {}).unwrap();
    assert_eq!(whole.state_hash(), fixture.verify(true).state_hash.unwrap());
    let mut seen = Vec::new();
    let half = replay(fixture.path(), Some(whole.head.seq / 2), |_, stored| {
        seen.push(stored.header.seq.get());
    })
    .unwrap();
    assert_eq!(half.head.seq, whole.head.seq / 2);
    assert_eq!(seen, (1..=half.head.seq).collect::<Vec<_>>());
    assert_ne!(half.state_hash(), whole.state_hash());
}

#[test]
fn a_damaged_ledger_is_not_written_but_its_sound_part_is_read() {
    let fixture = Fixture::played();
    let connection = rusqlite::Connection::open(fixture.database()).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER events_refuse_update; UPDATE events SET recorded_at = 7 WHERE seq = 20;",
        )
        .unwrap();
    drop(connection);
    let error = Ledger::open(fixture.options()).unwrap_err();
    let OpenError::Damaged(finding) = error else { panic!("{error}") };
    assert_eq!((finding.verdict, finding.first_bad_seq), (Verdict::Altered, Some(20)));
    let reader = Reader::open(fixture.path()).unwrap();
    let sound: Vec<_> = reader.events_from(Seq::MIN).take_while(Result::is_ok).collect();
    assert_eq!(sound.len(), 19);
    let after = Seq::new(21).unwrap();
    assert!(reader.events_from(after).all(|event| event.is_ok()), "what lies behind is sound too");
}

#[test]
fn what_is_no_ledger_or_a_newer_one_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let open = || {
        let keys = Keyring::new([season_key()]);
        Ledger::open(Options::new(directory.path(), keys).create(NewLedger::random()))
    };
    for content in [Vec::new(), vec![b'x'; 5_000]] {
        std::fs::write(&path, &content).unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, OpenError::Database(DatabaseError::NotALedger { .. })), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    std::fs::remove_file(&path).unwrap();
    open().unwrap().close().wait().unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 3).unwrap();
    drop(connection);
    let error = open().unwrap_err();
    let newer = matches!(error, OpenError::Database(DatabaseError::NewerFormat { found: 3, .. }));
    assert!(newer, "{error}");
}

#[test]
fn a_ledger_that_is_not_there_is_not_made_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere");
    let error = Ledger::open(Options::new(&missing, Keyring::default())).unwrap_err();
    assert!(matches!(error, OpenError::Database(DatabaseError::Missing { .. })), "{error}");
    assert!(!missing.exists());
}

/// A commit that fails stops the ledger: the waiting command and all later ones are answered
/// `unavailable`, and a restart finds everything that was acknowledged.
#[test]
fn a_failed_commit_stops_the_ledger_and_loses_nothing_acknowledged() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let head = fixture.ledger().head();
    let connection = rusqlite::Connection::open(fixture.database()).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER fault BEFORE INSERT ON events
             BEGIN SELECT RAISE(ABORT, 'a fault was injected'); END;",
        )
        .unwrap();
    let command = Command::StartSession { user_id };
    let id = fixture.next_id();
    let unavailable = |error| matches!(error, SubmitError::Unavailable { .. });
    assert!(unavailable(fixture.send(id, command.clone()).unwrap_err()));
    let submission = daybook_ledger::Submission::new(command.clone());
    assert!(unavailable(fixture.ledger().submit(submission).unwrap_err()));
    assert!(fixture.ledger.take().unwrap().close().wait().is_err());
    connection.execute_batch("DROP TRIGGER fault").unwrap();
    drop(connection);
    fixture.open();
    assert_eq!(fixture.ledger().head(), head);
    // The same id again: it was not applied, so now it is.
    assert_eq!(fixture.send(id, command).unwrap().first_seq.get(), head.seq + 1);
}

/// A trigger that makes inserts vanish is noticed by the writer: nothing is acknowledged.
#[test]
fn an_insert_that_vanishes_is_a_failed_commit() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let connection = rusqlite::Connection::open(fixture.database()).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER fault BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END;",
        )
        .unwrap();
    let id = fixture.next_id();
    let error = fixture.send(id, Command::StartSession { user_id }).unwrap_err();
    assert!(matches!(error, SubmitError::Unavailable { .. }), "{error}");
}

/// What panics when it ends.
struct EndsInPanic(&'static str);

impl Drop for EndsInPanic {
    #[expect(clippy::panic, reason = "what a caller's code may do is what is tested")]
    fn drop(&mut self) {
        panic!("{}", self.0);
    }
}

/// Foreign code that panics on the engine's threads, in each place where there is any, is told to
/// whom it belongs, and play goes on.
#[test]
fn foreign_code_that_panics_ends_nothing() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    // The question itself, and what it captured.
    let asked =
        fixture.ledger().query(|state| state.users.get(&crate::fixture::user(9)).unwrap().clone());
    let told = asked.unwrap().wait().unwrap_err();
    assert!(matches!(told, SubmitError::Panicked { .. }), "{told}");
    let captured = EndsInPanic("captured");
    let asked = fixture.ledger().query(move |_| drop(captured)).unwrap();
    assert_eq!(asked.wait(), Err(SubmitError::Panicked { reason: "captured".to_owned() }));
    // What it panics with.
    let thrown = fixture.ledger().query(|_| throw(EndsInPanic("the panic's own end")));
    assert!(matches!(thrown.unwrap().wait(), Err(SubmitError::Panicked { .. })));
    // An answer that nobody waits for any more, ended by the writer.
    let (gone, waits) = std::sync::mpsc::channel::<()>();
    let unheard = fixture.ledger().query(move |_| {
        let _ = waits.recv();
        EndsInPanic("an answer")
    });
    drop(unheard.unwrap());
    gone.send(()).unwrap();
    // Whoever is woken by an answer.
    let waker = std::task::Waker::from(std::sync::Arc::new(WakesInPanic));
    let mut context = std::task::Context::from_waker(&waker);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let mut slow = Box::pin(fixture.ledger().query(move |_| held.recv().is_ok()).unwrap());
    assert!(std::future::Future::poll(slow.as_mut(), &mut context).is_pending());
    hold.send(()).unwrap();

    fixture.must(Command::StartSession { user_id });
    assert_eq!(fixture.ledger().health().stopped, None);
    // A question that is never asked, because the ledger is closed before.
    fixture.close();
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);
}

#[expect(clippy::panic, reason = "what a caller's code may do is what is tested")]
fn throw(payload: EndsInPanic) {
    std::panic::panic_any(payload);
}

struct WakesInPanic;

impl std::task::Wake for WakesInPanic {
    #[expect(clippy::panic, reason = "what a caller's code may do is what is tested")]
    fn wake(self: std::sync::Arc<Self>) {
        panic!("a waker");
    }
}

/// A ledger that is closed tells so to whoever follows, once all that was committed was given.
#[test]
fn followers_are_told_of_the_end_after_the_last_event() {
    let mut fixture = Fixture::new();
    let blocked = {
        let mut subscription = fixture.ledger().subscribe(Seq::new(2).unwrap()).unwrap();
        std::thread::spawn(move || {
            let mut seen = 0;
            while let Some(events) = subscription.next_events(std::time::Duration::MAX).unwrap() {
                assert!(!events.is_empty());
                seen += events.len();
            }
            seen
        })
    };
    let mut behind = fixture.ledger().subscribe(Seq::MIN).unwrap();
    fixture.register(1);
    fixture.close();
    assert_eq!(blocked.join().unwrap(), 2);
    let mut seen = 0;
    while let Some(events) = behind.next_events(std::time::Duration::MAX).unwrap() {
        seen += events.len();
    }
    assert_eq!(seen, 3);
    assert!(behind.next_events(std::time::Duration::ZERO).unwrap().is_none());
}

/// A log without its ledger may be all that is left of one: no new ledger takes its place.
#[test]
fn a_stray_write_ahead_log_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("ledger.db-wal");
    std::fs::write(&log, "the newest events").unwrap();
    let keys = Keyring::new([season_key()]);
    let options = Options::new(directory.path(), keys).create(NewLedger::random());
    let error = Ledger::open(options).unwrap_err();
    assert!(matches!(error, OpenError::Database(DatabaseError::StrayLog { .. })), "{error}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "the newest events");
}

/// More commands than may wait are answered `overloaded`; those that were taken are all answered.
#[test]
fn too_many_commands_are_answered_overloaded() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let ledger = fixture.ledger();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    // The state thread waits here, so that the queue fills.
    let held_query = ledger.query(move |_| held.recv().is_ok()).unwrap();
    let mut taken = Vec::new();
    let refused = loop {
        let submission = daybook_ledger::Submission::new(Command::StartSession { user_id });
        match ledger.submit(submission.at(fixture.now)) {
            Ok(pending) => taken.push(pending),
            Err(error) => break error,
        }
        assert!(taken.len() <= daybook_schema::limits::COMMANDS_WAITING_MAX + 1);
    };
    assert_eq!(refused, SubmitError::Overloaded);
    hold.send(()).unwrap();
    assert!(held_query.wait().unwrap());
    assert!(taken.into_iter().all(|pending| pending.wait().is_ok()));
}

/// Guards: another game's ledger is neither played, read nor verified as if it were this one's.
#[test]
fn a_ledger_of_an_unknown_game_is_refused() {
    let fixture = Fixture::played();
    let name_game = |game: &str| {
        let connection = rusqlite::Connection::open(fixture.database()).unwrap();
        let guard = LedgerFormat::NEWEST
            .sql()
            .split("\n\n")
            .find(|part| part.contains("CREATE TRIGGER genesis_refuse_update"))
            .unwrap();
        let sql = format!(
            "DROP TRIGGER genesis_refuse_update; UPDATE genesis SET game = '{game}'; {guard}"
        );
        connection.execute_batch(&sql).unwrap();
    };
    name_game("chess_960");
    let is_refused = |error: &DatabaseError| matches!(error, DatabaseError::UnknownGame { found, .. } if found == "chess_960");
    let OpenError::Database(error) = Ledger::open(fixture.options()).unwrap_err() else { panic!() };
    assert!(is_refused(&error), "{error}");
    assert!(error.to_string().contains("farming_season"), "{error}");
    assert!(is_refused(&Reader::open(fixture.path()).unwrap_err()));
    let verified = verify(fixture.path(), &VerifyOptions::default(), &mut |_, _| {});
    let VerifyError::Open(error) = verified.unwrap_err();
    assert!(is_refused(&error), "{error}");
    // What is no game's name is no other game: it is a genesis that was altered.
    name_game("Farming season");
    let report = fixture.verify(false);
    assert_eq!((report.verdict, report.first_bad_seq), (Verdict::BrokenLink, Some(0)));
    let error = Reader::open(fixture.path()).unwrap_err();
    assert!(matches!(error, DatabaseError::BrokenGenesis { .. }), "{error}");
}
