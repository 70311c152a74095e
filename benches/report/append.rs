//! How fast the engine appends, what an event costs it, and how long a commit takes.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::Scale;
use crate::ceilings::{self, Raw};
use crate::figures::{Figure, Floor, Report, Values};
use crate::load::{Load, Players, Round};

/// Rows that the ceilings are measured with.
const ROWS: usize = 1_000_000;

/// What stands beside a figure in each round.
#[derive(Default)]
struct Beside {
    daybook: Values,
    raw: Values,
    checkpoints: Values,
    chain: Values,
    synced: Values,
    hashed: Values,
}

pub fn run(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    report.section("Append");
    let mut highest = 0.0_f64;
    let few = scale.seasons.min(20_000);
    let kinds = [
        (1, few, false, Some(0.8)),
        (16, few, false, Some(0.7)),
        (256, few, false, Some(0.7)),
        (4_096, scale.seasons, false, Some(0.7)),
        (1, 1, false, None),
        (4_096, scale.seasons, true, None),
    ];
    for (waiting, seasons, mix, floor) in kinds {
        let players = Players { seasons, mix };
        let mut beside = Beside::default();
        let (mut engine_cpu, mut last) = (Values::default(), None);
        for _ in 0..scale.rounds {
            let round = round(parent, scale, waiting, players, &mut beside)?;
            engine_cpu.add(round.engine_cpu_micros());
            last = Some(round);
        }
        let seasons = if seasons == 1 { "one season".into() } else { format!("{seasons} seasons") };
        let mixed = if mix { ", with sessions and simulins" } else { "" };
        let what = format!("{waiting} waiting, {seasons}{mixed}");
        if !mix {
            highest = highest.max(beside.daybook.median());
        }
        let figure = Figure::new(&what, beside.daybook.clone(), "events/s")
            .beside("raw SQLite, which makes checkpoints as we do", &beside.checkpoints);
        report.add(match floor {
            Some(floor) => figure.floor(Floor::Ratio(floor)),
            None => figure,
        });
        report.add(
            Figure::new(format!("{what}, beside no checkpoints"), beside.daybook, "events/s")
                .beside("raw SQLite that never makes a checkpoint", &beside.raw),
        );
        report.add(Figure::new("  raw SQLite with checkpoints and chain", beside.chain, "rows/s"));
        report.add(Figure::new(
            "  the same bytes to a plain file, synced",
            beside.synced,
            "rows/s",
        ));
        report.add(Figure::new("  BLAKE3 alone", beside.hashed, "rows/s"));
        let Some(round) = last else { continue };
        report.add(Figure::new("  events of a commit", round.batch_events, "events"));
        let cpu = Figure::new(format!("engine's CPU, {what}"), engine_cpu, "us/event");
        let is_asked = waiting == 4_096 && !mix;
        report.add(if is_asked { cpu.floor(Floor::AtMost(1.6)) } else { cpu });
        for (name, micros) in round.cpu_by_thread() {
            report.add(Figure::new(format!("  CPU of {name}, {what}"), micros, "us/event"));
        }
    }
    at_half_rate(parent, scale, highest, report)
}

/// A round of the engine and of each ceiling, in turn.
fn round(
    parent: &Path,
    scale: Scale,
    waiting: usize,
    players: Players,
    beside: &mut Beside,
) -> Result<Round> {
    let dir = tempfile::tempdir_in(parent)?;
    let mut load = Load::begin_with(dir.path(), players)?;
    let length = Duration::from_secs_f64(scale.seconds);
    let round = load.keep_waiting(waiting, length, u64::MAX)?;
    load.ledger.close().wait()?;
    beside.daybook.add(round.events_per_second());
    // Single commits take long: fewer rows are enough.
    let rows = match waiting {
        1 | 16 => ROWS / 20,
        _ => ROWS,
    };
    let rows = ceilings::rows(dir.path(), rows.min(round.events as usize))?;
    let per_commit = round.batch_events;
    beside.raw.add(ceilings::insert(parent, &rows, per_commit, Raw::Inserts)?);
    beside.checkpoints.add(ceilings::insert(parent, &rows, per_commit, Raw::Checkpoints)?);
    beside.chain.add(ceilings::insert(parent, &rows, per_commit, Raw::CheckpointsAndChain)?);
    beside.synced.add(ceilings::sync(parent, &rows, per_commit)?.0);
    beside.hashed.add(ceilings::hash(&rows));
    Ok(round)
}

/// How long a command takes in an open loop at half the highest rate: from the time that it was due.
fn at_half_rate(parent: &Path, scale: Scale, highest: f64, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let mut load = Load::begin(dir.path(), scale.seasons)?;
    // So many events a command, as they come in rounds of bets and days.
    let warm = load.keep_waiting(256, Duration::from_secs_f64(scale.seconds / 4.0), u64::MAX)?;
    let events_per_command = warm.events as f64 / warm.commands as f64;
    let rate = highest / 2.0 / events_per_command;
    let batches = load.ledger.health().batches;
    let latency = load.at_rate(rate, Duration::from_secs_f64(scale.seconds * 2.0))?;
    let batches = load.ledger.health().batches - batches;
    let per_commit = latency.len() as f64 * events_per_command / batches.max(1) as f64;
    load.ledger.close().wait()?;
    report.section("Latency at half the highest rate, in an open loop");
    let millis = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    let median = millis(0.5);
    report.add(Figure::new("commands sent", rate, "commands/s"));
    report.add(Figure::new("p50", median, "ms"));
    report.add(
        Figure::new("p99", millis(0.99), "ms")
            .beside("the median", &median.into())
            .floor(Floor::AtMost(4.0 * median)),
    );
    report.add(Figure::new("p99.9", millis(0.999), "ms"));
    report.add(Figure::new("most", latency.max() as f64 / 1e3, "ms"));
    let rows = ceilings::rows(dir.path(), ROWS)?;
    let raw = ceilings::insert_at_rate(parent, &rows, highest / 2.0)?;
    let few = rows.get(..ROWS / 5).unwrap_or(&rows);
    let (_, synced) = ceilings::sync(parent, few, per_commit)?;
    for (what, latency) in [
        ("raw SQLite with checkpoints, as many rows a second: p99", raw),
        ("the disk alone: p99 of a sync of such batches", synced),
    ] {
        let median = (latency.value_at_quantile(0.5) as f64 / 1e3).into();
        let p99 = latency.value_at_quantile(0.99) as f64 / 1e3;
        report.add(Figure::new(what, p99, "ms").beside("its median", &median));
    }
    Ok(())
}
