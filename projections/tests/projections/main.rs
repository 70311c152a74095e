//! What the read models promise, through the crate's public interface.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]
#![expect(clippy::indexing_slicing, reason = "a test that meets the unexpected must stop")]

mod accounts;
mod analytics;
mod engine_feed;
mod evidence;
mod exactly_once;
mod fixture;
mod http_service;
mod lucky_pots;
mod migrations;
mod nats;
mod nats_access;
mod nats_server;
mod phased;
mod poison;
mod reads;
mod rebuilds;
mod recomputation;
