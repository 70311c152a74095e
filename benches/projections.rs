//! How fast the read models follow: from the ledger's tail, through JetStream, and made anew,
//! beside plain rusqlite that writes the same rows into the same tables and indexes in the same
//! run; and how far they lag behind play at a given rate.
//!
//! `cargo bench -p daybook-benches --bench projections [-- PLAYERS DAYS]`. All write with
//! `synchronous=NORMAL`: what a power cut takes from read models comes again from the ledger.

#[path = "common/nats_server.rs"]
mod nats_server;
#[path = "projections/plain.rs"]
mod plain;
#[path = "common/player.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod player;
#[path = "common/rounds.rs"]
mod rounds;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_bots::{Play, Simulated};
use daybook_ledger::{Ledger, NewLedger, Options, Reader, Submission, Time, keys};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, NatsSettings, Reads, Relay, Tail, Workers,
    all_projections, rebuild,
};
use daybook_schema::Seq;
use daybook_simulator::{Keyring, SeasonKey};
use nats_server::NatsServer;
use player::HurriedClock;
use rounds::{NAMES, Rounds, lag_text};
use tokio::sync::watch;

struct Bench {
    dir: PathBuf,
    events: u64,
}

impl Bench {
    /// What was written before must not be on its way to the disk while something else is measured.
    fn settle() -> Result<()> {
        ensure!(Command::new("sync").status()?.success(), "sync");
        Ok(())
    }

    fn rate(&self, what: &str, seconds: f64) -> f64 {
        let rate = self.events as f64 / seconds;
        println!("{what:<34} {rate:>9.0} events/s  {seconds:>6.2} s");
        rate
    }

    async fn database(&self, name: &str) -> Result<GameDatabase> {
        Ok(GameDatabase::open(&self.dir.join(name), DatabaseSettings::default()).await?)
    }

    async fn follow_tail(&self) -> Result<(GameDatabase, f64)> {
        let database = self.database("tail.db").await?;
        let started = Instant::now();
        let source = FeedSource::ledger(&self.dir);
        Workers::catch_up(&database, &all_projections(), &source).await?;
        Ok((database, started.elapsed().as_secs_f64()))
    }

    /// Makes all tables anew while a reader reads.
    async fn rebuilt(&self, database: &GameDatabase) -> Result<f64> {
        let reads = Reads::new(database);
        let (stop, stopped) = watch::channel(false);
        let reading = tokio::spawn(async move {
            let mut reads_done = 0_u64;
            while !*stopped.borrow() {
                if reads.season_counts().await.is_err() {
                    break;
                }
                reads_done += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            reads_done
        });
        let started = Instant::now();
        let rebuilt = rebuild(database, &all_projections(), &mut Tail::new(&self.dir)).await?;
        let returned = started.elapsed().as_secs_f64();
        // As with the tail, what counts is when the last rows can be read: not when the log is
        // folded in.
        let seconds = rebuilt.iter().map(|rebuilt| rebuilt.seconds).fold(0.0, f64::max);
        stop.send_replace(true);
        println!(
            "  {} reads went on meanwhile; with the log folded in it was {returned:.2} s",
            reading.await?
        );
        Ok(seconds)
    }

    async fn through_jetstream(&self) -> Result<f64> {
        let keys_dir = self.dir.join("keys");
        keys::init(&keys_dir, &keys::random_season_key()?)?;
        let keys = keys::load(&keys_dir)?;
        let server = NatsServer::start(&self.dir)?;
        let settings = NatsSettings::new(&server.url);
        let relay = Relay::new(&self.dir, keys.signer, keys.verifying_key, settings.clone());
        let (stop, stopped) = watch::channel(false);
        let database = self.database("jetstream.db").await?;
        let started = Instant::now();
        let relaying = tokio::spawn(relay.run(stopped));
        let (settings, key) = (Box::new(settings), keys.verifying_key);
        let source = FeedSource::JetStream { settings, key, data_dir: None };
        let workers = Workers::start(&database, &all_projections(), &source);
        let reads = Reads::new(&database);
        let stands = reads.wait_for(&NAMES, self.events, Duration::from_secs(3_600)).await?;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(!stands.is_stale, "the tables stand for the whole ledger");
        workers.stop().await;
        stop.send_replace(true);
        relaying.await??;
        Ok(seconds)
    }
}

/// Seasons in play while the lag is measured.
const SEASONS: usize = 500;

/// Plays at a rate, and watches how long it takes from an answer until its rows can be read.
async fn lag(parent: &Path, rate: u64, seconds: u64) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let key = SeasonKey::new([7; 32]);
    let key_id = key.key_id();
    let path = dir.path().to_owned();
    let options = Options::new(&path, Keyring::new([key]))
        .create(NewLedger::random())
        .time(Time::Source(Box::new(HurriedClock::default())));
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options)).await??;
    let rotate = daybook_schema::Command::RotateKey { key_id, compromised: false };
    ledger.submit(Submission::new(rotate))?.await?;
    let database = GameDatabase::open(&path.join("game.db"), DatabaseSettings::default()).await?;
    let workers = Workers::start(&database, &all_projections(), &FeedSource::ledger(&path));
    let reads = Reads::new(&database);

    let mut rounds = Rounds::begin(&ledger, SEASONS).await?;
    let (appended, lag_us) = rounds.play(rate as f64, seconds, Some(&reads)).await?;
    println!(
        "lag at {appended:>6.0} events/s of play: {} (from an answer until its rows can be read)",
        lag_text(&lag_us),
    );
    workers.stop().await;
    tokio::task::spawn_blocking(move || ledger.close().wait()).await??;
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let number = |index: usize, bench: u32, test: u32| -> Result<u32> {
        let default = if is_bench { bench } else { test };
        Ok(arguments.get(index).map_or(Ok(default), |text| text.parse())?)
    };
    let (players, days) = (number(0, 600, 3)?, number(1, 8, 2)?);
    let parent = std::env::current_exe()?.parent().context("a directory")?.to_owned();
    let dir = tempfile::tempdir_in(&parent)?;
    let play = Play { players, days, seed: 7 };
    let ledger = Ledger::open(Simulated::from_seed(play.seed).options(dir.path()))?;
    play.run(&ledger, &mut |_, _| {})?;
    let events = ledger.close().wait()?.seq;
    ensure!(Reader::open(dir.path())?.event(Seq::new(events)?).is_ok(), "the ledger is whole");
    println!("{events} events of {players} players over {days} days, synchronous=NORMAL");

    let bench = Bench { dir: dir.path().to_owned(), events };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Bench::settle()?;
    let (database, seconds) = runtime.block_on(bench.follow_tail())?;
    let tail = bench.rate("read models, from the tail", seconds);
    let path = dir.path().join("plain.db");
    Bench::settle()?;
    let seconds = plain::event_by_event(dir.path(), &path, database.path())?;
    let plain = bench.rate("plain rusqlite, event by event", seconds);
    Bench::settle()?;
    let seconds = plain::rows_once(database.path(), &dir.path().join("once.db"), events)?;
    let once = bench.rate("plain rusqlite, each row once", seconds);
    Bench::settle()?;
    let seconds = runtime.block_on(bench.through_jetstream())?;
    let jetstream = bench.rate("read models, through JetStream", seconds);
    Bench::settle()?;
    let seconds = runtime.block_on(bench.rebuilt(&database))?;
    let rebuilt = bench.rate("rebuild of everything", seconds);
    println!(
        "of plain rusqlite event by event: tail {:.2}, JetStream (sync_interval: always) {:.2}; \
         of each row once: {:.2}, {:.2}; rebuild {:.2} of the tail",
        tail / plain,
        jetstream / plain,
        tail / once,
        jetstream / once,
        rebuilt / tail
    );
    runtime.block_on(lag(&parent, 5_000, if is_bench { 15 } else { 1 }))
}
