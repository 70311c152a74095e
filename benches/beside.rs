//! What reads along costs the engine: workers, snapshots and a relay in its own process, at a steady rate.
//! Prints how long it takes until one's own bet is in `game.db`, the CPU time an event by thread, and how fast
//! the engine appends beside all of them (`synchronous=FULL`).
//!
//! `cargo bench -p daybook-benches --bench beside [-- SECONDS [EVENTS_PER_SECOND]]`.

#[path = "common/nats_server.rs"]
mod nats_server;
#[path = "common/player.rs"]
mod player;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_ledger::{Accepted, Ledger, NewLedger, Options, Pending, Submission, Time, keys};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, NatsSettings, Reads, Relay, Workers,
    all_projections,
};
use daybook_schema::Command;
use daybook_simulator::{Keyring, SeasonKey};
use hdrhistogram::Histogram;
use nats_server::NatsServer;
use player::{HurriedClock, Player};

const NAMES: [&str; 3] = ["seasons", "simulins", "analytics"];
/// Commands of one round.
const COMMANDS_PER_ROUND: usize = 50;
/// Commands that wait at full load.
const IN_FLIGHT: usize = 4_096;

/// CPU time of each thread of the process so far, in ticks of 10 ms, by name.
fn cpu_ticks() -> Result<BTreeMap<String, u64>> {
    let mut ticks = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        let (name, rest) = stat.rsplit_once(')').context("a name")?;
        let name = name.split_once('(').context("a name")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field =
            |index: usize| -> Result<u64> { Ok(fields.get(index).context("a field")?.parse()?) };
        // The runtime's threads are the workers'; the bench's own is its client's.
        *ticks.entry(name.to_owned()).or_insert(0) += field(11)? + field(12)?;
    }
    Ok(ticks)
}

struct Bench {
    ledger: Ledger,
    players: Vec<Player>,
    turn: usize,
}

impl Bench {
    async fn submit_round(&mut self, commands: usize) -> Result<u64> {
        let mut waiting = Vec::new();
        for step in 0..commands {
            let index = (self.turn + step) % self.players.len();
            let player = self.players.get(index).context("a player")?;
            waiting.push((index, self.ledger.submit(Submission::new(player.command()))?));
        }
        self.turn += commands;
        let mut newest = 0;
        for (index, pending) in waiting {
            let accepted = pending.await?;
            newest = newest.max(accepted.head.seq);
            self.players.get_mut(index).context("a player")?.learn(&accepted);
        }
        Ok(newest)
    }

    /// One bet at a time: from the answer until its rows can be read.
    async fn own_bets(&mut self, reads: &Reads, bets: usize) -> Result<()> {
        let mut lag_us: Histogram<u64> = Histogram::new(3)?;
        for _ in 0..bets {
            let newest = self.submit_round(1).await?;
            let answered = Instant::now();
            let stands = reads.wait_for(&NAMES, newest, Duration::from_secs(10)).await?;
            ensure!(!stands.is_stale, "the read models follow");
            lag_us.record(u64::try_from(answered.elapsed().as_micros())?)?;
        }
        println!(
            "own bet in game.db, from its answer: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            lag_us.value_at_quantile(0.5) as f64 / 1e3,
            lag_us.value_at_quantile(0.99) as f64 / 1e3,
            lag_us.max() as f64 / 1e3,
        );
        Ok(())
    }

    /// A steady rate: the CPU time that each thread takes for an event.
    async fn steady(&mut self, seconds: u64, rate: f64) -> Result<()> {
        let first = self.ledger.head().seq;
        let before = cpu_ticks()?;
        let started = tokio::time::Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) {
            let newest = self.submit_round(COMMANDS_PER_ROUND).await?;
            let due = started + Duration::from_secs_f64((newest - first) as f64 / rate);
            tokio::time::sleep_until(due).await;
        }
        let events = self.ledger.head().seq - first;
        println!(
            "{:.0} events/s for {seconds} s, CPU time an event:",
            events as f64 / seconds as f64
        );
        let mut all = 0.0;
        for (name, ticks) in cpu_ticks()? {
            let spent = ticks - before.get(&name).copied().unwrap_or(0);
            let us = spent as f64 * 10_000.0 / events as f64;
            all += us;
            if us >= 0.01 {
                println!("  {name:<16} {us:>6.2} us");
            }
        }
        println!("  {:<16} {all:>6.2} us", "all");
        Ok(())
    }

    /// As many commands as it takes.
    fn full_load(&mut self, seconds: u64) -> Result<()> {
        let mut waiting: VecDeque<(usize, Pending<Accepted>)> = VecDeque::new();
        let first = self.ledger.head().seq;
        let started = Instant::now();
        let mut answered = 0;
        // A season has 56 commands: a bet and an advance for each day.
        let turns_max = 54 * self.players.len();
        while started.elapsed() < Duration::from_secs(seconds) && self.turn < turns_max {
            if waiting.len() >= IN_FLIGHT.min(self.players.len()) {
                let (index, pending) = waiting.pop_front().context("a command")?;
                let accepted = pending.wait()?;
                answered = accepted.head.seq;
                self.players.get_mut(index).context("a player")?.learn(&accepted);
            }
            let index = self.turn % self.players.len();
            let player = self.players.get(index).context("a player")?;
            waiting.push_back((index, self.ledger.submit(Submission::new(player.command()))?));
            self.turn += 1;
        }
        let rate = (answered - first) as f64 / started.elapsed().as_secs_f64();
        for (index, pending) in waiting {
            self.players.get_mut(index).context("a player")?.learn(&pending.wait()?);
        }
        println!("full load beside all of them: {rate:.0} events/s");
        Ok(())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let number = |index: usize, bench: u64, test: u64| -> Result<u64> {
        let default = if is_bench { bench } else { test };
        Ok(arguments.get(index).map_or(Ok(default), |text| text.parse())?)
    };
    let (seconds, rate) = (number(0, 10, 1)?, number(1, 20_000, 2_000)?);
    let seasons = if is_bench { 50_000 } else { 500 };
    let parent = std::env::current_exe()?.parent().context("a directory")?.to_owned();
    let dir = tempfile::tempdir_in(&parent)?;
    let key = SeasonKey::new([7; 32]);
    let key_id = key.key_id();
    let options = Options::new(dir.path(), Keyring::new([key]))
        .create(NewLedger::random())
        .time(Time::Source(Box::new(HurriedClock::default())));
    let ledger = Ledger::open(options)?;
    let rotate = Command::RotateKey { key_id, compromised: false };
    ledger.submit(Submission::new(rotate))?.wait()?;
    let players = (0..seasons).map(|_| Player::new()).collect();
    let mut bench = Bench { ledger: ledger.clone(), players, turn: 0 };
    for chunk in bench.players.chunks_mut(1_000) {
        for command in [Player::register, Player::start] {
            let sent = chunk.iter().map(|player| ledger.submit(Submission::new(command(player))));
            let sent = sent.collect::<Result<Vec<_>, _>>()?;
            for (player, pending) in chunk.iter_mut().zip(sent) {
                player.learn(&pending.wait()?);
            }
        }
    }
    let keys_dir = dir.path().join("keys");
    keys::init(&keys_dir, &keys::random_season_key()?)?;
    let keys = keys::load(&keys_dir)?;
    let server = NatsServer::start(dir.path())?;
    let settings = NatsSettings::new(&server.url);
    let relay = Relay::new(&ledger, keys.signer, keys.verifying_key, settings);
    let source = FeedSource::ledger(&ledger);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("workers")
        .enable_all()
        .build()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let relaying = runtime.spawn(relay.run(stopped));
    let path = dir.path().join("game.db");
    let database = runtime.block_on(GameDatabase::open(&path, DatabaseSettings::default()))?;
    let workers =
        runtime.block_on(async { Workers::start(&database, &all_projections(), &source) });
    let reads = runtime.block_on(async { Reads::new(&database) });
    runtime.block_on(async {
        let newest = ledger.head().seq;
        let stands = reads.wait_for(&NAMES, newest, Duration::from_secs(600)).await?;
        ensure!(!stands.is_stale, "the read models follow");
        bench.own_bets(&reads, if is_bench { 2_000 } else { 20 }).await?;
        bench.steady(seconds, rate as f64).await
    })?;
    bench.full_load(seconds)?;
    runtime.block_on(async {
        workers.stop().await;
        stop.send_replace(true);
        anyhow::Ok(relaying.await??)
    })?;
    ledger.close().wait()?;
    Ok(())
}
