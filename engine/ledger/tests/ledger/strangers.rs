//! Guards: another program that locks, reads, moves or compacts the ledger's file costs no
//! acknowledged event and does not end the game.

use std::process::Command as Process;
use std::time::Duration;

use daybook_ledger::{
    DatabaseError, Failure, Ledger, LockError, OpenError, Pending, Reader, Stopped, Submission,
    SubmitError, Verdict,
};
use daybook_schema::{Command, EventHash, Head, limits};

use crate::fixture::{Fixture, user};

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Another program opens the ledger, reads it and closes it.
fn look_from_outside(fixture: &Fixture) {
    let look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                c.execute('SELECT count(*) FROM events').fetchall(); c.close()";
    let mut python = Process::new("python3");
    assert!(python.args(["-c", look]).arg(fixture.database()).status().unwrap().success());
}

/// A write lock that somebody's shell holds: what is decided waits for it, what is new is refused,
/// certainly not applied, and play goes on when the lock is gone.
#[test]
fn a_strangers_lock_is_waited_for() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let stranger = rusqlite::Connection::open(fixture.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = || Submission::new(Command::StartSession { user_id }).at(fixture.now);
    let waiting = fixture.ledger().submit(start()).unwrap();
    until(|| fixture.ledger().health().locked_for.is_some());
    let head = fixture.ledger().head();
    let refused = fixture.ledger().submit(start()).unwrap_err();
    assert!(matches!(refused, SubmitError::Locked { .. }), "{refused}");
    let asked = fixture.ledger().query(|state| state.users.len()).unwrap_err();
    assert!(matches!(asked, SubmitError::Locked { .. }), "{asked}");
    stranger.execute_batch("ROLLBACK").unwrap();
    let accepted = waiting.wait().unwrap();
    assert_eq!(accepted.first_seq.get(), head.seq + 1, "the refused one was not applied");
    until(|| fixture.ledger().health().locked_for.is_none());
    fixture.must(Command::StartSession { user_id });
    fixture.close();
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);
}

/// A lock that outlasts the ledger: closing does not wait for ever, and what was decided was not
/// applied.
#[test]
fn a_ledger_that_is_closed_under_a_lock_ends() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let head = fixture.ledger().head();
    let stranger = rusqlite::Connection::open(fixture.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let submission = Submission::new(Command::StartSession { user_id }).at(fixture.now);
    let waiting = fixture.ledger().submit(submission).unwrap();
    let closed = fixture.ledger.take().unwrap().close().wait().unwrap_err();
    assert!(matches!(closed, SubmitError::Unavailable { .. }), "{closed}");
    assert!(matches!(waiting.wait(), Err(SubmitError::Unavailable { .. })));
    drop(stranger);
    fixture.open();
    assert_eq!(fixture.ledger().head(), head);
}

/// A reader whose transaction stays open keeps the log from being started anew: that is told, with
/// its size, until the transaction ends.
#[test]
fn a_log_that_a_reader_holds_is_told() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let stranger = rusqlite::Connection::open(fixture.database()).unwrap();
    stranger.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let play = |is_enough: &dyn Fn() -> bool| {
        let mut waiting: Vec<Pending<_>> = Vec::new();
        while !is_enough() {
            let submission = Submission::new(Command::StartSession { user_id }).at(fixture.now);
            waiting.push(fixture.ledger().submit(submission).unwrap());
            if waiting.len() == limits::COMMANDS_PER_BATCH_MAX {
                waiting.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
            }
        }
    };
    assert!(!fixture.ledger().health().is_log_held);
    play(&|| fixture.ledger().health().is_log_held);
    let held = fixture.ledger().health();
    assert!(held.log_bytes >= limits::WAL_BYTES_RESTART, "{held:?}");
    drop(stranger);
    play(&|| !fixture.ledger().health().is_log_held);
    fixture.close();
    assert_eq!(fixture.verify(false).verdict, Verdict::Intact);
}

/// The lock file is only a name: who removes it does not let a second writer in, in another process
/// or in this.
#[test]
fn a_lock_file_that_was_removed_lets_nobody_in() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    std::fs::remove_file(fixture.path().join("ledger.lock")).unwrap();
    let error = Ledger::open(fixture.options()).unwrap_err();
    assert!(matches!(error, OpenError::Lock(LockError::Held { .. })), "{error}");
    // And the attempt took nothing from the first: another program still does not take itself for
    // the last.
    look_from_outside(&fixture);
    fixture.must(Command::StartSession { user_id });
    let head = fixture.ledger().head();
    assert_eq!(Reader::open(fixture.path()).unwrap().head().unwrap(), head);
    fixture.close();
    assert_eq!(fixture.verify(true).head, head);
}

/// A reader that stays while the process closes the ledger, or fails to open it, keeps its locks:
/// another program that looks in later does not take itself for the last, and removes no log.
#[test]
fn a_reader_keeps_its_locks_while_the_ledger_is_closed_and_opened() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let reader = Reader::open(fixture.path()).unwrap();
    reader.head().unwrap();
    let missing = Head { seq: 99, hash: EventHash::new([1; 32]) };
    for fails in [false, true] {
        fixture.close();
        if fails {
            let error = Ledger::open(fixture.options().known_heads([missing])).unwrap_err();
            assert!(matches!(error, OpenError::Behind { .. }), "{error}");
        }
        fixture.open();
        fixture.must(Command::StartSession { user_id });
        look_from_outside(&fixture);
        fixture.must(Command::StartSession { user_id });
        let head = fixture.ledger().head();
        assert_eq!(reader.head().unwrap(), head);
        fixture.close();
        fixture.open();
        assert_eq!(fixture.ledger().head(), head);
    }
    fixture.close();
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);
}

/// Attempts that are refused leave nothing open, however many there are.
#[test]
fn refused_attempts_leave_no_file_open() {
    let fixture = Fixture::new();
    let files = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|file| {
                let link = std::fs::read_link(file.as_ref().unwrap().path());
                link.is_ok_and(|link| link == fixture.database())
            })
            .count()
    };
    let before = files();
    for _ in 0..20 {
        drop(std::fs::remove_file(fixture.path().join("ledger.lock")));
        assert!(Ledger::open(fixture.options()).is_err());
    }
    // The threads that fold the log in and write snapshots may have opened the file meanwhile.
    assert!(files() <= before + 2, "{} files, {before} before", files());
}

/// What is no file in the ledger's place is refused at once, also where opening it would wait.
#[test]
fn a_pipe_in_the_place_of_a_ledger_is_refused_at_once() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("ledger.db");
    assert!(Process::new("mkfifo").arg(&pipe).status().unwrap().success());
    let keys = daybook_simulator::Keyring::new([crate::fixture::season_key()]);
    let error = Ledger::open(daybook_ledger::Options::new(directory.path(), keys)).unwrap_err();
    assert!(matches!(error, OpenError::Database(DatabaseError::NotALedger { .. })), "{error}");
    assert!(fixture.ledger().reader().is_ok());
}

/// The log is removed and another program compacts the file. The ledger notices, and does not fold
/// the removed log into the file that it is not of any more.
#[test]
fn a_file_that_was_compacted_without_its_log_is_left_as_it_is() {
    let mut fixture = Fixture::new();
    let users: Vec<_> = (1..=20).map(|number| fixture.register(number)).collect();
    let play = |fixture: &Fixture, count| {
        let users = users.iter().copied().cycle().take(count);
        let starts = users.map(|user_id| Command::StartSession { user_id });
        let submit =
            |start| fixture.ledger().submit(Submission::new(start).at(fixture.now)).unwrap();
        let waiting: Vec<_> = starts.map(submit).collect();
        waiting.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    };
    // Most of it is folded in, into pages that the other program puts elsewhere; the rest lies in
    // the log.
    play(&fixture, 3_000);
    fixture.close();
    fixture.open();
    play(&fixture, 200);
    for ending in ["-wal", "-shm"] {
        let mut path = fixture.database().into_os_string();
        path.push(ending);
        std::fs::remove_file(path).unwrap();
    }
    let compact = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); \
                   c.execute('PRAGMA auto_vacuum = FULL'); c.execute('VACUUM'); \
                   c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()";
    let mut python = Process::new("python3");
    assert!(python.args(["-c", compact]).arg(fixture.database()).status().unwrap().success());
    let id = fixture.next_id();
    let told = fixture.send(id, Command::RegisterUser { user_id: user(99) }).unwrap_err();
    assert!(matches!(&told, SubmitError::Unavailable(Stopped::Failed(Failure::FileMoved { .. }))));
    assert!(fixture.ledger.take().unwrap().close().wait().is_err());
    let connection = rusqlite::Connection::open(fixture.database()).unwrap();
    let check: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
