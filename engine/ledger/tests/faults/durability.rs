//! Guards: an answer leaves after a sync of the log that succeeded and that came after the log's
//! last write. A kill cannot show this, for it leaves the page cache as it was.

use crate::child::{Scene, new_data_dir};
use crate::shim::{Call, What};

/// The first answer that left while something of the log was not synced.
fn unsynced_answer(calls: &[Call]) -> Option<&str> {
    let mut is_synced = false;
    let mut answers = 0;
    for call in calls {
        let is_log = call.path.to_string_lossy().ends_with("ledger.db-wal");
        match &call.what {
            What::Write { .. } if is_log => is_synced = false,
            What::Synced { succeeded: true } if is_log => is_synced = true,
            What::Printed { text } if text.contains("DONE ") => {
                answers += 1;
                if !is_synced {
                    return Some(text);
                }
            }
            _ => {}
        }
    }
    assert!(answers > 10, "there were answers");
    None
}

/// One command at a time, so that nothing of a later one is in the log when an answer leaves.
#[test]
fn an_answer_leaves_after_the_log_is_synced() {
    let calls = Scene::new(1).play(&[]).calls;
    assert_eq!(unsynced_answer(&calls), None);
}

/// The test above would see an engine that does not sync: here the syncs of the log are left out.
#[test]
fn an_answer_that_leaves_without_a_sync_is_seen() {
    let calls = Scene::new(1).play(&[("SHIM_SKIP", "ledger.db-wal")]).calls;
    assert!(unsynced_answer(&calls).is_some());
}

/// A ledger in directories that were made with it: each is synced into the one above it, or a power
/// cut could take all of it.
#[test]
fn new_directories_are_synced_into_those_above_them() {
    let scene = Scene::new(1);
    let calls = scene.make_ledger().calls;
    let root = scene.root().canonicalize().unwrap();
    let data_dir = new_data_dir(&root);
    for directory in data_dir.ancestors().take_while(|above| above.starts_with(&root)) {
        let is_synced = calls.iter().any(|call| {
            let what = matches!(call.what, What::Synced { succeeded: true });
            what && call.path.canonicalize().is_ok_and(|path| path == directory)
        });
        assert!(is_synced, "{} is not synced: {calls:?}", directory.display());
    }
}
