//! Guards: a thousand who follow an engine get every event once, hold up nobody, and take no thread
//! each.

use std::time::Duration;

use daybook_ledger::{Submission, make_snapshot};
use daybook_schema::{Command, Seq, limits};

use crate::fixture::{Fixture, user};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// From different beginnings, on one thread; those that come after the ring's beginning have the
/// file read.
#[test]
fn a_thousand_subscribers_get_every_event_once() {
    const SUBSCRIBERS: u64 = 1_000;
    let mut fixture = Fixture::new();
    fixture.register(1);
    let ledger = fixture.ledger.take().unwrap();
    let before = threads();
    let subscriptions: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| {
            (number % 3 + 1, ledger.subscribe(Seq::new(number % 3 + 1).unwrap()).unwrap())
        })
        .collect();
    // Tests that run beside have threads of their own, but not hundreds.
    assert!(threads() < before + 100, "{} threads", threads());
    let last = 3 + 2 * 250;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let followed = std::thread::spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        runtime.block_on(tasks.run_until(async move {
            let following: Vec<_> = subscriptions
                .into_iter()
                .map(|(first, mut subscription)| {
                    tokio::task::spawn_local(async move {
                        let mut expected = first;
                        while let Some(events) = subscription.next().await.unwrap() {
                            for event in events.iter() {
                                assert_eq!(event.header.seq.get(), expected);
                                expected += 1;
                            }
                        }
                        expected - 1
                    })
                })
                .collect();
            let mut ends = Vec::new();
            for task in following {
                ends.push(task.await.unwrap());
            }
            ends
        }))
    });
    for number in 2..=251u8 {
        let register = Submission::new(Command::RegisterUser { user_id: user(number) });
        ledger.submit(register.at(fixture.now)).unwrap().wait().unwrap();
    }
    assert_eq!(ledger.head().seq, last);
    ledger.close().wait().unwrap();
    let ends = followed.join().unwrap();
    assert!(ends.iter().all(|end| *end == last), "{ends:?}");
}

/// Who has gone leaves nothing, and who comes again finds what came meanwhile, also beyond what is
/// kept in memory.
#[test]
fn who_comes_again_finds_what_came_meanwhile() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let mut first = fixture.ledger().subscribe(Seq::MIN).unwrap();
    let mut seen = 0;
    while seen < 3 {
        seen += first.next_events(Duration::from_secs(60)).unwrap().unwrap().len();
    }
    let idle = fixture.ledger().subscribe(Seq::new(4).unwrap()).unwrap();
    let mut pending = Vec::new();
    for number in 0..limits::EVENTS_IN_RING_MAX as u32 {
        let submission = Submission::new(Command::StartSession { user_id }).at(fixture.now);
        pending.push(fixture.ledger().submit(submission).unwrap());
        if number % 4_096 == 0 {
            pending.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
        }
    }
    pending.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
    let head = fixture.ledger().head();
    for mut behind in [first, idle] {
        let mut expected = 4;
        while expected <= head.seq {
            let events = behind.next_events(Duration::from_secs(60)).unwrap().unwrap();
            assert_eq!(events.first().unwrap().header.seq.get(), expected);
            expected += events.len() as u64;
        }
    }
    // All have gone: the threads end, and begin again with the next.
    let mut again = fixture.ledger().subscribe(Seq::clamped(head.seq + 1)).unwrap();
    assert!(again.next_events(Duration::ZERO).unwrap().unwrap().is_empty());
    fixture.must(Command::StartSession { user_id });
    assert!(!again.next_events(Duration::from_secs(60)).unwrap().unwrap().is_empty());
    make_snapshot(fixture.path()).unwrap();
}
