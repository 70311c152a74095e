//! The rules through their public functions.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

mod fairness;
mod golden;
mod odds;
mod properties;
mod royal;
mod rules;
mod world;
