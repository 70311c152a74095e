//! Daybook beside its peers: the same commands, with the same bytes, by the same number of clients
//! that wait for their answers.
//!
//! Daybook decides a game's commands by its rules, chains their events and answers. The peers get the
//! events that came of it, six bytes to a hundred each, and only store them. `benches/peers/run`
//! installs what is needed, runs this, and takes it away again.

#[path = "../../common/cpu.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod cpu;
#[path = "../../report/load.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod load;
#[path = "../../common/player.rs"]
mod player;

mod commands;
mod durable_streams;
mod jetstream;
mod postgres_table;
mod server;
mod sierra;
mod sqlite_in_c;
mod tephra_store;
mod umadb;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use commands::Commands;
use load::Load;

/// How long each is asked.
const LENGTH: Duration = Duration::from_secs(5);
const SEASONS: usize = 100_000;
const WAITING: [usize; 3] = [1, 256, 4_096];

/// A peer: what it is called, how it is durable, and what appends to it. It gives events a second.
struct Peer {
    name: &'static str,
    durable: &'static str,
    run: fn(&Path, &Commands, usize) -> Result<f64>,
}

const PEERS: &[Peer] = &[
    Peer {
        name: "SQLite, C calls, the same rows, no chain",
        durable: "yes: synchronous=FULL",
        run: sqlite_in_c::run,
    },
    Peer {
        name: "UmaDB core 0.7.8, tagged, guarded by season",
        durable: "yes: two fdatasync a commit",
        run: umadb::tagged,
    },
    Peer {
        name: "UmaDB core 0.7.8, without tags",
        durable: "yes: two fdatasync a commit",
        run: umadb::untagged,
    },
    Peer {
        name: "tephra 0.4.1, tagged, guarded by season",
        durable: "yes: one fdatasync a commit",
        run: tephra_store::run,
    },
    Peer {
        name: "PostgreSQL, unique (stream, version), COPY",
        durable: "yes: synchronous_commit=on",
        run: postgres_table::run,
    },
    Peer {
        name: "JetStream, guarded by season, sync_interval: always",
        durable: "yes",
        run: jetstream::synced,
    },
    Peer {
        name: "JetStream, guarded by season, as it comes",
        durable: "NO: it syncs every two minutes",
        run: jetstream::as_it_comes,
    },
    Peer {
        name: "SierraDB 0.3.1, exact versions",
        durable: "yes: answers after fdatasync",
        run: sierra::run,
    },
    Peer {
        name: "Durable Streams 0.1.5, over HTTP, in order",
        durable: "yes: fdatasync of its log",
        run: durable_streams::run,
    },
];

/// Daybook's own rate, with its ledger left in the directory.
fn daybook(dir: &Path, waiting: usize) -> Result<f64> {
    let mut load = Load::begin(dir, SEASONS)?;
    let round = load.keep_waiting(waiting, LENGTH, u64::MAX)?;
    load.ledger.close().wait()?;
    Ok(round.events_per_second())
}

fn main() -> Result<()> {
    let parent: PathBuf = std::env::args().nth(1).context("a directory to measure on")?.into();
    let only = std::env::args().nth(2).unwrap_or_default();
    println!("| | durable | 1 waiting | 256 waiting | 4,096 waiting |\n|---|---|---|---|---|");
    let source = tempfile::tempdir_in(&parent)?;
    let mut ours = Vec::new();
    for waiting in WAITING {
        // What the last one wrote is what the peers are given.
        let dir = tempfile::tempdir_in(&parent)?;
        let place = if waiting == 4_096 { source.path() } else { dir.path() };
        ours.push(daybook(place, waiting)?);
    }
    show("Daybook: decides, chains, stores", "yes: synchronous=FULL", &ours, &ours);
    let commands = Commands::read(source.path())?;
    for peer in PEERS.iter().filter(|peer| peer.name.contains(&only)) {
        let mut rates = Vec::new();
        for waiting in WAITING {
            let dir = tempfile::tempdir_in(&parent)?;
            match (peer.run)(dir.path(), &commands, waiting) {
                Ok(rate) => rates.push(rate),
                Err(error) => {
                    eprintln!("{}, {waiting} waiting: {error:#}", peer.name);
                    rates.push(f64::NAN);
                }
            }
        }
        show(peer.name, peer.durable, &rates, &ours);
    }
    Ok(())
}

fn show(name: &str, durable: &str, rates: &[f64], ours: &[f64]) {
    let cells: Vec<String> = rates
        .iter()
        .zip(ours)
        .map(|(rate, ours)| match rate.is_nan() {
            true => "did not run".to_owned(),
            false => format!("{rate:.0} (Daybook {:.1} ×)", ours / rate),
        })
        .collect();
    println!("| {name} | {durable} | {} |", cells.join(" | "));
}
