//! Guards: readers see every event once, in order, by range, by stream, by kind, and live.

use std::time::Duration;

use daybook_ledger::{Follower, Reader};
use daybook_schema::{Command, EventKind, Seq, StoredEvent, StreamKind};

use crate::fixture::{Fixture, user};

#[test]
fn a_stream_is_walked_from_its_head() {
    let fixture = Fixture::played();
    let reader = Reader::open(fixture.path()).unwrap();
    let all: Vec<_> = reader.events_from(Seq::MIN).map(Result::unwrap).collect();
    let streams: std::collections::BTreeSet<_> = all.iter().map(|e| e.header.stream).collect();
    assert_eq!(streams.len(), 5, "the ledger's, two users', two seasons'");
    for stream in streams {
        let head = reader.find_stream_head(stream).unwrap().unwrap();
        let walked = reader.stream_from_head(head).unwrap();
        let expected: Vec<_> = all.iter().filter(|e| e.header.stream == stream).cloned().collect();
        assert_eq!(walked, expected);
    }
}

#[test]
fn ranges_and_kinds_give_what_they_name() {
    let fixture = Fixture::played();
    let reader = Reader::open(fixture.path()).unwrap();
    let [from, until] = [30, 45].map(|seq| Seq::new(seq).unwrap());
    let seqs: Vec<u64> =
        reader.events_between(from, until).map(|event| event.unwrap().header.seq.get()).collect();
    assert_eq!(seqs, (30..=45).collect::<Vec<_>>());
    let kinds = [EventKind::SeasonStarted, EventKind::SeasonCompleted];
    let found: Vec<EventKind> =
        reader.events_of_kinds(&kinds, Seq::MIN).map(|event| event.unwrap().event.kind()).collect();
    assert_eq!(found, [kinds[0], kinds[0], kinds[1]]);
    let users = reader
        .events_from(Seq::MIN)
        .filter(|event| event.as_ref().unwrap().event.kind().stream() == StreamKind::User);
    assert!(users.count() > 4);
    let beyond = reader.head().unwrap().seq + 1;
    assert_eq!(reader.events_from(Seq::new(beyond).unwrap()).count(), 0);
}

/// While a writer is at work, a subscriber that starts in the past sees every event exactly once,
/// through the engine's own wake-ups and as another process would.
#[test]
fn a_subscription_goes_through_catch_up_into_live_with_no_gap_and_no_double() {
    const USERS: u8 = 200;
    let mut fixture = Fixture::new();
    fixture.register(1);
    let last = 3 + 2 * u64::from(USERS - 1);
    let seqs = |events: &[StoredEvent]| -> Vec<u64> {
        assert!(!events.is_empty(), "the rest must come");
        events.iter().map(|event| event.header.seq.get()).collect()
    };
    let follow = |first: u64, mut next: Box<dyn FnMut() -> Vec<u64> + Send>| {
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while seen.last() != Some(&last) {
                seen.extend(next());
            }
            assert_eq!(seen, (first..=last).collect::<Vec<_>>());
        })
    };
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut followers = Vec::new();
    for first in [1, 3] {
        let mut blocking = fixture.ledger().subscribe(Seq::new(first).unwrap()).unwrap();
        let next = move || seqs(&blocking.next_events(PATIENCE).unwrap().unwrap());
        followers.push(follow(first, Box::new(next)));
        let mut waiting = fixture.ledger().subscribe(Seq::new(first).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let next = move || seqs(&runtime.block_on(waiting.next()).unwrap().unwrap());
        followers.push(follow(first, Box::new(next)));
    }
    let mut other = Follower::new(Reader::open(fixture.path()).unwrap(), Seq::MIN);
    followers.push(follow(1, Box::new(move || seqs(&other.next_events(PATIENCE).unwrap()))));
    for number in 2..=USERS {
        let id = fixture.next_id();
        fixture.send(id, Command::RegisterUser { user_id: user(number) }).unwrap();
    }
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}
