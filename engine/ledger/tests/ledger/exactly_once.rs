//! Guards: a command is applied once, whatever is sent again, in whatever order, across restarts.

use daybook_ledger::{Ledger, NewLedger, Options, Submission, SubmitError};
use daybook_schema::{Command, CommandId, SessionNumber, UnixMicros};
use daybook_simulator::Keyring;

use crate::fixture::{Fixture, season_key, user};

#[test]
fn the_same_id_with_the_same_command_gets_the_same_answer() {
    let mut fixture = Fixture::new();
    let id = fixture.next_id();
    let command = Command::RegisterUser { user_id: user(1) };
    let first = fixture.send(id, command.clone()).unwrap();
    let head = fixture.ledger().head();
    let again = fixture.send(id, command.clone()).unwrap();
    assert_eq!(first, again);
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
    fixture.send(id, Command::StartSession { user_id: first }).unwrap();
    let other = Command::EndSession {
        user_id: first,
        session_number: SessionNumber::MIN,
        reason: daybook_schema::SessionEndReason::Logout,
    };
    assert_eq!(fixture.send(id, other), Err(SubmitError::Conflict));
    fixture.send(id, Command::StartSession { user_id: second }).unwrap();
}

#[test]
fn a_rejected_id_stays_rejected_while_the_process_lives() {
    let mut fixture = Fixture::new();
    let id = fixture.next_id();
    let command = Command::StartSession { user_id: user(1) };
    let refused = fixture.send(id, command.clone()).unwrap_err();
    assert!(matches!(refused, SubmitError::Rejected(_)));
    fixture.register(1);
    assert_eq!(fixture.send(id, command).unwrap_err(), refused);
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
    fixture.open();
    let head = fixture.ledger().head();
    assert!(matches!(fixture.send(old, command.clone()), Err(SubmitError::Expired { .. })));
    // A new id of a time that lies before the floor is refused as well.
    let unknown = CommandId::from_parts(old.time(), [0xee; 10]);
    assert!(matches!(fixture.send(unknown, command.clone()), Err(SubmitError::Expired { .. })));
    assert_eq!(fixture.send(recent, command.clone()).unwrap(), accepted);
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
    assert_eq!(fixture.send(ahead, command).unwrap(), accepted);
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
    assert!(answers.chunks(2).all(|pair| pair[0] == pair[1]), "repeats get the same answer");
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
        assert!(matches!(refused.wait(), Err(SubmitError::Rejected(_))));
        assert!(on_disk() >= u64::from(number));
        assert_eq!(count.wait().unwrap(), usize::from(number));
        drop(accepted);
    }
}

fn now() -> UnixMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap())
}
