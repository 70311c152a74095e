//! Commands over HTTP: accepted commands a second and their latency, beside an axum route that does
//! nothing, asked by the same client in the same run; how soon a bet is in what is read; and what
//! open streams and readers of the feed cost.
//!
//! `cargo bench -p daybook-benches --bench play [-- SECONDS CONNECTIONS PLAYERS STREAMS [DIR]]`. The
//! service runs in a process of its own, with workers, upkeep and its log; the client in this one.
//! `ledger.db` is written with `synchronous=FULL`.

#[path = "play/client.rs"]
mod client;
#[path = "play/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::io::AsyncReadExt;

use client::{Connection, Player, micros, millis};
use server::Child;

/// What is measured with.
struct Plan {
    length: Duration,
    connections: usize,
    players: usize,
    streams: usize,
    rounds: usize,
}

/// What came of one run.
struct Measured {
    per_second: f64,
    latency: Histogram<u64>,
}

impl Measured {
    fn show(&self, what: &str) {
        let Self { per_second, latency } = self;
        println!(
            "{what:34} {per_second:8.0}/s   p50 {:7.2} ms   p99 {:7.2} ms   p99.9 {:7.2} ms   max {:7.2} ms",
            millis(latency, 0.5),
            millis(latency, 0.99),
            millis(latency, 0.999),
            latency.max() as f64 / 1e3
        );
    }
}

/// Sends commands on all connections, each waiting for its answer, for a while.
async fn play(child: &Child, players: &mut [Player], plan: &Plan) -> Result<Measured> {
    let until = Instant::now() + plan.length;
    let began = Instant::now();
    let share = players.len().div_ceil(plan.connections);
    let running = players.chunks_mut(share).map(async |players| -> Result<Histogram<u64>> {
        let (mut latency, mut connection) = (Histogram::new(3)?, child.connect().await?);
        while Instant::now() < until {
            let mut was_one_ready = false;
            for player in players.iter_mut().filter(|player| player.is_ready()) {
                if Instant::now() >= until {
                    break;
                }
                was_one_ready = true;
                let request = player.next_command();
                let sent = Instant::now();
                let answer = connection.ask(&request).await?;
                latency.record(micros(sent))?;
                ensure!(answer.is_accepted(), "{}: {}", answer.status, answer.text());
                player.answered();
            }
            if !was_one_ready {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(latency)
    });
    sum(try_join_all(running).await?, began)
}

fn sum(latencies: Vec<Histogram<u64>>, began: Instant) -> Result<Measured> {
    let mut latency = Histogram::new(3)?;
    latencies.into_iter().try_for_each(|part| latency.add(part))?;
    let per_second = latency.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Measured { per_second, latency })
}

/// CPU time of the service by thread, a command.
fn show_cpu(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, commands: u64) {
    let spent = after.iter().map(|(name, micros)| {
        let spent = micros - before.get(name).copied().unwrap_or(0).min(*micros);
        (name, spent as f64 / commands as f64)
    });
    let shown: Vec<String> = spent
        .filter(|(_, micros)| *micros >= 0.05)
        .map(|(name, micros)| format!("{name} {micros:.1}"))
        .collect();
    println!("         CPU, us a command: {}", shown.join(", "));
}

/// The same request over and over, on connections to a route that does nothing or to the service.
async fn ask(child: &Child, players: &[Player], plan: &Plan, what: Asked) -> Result<Measured> {
    let until = Instant::now() + plan.length;
    let began = Instant::now();
    let share = players.len().div_ceil(plan.connections);
    let running = players.chunks(share).map(async |players| -> Result<Histogram<u64>> {
        let player = players.first().context("a player")?;
        let (mut connection, request, status) = match what {
            Asked::Nothing => (child.connect_to_noop().await?, player.same_command(), 201),
            Asked::Head => (child.connect().await?, client::get("/api/head", player.cookie()), 200),
        };
        let mut latency = Histogram::new(3)?;
        while Instant::now() < until {
            let sent = Instant::now();
            ensure!(connection.ask(&request).await?.status == status, "it answers {status}");
            latency.record(micros(sent))?;
        }
        Ok(latency)
    });
    sum(try_join_all(running).await?, began)
}

/// What is asked that changes nothing.
#[derive(Clone, Copy)]
enum Asked {
    /// A route that does nothing, on plain axum.
    Nothing,
    /// The newest head: what the guards cost.
    Head,
}

/// Waits until the read models have come to the newest event.
async fn caught_up(child: &Child, player: &Player) -> Result<Duration> {
    let (began, mut connection) = (Instant::now(), child.connect().await?);
    while connection.ask(&player.show_season()).await?.is_stale() {}
    Ok(began.elapsed())
}

/// Bets of players one after another, and how long until each is in what is read: the time of the
/// read itself, which waits for it.
async fn visible(child: &Child, players: &mut [Player], count: usize) -> Result<Histogram<u64>> {
    let (mut latency, mut connection) = (Histogram::new(3)?, child.connect().await?);
    for player in players.iter_mut().take(count) {
        while !player.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = connection.ask(&player.next_command()).await?;
        ensure!(answer.is_accepted(), "{}", answer.text());
        player.answered();
        let asked = Instant::now();
        let read = connection.ask(&player.show_season()).await?;
        latency.record(micros(asked))?;
        ensure!(read.status == 200, "{}", read.text());
        ensure!(!read.is_stale(), "a bet was not in what was read within half a second");
    }
    Ok(latency)
}

/// Opens streams, and reads what comes on them until it is told that it is over.
async fn watch(
    child: &Child,
    players: &[Player],
    streams: usize,
    over: Arc<AtomicBool>,
) -> Result<(Vec<tokio::task::JoinHandle<()>>, Arc<AtomicU64>)> {
    let read = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for player in players.iter().cycle().take(streams) {
        let mut connection: Connection = child.connect().await?;
        connection.send(&player.watch_season()).await?;
        let (read, over) = (Arc::clone(&read), Arc::clone(&over));
        running.push(tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while !over.load(Ordering::Relaxed) {
                match connection.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => read.fetch_add(count as u64, Ordering::Relaxed),
                };
            }
        }));
    }
    Ok((running, read))
}

/// What readers of the feed cost: alone and beside them, in turn. One of them takes a byte a second.
async fn beside_readers(child: &Child, plan: &Plan) -> Result<()> {
    for (what, kind) in [("one kind", "season_completed"), ("all", "")] {
        // Others have started their seasons of today.
        let name = format!("reader{}", what.len());
        let mut players = client::players(child, plan.players, &name).await?;
        for _ in 0..2 {
            play(child, &mut players, plan).await?.show("commands without readers");
            let before = child.resident_bytes()?;
            let mut running = Vec::new();
            let mut slow = child.read_events("").await?;
            running.push(tokio::spawn(async move {
                let mut byte = [0];
                while slow.stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }));
            for _ in 1..plan.streams {
                let mut reader = child.read_events(kind).await?;
                running.push(tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while reader.stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                }));
            }
            let beside = play(child, &mut players, plan).await?;
            beside.show(&format!("beside {} readers of {what}", plan.streams));
            let kib = (child.resident_bytes()?.saturating_sub(before)) / 1024;
            println!("memory: {kib} KiB more");
            running.iter().for_each(|task| task.abort());
        }
    }
    Ok(())
}

async fn run(plan: &Plan, directory: &Path) -> Result<()> {
    let data = tempfile::tempdir_in(directory)?;
    let child = Child::start(data.path()).await?;
    let mut players = client::players(&child, plan.players, "player").await?;
    println!(
        "{} connections, {} players, rounds of {:?}, synchronous=FULL",
        plan.connections, plan.players, plan.length
    );
    let mut ratios = Vec::new();
    for round in 1..=plan.rounds {
        let nothing = ask(&child, &players, plan, Asked::Nothing).await?;
        nothing.show(&format!("round {round}: a route that does nothing"));
        let head = ask(&child, &players, plan, Asked::Head).await?;
        head.show(&format!("round {round}: the newest head"));
        client::new_seasons(&child, &mut players).await?;
        let before = child.cpu_by_thread()?;
        let commands = play(&child, &mut players, plan).await?;
        commands.show(&format!("round {round}: commands"));
        let spent = child.cpu_by_thread()?;
        show_cpu(&before, &spent, commands.latency.len());
        ratios.push(commands.per_second / nothing.per_second);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    println!(
        "commands beside a route that does nothing: {median:.2} of it (median of {ratios:.2?})"
    );

    client::new_seasons(&child, &mut players).await?;
    let behind = caught_up(&child, players.first().context("a player")?).await?;
    println!("after full load the read models came to the newest event within {behind:.1?}");
    let seen = visible(&child, &mut players, plan.players.min(2_000)).await?;
    println!(
        "a bet is in what is read, one after another: p50 {:.2} ms, p99 {:.2} ms",
        millis(&seen, 0.5),
        millis(&seen, 0.99)
    );

    let before = child.resident_bytes()?;
    let alone = play(&child, &mut players, plan).await?;
    alone.show("commands without streams");
    let after_alone = child.resident_bytes()?;
    let over = Arc::new(AtomicBool::new(false));
    let (running, read) = watch(&child, &players, plan.streams, Arc::clone(&over)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let with_streams = child.resident_bytes()?;
    let beside = play(&child, &mut players, plan).await?;
    beside.show(&format!("commands beside {} streams", plan.streams));
    let kib = |bytes: u64| bytes / 1024;
    println!(
        "memory: {} KiB before, {} KiB after commands, {} KiB with streams open, {} KiB after commands \
         beside them; {} KiB were read",
        kib(before),
        kib(after_alone),
        kib(with_streams),
        kib(child.resident_bytes()?),
        kib(read.load(Ordering::Relaxed))
    );
    over.store(true, Ordering::Relaxed);
    running.iter().for_each(|task| task.abort());
    beside_readers(&child, plan).await?;
    let head = child.connect().await?.ask(&client::get("/api/head", "")).await?;
    println!("the ledger's head: {}", head.text());
    child.stop().await
}

fn main() -> Result<()> {
    if let Some(data) = std::env::var_os("DAYBOOK_BENCH_SERVES") {
        return server::serve(Path::new(&data));
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    // `cargo test --benches` looks only whether it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let number = |index: usize, full: usize, small: usize| -> Result<usize> {
        match arguments.get(index) {
            Some(text) => text.parse().with_context(|| format!("`{text}` is no number")),
            None => Ok(if is_test { small } else { full }),
        }
    };
    let plan = Plan {
        length: Duration::from_secs(number(0, 5, 1)? as u64),
        connections: number(1, 128, 8)?,
        players: number(2, 6_000, 200)?,
        streams: number(3, 1_000, 16)?,
        rounds: if is_test { 1 } else { 3 },
    };
    let default = env!("CARGO_TARGET_TMPDIR").to_owned();
    let directory = arguments.get(4).unwrap_or(&default);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&plan, Path::new(directory)))
}
