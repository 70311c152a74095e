//! Durable, chained, rule-checked events a second, beside raw SQLite inserts of the same bytes in
//! the same run (`synchronous=FULL` for both), and how fast the ledger is verified afterwards.
//!
//! `cargo bench -p daybook-benches --bench append [-- SEASONS [DIR]]`. DIR should lie on the disk
//! that is to be measured; by default it is the target directory's.

#[path = "common/cpu.rs"]
mod cpu;
#[path = "common/player.rs"]
mod player;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cpu::CpuTimes;
use daybook_ledger::{
    Accepted, Ledger, NewLedger, Options, Pending, Submission, Time, Verdict, VerifyOptions,
    ledger_path, verify,
};
use daybook_schema::{Command, limits};
use daybook_simulator::{Keyring, SeasonKey};
use hdrhistogram::Histogram;
use player::{HurriedClock, Player};

/// Commands that wait for their answers at any time.
const IN_FLIGHT: usize = 4_096;
/// How long events are appended.
const MEASURED: Duration = Duration::from_secs(15);

/// Keeps [`IN_FLIGHT`] commands waiting.
struct Window<'a> {
    ledger: &'a Ledger,
    waiting: VecDeque<(usize, Instant, Pending<Accepted>)>,
    latency_us: Histogram<u64>,
    events: u64,
    commands: u64,
}

impl<'a> Window<'a> {
    fn new(ledger: &'a Ledger) -> Result<Self> {
        Ok(Self {
            ledger,
            waiting: VecDeque::new(),
            latency_us: Histogram::new(3)?,
            events: 0,
            commands: 0,
        })
    }

    fn submit(&mut self, players: &mut [Player], index: usize, command: Command) -> Result<()> {
        while self.waiting.len() >= IN_FLIGHT {
            self.settle(players)?;
        }
        let pending = self.ledger.submit(Submission::new(command))?;
        self.waiting.push_back((index, Instant::now(), pending));
        Ok(())
    }

    fn settle(&mut self, players: &mut [Player]) -> Result<bool> {
        let Some((index, sent, pending)) = self.waiting.pop_front() else { return Ok(false) };
        let accepted = pending.wait()?;
        self.latency_us.record(u64::try_from(sent.elapsed().as_micros())?)?;
        self.events += accepted.events.len() as u64;
        self.commands += 1;
        players.get_mut(index).context("player")?.learn(&accepted);
        Ok(true)
    }

    fn settle_all(&mut self, players: &mut [Player]) -> Result<()> {
        while self.settle(players)? {}
        Ok(())
    }
}

fn set_up(ledger: &Ledger, seasons: usize) -> Result<Vec<Player>> {
    let mut players: Vec<Player> = (0..seasons).map(|_| Player::new()).collect();
    let mut window = Window::new(ledger)?;
    for index in 0..seasons {
        let command = players.get(index).context("player")?.register();
        window.submit(&mut players, index, command)?;
    }
    window.settle_all(&mut players)?;
    for index in 0..seasons {
        let command = players.get(index).context("player")?.start();
        window.submit(&mut players, index, command)?;
    }
    window.settle_all(&mut players)?;
    Ok(players)
}

fn append(dir: &Path, seasons: usize, measured: Duration) -> Result<(f64, f64)> {
    let key = SeasonKey::new([7; 32]);
    let key_id = key.key_id();
    let options = Options::new(dir, Keyring::new([key]))
        .create(NewLedger::random())
        .time(Time::Source(Box::new(HurriedClock::default())));
    let ledger = Ledger::open(options)?;
    ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.wait()?;
    let mut players = set_up(&ledger, seasons)?;
    let before = ledger.head().seq;

    let mut window = Window::new(&ledger)?;
    let cpu = CpuTimes::now()?;
    let started = Instant::now();
    'rounds: for _ in 0..2 * usize::from(limits::DAYS_PER_SEASON) {
        for index in 0..seasons {
            if index % 1_024 == 0 && started.elapsed() >= measured {
                break 'rounds;
            }
            let command = players.get(index).context("player")?.command();
            window.submit(&mut players, index, command)?;
        }
        window.settle_all(&mut players)?;
    }
    window.settle_all(&mut players)?;
    let seconds = started.elapsed().as_secs_f64();
    let each = CpuTimes::now()?.each_since(&cpu, window.events);
    let shown: Vec<String> = each.iter().map(|(name, us)| format!("{name} {us:.2}")).collect();
    println!("CPU us an event: {} all {:.2}", shown.join(", "), each.values().sum::<f64>());
    let rate = window.events as f64 / seconds;
    let latency = &window.latency_us;
    println!(
        "daybook    {rate:>9.0} events/s, {:>7.0} commands/s, {} events, {seasons} seasons in play, \
         {IN_FLIGHT} commands waiting, synchronous=FULL",
        window.commands as f64 / seconds,
        window.events,
    );
    println!(
        "           latency p50 {} us, p95 {} us, p99 {} us, max {} us",
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.95),
        latency.value_at_quantile(0.99),
        latency.max(),
    );
    let commands = window.commands.max(1);
    let events_per_batch = window.events * IN_FLIGHT as u64 / commands;
    let expected = before + window.events;
    ensure!(ledger.close().wait()?.seq == expected, "every event is in the ledger");
    let raw = raw_inserts(dir, events_per_batch)?;
    println!(
        "raw SQLite {raw:>9.0} rows/s, the same rows, {events_per_batch} a transaction, synchronous=FULL"
    );
    Ok((rate, raw))
}

type RawRow = (i64, i64, Vec<u8>, i64, i64, i64, Vec<u8>, Vec<u8>, Vec<u8>);

/// Inserts the ledger's rows into another file with one prepared statement.
fn raw_inserts(dir: &Path, rows_per_transaction: u64) -> Result<f64> {
    let source = rusqlite::Connection::open(ledger_path(dir))?;
    let mut select = source.prepare(
        "SELECT seq, recorded_at, stream, stream_prev, kind, version, command, payload, hash \
         FROM events ORDER BY seq LIMIT 2000000",
    )?;
    let rows: Vec<RawRow> = select
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(8)?,
            ))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut target = rusqlite::Connection::open(dir.join("raw.db"))?;
    target.pragma_update(None, "page_size", limits::LEDGER_PAGE_BYTES)?;
    target.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE events (seq INTEGER PRIMARY KEY, recorded_at INTEGER NOT NULL,
           stream BLOB NOT NULL, stream_prev INTEGER NOT NULL, kind INTEGER NOT NULL,
           version INTEGER NOT NULL, command BLOB NOT NULL, payload BLOB NOT NULL,
           hash BLOB NOT NULL) STRICT;",
    )?;
    let started = Instant::now();
    for batch in rows.chunks(usize::try_from(rows_per_transaction.max(1))?) {
        let transaction = target.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
            for row in batch {
                insert
                    .execute((row.0, row.1, &row.2, row.3, row.4, row.5, &row.6, &row.7, &row.8))?;
            }
        }
        transaction.commit()?;
    }
    Ok(rows.len() as f64 / started.elapsed().as_secs_f64())
}

fn verify_speed(dir: &Path) -> Result<()> {
    for full in [false, true] {
        let options = VerifyOptions { full, ..VerifyOptions::default() };
        let report = verify(dir, &options, &mut |_, _| {})?;
        ensure!(
            report.verdict == Verdict::Intact,
            "{}: {}",
            report.verdict.as_str(),
            report.detail
        );
        println!(
            "verify{:>7} {:>6.0} events/s on one core, {} events",
            if full { " --full" } else { "" },
            report.events as f64 / report.duration.as_secs_f64(),
            report.events,
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // Without `--bench`, as under `cargo test`, the bench only shows that it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let seasons = match arguments.first() {
        Some(count) => count.parse().context("SEASONS is a number")?,
        None if is_bench => 100_000,
        None => 200,
    };
    let parent = match arguments.get(1) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_exe()?.parent().context("a directory")?.to_owned(),
    };
    let dir = tempfile::tempdir_in(parent)?;
    let measured = if is_bench { MEASURED } else { Duration::from_millis(200) };
    let (rate, raw) = append(dir.path(), seasons, measured)?;
    println!("ratio      {:.2} of raw SQLite", rate / raw);
    verify_speed(dir.path())
}
