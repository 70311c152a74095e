//! Guards: while a sync takes long, whoever's deadline passes is refused then and not when it is over.

use std::time::Instant;

use daybook_ledger::{Ledger, SubmitError};

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
