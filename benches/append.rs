//! Durable, chained, rule-checked events a second, beside raw SQLite inserts of the same bytes in
//! the same run (`synchronous=FULL` for both), and how fast the ledger is verified afterwards.
//!
//! `cargo bench -p daybook-benches --bench append [-- SEASONS [DIR]]`. DIR should lie on the disk that
//! is to be measured; by default it is the target directory's.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_ledger::{
    Accepted, Ledger, NewLedger, Options, Pending, Submission, SystemTimeSource, Time, TimeSource,
    Verdict, VerifyOptions, ledger_path, verify,
};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, Commitment, DayNumber, Event, Pot, SeasonId, UnixMicros, UserId,
    limits,
};
use daybook_simulator::{Keyring, SeasonKey};
use hdrhistogram::Histogram;

/// Commands that wait for their answers at any time.
const IN_FLIGHT: usize = 4_096;
/// How long events are appended.
const MEASURED: Duration = Duration::from_secs(15);

struct Player {
    user_id: UserId,
    commitment: Commitment,
    season_id: SeasonId,
    day: DayNumber,
    balance: u64,
    bets_placed: bool,
}

impl Player {
    /// Bets and advances in turn; `None` once the season is over.
    fn command(&self) -> Command {
        let (user_id, season_id) = (self.user_id, self.season_id);
        if self.bets_placed {
            return Command::AdvanceDay { user_id, season_id, expected_day: self.day };
        }
        let mut balance = self.balance;
        let bets: Vec<BetOrder> = Pot::ALL
            .iter()
            .map(|&pot_id| {
                let amount = Coins::clamped((balance / 10).clamp(1, limits::BET_COINS_MAX));
                balance -= amount.get();
                BetOrder { pot_id, bet_type: BetType::Call, amount }
            })
            .collect();
        let bets = BetOrders::new(&bets).unwrap_or_else(|_| BetOrders::single(fold()));
        Command::PlaceBets { user_id, season_id, bets }
    }

    fn learn(&mut self, accepted: &Accepted) {
        for new in &accepted.events {
            match &new.event {
                Event::CommitmentPublished(event) => self.commitment = event.commitment,
                Event::SeasonStarted(event) => {
                    self.season_id = new.stream.as_season();
                    self.balance = event.coins.get();
                }
                Event::BetPlaced(event) => {
                    self.balance -= event.amount.get();
                    self.bets_placed = true;
                }
                Event::BetResolved(event) => self.balance += event.payout.get(),
                Event::StipendGranted(event) => self.balance += event.amount.get(),
                Event::JackpotPaid(event) => self.balance += event.amount.get(),
                Event::DayOpened(event) => {
                    self.day = event.day_number;
                    self.bets_placed = false;
                }
                _ => {}
            }
        }
    }
}

/// The system's clocks, a thousand times as fast: so that no bet comes too soon for the rules, however
/// few seasons are played.
#[derive(Default)]
struct HurriedClock {
    started: Option<UnixMicros>,
    clock: SystemTimeSource,
}

impl TimeSource for HurriedClock {
    fn wall(&mut self) -> UnixMicros {
        let now = self.clock.wall();
        let started = *self.started.get_or_insert(now);
        started.plus_micros(now.micros_since(started).saturating_mul(1_000))
    }

    fn monotonic(&mut self) -> Duration {
        self.clock.monotonic().saturating_mul(1_000)
    }
}

const fn fold() -> BetOrder {
    BetOrder { pot_id: Pot::Water, bet_type: BetType::Fold, amount: Coins::ZERO }
}

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
    let mut players: Vec<Player> = (0..seasons)
        .map(|_| Player {
            user_id: UserId::random(),
            commitment: Commitment::new([0; 32]),
            season_id: SeasonId::from_bytes([0; 16]),
            day: DayNumber::MIN,
            balance: 0,
            bets_placed: false,
        })
        .collect();
    let mut window = Window::new(ledger)?;
    for index in 0..seasons {
        let user_id = players.get(index).context("player")?.user_id;
        window.submit(&mut players, index, Command::RegisterUser { user_id })?;
    }
    window.settle_all(&mut players)?;
    for index in 0..seasons {
        let player = players.get(index).context("player")?;
        let command = Command::StartSeason {
            user_id: player.user_id,
            commitment: player.commitment,
            client_seed: ClientSeed::from_seed(&[1; 32]),
            simulin_id: None,
        };
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
    ensure!(ledger.close()?.seq == expected, "every event is in the ledger");
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
        let options = VerifyOptions { full, heads: Vec::new() };
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
