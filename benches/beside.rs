//! What reads along costs the engine: workers, snapshots and a relay in its own process, at a
//! steady rate. Prints how long it takes until one's own bet is in `game.db`, the CPU time an event
//! by thread, and how fast the engine appends beside all of them (`synchronous=FULL`).
//!
//! `cargo bench -p daybook-benches --bench beside [-- SECONDS [EVENTS_PER_SECOND]]`.

#[path = "common/nats_server.rs"]
mod nats_server;
#[path = "common/player.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod player;
#[path = "common/rounds.rs"]
mod rounds;

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
use player::HurriedClock;
use rounds::{NAMES, Rounds, lag_text};

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
    rounds: Rounds,
}

impl Bench {
    /// One bet at a time: from the answer until its rows can be read.
    async fn own_bets(&mut self, reads: &Reads, bets: usize) -> Result<()> {
        let mut lag_us: Histogram<u64> = Histogram::new(3)?;
        for _ in 0..bets {
            self.rounds.submit_and_read(1, reads, &mut lag_us).await?;
        }
        println!("own bet in game.db, from its answer: {}", lag_text(&lag_us));
        Ok(())
    }

    /// A steady rate: the CPU time that each thread takes for an event.
    async fn steady(&mut self, seconds: u64, rate: f64) -> Result<()> {
        let first = self.rounds.ledger.head().seq;
        let before = cpu_ticks()?;
        let (played, _) = self.rounds.play(rate, seconds, None).await?;
        let events = self.rounds.ledger.head().seq - first;
        println!("{played:.0} events/s for {seconds} s, CPU time an event:");
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
        let rounds = &mut self.rounds;
        let mut waiting: VecDeque<(usize, Pending<Accepted>)> = VecDeque::new();
        let first = rounds.ledger.head().seq;
        let started = Instant::now();
        let mut answered = 0;
        while started.elapsed() < Duration::from_secs(seconds) && rounds.are_left() {
            if waiting.len() >= IN_FLIGHT.min(rounds.players.len()) {
                let (index, pending) = waiting.pop_front().context("a command")?;
                let accepted = pending.wait()?;
                answered = accepted.head.seq;
                rounds.players.get_mut(index).context("a player")?.learn(&accepted);
            }
            let index = rounds.turn % rounds.players.len();
            let player = rounds.players.get(index).context("a player")?;
            waiting.push_back((index, rounds.ledger.submit(Submission::new(player.command()))?));
            rounds.turn += 1;
        }
        let rate = (answered - first) as f64 / started.elapsed().as_secs_f64();
        for (index, pending) in waiting {
            rounds.players.get_mut(index).context("a player")?.learn(&pending.wait()?);
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
    let rounds = runtime.block_on(Rounds::begin(&ledger, seasons))?;
    let mut bench = Bench { rounds };
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
