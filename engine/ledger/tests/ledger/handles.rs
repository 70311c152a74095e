//! Guards: what a service builds on: handles, the end, deadlines, the newest head.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use daybook_ledger::{Failure, Ledger, ReadError, Stopped, Submission, SubmitError};
use daybook_schema::{Command, CommandId, EventHash, Head, Seq};

use crate::fixture::{Fixture, repeated, user};

#[test]
fn any_handle_closes_and_all_are_told() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let ledger = fixture.ledger.take().unwrap();
    let other = ledger.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let last =
        ledger.submit(Submission::new(Command::StartSession { user_id }).at(fixture.now)).unwrap();
    let closing = ledger.close();
    // What was accepted before is answered, and nothing is accepted after.
    let head = last.wait().unwrap().head;
    let refused = other.submit(Submission::new(Command::StartSession { user_id })).unwrap_err();
    assert_eq!(refused, SubmitError::Unavailable(Stopped::Closed));
    assert_eq!(refused.code(), "UNAVAILABLE");
    runtime.block_on(async {
        assert_eq!(other.close().await.unwrap(), head);
        assert_eq!(closing.await.unwrap(), head);
        assert_eq!(other.stopped().await, Stopped::Closed);
    });
    assert_eq!(other.health().stopped, Some(Stopped::Closed));
    // The lock is given back while handles are still there.
    fixture.open();
    assert_eq!(fixture.ledger().head(), head);
    drop((ledger, other));
    fixture.must(Command::StartSession { user_id });
}

/// A question that holds the last handle ends on the engine's own thread.
#[test]
fn the_last_handle_may_end_within_the_engine() {
    let mut fixture = Fixture::new();
    fixture.register(1);
    let ledger = fixture.ledger.take().unwrap();
    let (hold, held) = channel::<()>();
    let captured = ledger.clone();
    let answer = ledger
        .query(move |_| {
            held.recv().unwrap();
            drop(captured);
        })
        .unwrap();
    // Not the last one yet: the question has another.
    drop(ledger);
    hold.send(()).unwrap();
    drop(answer.wait());
    let started = Instant::now();
    while Ledger::open(fixture.options()).is_err() {
        assert!(started.elapsed() < Duration::from_secs(60), "the lock is never given back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// So too where somebody else is closing it already: the closing waits for that very thread.
#[test]
fn the_last_handle_may_end_within_an_engine_that_is_being_closed() {
    let mut fixture = Fixture::new();
    fixture.register(1);
    let ledger = fixture.ledger.take().unwrap();
    let (hold, held) = channel::<()>();
    let (taken, is_taken) = channel::<()>();
    let captured = ledger.clone();
    let answer = ledger
        .query(move |_| {
            taken.send(()).unwrap();
            held.recv().unwrap();
            drop(captured);
        })
        .unwrap();
    is_taken.recv().unwrap();
    let closing = ledger.close();
    drop(ledger);
    // The closing has the threads in hand by then, or takes them later: both must end.
    std::thread::sleep(Duration::from_millis(50));
    hold.send(()).unwrap();
    answer.wait().unwrap();
    closing.wait().unwrap();
    fixture.open();
}

#[test]
fn a_failure_is_a_value_and_ends_the_wait_for_the_end() {
    let fixture = Fixture::new();
    let ledger = fixture.ledger().clone();
    let mut log = fixture.database().into_os_string();
    log.push("-wal");
    std::fs::remove_file(log).unwrap();
    let register = Submission::new(Command::RegisterUser { user_id: user(1) });
    let told = ledger.submit(register.at(fixture.now)).unwrap().wait().unwrap_err();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stopped = runtime.block_on(ledger.stopped());
    assert_eq!(told, SubmitError::Unavailable(stopped.clone()));
    let Stopped::Failed(failure) = stopped else { panic!("{stopped}") };
    assert!(matches!(failure, Failure::FileMoved { .. }) && failure.code() == "FILE_MOVED");
}

/// The engine looks once, when it takes the command; a repeat of an applied one gets its answer,
/// late or not.
#[test]
fn a_command_that_waited_past_its_deadline_is_not_applied() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let id = fixture.next_id();
    let late = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
    let start = |id| Submission::new(Command::StartSession { user_id }).with_id(id).at(fixture.now);
    let head = fixture.ledger().head();
    let told = fixture.ledger().submit(start(id).before(late)).unwrap().wait().unwrap_err();
    assert_eq!((&told, told.code()), (&SubmitError::TooLate, "OVERLOADED"));
    assert_eq!(fixture.ledger().head(), head);
    let in_time = Instant::now() + Duration::from_secs(600);
    let first = fixture.ledger().submit(start(id).before(in_time)).unwrap().wait().unwrap();
    let again = fixture.ledger().submit(start(id).before(late)).unwrap().wait().unwrap();
    assert_eq!(repeated(&first), again);
}

#[test]
fn what_waits_is_counted() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let (hold, held) = channel::<()>();
    let (taken, is_taken) = channel::<()>();
    let question = fixture.ledger().query(move |_| {
        taken.send(()).unwrap();
        held.recv().is_ok()
    });
    is_taken.recv().unwrap();
    let start = || Submission::new(Command::StartSession { user_id }).at(fixture.now);
    let pending: Vec<_> = (0..5).map(|_| fixture.ledger().submit(start()).unwrap()).collect();
    // The question itself counts until its batch is decided.
    assert_eq!(fixture.ledger().health().waiting, 6);
    hold.send(()).unwrap();
    drop(question.unwrap().wait());
    pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    assert_eq!(fixture.ledger().health().waiting, 0);
}

#[test]
fn the_newest_head_is_watched() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let mut heads = fixture.ledger().watch_head();
    assert_eq!(*heads.borrow(), fixture.ledger().head());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..20 {
        let accepted = fixture.must(Command::StartSession { user_id });
        let seen = runtime.block_on(heads.wait_for(|head| head.seq >= accepted.head.seq));
        assert_eq!(*seen.unwrap(), accepted.head);
    }
}

#[test]
fn a_subscription_after_a_head_goes_on_from_it_or_says_that_there_is_none() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let after = fixture.must(Command::StartSession { user_id }).head;
    let next = fixture.must(Command::StartSession { user_id });
    let mut follows = fixture.ledger().subscribe_after(after).unwrap();
    let cut = follows.next_events(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!((cut.previous(), cut[0].header.seq), (after, next.first_seq));
    for seq in [after.seq, next.head.seq, next.head.seq + 9] {
        let unknown = Head { seq, hash: EventHash::new([9; 32]) };
        let mut lost = fixture.ledger().subscribe_after(unknown).unwrap();
        let told = lost.next_events(Duration::ZERO);
        assert!(matches!(told, Err(ReadError::UnknownHead { after }) if after == unknown));
    }
}

#[test]
fn the_newest_event_of_a_stream_in_use_is_known() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    let head = |stream| fixture.ledger().stream_head(stream).unwrap().wait().unwrap();
    let reader = fixture.ledger().reader().unwrap();
    for stream in [user_id.into(), season_id.into()] {
        assert_eq!(head(stream), reader.find_stream_head(stream).unwrap());
        assert!(head(stream) > Some(Seq::MIN));
    }
    assert_eq!(head(user(9).into()), None);
}

/// After `Expired` it is told whether an earlier sending was applied, whosoever else used the id.
#[test]
fn an_applied_command_is_found_by_its_id_and_user() {
    let mut fixture = Fixture::new();
    let (first, second) = (fixture.register(1), fixture.register(2));
    let season_id = fixture.start(first);
    let id = fixture.next_id();
    let submit = |user_id| fixture.send(id, Command::StartSession { user_id }).unwrap();
    let (of_first, of_second) = (submit(first), submit(second));
    let in_season = fixture.next_id();
    let abandon = Command::AbandonSeason { user_id: first, season_id };
    let abandoned = fixture.send(in_season, abandon).unwrap();
    let reader = fixture.ledger().reader().unwrap();
    let find = |user_id, id| {
        let found = reader.find_command(user_id, id).unwrap();
        found.map(|events| (events[0].header.seq, events.last().unwrap().head()))
    };
    for (user_id, id, accepted) in
        [(first, id, &of_first), (second, id, &of_second), (first, in_season, &abandoned)]
    {
        assert_eq!(find(Some(user_id), id), Some((accepted.first_seq, accepted.head)));
    }
    assert_eq!(find(Some(second), in_season), None);
    assert_eq!(find(None, id), None);
    // An id whose time lies far from when it was applied is found all the same.
    let ahead = CommandId::from_parts(fixture.now.plus_micros(900 * 86_400_000_000), [7; 10]);
    assert_eq!(find(Some(first), ahead), None);
    let first_seq = reader.first_since(of_first.recorded_at).unwrap();
    assert!(first_seq <= of_first.first_seq && first_seq > Seq::MIN);
}
