//! Guards: a command is applied once, whatever is sent again, in whatever order, across restarts.

use daybook_ledger::{FirstUse, Ledger, NewLedger, Options, Submission, SubmitError, Verdict};
use daybook_schema::commands::{BetOrder, BetOrders};
use daybook_schema::{
    BetType, Coins, Command, CommandId, DayNumber, EventKind, Pot, SessionNumber, UnixMicros,
    limits,
};
use daybook_simulator::Keyring;

use crate::fixture::{Fixture, repeated, season_key, user};

#[test]
fn the_same_id_with_the_same_command_gets_the_same_answer() {
    let mut fixture = Fixture::new();
    let id = fixture.next_id();
    let command = Command::RegisterUser { user_id: user(1) };
    let first = fixture.send(id, command.clone()).unwrap();
    let head = fixture.ledger().head();
    assert!(!first.repeated);
    let first = repeated(&first);
    assert_eq!(fixture.send(id, command.clone()).unwrap(), first);
    assert_eq!(fixture.ledger().head(), head, "nothing was written");

    // Across a restart too: the id lies in the minute before the newest event.
    fixture.close();
    fixture.open();
    assert_eq!(fixture.send(id, command).unwrap(), first);
    assert_eq!(fixture.ledger().head(), head);
}

#[test]
fn the_same_id_with_another_command_is_a_conflict_and_other_users_ids_are_their_own() {
    let mut fixture = Fixture::new();
    let first = fixture.register(1);
    let second = fixture.register(2);
    let id = fixture.next_id();
    let started = fixture.send(id, Command::StartSession { user_id: first }).unwrap();
    let other = Command::EndSession {
        user_id: first,
        session_number: SessionNumber::MIN,
        reason: daybook_schema::SessionEndReason::Logout,
    };
    let first = FirstUse { kind: EventKind::SessionStarted, seq: started.first_seq };
    assert_eq!(fixture.send(id, other), Err(SubmitError::Conflict { first: Some(first) }));
    fixture.send(id, Command::StartSession { user_id: second }).unwrap();
}

/// A refusal that would be none a moment later stays one under its id, until the process ends.
#[test]
fn a_refused_id_stays_refused_while_the_process_lives() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let id = fixture.next_id();
    let end = Command::EndSession {
        user_id,
        session_number: SessionNumber::MIN,
        reason: daybook_schema::SessionEndReason::Logout,
    };
    let refused = fixture.send(id, end.clone()).unwrap_err();
    assert!(matches!(refused, SubmitError::Rejected { .. }));
    fixture.must(Command::StartSession { user_id });
    let SubmitError::Rejected { rejections, repeated: false } = refused else { panic!() };
    let refused = SubmitError::Rejected { rejections, repeated: true };
    assert_eq!(fixture.send(id, end.clone()).unwrap_err(), refused);
    // Another command under its id is a conflict.
    let conflict = Err(SubmitError::Conflict { first: None });
    assert_eq!(fixture.send(id, Command::StartSession { user_id }), conflict);
    // After a restart it is decided anew.
    fixture.close();
    fixture.open();
    assert!(fixture.send(id, end).is_ok());
}

/// What time alone lifts is never remembered: before a restart and after it the same id is decided
/// anew.
#[test]
fn a_refusal_that_passes_with_time_is_not_remembered() {
    for restarts in [false, true] {
        let mut fixture = Fixture::new();
        let user_id = fixture.register(1);
        let season_id = fixture.start(user_id);
        fixture.bets(user_id, season_id);
        let order =
            BetOrder { pot_id: Pot::Sun, bet_type: BetType::Call, amount: Coins::new(5).unwrap() };
        let bets = BetOrders::new(&[order]).unwrap();
        let (id, bet) = (fixture.next_id(), Command::PlaceBets { user_id, season_id, bets });
        let refused = fixture.send(id, bet.clone()).unwrap_err();
        let SubmitError::Rejected { rejections, .. } = &refused else { panic!("{refused}") };
        assert!(rejections.are_passing(), "{rejections}");
        let retry_at = rejections.first().retry_at().unwrap();
        assert_eq!(fixture.send(id, bet.clone()).unwrap_err(), refused, "it is too early still");
        if restarts {
            fixture.close();
            fixture.open();
        }
        fixture.now = retry_at;
        assert!(fixture.send(id, bet).is_ok());
    }
}

/// Nobody can fill anything with the ids of users who are not there.
#[test]
fn refusals_of_strangers_are_not_remembered() {
    let mut fixture = Fixture::new();
    let (id, user_id) = (fixture.next_id(), user(1));
    let command = Command::StartSession { user_id };
    assert!(matches!(fixture.send(id, command.clone()), Err(SubmitError::Rejected { .. })));
    fixture.register(1);
    assert!(fixture.send(id, command).is_ok());
}

/// A copy of a bet that comes when its day is over does not bet on the next one; the day is no part
/// of the command.
#[test]
fn a_late_copy_does_not_bet_on_the_next_day() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    let order =
        BetOrder { pot_id: Pot::Sun, bet_type: BetType::Call, amount: Coins::new(5).unwrap() };
    let bets = BetOrders::new(&[order]).unwrap();
    let bet = Command::PlaceBets { user_id, season_id, bets };
    let send = |fixture: &mut Fixture, id, day| {
        let submission = Submission::new(bet.clone()).with_id(id).at(fixture.now);
        let submission = submission.on_day(DayNumber::new(day).unwrap());
        fixture.ledger().submit(submission).unwrap().wait()
    };
    let first = fixture.next_id();
    let accepted = send(&mut fixture, first, 1).unwrap();
    fixture.advance(user_id, season_id, 1);
    // The same sending gets the same answer; a copy under another id is refused.
    assert_eq!(send(&mut fixture, first, 1).unwrap(), repeated(&accepted));
    let copy = fixture.next_id();
    let refused = send(&mut fixture, copy, 1).unwrap_err();
    let SubmitError::Rejected { rejections, .. } = refused else { panic!("{refused}") };
    assert_eq!(rejections.first().code(), "WRONG_DAY");
    let next = fixture.next_id();
    assert!(send(&mut fixture, next, 2).is_ok());
    // One that overtook the day before it is refused, and may come again under its id when its day
    // is there.
    let early = fixture.next_id();
    assert!(send(&mut fixture, early, 3).is_err());
    fixture.advance(user_id, season_id, 2);
    send(&mut fixture, early, 3).unwrap();
    fixture.close();
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);
}

/// A new ledger has forgotten nothing, and names no time that ids must lie after; where there is
/// one, the answer says which time a new id may have.
#[test]
fn an_expired_id_is_told_the_time_for_a_new_one() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let ahead = |fixture: &Fixture| fixture.now.plus_micros(60_001_000);
    let id = CommandId::from_parts(ahead(&fixture), [0xf1; 10]);
    let expired = fixture.send(id, Command::StartSession { user_id }).unwrap_err();
    assert!(!expired.to_string().contains('-'), "{expired}");
    let SubmitError::Expired { floor: None, new_id_time, .. } = expired else {
        panic!("{expired}")
    };
    let id = CommandId::from_parts(new_id_time, [0xf2; 10]);
    assert!(fixture.send(id, Command::StartSession { user_id }).is_ok());
    // Its own ids from ahead raise a user's floor beyond the server's time.
    for number in 0..=limits::APPLIED_IDS_PER_SCOPE_MAX {
        let mut random = [0xf3; 10];
        random[..8].copy_from_slice(&number.to_be_bytes());
        let id = CommandId::from_parts(fixture.now.plus_micros(55_000_000), random);
        let submission = Submission::new(Command::StartSession { user_id }).with_id(id);
        drop(fixture.ledger().submit(submission.at(fixture.now)).unwrap());
    }
    let id = CommandId::from_parts(fixture.now, [0xf4; 10]);
    let expired = fixture.send(id, Command::StartSession { user_id }).unwrap_err();
    let SubmitError::Expired { floor: Some(floor), new_id_time, .. } = expired else {
        panic!("{expired}")
    };
    assert!(new_id_time > floor && floor > fixture.now);
    let id = CommandId::from_parts(new_id_time, [0xf5; 10]);
    assert!(fixture.send(id, Command::StartSession { user_id }).is_ok());
    // Of another user nothing was forgotten.
    let other = fixture.register(2);
    let id = CommandId::from_parts(fixture.now, [0xf6; 10]);
    assert!(fixture.send(id, Command::StartSession { user_id: other }).is_ok());
    // So too after a restart, from the snapshot.
    fixture.close();
    fixture.open();
    let id = CommandId::from_parts(fixture.now, [0xf7; 10]);
    assert!(fixture.send(id, Command::StartSession { user_id: other }).is_ok());
    let expired = fixture.send(id, Command::StartSession { user_id }).unwrap_err();
    assert!(matches!(expired, SubmitError::Expired { floor: Some(_), .. }), "{expired}");
}

#[test]
fn an_id_that_is_no_longer_known_is_expired_and_certainly_not_applied() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let old = fixture.next_id();
    let command = Command::StartSession { user_id };
    fixture.send(old, command.clone()).unwrap();
    // Two minutes later another command comes; a restart remembers the last minute alone.
    fixture.now = fixture.now.plus_micros(120_000_000);
    let recent = fixture.next_id();
    let accepted = fixture.send(recent, command.clone()).unwrap();
    fixture.close();
    fixture.remove_snapshots();
    fixture.open();
    let head = fixture.ledger().head();
    assert!(matches!(fixture.send(old, command.clone()), Err(SubmitError::Expired { .. })));
    // A new id of a time that lies before the floor is refused as well.
    let unknown = CommandId::from_parts(old.time(), [0xee; 10]);
    assert!(matches!(fixture.send(unknown, command.clone()), Err(SubmitError::Expired { .. })));
    assert_eq!(fixture.send(recent, command.clone()).unwrap(), repeated(&accepted));
    assert_eq!(fixture.ledger().head(), head, "nothing was written");
    // One from too far ahead too.
    let ahead = CommandId::from_parts(fixture.now.plus_micros(61_000_000), [1; 10]);
    assert!(matches!(fixture.send(ahead, command), Err(SubmitError::Expired { .. })));
}

#[test]
fn a_window_edge_is_the_same_before_and_after_a_restart() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let command = Command::StartSession { user_id };
    // An id from ahead of the clock, as far as may be, is still known after a restart.
    let ahead = CommandId::from_parts(fixture.now.plus_micros(60_000_000), [7; 10]);
    let accepted = fixture.send(ahead, command.clone()).unwrap();
    fixture.close();
    fixture.open();
    assert_eq!(fixture.send(ahead, command).unwrap(), repeated(&accepted));
}

/// With the system's clocks, from sync code and from async code, answers stand for what is on disk.
#[tokio::test]
async fn async_callers_get_answers_that_are_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keyring::new([season_key()]);
    let options = Options::new(directory.path(), keys).create(NewLedger::random());
    let ledger = Ledger::open(options).unwrap();
    let key_id = season_key().key_id();
    let rotate = Submission::new(Command::RotateKey { key_id, compromised: false });
    ledger.submit(rotate).unwrap().await.unwrap();
    let mut pending = Vec::new();
    for number in 1..=200 {
        let user_id = user(number);
        let id = CommandId::from_parts(now(), [number; 10]);
        let submission = Submission::new(Command::RegisterUser { user_id }).with_id(id);
        pending.push(ledger.submit(submission.clone()).unwrap());
        pending.push(ledger.submit(submission).unwrap());
    }
    let reader = ledger.reader().unwrap();
    let mut answers = Vec::new();
    for pending in pending {
        let accepted = pending.await.unwrap();
        assert!(reader.head().unwrap().seq >= accepted.head.seq, "an answer means: on disk");
        answers.push(accepted);
    }
    assert!(
        answers.chunks(2).all(|pair| repeated(&pair[0]) == pair[1]),
        "repeats get the same answer"
    );
    assert_eq!(ledger.head().seq, 1 + 200 * 2);
}

/// A rejection and a query leave after the commit of what they have seen, not before.
#[test]
fn rejections_and_queries_leave_after_what_they_have_seen_is_on_disk() {
    let fixture = Fixture::new();
    let reader = fixture.ledger().reader().unwrap();
    for number in 1..=100 {
        let user_id = user(number);
        let register = || {
            let submission = Submission::new(Command::RegisterUser { user_id });
            fixture.ledger().submit(submission.at(fixture.now)).unwrap()
        };
        let (accepted, refused) = (register(), register());
        let count = fixture.ledger().query(|state| state.users.len()).unwrap();
        // The first event of the ledger, then two for each user.
        let on_disk = || (reader.head().unwrap().seq - 1) / 2;
        assert!(matches!(refused.wait(), Err(SubmitError::Rejected { .. })));
        assert!(on_disk() >= u64::from(number));
        assert_eq!(count.wait().unwrap(), usize::from(number));
        drop(accepted);
    }
}

fn now() -> UnixMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap())
}
