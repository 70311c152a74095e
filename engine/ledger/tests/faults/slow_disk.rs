//! Guards: while a sync takes long, whoever's deadline passes is refused then and not when it is over.

use std::time::{Duration, Instant};

use daybook_ledger::{Ledger, SubmitError};
use daybook_schema::limits;

use crate::child::{Scene, new_submission, options, watched_root};

/// The child: not a test of its own. Its syncs of the log are slow.
#[test]
fn child_on_a_slow_disk() {
    let Some(root) = watched_root() else { return };
    let ledger = Ledger::open(options(&root)).unwrap();
    // From the first sync on the engine knows that they are slow.
    ledger.submit(new_submission()).unwrap().wait().unwrap();
    let slow = new_submission();
    let mut under_way = ledger.submit(slow.clone()).unwrap();
    while ledger.health().waiting > 0 {
        std::thread::yield_now();
    }
    let past = Instant::now();
    let [late, repeat] = [new_submission(), slow].map(|it| it.before(past));
    // One that waits in time, and is sent once more under its id.
    let waits = new_submission();
    let (waiting, sent_again) = (ledger.submit(waits.clone()), ledger.submit(waits.before(past)));
    let (late, repeat) = (ledger.submit(late).unwrap(), ledger.submit(repeat).unwrap());
    assert_eq!(late.wait().unwrap_err(), SubmitError::TooLate);
    assert!(under_way.try_wait().is_none(), "the sync is not over yet");
    let (first, again) = (under_way.wait().unwrap(), repeat.wait().unwrap());
    assert_eq!((first.head, true), (again.head, again.repeated), "late or not");
    let (first, again) = (waiting.unwrap().wait().unwrap(), sent_again.unwrap().wait().unwrap());
    assert_eq!((first.head, true), (again.head, again.repeated), "nobody is told that it was not");
    ledger.close().wait().unwrap();
    println!("\nFINISHED");
}

#[test]
fn who_is_late_is_refused_while_a_slow_sync_is_under_way() {
    let slow = [("SHIM_SLOW", "ledger.db-wal 1500")];
    let printed = Scene::new(1).play_child("slow_disk::child_on_a_slow_disk", &slow).printed;
    assert!(printed.contains("FINISHED"), "{printed}");
}

/// In the child's directory: while it is there syncs of the log are slow.
const SLOW_WHILE: &str = "is_slow";

/// The child: not a test of its own. Its syncs of the log become slow.
#[test]
fn child_whose_disk_becomes_slow() {
    let Some(root) = watched_root() else { return };
    let ledger = Ledger::open(options(&root)).unwrap();
    ledger.submit(new_submission()).unwrap().wait().unwrap();
    std::fs::write(root.join(SLOW_WHILE), "").unwrap();
    let begin = || {
        let pending = ledger.submit(new_submission()).unwrap();
        while ledger.health().waiting > 0 {
            std::thread::yield_now();
        }
        pending
    };
    // An engine that rests meets the first slow sync.
    let mut under_way = begin();
    std::thread::sleep(Duration::from_millis(limits::SYNC_SLOW_MS));
    let late = ledger.submit(new_submission().before(Instant::now())).unwrap();
    assert_eq!(late.wait().unwrap_err(), SubmitError::TooLate);
    assert!(under_way.try_wait().is_none(), "the sync is not over yet");
    under_way.wait().unwrap();
    // What waits for a slow sync is committed with one.
    let batches = ledger.health().batches;
    let under_way = begin();
    let waiting: Vec<_> = (0..500).map(|_| ledger.submit(new_submission()).unwrap()).collect();
    for pending in std::iter::once(under_way).chain(waiting) {
        pending.wait().unwrap();
    }
    assert_eq!(ledger.health().batches - batches, 2);
    // No more wait for it than may.
    let under_way = begin();
    let mut waiting = Vec::new();
    let refused = loop {
        match ledger.submit(new_submission()) {
            Ok(pending) => waiting.push(pending),
            Err(error) => break error,
        }
        assert!(waiting.len() <= limits::COMMANDS_WAITING_MAX);
    };
    assert_eq!(refused, SubmitError::Overloaded);
    std::fs::remove_file(root.join(SLOW_WHILE)).unwrap();
    for pending in std::iter::once(under_way).chain(waiting) {
        pending.wait().unwrap();
    }
    ledger.close().wait().unwrap();
    println!("\nFINISHED");
}

#[test]
fn a_sync_that_becomes_slow_holds_up_what_is_not_decided_yet() {
    let scene = Scene::new(1);
    let slow_while = scene.root().join(SLOW_WHILE);
    let slow = format!("ledger.db-wal 1500 {}", slow_while.display());
    let printed =
        scene.play_child("slow_disk::child_whose_disk_becomes_slow", &[("SHIM_SLOW", &slow)]);
    assert!(printed.printed.contains("FINISHED"), "{}", printed.printed);
}
