//! The service as its clients meet it: a real server on a free port, real files, a real client.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

mod accounts;
mod analytics;
mod client;
mod connections;
#[path = "../../../ledger/tests/faults/disk.rs"]
mod disk;
mod documents;
mod erasure;
mod faults;
mod files;
mod full_disk;
mod future;
mod guards;
mod house;
mod idempotency;
mod live;
mod lockout;
mod lost_answers;
#[path = "../../../../projections/tests/projections/nats_server.rs"]
mod nats_server;
mod pausing;
mod play;
mod player;
mod power_cut;
mod reconciling;
mod rejections;
mod service_tokens;
#[path = "../../../ledger/tests/faults/shim.rs"]
mod shim;
mod statement;
mod suspicion;
mod telemetry;
mod telemetry_file;
