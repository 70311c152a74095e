//! The start after a kill under full load.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use daybook_ledger::{
    Ledger, NewLedger, Options, Reader, Submission, SubmitError, Time, snapshots_path,
};
use daybook_schema::{Command, limits};
use daybook_simulator::Keyring;

use crate::player::{HurriedClock, Player};

/// Tells a process of its own where to play until it is killed.
pub const PLAY: &str = "DAYBOOK_BENCH_PLAY";
/// Seasons in play.
const SEASONS: usize = 20_000;

fn open(dir: &Path) -> Result<Ledger> {
    let options = Options::new(dir, Keyring::new([crate::key()])).create(NewLedger::random());
    Ok(Ledger::open(options.time(Time::Source(Box::new(HurriedClock::default()))))?)
}

/// Plays with as much waiting as may until the process is killed.
pub fn play(dir: &Path) -> Result<()> {
    let ledger = open(dir)?;
    let rotate = Command::RotateKey { key_id: crate::key().key_id(), compromised: false };
    ledger.submit(Submission::new(rotate))?.wait()?;
    let mut players: Vec<Player> = (0..SEASONS).map(|_| Player::new()).collect();
    for step in 0.. {
        let mut waiting = VecDeque::new();
        for (index, player) in players.iter().enumerate() {
            // A season lasts 56 turns; then another begins.
            let command = match step % 58 {
                0 if step == 0 => player.register(),
                0 | 57 => continue,
                1 => player.start(),
                _ => player.command(),
            };
            loop {
                match ledger.submit(Submission::new(command.clone())) {
                    Ok(pending) => {
                        waiting.push_back((index, pending));
                        break;
                    }
                    Err(SubmitError::Overloaded) => std::thread::sleep(Duration::from_millis(1)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for (index, pending) in waiting {
            // Past the seasons of a day, or a bet too many: the next turn goes on.
            if let Ok(accepted) = pending.wait() {
                players.get_mut(index).context("a player")?.learn(&accepted);
            }
        }
    }
    Ok(())
}

fn newest_snapshot(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(snapshots_path(dir)).into_iter().flatten().flatten();
    let seqs = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".snapshot")?.parse().ok());
    seqs.max().unwrap_or(0)
}

/// Lets a process play so many events, kills it, and starts the ledger again.
pub fn measure(parent: &Path, events: u64) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let mut child = Process::new(std::env::current_exe()?)
        .env(PLAY, dir.path())
        .stdout(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    let head = loop {
        std::thread::sleep(Duration::from_millis(20));
        let head = Reader::open(dir.path()).ok().and_then(|reader| reader.head().ok());
        if let Some(head) = head.filter(|head| head.seq >= events) {
            break head.seq;
        }
        anyhow::ensure!(child.try_wait()?.is_none(), "the child ended");
    };
    let rate = head as f64 / started.elapsed().as_secs_f64();
    child.kill()?;
    child.wait()?;
    let snapshot = newest_snapshot(dir.path());
    let started = Instant::now();
    let ledger = open(dir.path())?;
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    let head = ledger.head().seq;
    println!(
        "a start after {head} events at {rate:.0}/s and a kill: {milliseconds:.0} ms, the newest snapshot at \
         {snapshot}, {} behind (one is due every {})",
        head - snapshot,
        limits::SNAPSHOT_EVENTS
    );
    let started = Instant::now();
    ledger.close().wait()?;
    println!("closing it, with a snapshot: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
