//! What a hostile client, a kill under load and a thousand listeners cost the others: another's
//! latency beside a million commands of one client, the most that a decision costs, the start after
//! a kill, a worker's lag.
//!
//! `cargo bench -p daybook-benches --bench hostile [-- COMMANDS EVENTS [DIR]]`. DIR should lie on
//! the disk that is to be measured; by default it is the target directory's. All is written with
//! `synchronous=FULL`.

#[path = "hostile/kill.rs"]
mod kill;
#[path = "common/player.rs"]
#[expect(dead_code, reason = "the report asks for more")]
mod player;
#[path = "common/rounds.rs"]
mod rounds;
#[path = "hostile/subscribers.rs"]
mod subscribers;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use daybook_ledger::{Accepted, Ledger, NewLedger, Options, Pending, Submission, SubmitError};
use daybook_schema::{
    Command, CommandId, SimulinId, SimulinPath, Species, UnixMicros, UserId, limits,
};
use daybook_simulator::{Keyring, SeasonKey};
use hdrhistogram::Histogram;

/// Commands of the hostile client that wait at any time: half of all that may.
const IN_FLIGHT: usize = limits::COMMANDS_WAITING_MAX / 2;
/// Adoptions of the user whose unknown simulin is asked for.
const ADOPTIONS: u32 = 20_000;

fn key() -> SeasonKey {
    SeasonKey::new([7; 32])
}

fn open(dir: &Path) -> Result<Ledger> {
    let options = Options::new(dir, Keyring::new([key()])).create(NewLedger::random());
    let ledger = Ledger::open(options)?;
    let rotate = Command::RotateKey { key_id: key().key_id(), compromised: false };
    ledger.submit(Submission::new(rotate))?.wait()?;
    Ok(ledger)
}

fn register(ledger: &Ledger) -> Result<UserId> {
    let user_id = UserId::random();
    ledger.submit(Submission::new(Command::RegisterUser { user_id }))?.wait()?;
    Ok(user_id)
}

fn now() -> UnixMicros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Sends commands with many waiting; gives how many were applied.
fn send_all(ledger: &Ledger, submissions: impl Iterator<Item = Submission>) -> Result<u64> {
    let mut waiting: VecDeque<Pending<Accepted>> = VecDeque::new();
    let mut applied = 0;
    let mut settle = |pending: Option<Pending<Accepted>>| {
        applied += u64::from(pending.is_some_and(|pending| pending.wait().is_ok()));
    };
    for submission in submissions {
        if waiting.len() >= IN_FLIGHT {
            settle(waiting.pop_front());
        }
        match ledger.submit(submission) {
            Ok(pending) => waiting.push_back(pending),
            Err(SubmitError::Overloaded) => settle(waiting.pop_front()),
            Err(error) => return Err(error.into()),
        }
    }
    waiting.into_iter().for_each(|pending| settle(Some(pending)));
    Ok(applied)
}

/// Commands of one client with ids from as far ahead as may be.
fn hostile(command: &Command, count: u32) -> impl Iterator<Item = Submission> {
    (0..count).map(|number| {
        let mut random = [0xbb; 10];
        random.iter_mut().skip(6).zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
        let id = CommandId::from_parts(now().plus_micros(55_000_000), random);
        Submission::new(command.clone()).with_id(id)
    })
}

/// What an honest client met who sends a command every millisecond.
struct Honest {
    latency_us: Histogram<u64>,
    expired: u64,
    overloaded: u64,
}

impl Honest {
    fn play(ledger: &Ledger, user_id: UserId, ends: &AtomicBool) -> Result<Self> {
        let latency_us = Histogram::new(3)?;
        let mut honest = Self { latency_us, expired: 0, overloaded: 0 };
        while !ends.load(Ordering::Relaxed) {
            let start = Command::StartSession { user_id };
            let sent = Instant::now();
            let answer = ledger
                .submit(Submission::new(start).with_id(CommandId::random()))
                .and_then(Pending::wait);
            match answer {
                Ok(_) => {
                    honest.latency_us.record(u64::try_from(sent.elapsed().as_micros())?)?;
                }
                Err(SubmitError::Expired { .. }) => honest.expired += 1,
                Err(SubmitError::Overloaded) => honest.overloaded += 1,
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(Duration::from_millis(1).saturating_sub(sent.elapsed()));
        }
        Ok(honest)
    }

    fn tell(&self, what: &str) {
        let at = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{what:<42} p50 {:>6.2} ms, p99 {:>6.2} ms, max {:>6.2} ms; {} answered, {} expired, {} overloaded",
            at(0.5),
            at(0.99),
            self.latency_us.max() as f64 / 1e3,
            self.latency_us.len(),
            self.expired,
            self.overloaded,
        );
    }
}

/// Another's latency while one client sends all it can, and after.
fn flood(parent: &Path, what: &str, count: u32, accepted: bool) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let ledger = open(dir.path())?;
    let honest = register(&ledger)?;
    let flooder = if accepted { register(&ledger)? } else { UserId::random() };
    let command = Command::StartSession { user_id: flooder };
    let ends = AtomicBool::new(false);
    let (met, seconds) = std::thread::scope(|scope| -> Result<(Honest, f64)> {
        let playing = scope.spawn(|| Honest::play(&ledger, honest, &ends));
        let started = Instant::now();
        let sent = send_all(&ledger, hostile(&command, count));
        let seconds = started.elapsed().as_secs_f64();
        ends.store(true, Ordering::Relaxed);
        sent?;
        Ok((playing.join().map_err(|_| anyhow::anyhow!("the honest client stopped"))??, seconds))
    })?;
    met.tell(&format!("beside {count} {what} ({seconds:.1} s)"));
    after(&ledger, honest, &format!("after them, {what}"))?;
    ledger.close().wait()?;
    Ok(())
}

/// The honest client's latency with nobody beside.
fn after(ledger: &Ledger, honest: UserId, what: &str) -> Result<()> {
    let ends = AtomicBool::new(false);
    let met = std::thread::scope(|scope| {
        let playing = scope.spawn(|| Honest::play(ledger, honest, &ends));
        std::thread::sleep(Duration::from_millis(500));
        ends.store(true, Ordering::Relaxed);
        playing.join()
    });
    met.map_err(|_| anyhow::anyhow!("the honest client stopped"))??.tell(what);
    Ok(())
}

/// Microseconds that a command takes, many sent at once.
fn cost(ledger: &Ledger, what: &str, submission: &Submission, count: u32) -> Result<()> {
    let started = Instant::now();
    send_all(ledger, (0..count).map(|_| submission.clone()))?;
    let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    println!("{what:<42} {micros:>8.2} us each");
    Ok(())
}

/// What a decision costs for what the asker did before.
fn decisions(parent: &Path, adoptions: u32, count: u32) -> Result<()> {
    let dir = tempfile::tempdir_in(parent)?;
    let ledger = open(dir.path())?;
    let unknown = |user_id| {
        let simulin_id = SimulinId::from_bytes(*UserId::random().as_bytes());
        Submission::new(Command::ChooseSimulinPath {
            user_id,
            simulin_id,
            path: SimulinPath::Lucky,
        })
    };
    let fresh = register(&ledger)?;
    cost(&ledger, "an unknown simulin, of somebody new", &unknown(fresh), count)?;
    let user_id = register(&ledger)?;
    for _ in 0..adoptions {
        let adopt = Command::AdoptSimulin { user_id, species: Species::Sprig };
        let accepted = ledger.submit(Submission::new(adopt))?;
        let own = ledger.query(move |state| {
            state
                .users
                .get(&user_id)
                .and_then(|user| user.simulins.first())
                .map(|own| own.simulin_id)
        })?;
        let simulin_id = own.wait()?.context("a simulin")?;
        ledger.submit(Submission::new(Command::RetireSimulin { user_id, simulin_id }))?;
        drop(accepted);
    }
    let what = format!("the same, after {adoptions} adoptions");
    cost(&ledger, &what, &unknown(user_id), count)?;
    let start = Submission::new(Command::StartSession { user_id });
    cost(&ledger, "a session's start", &start, count)?;
    let repeated = start.with_id(CommandId::random());
    cost(&ledger, "a session's start, repeated", &repeated, count)?;
    ledger.close().wait()?;
    Ok(())
}

fn main() -> Result<()> {
    if let Some(dir) = std::env::var_os(kill::PLAY) {
        return kill::play(Path::new(&dir));
    }
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // Without `--bench`, as under `cargo test`, the bench only shows that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let number = |index: usize, (bench, test): (u32, u32)| -> Result<u32> {
        let given = arguments.get(index).map(|text| text.parse::<u32>().context("a number"));
        given.unwrap_or(Ok(if is_bench { bench } else { test }))
    };
    let commands = number(0, (1_000_000, 2_000))?;
    let events = number(1, (6_000_000, 20_000))?;
    let parent = match arguments.get(2) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_exe()?.parent().context("a directory")?.to_owned(),
    };
    flood(&parent, "refused commands", commands, false)?;
    flood(&parent, "accepted commands", commands, true)?;
    let adoptions = if is_bench { ADOPTIONS } else { 20 };
    decisions(&parent, adoptions, if is_bench { 10_000 } else { 100 })?;
    kill::measure(&parent, events.into())?;
    let (subscribers, seconds) = if is_bench { (1_000, 10) } else { (20, 1) };
    subscribers::measure(&parent, subscribers, seconds)
}
