//! How fast the read models follow, and what they cost the engine that they follow.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use daybook_bots::{Play, Simulated};
use daybook_ledger::{Ledger, keys};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, NatsSettings, Reads, Relay, Tail, Workers,
    all_projections, rebuild,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::figures::{Figure, Floor, Report, Values};
use crate::load::Load;
use crate::nats_server::NatsServer;
use crate::{Scale, plain};

pub const NAMES: [&str; 3] = ["seasons", "simulins", "analytics"];

pub fn run(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    report.section("Read models");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_name("workers").enable_all().build()?;
    let mut values: [Values; 4] = Default::default();
    for _ in 0..scale.rounds {
        round(parent, scale, &runtime, &mut values)?;
    }
    let [feed, once, rebuilt, jetstream] = values;
    let per_second = "events/s";
    report.add(
        Figure::new("all of them, from the feed", feed, per_second)
            .beside("plain rusqlite writing each row once", &once)
            .floor(Floor::Ratio(0.7)),
    );
    report.add(
        Figure::new("all of them, made anew", rebuilt, per_second)
            .beside("plain rusqlite writing each row once", &once)
            .floor(Floor::Ratio(1.4)),
    );
    if scale.servers {
        report.add(
            Figure::new("all of them, through JetStream, durable", jetstream, per_second)
                .beside("plain rusqlite writing each row once", &once)
                .floor(Floor::Ratio(0.5)),
        );
    }
    together(parent, scale, &runtime, report)?;
    Ok(())
}

/// A played ledger, and how many events it has.
pub fn played(dir: &Path, players: u32) -> Result<u64> {
    let play = Play { players, days: 8, seed: 7 };
    let ledger = Ledger::open(Simulated::from_seed(play.seed).options(dir))?;
    play.run(&ledger, &mut |_, _| {})?;
    Ok(ledger.close().wait()?.seq)
}

/// What was written before must not be on its way to the disk while something else is measured.
pub fn settle() -> Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync");
    Ok(())
}

fn round(
    parent: &Path,
    scale: Scale,
    runtime: &Runtime,
    [feed, once, rebuilt, jetstream]: &mut [Values; 4],
) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let events = played(dir.path(), scale.players)?;
    settle()?;
    let path = dir.path().join("game.db");
    let database = runtime.block_on(GameDatabase::open(&path, DatabaseSettings::default()))?;
    let began = Instant::now();
    runtime.block_on(async {
        let source = FeedSource::ledger(dir.path());
        Workers::catch_up(&database, &all_projections(), &source).await
    })?;
    feed.add(events as f64 / began.elapsed().as_secs_f64());
    settle()?;
    let seconds = plain::rows_once(&path, &dir.path().join("once.db"), events)?;
    once.add(events as f64 / seconds);
    if scale.servers {
        settle()?;
        jetstream.add(events as f64 / runtime.block_on(through_jetstream(dir.path(), events))?);
    }
    settle()?;
    let made = runtime.block_on(async {
        rebuild(&database, &all_projections(), &mut Tail::new(dir.path())).await
    })?;
    let seconds = made.iter().map(|made| made.seconds).fold(0.0, f64::max);
    rebuilt.add(events as f64 / seconds);
    runtime.block_on(database.close())?;
    Ok(())
}

/// How long the read models take through a server that syncs each message; in seconds.
async fn through_jetstream(dir: &Path, events: u64) -> Result<f64> {
    let keys_dir = dir.join("keys");
    keys::init(&keys_dir, &keys::random_season_key()?)?;
    let keys = keys::load(&keys_dir)?;
    let server = NatsServer::start(dir)?;
    let settings = NatsSettings::new(&server.url);
    let data_dir: PathBuf = dir.to_owned();
    let relay = Relay::new(&data_dir, keys.signer, keys.verifying_key, settings.clone());
    let (stop, stopped) = watch::channel(false);
    let path = dir.join("jetstream.db");
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await?;
    let began = Instant::now();
    let relaying = tokio::spawn(relay.run(stopped));
    let (settings, key) = (Box::new(settings), keys.verifying_key);
    let source = FeedSource::JetStream { settings, key, data_dir: None };
    let workers = Workers::start(&database, &all_projections(), &source);
    let reads = Reads::new(&database);
    let stands = reads.wait_for(&NAMES, events, Duration::from_secs(3_600)).await?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(!stands.is_stale, "the tables stand for the whole ledger");
    workers.stop().await;
    stop.send_replace(true);
    relaying.await??;
    Ok(seconds)
}

/// The engine at full load alone, and beside workers and, where there is a server, a relay.
fn together(parent: &Path, scale: Scale, runtime: &Runtime, report: &mut Report) -> Result<()> {
    let (mut alone, mut beside) = (Values::default(), Values::default());
    let length = Duration::from_secs_f64(scale.seconds);
    let seasons = scale.seasons.min(50_000);
    for _ in 0..scale.rounds {
        let dir = tempfile::tempdir_in(parent)?;
        let mut load = Load::begin(dir.path(), seasons)?;
        alone.add(load.keep_waiting(4_096, length, u64::MAX)?.events_per_second());
        load.ledger.close().wait()?;

        let dir = tempfile::tempdir_in(parent)?;
        let mut load = Load::begin(dir.path(), seasons)?;
        let path = dir.path().join("game.db");
        let database = runtime.block_on(GameDatabase::open(&path, DatabaseSettings::default()))?;
        let source = FeedSource::ledger(&load.ledger);
        let workers =
            runtime.block_on(async { Workers::start(&database, &all_projections(), &source) });
        let (stop, stopped) = watch::channel(false);
        let relay = match scale.servers {
            true => {
                let keys_dir = dir.path().join("keys");
                keys::init(&keys_dir, &keys::random_season_key()?)?;
                let keys = keys::load(&keys_dir)?;
                let server = NatsServer::start(dir.path())?;
                let settings = NatsSettings::new(&server.url);
                let relay = Relay::new(&load.ledger, keys.signer, keys.verifying_key, settings);
                Some((runtime.spawn(relay.run(stopped)), server))
            }
            false => None,
        };
        beside.add(load.keep_waiting(4_096, length, u64::MAX)?.events_per_second());
        runtime.block_on(workers.stop());
        stop.send_replace(true);
        if let Some((relaying, _server)) = relay {
            runtime.block_on(relaying)??;
        }
        load.ledger.close().wait()?;
    }
    let what = if scale.servers { "workers, snapshots, a relay" } else { "workers, snapshots" };
    report.add(
        Figure::new(format!("append beside {what}"), beside, "events/s")
            .beside("append alone", &alone)
            .floor(Floor::Ratio(0.6)),
    );
    Ok(())
}
