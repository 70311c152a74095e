//! Commands over HTTP, beside a route that does nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;

use crate::Scale;
use crate::client::{self, Player, micros, millis};
use crate::figures::{Figure, Floor, Report, Values};
use crate::server::Child;

pub fn run(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    report.section("Commands over HTTP, service in a process of its own, everything on");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(parent, scale, report))
}

async fn measure(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    let (connections, players) = if scale.seconds > 1.0 { (128, 6_000) } else { (8, 100) };
    let length = Duration::from_secs_f64(scale.seconds.min(4.0));
    let data = tempfile::tempdir_in(parent)?;
    let child = Child::start(data.path()).await?;
    let mut players = client::players(&child, players, "player").await?;
    let (mut commands, mut nothing) = (Values::default(), Values::default());
    let (mut cpu, mut latency) = (Vec::new(), Histogram::<u64>::new(3)?);
    for _ in 0..scale.rounds {
        nothing.add(asked(&child, &players, connections, length).await?);
        client::new_seasons(&child, &mut players).await?;
        let before = child.cpu_by_thread()?;
        let (rate, round) = played(&child, &mut players, connections, length).await?;
        commands.add(rate);
        latency.add(&round)?;
        cpu = Vec::new();
        for (name, after) in child.cpu_by_thread()? {
            let spent = after - before.get(&name).copied().unwrap_or(0).min(after);
            cpu.push((name, spent as f64 / round.len() as f64));
        }
    }
    report.add(
        Figure::new(format!("commands, {connections} connections"), commands, "commands/s")
            .beside("a route that does nothing", &nothing)
            .floor(Floor::Ratio(0.5)),
    );
    report.add(Figure::new("  p50", millis(&latency, 0.5), "ms"));
    report.add(Figure::new("  p99", millis(&latency, 0.99), "ms"));
    for (name, micros) in cpu {
        if micros >= 0.5 {
            report.add(Figure::new(format!("  CPU of {name}"), micros, "us/command"));
        }
    }
    child.stop().await
}

/// Sends commands on all connections, each waiting for its answer.
async fn played(
    child: &Child,
    players: &mut [Player],
    connections: usize,
    length: Duration,
) -> Result<(f64, Histogram<u64>)> {
    let began = Instant::now();
    let share = players.len().div_ceil(connections);
    let running = players.chunks_mut(share).map(async |players| -> Result<Histogram<u64>> {
        let (mut latency, mut connection) = (Histogram::new(3)?, child.connect().await?);
        while began.elapsed() < length {
            let mut is_one_ready = false;
            for player in players.iter_mut().filter(|player| player.is_ready()) {
                if began.elapsed() >= length {
                    break;
                }
                is_one_ready = true;
                let request = player.next_command();
                let sent = Instant::now();
                let answer = connection.ask(&request).await?;
                latency.record(micros(sent))?;
                ensure!(answer.is_accepted(), "{}: {}", answer.status, answer.text());
                player.answered();
            }
            if !is_one_ready {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(latency)
    });
    let mut latency = Histogram::new(3)?;
    try_join_all(running).await?.into_iter().try_for_each(|part| latency.add(part))?;
    Ok((latency.len() as f64 / began.elapsed().as_secs_f64(), latency))
}

/// Asks a route that does nothing, with the same requests; requests a second.
async fn asked(
    child: &Child,
    players: &[Player],
    connections: usize,
    length: Duration,
) -> Result<f64> {
    let began = Instant::now();
    let share = players.len().div_ceil(connections);
    let running = players.chunks(share).map(async |players| -> Result<u64> {
        let request = players.first().context("a player")?.same_command();
        let (mut connection, mut count) = (child.connect_to_noop().await?, 0);
        while began.elapsed() < length {
            ensure!(connection.ask(&request).await?.status == 201, "it answers 201");
            count += 1;
        }
        Ok(count)
    });
    let count: u64 = try_join_all(running).await?.into_iter().sum();
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
