//! What the engine does when the system fails it: every call to the C library that concerns its
//! files is written down, made to fail, or lost to a power cut.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

mod child;
mod disk;
mod durability;
mod full_disk;
mod injected;
mod power_cut;
mod shim;
mod slow_disk;

/// How often a test that draws its cases at random repeats them: as often as `DAYBOOK_LONG` says
/// where it is set, else a number that suits every run.
fn repeats(in_every_run: u64) -> u64 {
    std::env::var("DAYBOOK_LONG").map_or(in_every_run, |text| text.parse().unwrap())
}
