//! The ledger through its public functions, on real SQLite files.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

mod campaign;
mod clocks;
mod crash;
mod exactly_once;
mod fixture;
mod foreign_code;
mod format_example;
mod frozen;
mod handles;
mod hostile;
mod keeper;
mod keys;
mod loss;
mod opening;
mod read_ahead;
mod reading;
mod restoring;
#[path = "../../../simulator/tests/simulator/royal.rs"]
mod royal;
mod snapshots;
mod strangers;
mod subscribers;
mod tampering;
