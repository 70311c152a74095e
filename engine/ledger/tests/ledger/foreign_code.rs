//! Guards: what callers bring along, and the engine's threads run, ends nothing and keeps nobody
//! else waiting.

use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use daybook_ledger::{Pending, Submission, Subscription};
use daybook_schema::{Command, Seq};

use crate::fixture::Fixture;

/// Panics whenever it wakes.
struct PanickingWaker;

impl Wake for PanickingWaker {
    #[expect(clippy::panic, reason = "this is what it is for")]
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

fn panicking_waker() -> Waker {
    Waker::from(Arc::new(PanickingWaker))
}

/// Asks a future once, so that it holds the waker.
fn poll_once<F: Future + Unpin>(future: &mut F) {
    let waker = panicking_waker();
    let polled = std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
}

/// Many wakers that panic while the live events are told keep nobody else from hearing of them, nor
/// of the end.
#[test]
fn wakers_that_panic_keep_no_other_subscriber_waiting() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let next = Seq::new(fixture.ledger().head().seq + 1).unwrap();
    let subscribe = || fixture.ledger().subscribe(next).unwrap();
    let mut bad: Vec<_> = (0..40).map(|_| subscribe()).collect();
    let mut waiting: Vec<_> = bad.iter_mut().map(|bad| Box::pin(bad.next())).collect();
    waiting.iter_mut().for_each(poll_once);
    let mut honest = subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        fixture.must(Command::StartSession { user_id });
        assert_eq!(honest.next_events(Duration::MAX).unwrap().unwrap().len(), 1);
    }
    let mut ended = fixture.ledger().subscribe(next).unwrap();
    let (told, is_told) = channel();
    let listener = std::thread::spawn(move || {
        runtime.block_on(async move {
            let mut seen = 0;
            while let Some(events) = ended.next().await.unwrap() {
                seen += events.len();
                told.send(seen).unwrap();
            }
            seen
        })
    });
    while is_told.recv().unwrap() < 3 {}
    fixture.close();
    assert_eq!(listener.join().unwrap(), 3, "and the end is told");
}

/// The threads that read the file for those who are behind outlive wakers that panic.
#[test]
fn wakers_that_panic_keep_nobody_from_catching_up() {
    let mut fixture = Fixture::new();
    fixture.register(1);
    let mut bad: Vec<_> = (0..8).map(|_| fixture.ledger().subscribe(Seq::MIN).unwrap()).collect();
    // They are answered sooner or later; whoever was quick enough is not asked with the waker.
    for bad in &mut bad {
        let waker = panicking_waker();
        let mut next = Box::pin(bad.next());
        let _ = next.as_mut().poll(&mut Context::from_waker(&waker));
        let mut honest = fixture.ledger().subscribe(Seq::MIN).unwrap();
        let mut seen = 0;
        while seen < 3 {
            seen += honest.next_events(Duration::MAX).unwrap().unwrap().len();
        }
        assert_eq!(seen, 3);
    }
}

/// A batch that fails ends many answers at once: each waker that panics is met alone, else the
/// process would end.
#[test]
fn wakers_that_panic_when_a_batch_fails_end_nothing() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let (hold, held) = channel::<()>();
    let question = fixture.ledger().query(move |_| held.recv().is_ok()).unwrap();
    let start = || Submission::new(Command::StartSession { user_id }).at(fixture.now);
    let submit = || fixture.ledger().submit(start()).unwrap();
    let mut bad: Vec<Pending<_>> = (0..3).map(|_| submit()).collect();
    bad.iter_mut().for_each(poll_once);
    let honest = submit();
    let mut log = fixture.database().into_os_string();
    log.push("-wal");
    std::fs::remove_file(log).unwrap();
    hold.send(()).unwrap();
    drop(question.wait());
    assert!(honest.wait().is_err(), "the log is gone");
    drop(bad);
    assert!(fixture.ledger().health().stopped.is_some());
    assert!(fixture.ledger.take().unwrap().close().wait().is_err());
}

/// A subscriber that waits when the ledger is closed is told of the end, at whatever moment it
/// asks.
#[test]
fn the_end_is_told_to_whoever_asks_at_that_moment() {
    for round in 0..50 {
        let mut fixture = Fixture::new();
        let next = Seq::new(fixture.ledger().head().seq + 1).unwrap();
        let subscriptions: Vec<_> =
            (0..64).map(|_| fixture.ledger().subscribe(next).unwrap()).collect();
        let (begin, begun) = sync_channel(0);
        let listener = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            begun.recv().unwrap();
            for mut subscription in subscriptions {
                assert!(runtime.block_on(subscription.next()).unwrap().is_none());
            }
        });
        begin.send(()).unwrap();
        if round % 2 == 0 {
            std::thread::yield_now();
        }
        fixture.close();
        listener.join().unwrap();
    }
}

/// Holds another subscription, which ends with it.
struct Holds(Mutex<Option<Subscription>>);

impl Wake for Holds {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

/// What a subscriber leaves behind may end another subscription, at whatever moment it is dropped.
#[test]
fn a_waker_may_end_another_subscription() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let next = Seq::new(fixture.ledger().head().seq + 1).unwrap();
    let subscribe = || fixture.ledger().subscribe(next).unwrap();
    let holding = || Waker::from(Arc::new(Holds(Mutex::new(Some(subscribe())))));
    // Once as the wait is given up, once as the next event wakes it.
    let mut given_up = subscribe();
    let mut waiting = Box::pin(given_up.next());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&holding())).is_pending());
    drop(waiting);
    drop(given_up);
    let mut woken = subscribe();
    let mut waiting = Box::pin(woken.next());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&holding())).is_pending());
    let mut honest = subscribe();
    fixture.must(Command::StartSession { user_id });
    assert_eq!(honest.next_events(Duration::MAX).unwrap().unwrap().len(), 1);
    drop(waiting);
    fixture.close();
}
