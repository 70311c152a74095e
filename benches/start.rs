//! How long a start takes, with a snapshot and without one, and how much memory it needs.
//!
//! `cargo bench -p daybook-benches --bench start [-- SEASONS ROUNDS [DIR]]`: so many users with a
//! season in play each, which bet and advance so many days.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use daybook_ledger::{
    Accepted, Ledger, NewLedger, Options, Pending, Submission, Time, make_snapshot, snapshots_path,
};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, DayNumber, LedgerId, Pot, SeasonId, UnixMicros, UserId, limits,
};
use daybook_simulator::{Keyring, SeasonKey};

const STARTS_AT: UnixMicros = UnixMicros::from_seconds(1_767_571_200);
/// Tells a process of its own to open the ledger there.
const OPEN: &str = "DAYBOOK_BENCH_OPEN";

fn open(dir: &Path) -> Result<Ledger> {
    let ledger_id = LedgerId::from_bytes([0x77; 16]);
    let new = NewLedger { ledger_id, created_at: Some(STARTS_AT), is_demo: true };
    let options = Options::new(dir, Keyring::new([SeasonKey::new([7; 32])]));
    Ok(Ledger::open(options.create(new).time(Time::FromSubmissions))?)
}

/// Submits with many waiting.
struct Window<'a> {
    ledger: &'a Ledger,
    waiting: VecDeque<Pending<Accepted>>,
}

impl Window<'_> {
    fn submit(&mut self, command: Command, at: UnixMicros) -> Result<()> {
        if self.waiting.len() >= limits::COMMANDS_PER_BATCH_MAX {
            self.waiting.pop_front().context("a command waits")?.wait()?;
        }
        self.waiting.push_back(self.ledger.submit(Submission::new(command).at(at))?);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.waiting.drain(..).try_for_each(|pending| pending.wait().map(drop))?;
        Ok(())
    }
}

fn play(dir: &Path, seasons: u32, rounds: u8) -> Result<u64> {
    let ledger = open(dir)?;
    let mut now = STARTS_AT;
    let mut window = Window { ledger: &ledger, waiting: VecDeque::new() };
    let key_id = SeasonKey::new([7; 32]).key_id();
    window.submit(Command::RotateKey { key_id, compromised: false }, now)?;
    for number in 0..seasons {
        let mut bytes = [3; 16];
        bytes.split_at_mut(4).0.copy_from_slice(&number.to_be_bytes());
        window.submit(Command::RegisterUser { user_id: UserId::from_bytes(bytes) }, now)?;
    }
    window.settle()?;
    let commitments = ledger.query(|state| -> Vec<_> {
        let users = state.users.iter();
        users.filter_map(|(id, user)| Some((*id, user.next_commitment?.commitment))).collect()
    })?;
    for (user_id, commitment) in commitments.wait()? {
        let client_seed =
            ClientSeed::from_seed(user_id.as_bytes().repeat(2).as_slice().try_into()?);
        let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id: None };
        window.submit(start, now)?;
    }
    window.settle()?;
    let in_play = ledger.query(|state| -> Vec<(UserId, SeasonId)> {
        state.seasons.iter().map(|(id, season)| (season.user_id, *id)).collect()
    })?;
    let in_play = in_play.wait()?;
    let bet = |pot_id| BetOrder { pot_id, bet_type: BetType::Call, amount: Coins::clamped(1) };
    let bets = BetOrders::new(&[bet(Pot::Water), bet(Pot::Sun), bet(Pot::Pest), bet(Pot::Growth)])?;
    for day in 1..=rounds {
        now = now.plus_micros(86_400_000_000);
        let expected_day = DayNumber::new(day)?;
        for &(user_id, season_id) in &in_play {
            window.submit(Command::PlaceBets { user_id, season_id, bets }, now)?;
            window.submit(Command::AdvanceDay { user_id, season_id, expected_day }, now)?;
        }
    }
    window.settle()?;
    Ok(ledger.close().wait()?.seq)
}

/// A line of the process's own status, in KiB.
fn status_kib(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).context("a line of status")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// What a process of its own does: opens, and says how long it took and how much it needed.
fn open_and_tell(dir: &Path) -> Result<()> {
    let before = status_kib("VmRSS")?;
    let started = Instant::now();
    let ledger = open(dir)?;
    let milliseconds = started.elapsed().as_secs_f64() * 1_000.0;
    let (held, most) = (status_kib("VmRSS")? - before, status_kib("VmHWM")?);
    println!(
        "{milliseconds:>8.0} ms, {:>5} MiB held, {:>5} MiB at most",
        held / 1_024,
        most / 1_024
    );
    ledger.close().wait()?;
    Ok(())
}

fn measure(name: &str, dir: &Path) -> Result<()> {
    let output = Process::new(std::env::current_exe()?).env(OPEN, dir).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    print!("{name:<26}{}", String::from_utf8(output.stdout)?);
    Ok(())
}

fn main() -> Result<()> {
    if let Some(dir) = std::env::var_os(OPEN) {
        return open_and_tell(Path::new(&dir));
    }
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let is_test = !std::env::args().any(|text| text == "--bench");
    let number = |index: usize, default: u32| -> Result<u32> {
        arguments.get(index).map_or(Ok(default), |text| Ok(text.parse()?))
    };
    let seasons = number(0, if is_test { 50 } else { 10_000 })?;
    let rounds = u8::try_from(number(1, if is_test { 2 } else { 8 })?)?;
    let parent = arguments.get(2).map_or(std::env::temp_dir(), PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let events = play(dir.path(), seasons, rounds)?;
    println!("{events} events, {seasons} users with a season in play each");
    drop(std::fs::remove_dir_all(snapshots_path(dir.path())));
    measure("without a snapshot", dir.path())?;
    let started = Instant::now();
    make_snapshot(dir.path())?;
    let milliseconds = started.elapsed().as_secs_f64() * 1_000.0;
    let mut bytes = 0;
    for entry in std::fs::read_dir(snapshots_path(dir.path()))? {
        bytes += entry?.metadata()?.len();
    }
    println!("a snapshot is made in     {milliseconds:>8.0} ms, {} KiB", bytes / 1_024);
    measure("with a snapshot", dir.path())
}
