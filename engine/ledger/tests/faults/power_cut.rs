//! Guards: a power cut loses nothing that was acknowledged, whatever of the unsynced writes it
//! drops, keeps or tears.

use std::path::Path;

use daybook_simulator::Generator;

use crate::child::{Scene, expect_nothing_lost};
use crate::disk::{Disk, copy, rebased};
use crate::shim::{Call, What};

const CUTS: u64 = 60;
/// Cuts the power after a number of calls, and holds what is left to what was acknowledged before.
fn cut_and_check(scene: &Scene, (before, calls): (&Path, &[Call]), seed: u64) {
    let mut seed_bytes = [0; 32];
    seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut chance = Generator::from_seed(seed_bytes);
    let count = chance.below(calls.len() as u64 + 1) as usize;
    let mut disk = Disk::of(before);
    let mut printed = String::new();
    for call in &calls[..count] {
        match &call.what {
            What::Printed { text } => printed.push_str(text),
            _ => disk.take(&rebased(call, (scene.root(), before))),
        }
    }
    let after = tempfile::tempdir().unwrap();
    disk.cut((before, after.path()), &mut chance);
    expect_nothing_lost(after.path(), &printed);
}

fn cuts(settings: &[(&str, &str)]) {
    let scene = Scene::new(8);
    let before = tempfile::tempdir().unwrap();
    copy(scene.root(), before.path());
    let outcome = scene.play(settings);
    assert!(outcome.printed.contains("FINISHED"));
    for seed in 0..crate::repeats(CUTS) {
        cut_and_check(&scene, (before.path(), &outcome.calls), seed);
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    cuts(&[]);
}

/// The test above would see an engine that does not sync: here the syncs of the log are left out.
#[test]
#[should_panic(expected = "an acknowledged event is lost")]
fn a_power_cut_without_syncs_is_seen() {
    cuts(&[("SHIM_SKIP", "ledger.db-wal")]);
}
