//! Ten million events beside one million: what growing costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, Reads, Workers, all_projections,
};

use crate::Scale;
use crate::figures::{Figure, Floor, Report, Values};
use crate::load::Load;
use crate::models::{NAMES, played, settle};

/// Seasons in play: a season of each is eight million events.
const SEASONS: usize = 28_000;
const WAITING: usize = 4_096;
const ROUNDS: usize = 5;
const EVENTS_PER_ROUND: u64 = 500_000;

pub fn run(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    if !scale.grows {
        return Ok(());
    }
    report.section("Ten million events beside one million");
    append(parent, report)?;
    read_models(parent, report)
}

/// Two ledgers in turn. One of them has a whole season of each player more; both are on the same
/// days of a season, for not all days cost the same.
fn append(parent: &Path, report: &mut Report) -> Result<()> {
    let (new_dir, old_dir) = (tempfile::tempdir_in(parent)?, tempfile::tempdir_in(parent)?);
    let mut old = Load::begin(old_dir.path(), SEASONS)?;
    old.play_to_season(2, WAITING)?;
    let mut new = Load::begin(new_dir.path(), SEASONS)?;
    let mut rates: [Values; 2] = Default::default();
    let mut cpu: [Values; 2] = Default::default();
    for round in 0..=ROUNDS {
        for (index, load) in [&mut new, &mut old].into_iter().enumerate() {
            // What the other has begun beside its work, such as a snapshot, is over by then.
            std::thread::sleep(Duration::from_millis(500));
            let played = load.keep_waiting(WAITING, Duration::MAX, EVENTS_PER_ROUND)?;
            // The first round is not counted.
            if round > 0 {
                rates.get_mut(index).context("rates")?.add(played.events_per_second());
                cpu.get_mut(index).context("times")?.add(played.engine_cpu_micros());
            }
        }
    }
    let ([new_rates, old_rates], [new_cpu, old_cpu]) = (rates, cpu);
    let millions = |load: Load| -> Result<String> {
        let seq = load.ledger.close().wait()?.seq;
        Ok(format!("up to {:.1} million events", seq as f64 / 1_000_000.0))
    };
    let (up_to_old, up_to_new) = (millions(old)?, millions(new)?);
    report.add(
        Figure::new(format!("append, {up_to_old}"), old_rates, "events/s")
            .beside(format!("{up_to_new}, in turn"), &new_rates)
            .floor(Floor::Ratio(0.9)),
    );
    report.add(
        Figure::new("  the engine's CPU", old_cpu, "us/event")
            .beside(format!("{up_to_new}, in turn"), &new_cpu),
    );
    Ok(())
}

/// The first million events and the tenth of one ledger, as read models.
fn read_models(parent: &Path, report: &mut Report) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_name("workers").enable_all().build()?;
    let dir = tempfile::tempdir_in(parent)?;
    let events = played(dir.path(), 9_000)?;
    let path = dir.path().join("game.db");
    settle()?;
    let times = runtime.block_on(async {
        let database = GameDatabase::open(&path, DatabaseSettings::default()).await?;
        let workers =
            Workers::start(&database, &all_projections(), &FeedSource::ledger(dir.path()));
        let reads = Reads::new(&database);
        let (began, mut times) = (Instant::now(), Vec::new());
        for seq in [events / 20, events * 3 / 20, events * 17 / 20, events * 19 / 20] {
            reads.wait_for(&NAMES, seq, Duration::from_secs(3_600)).await?;
            times.push(began.elapsed().as_secs_f64());
        }
        workers.stop().await;
        anyhow::Ok(times)
    })?;
    let [a, b, c, d] = <[f64; 4]>::try_from(times).ok().context("four times")?;
    let tenth = events as f64 / 10.0;
    report.add(
        Figure::new(
            format!("read models, the last of {events} events"),
            tenth / (d - c),
            "events/s",
        )
        .beside("the first of them", &(tenth / (b - a)).into())
        .floor(Floor::Ratio(0.9)),
    );
    Ok(())
}
