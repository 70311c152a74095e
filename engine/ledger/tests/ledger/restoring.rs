//! Guards: a copy is whole, checked, and made beside the writer; a ledger that was put back begins a
//! new epoch, so that whoever knows the keys of the days after the backup gains nothing.

use std::path::{Path, PathBuf};

use daybook_ledger::{
    CopyError, Head, Ledger, OpenError, Reader, Restored, RestoredError, SubmitError, Verdict,
    copy_ledger, ledger_path,
};
use daybook_schema::{Command, Event, EventKind, LedgerId, SeasonId, Seq, UserId};
use daybook_simulator::Rejection;
use rusqlite::Connection;

use crate::fixture::{Fixture, user};

fn copy(
    from: &Path,
    until: Option<u64>,
    to: &Path,
) -> Result<daybook_ledger::LedgerCopy, CopyError> {
    let until = until.map(|until| Seq::new(until).unwrap());
    copy_ledger(from, until, to, &mut |_, _| {})
}

/// A season on its second day, and a directory for copies.
fn played() -> (Fixture, UserId, SeasonId, tempfile::TempDir) {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    fixture.register(2);
    let season_id = fixture.start(user_id);
    fixture.bets(user_id, season_id);
    fixture.advance(user_id, season_id, 1);
    (fixture, user_id, season_id, tempfile::tempdir().unwrap())
}

fn rows(path: &Path) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
    let connection = Connection::open(path).unwrap();
    let mut rows =
        connection.prepare("SELECT seq, payload, hash FROM events ORDER BY seq").unwrap();
    let all = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    all.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_copy_has_every_event_that_was_answered_before_it_began() {
    let (mut fixture, user_id, season_id, copies) = played();
    for day in 2..=6 {
        let head = fixture.ledger().head();
        let to = copies.path().join(format!("copy-{day}"));
        let made = copy(fixture.path(), None, &to).unwrap();
        assert_eq!((made.head, made.genesis.ledger_id), (head, fixture.ledger_id()));
        assert_eq!(rows(&to).len() as u64, head.seq);
        fixture.bets(user_id, season_id);
        fixture.advance(user_id, season_id, day);
    }
    fixture.close();
    let to = copies.path().join("ledger.db");
    copy(fixture.path(), None, &to).unwrap();
    assert_eq!(rows(&to), rows(&fixture.database()));
    // It is a ledger by itself, with its guards.
    let none = daybook_ledger::VerifyOptions { full: true, ..Default::default() };
    let report = daybook_ledger::verify(copies.path(), &none, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
}

#[test]
fn what_is_damaged_or_not_there_is_not_copied() {
    let (mut fixture, .., copies) = played();
    fixture.close();
    let head = fixture_head(&fixture);
    let to = |name: &str| copies.path().join(name);
    let beyond = copy(fixture.path(), Some(head.seq + 1), &to("beyond"));
    assert!(matches!(beyond, Err(CopyError::TooShort { .. })), "{beyond:?}");
    // The advance is one command of several events.
    let within = copy(fixture.path(), Some(head.seq - 1), &to("within")).unwrap_err();
    let CopyError::WithinCommand { before, .. } = within else { panic!("{within}") };
    assert_eq!(copy(fixture.path(), Some(before), &to("before")).unwrap().head.seq, before);
    let path = fixture.database();
    let genuine = std::fs::read(&path).unwrap();
    for (damage, said) in [
        ("UPDATE events SET payload = x'00' WHERE seq = 4", "at seq 4"),
        ("DELETE FROM events WHERE seq = 5", "event 5 is missing"),
        (
            "DELETE FROM events WHERE seq >= 6; INSERT INTO events SELECT seq + 9, recorded_at, stream, \
          stream_prev, kind, version, command, payload, hash FROM events WHERE seq = 5",
            "is missing",
        ),
    ] {
        let connection = Connection::open(&path).unwrap();
        let guards = "DROP TRIGGER events_refuse_update; DROP TRIGGER events_refuse_delete;";
        connection.execute_batch(&format!("{guards} {damage}")).unwrap();
        drop(connection);
        let name = format!("damaged-{}", damage.len());
        let error = copy(fixture.path(), None, &to(&name)).unwrap_err();
        assert!(error.to_string().contains(said), "{damage}: {error}");
        for ending in ["-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{}{ending}", path.display())));
        }
        std::fs::write(&path, &genuine).unwrap();
    }
    Connection::open(&path).unwrap().execute_batch("DROP TRIGGER events_refuse_delete").unwrap();
    let error = copy(fixture.path(), None, &to("unguarded")).unwrap_err();
    assert!(error.to_string().contains("guards_missing"), "{error}");
}

fn fixture_head(fixture: &Fixture) -> Head {
    Reader::open(fixture.path()).unwrap().head().unwrap()
}

/// Puts a copy in the place of the ledger, with the mark of a restore.
fn put_back(fixture: &mut Fixture, copy: &Path, mark: &Restored) {
    fixture.close();
    fixture.remove_snapshots();
    for ending in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{ending}", fixture.database().display())));
    }
    std::fs::copy(copy, fixture.database()).unwrap();
    mark.write(fixture.path()).unwrap();
}

fn restored_events(data_dir: &Path) -> usize {
    let reader = Reader::open(data_dir).unwrap();
    reader.events_of_kinds(&[EventKind::LedgerRestored], Seq::MIN).count()
}

/// A day is played after the backup. Its keys are known then, and win nothing.
#[test]
fn a_ledger_that_was_put_back_begins_a_new_epoch() {
    let (mut fixture, user_id, season_id, copies) = played();
    let to = copies.path().join("copy");
    let made = copy(fixture.path(), None, &to).unwrap();
    let known = revealed(&fixture.advance(user_id, season_id, 2).events);
    let mark = Restored::new(fixture.ledger_id(), made.head, false, "it".to_owned());
    put_back(&mut fixture, &to, &mark);
    fixture.open();
    assert!(!Restored::path(fixture.path()).exists());
    // The season whose second day is known is over.
    let id = fixture.next_id();
    let expected_day = daybook_schema::DayNumber::new(2).unwrap();
    let refused = fixture.send(id, Command::AdvanceDay { user_id, season_id, expected_day });
    let Err(SubmitError::Rejected { rejections, .. }) = refused else { panic!("{refused:?}") };
    assert!(rejections.iter().any(|one| matches!(one, Rejection::SeasonExpired)));
    // The next one has other keys, day for day.
    let next = fixture.start(user_id);
    for day in 1..=2 {
        let fresh = revealed(&fixture.advance(user_id, next, day).events);
        assert_ne!(fresh, known, "{day}");
    }
    fixture.close();
    assert_eq!(restored_events(fixture.path()), 1);
    fixture.open();
    fixture.close();
    assert_eq!(restored_events(fixture.path()), 1, "once is enough");
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);
}

fn revealed(events: &[daybook_simulator::NewEvent]) -> daybook_schema::DayKey {
    let resolved = events.iter().find_map(|event| match &event.event {
        Event::DayResolved(resolved) => Some(resolved.day_key),
        _ => None,
    });
    resolved.unwrap()
}

#[test]
fn a_known_head_shows_that_nothing_came_after_the_backup() {
    let (mut fixture, user_id, season_id, copies) = played();
    let to = copies.path().join("copy");
    let made = copy(fixture.path(), None, &to).unwrap();
    let mark = |is_cut| Restored::new(fixture.ledger_id(), made.head, is_cut, "it".to_owned());
    let (whole, cut) = (mark(false), mark(true));
    let older = Head {
        seq: 1,
        hash: daybook_schema::EventHash::new(rows(&to)[0].2.clone().try_into().unwrap()),
    };
    put_back(&mut fixture, &to, &whole);
    let known = |head| fixture.options().known_heads([head]);
    let (right, before) = (known(made.head), known(older));
    // The very head: the season goes on.
    fixture.ledger = Some(Ledger::open(right).unwrap());
    fixture.advance(user_id, season_id, 2);
    assert!(!Restored::path(fixture.path()).exists());
    assert_eq!(restored_events(fixture.path()), 0);
    // One from before says nothing of what came after.
    put_back(&mut fixture, &to, &whole);
    Ledger::open(before).unwrap().close().wait().unwrap();
    assert_eq!(restored_events(fixture.path()), 1);
    // Where the backup went on, nothing can show it.
    put_back(&mut fixture, &to, &cut);
    Ledger::open(fixture.options().known_heads([made.head])).unwrap().close().wait().unwrap();
    assert_eq!(restored_events(fixture.path()), 1);
    // A head that is said and is not there is no reason to go on; its loss may be accepted by name.
    put_back(&mut fixture, &to, &whole);
    let later = Head { seq: made.head.seq + 9, hash: made.head.hash };
    let said = || fixture.options().known_heads([made.head, later]);
    assert!(matches!(Ledger::open(said()), Err(OpenError::Behind { .. })));
    Ledger::open(said().accept_loss(true)).unwrap().close().wait().unwrap();
    let reader = Reader::open(fixture.path()).unwrap();
    let mut events = reader.events_of_kinds(&[EventKind::LedgerRestored], Seq::MIN);
    let event = events.next().unwrap().unwrap().event;
    let Event::LedgerRestored(restored) = event else { panic!("{event:?}") };
    assert_eq!(restored.lost_heads.iter().copied().collect::<Vec<_>>(), [later]);
}

/// Killed after its epoch began and before the mark was taken away, the next start begins no other.
#[test]
fn an_interrupted_start_after_a_restore_begins_one_epoch() {
    let (mut fixture, .., copies) = played();
    let to = copies.path().join("copy");
    let made = copy(fixture.path(), None, &to).unwrap();
    let mark = Restored::new(fixture.ledger_id(), made.head, false, "it".to_owned());
    put_back(&mut fixture, &to, &mark);
    fixture.open();
    fixture.close();
    mark.write(fixture.path()).unwrap();
    fixture.open();
    fixture.close();
    assert_eq!(restored_events(fixture.path()), 1);
    assert!(!Restored::path(fixture.path()).exists());
}

#[test]
fn a_mark_that_does_not_belong_here_stops_the_start() {
    let (mut fixture, .., copies) = played();
    let to = copies.path().join("copy");
    let made = copy(fixture.path(), None, &to).unwrap();
    let foreign = LedgerId::from_bytes(*user(9).as_bytes());
    put_back(&mut fixture, &to, &Restored::new(foreign, made.head, false, "it".to_owned()));
    let error = Ledger::open(fixture.options()).unwrap_err();
    let told = matches!(error, OpenError::Restored(RestoredError::AnotherLedger { .. }));
    assert!(told, "{error}");
    let path: PathBuf = Restored::path(fixture.path());
    std::fs::write(&path, "{}").unwrap();
    let error = Ledger::open(fixture.options()).unwrap_err();
    let told = matches!(error, OpenError::Restored(RestoredError::Unreadable { .. }));
    assert!(told, "{error}");
    // A restore that was cut off: no other ledger is made in its place.
    std::fs::remove_file(ledger_path(fixture.path())).unwrap();
    Restored::new(fixture.ledger_id(), made.head, false, "it".to_owned())
        .write(fixture.path())
        .unwrap();
    let error = Ledger::open(fixture.options()).unwrap_err();
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
}
