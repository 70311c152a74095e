//! The vocabulary and its stored bytes, through public functions.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the unexpected must stop"
)]

mod block;
mod codec;
mod format_document;
mod golden;
mod names;
mod samples;
