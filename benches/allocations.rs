//! Allocations an event, of the engine and the client that sends commands.
//!
//! `cargo bench -p daybook-benches --bench allocations [-- SEASONS]`. It is a bench of its own, for
//! counting takes time.

#[path = "common/cpu.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod cpu;
#[path = "report/load.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod load;
#[path = "common/player.rs"]
mod player;

use std::alloc::System;
use std::time::Duration;

use anyhow::Result;
use load::Load;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (seasons, length) = if is_bench { (20_000, 5.0) } else { (200, 0.1) };
    let seasons = arguments.next().map_or(Ok(seasons), |text| text.parse())?;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut load = Load::begin(dir.path(), seasons)?;
    // What grows to its size first is not an event's.
    load.keep_waiting(4_096, Duration::from_secs_f64(length / 2.0), u64::MAX)?;
    let region = Region::new(COUNTED);
    let round = load.keep_waiting(4_096, Duration::from_secs_f64(length), u64::MAX)?;
    let counted = region.change();
    let events = round.events as f64;
    println!(
        "{:.2} allocations an event, {:.2} a command, {:.0} bytes an event; {} events of {} commands, \
         {seasons} seasons in play, client included",
        (counted.allocations + counted.reallocations) as f64 / events,
        (counted.allocations + counted.reallocations) as f64 / round.commands as f64,
        counted.bytes_allocated as f64 / events,
        round.events,
        round.commands,
    );
    load.ledger.close().wait()?;
    Ok(())
}
