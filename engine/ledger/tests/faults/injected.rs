//! Guards: a call that fails, done or not, costs an answer at most: the engine says `unavailable`,
//! ends, and the next start has everything that was acknowledged and nothing by halves.

use crate::child::{Scene, acknowledged, expect_nothing_lost};

/// `errno` of a full disk, of an error of the device, and of too many open files.
const ENOSPC: u8 = 28;
const EIO: u8 = 5;
const EMFILE: u8 = 24;

/// What becomes of play when the `count`th such call fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Play {
    /// It stops, with a clear answer; the next start goes on.
    Stops,
    /// It goes on: what failed is not needed for it.
    GoesOn,
    /// Either: it depends on which of several calls of the kind it is.
    Either,
}

const FAULTS: [(&str, &str, &str, u8, Play); 22] = [
    ("write", "ledger.db-wal", "1", EIO, Play::Stops),
    ("write", "ledger.db-wal", "3", ENOSPC, Play::Stops),
    ("write", "ledger.db-wal", "5", EIO, Play::Stops),
    ("sync", "ledger.db-wal", "1", EIO, Play::Stops),
    ("sync", "ledger.db-wal", "3", EIO, Play::Stops),
    ("open", "ledger.db-wal", "1", EMFILE, Play::Stops),
    ("open", "ledger.db", "1", EIO, Play::Stops),
    ("open", "ledger.db", "3", EMFILE, Play::Either),
    // What the log is folded into: at the close, where the log keeps everything, or at a start.
    ("write", "ledger.db", "1", ENOSPC, Play::Either),
    ("write", "ledger.db", "1+", EIO, Play::Either),
    ("sync", "ledger.db", "1", EIO, Play::Either),
    ("sync", "ledger.db", "1+", EIO, Play::Either),
    ("truncate", "ledger.db-wal", "1", EIO, Play::Either),
    // Snapshots and the newest head: play goes on without.
    ("open", ".snapshot.new", "1+", ENOSPC, Play::GoesOn),
    ("write", ".snapshot.new", "1", ENOSPC, Play::GoesOn),
    ("sync", ".snapshot.new", "1", EIO, Play::GoesOn),
    ("rename", ".snapshot", "1", EIO, Play::GoesOn),
    ("sync", "/snapshots", "1", EIO, Play::GoesOn),
    ("open", ".head.new", "1", ENOSPC, Play::GoesOn),
    ("write", ".head.new", "1+", ENOSPC, Play::GoesOn),
    ("sync", ".head.new", "1", EIO, Play::GoesOn),
    ("rename", ".head", "1", EIO, Play::GoesOn),
];

#[test]
fn a_call_that_fails_loses_nothing_acknowledged() {
    for (call, ending, count, errno, expected) in FAULTS {
        for form in ["failed", "persisted"] {
            let scene = Scene::new(8);
            let fault = format!("{call} {ending} {count} {errno} {form}");
            let printed = scene.play(&[("SHIM_FAULT", &fault)]).printed;
            let finished = printed.contains("FINISHED");
            let stopped =
                printed.contains("STOPPED ledger is unavailable") || printed.contains("REFUSED");
            assert!(finished != stopped, "{fault}: {printed}");
            match expected {
                Play::Stops => assert!(stopped, "{fault}: {printed}"),
                Play::GoesOn => assert!(finished, "{fault}: {printed}"),
                Play::Either => {}
            }
            expect_nothing_lost(scene.root(), &printed);
        }
    }
}

/// Once a commit failed, nothing is acknowledged any more, though the fault has passed.
#[test]
fn nothing_is_acknowledged_after_a_failed_commit() {
    let scene = Scene::new(1);
    let printed = scene.play(&[("SHIM_FAULT", "sync ledger.db-wal 5 5 failed")]).printed;
    let (before, after) = printed.split_once("STOPPED").unwrap();
    assert!(!acknowledged(before).is_empty());
    assert!(acknowledged(after).is_empty());
}
