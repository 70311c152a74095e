//! Everything that is measured, beside its ceilings, in one report.
//!
//! `cargo bench` runs it whole, `cargo bench -- --quick` in under three minutes, and
//! `cargo bench -- append audit` these sections alone. It prints each figure as it comes. With
//! `--write` it also makes `benches/report.md` and its plots anew.

#[path = "play/client.rs"]
#[expect(dead_code, reason = "the bench `play` asks for more")]
mod client;
#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/nats_server.rs"]
mod nats_server;
#[path = "projections/plain.rs"]
#[expect(dead_code, reason = "the bench `projections` compares with more")]
mod plain;
#[path = "common/player.rs"]
mod player;
#[path = "play/server.rs"]
#[expect(dead_code, reason = "the bench `play` asks for more")]
mod server;

#[path = "report/append.rs"]
mod append;
#[path = "report/audit.rs"]
mod audit;
#[path = "report/ceilings.rs"]
mod ceilings;
#[path = "report/child.rs"]
mod child;
#[path = "report/figures.rs"]
mod figures;
#[path = "report/growth.rs"]
mod growth;
#[path = "report/http.rs"]
mod http;
#[path = "report/load.rs"]
mod load;
#[path = "report/machine.rs"]
mod machine;
#[path = "report/models.rs"]
mod models;
#[path = "report/page.rs"]
mod page;
#[path = "report/sizes.rs"]
mod sizes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use figures::Report;

/// A part of the report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// How fast the engine appends, and what an event costs it.
    Append,
    /// Verification, recovery, replay, scans and exports.
    Audit,
    /// The read models.
    Models,
    /// Ten million events beside one million.
    Growth,
    /// Bytes on disk and in memory.
    Sizes,
    /// Commands over HTTP.
    Http,
}

/// Daybook's speed beside its ceilings.
#[derive(Parser)]
#[command(name = "cargo bench --")]
struct Arguments {
    /// The sections to run; all of them where none is named.
    sections: Vec<Section>,
    /// Short rounds, and each once: under three minutes in all.
    #[arg(long)]
    quick: bool,
    /// Also run what needs a nats-server, which is installed the first time.
    #[arg(long)]
    servers: bool,
    /// Make `benches/report.md` and its plots anew.
    #[arg(long)]
    write: bool,
    /// The directory that is measured on; by default it lies in the target directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Said by `cargo bench`; without it, as under `cargo test`, the bench only shows that it runs.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Measures a section and takes its figures.
type Run = fn(&Path, Scale, &mut Report) -> Result<()>;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Rounds of each figure, of which the median is told.
    pub rounds: usize,
    /// How long commands are sent in a round.
    pub seconds: f64,
    /// Seasons in play.
    pub seasons: usize,
    /// Events of the ledger that is gone through.
    pub events: u64,
    /// Players of the ledger whose read models are built.
    pub players: u32,
    /// Whether the ledger of ten million events is built, and its read models.
    pub grows: bool,
    /// Whether what needs a server is run.
    pub servers: bool,
}

impl Scale {
    const fn of(arguments: &Arguments) -> Self {
        let servers = arguments.servers;
        match (arguments.bench, arguments.quick) {
            (false, _) => Self {
                rounds: 1,
                seconds: 0.05,
                seasons: 200,
                events: 2_000,
                players: 3,
                grows: false,
                servers,
            },
            (true, true) => Self {
                rounds: 1,
                seconds: 2.0,
                seasons: 20_000,
                events: 1_000_000,
                players: 150,
                grows: false,
                servers,
            },
            (true, false) => Self {
                rounds: 3,
                seconds: 8.0,
                seasons: 100_000,
                events: 10_000_000,
                players: 600,
                grows: true,
                servers,
            },
        }
    }
}

fn main() -> Result<()> {
    if child::is_one() {
        return child::run();
    }
    let arguments = Arguments::parse();
    let scale = Scale::of(&arguments);
    let parent = arguments.dir.clone().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let mut report = Report::new(machine::describe(&parent)?);
    let is_wanted =
        |section| arguments.sections.is_empty() || arguments.sections.contains(&section);
    let sections: [(Section, Run); 6] = [
        (Section::Append, append::run),
        (Section::Audit, audit::run),
        (Section::Models, models::run),
        (Section::Growth, growth::run),
        (Section::Sizes, sizes::run),
        (Section::Http, http::run),
    ];
    for (section, run) in sections {
        if is_wanted(section) {
            run(&parent, scale, &mut report)?;
        }
    }
    report.print_floors();
    if arguments.write {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
        page::write(&report, benches).context("report.md")?;
        println!("written: {}", benches.join("report.md").display());
    }
    Ok(())
}
