//! A thousand who follow an engine: the memory they take, and a worker's lag beside them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daybook_ledger::{Ledger, NewLedger, Options, Submission, Time};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, Reads, Workers, all_projections,
};
use daybook_schema::{Command, Seq};
use daybook_simulator::Keyring;

use crate::player::HurriedClock;
use crate::rounds::{NAMES, Rounds, lag_text};

/// Seasons in play.
const SEASONS: usize = 500;
/// Events a second of play.
const EVENTS_PER_SECOND: f64 = 2_000.0;

/// The process's memory, in KiB.
fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// Plays at a rate beside so many subscribers, and watches how far the read models lag.
pub fn measure(parent: &Path, subscribers: usize, seconds: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for count in [0, subscribers] {
        let dir = tempfile::tempdir_in(parent)?;
        let options = Options::new(dir.path(), Keyring::new([crate::key()]))
            .create(NewLedger::random())
            .time(Time::Source(Box::new(HurriedClock::default())));
        let ledger = Ledger::open(options)?;
        runtime.block_on(play(&ledger, dir.path(), count, seconds))?;
        ledger.close().wait()?;
    }
    Ok(())
}

async fn play(ledger: &Ledger, dir: &Path, count: usize, seconds: u64) -> Result<()> {
    let rotate = Command::RotateKey { key_id: crate::key().key_id(), compromised: false };
    ledger.submit(Submission::new(rotate))?.await?;
    let mut rounds = Rounds::begin(ledger, SEASONS).await?;
    let database = GameDatabase::open(&dir.join("game.db"), DatabaseSettings::default()).await?;
    let workers = Workers::start(&database, &all_projections(), &FeedSource::ledger(dir));
    let reads = Reads::new(&database);
    let first = ledger.head().seq;
    let caught_up = reads.wait_for(&NAMES, first, Duration::from_secs(60)).await?;
    ensure!(!caught_up.is_stale, "the read models follow");

    let before = resident_kib()?;
    let mut following = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut subscription = ledger.subscribe(Seq::clamped(first + 1))?;
        following.spawn(async move {
            let mut seen = 0;
            while let Ok(Some(events)) = subscription.next().await {
                seen += events.len();
            }
            seen
        });
    }
    let subscribed = resident_kib()?;
    let (rate, lag_us) = rounds.play(EVENTS_PER_SECOND, seconds, Some(&reads)).await?;
    let played = ledger.head().seq - first;
    let after = resident_kib()?;
    println!(
        "{count:>5} subscribers: {} KiB when they came, {} KiB more after {played} events; \
         lag of the read models {} at {rate:.0} events/s",
        subscribed.saturating_sub(before),
        after.saturating_sub(subscribed),
        lag_text(&lag_us),
    );
    workers.stop().await;
    following.shutdown().await;
    Ok(())
}
