//! What is measured in a process of its own: on one core, after a kill, or in fresh memory.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daybook_ledger::{Verdict, VerifyOptions, verify};

use crate::load::{self, Load};
use crate::{ceilings, server};

const TASK: &str = "DAYBOOK_BENCH_TASK";
const ARGUMENT: &str = "DAYBOOK_BENCH_ARGUMENT";
const SERVES: &str = "DAYBOOK_BENCH_SERVES";

/// Whether this process is one.
pub fn is_one() -> bool {
    std::env::var_os(TASK).is_some() || std::env::var_os(SERVES).is_some()
}

/// Does what a child is there for.
pub fn run() -> Result<()> {
    if let Some(data) = std::env::var_os(SERVES) {
        return server::serve(Path::new(&data));
    }
    let argument = std::env::var(ARGUMENT)?;
    let dir = Path::new(&argument);
    match std::env::var(TASK)?.as_str() {
        "verify" => println!("{}", verified(dir, false)?),
        "verify-full" => println!("{}", verified(dir, true)?),
        "scan-and-hash" => println!("{}", ceilings::scan_and_hash(dir)?),
        "open" => open(dir)?,
        "load" => play_until_killed(dir)?,
        "memory" => memory(dir)?,
        other => bail!("`{other}` is no task"),
    }
    Ok(())
}

/// Runs a task in a process of its own, on one core or on all; gives the numbers that it tells.
pub fn ask(task: &str, dir: &Path, on_one_core: bool) -> Result<Vec<f64>> {
    let executable = std::env::current_exe()?;
    let mut command = match on_one_core {
        true => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", "0"]).arg(executable);
            command
        }
        false => Command::new(executable),
    };
    let output = command.env(TASK, task).env(ARGUMENT, dir).output()?;
    ensure!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Events a second of a verification.
fn verified(dir: &Path, full: bool) -> Result<f64> {
    let options = VerifyOptions { full, ..VerifyOptions::default() };
    let report = verify(dir, &options, &mut |_, _| {})?;
    ensure!(report.verdict == Verdict::Intact, "{}", report.detail);
    Ok(report.events as f64 / report.duration.as_secs_f64())
}

/// How long a start takes, in milliseconds.
fn open(dir: &Path) -> Result<()> {
    let began = Instant::now();
    let ledger = load::open(dir)?;
    println!("{}", began.elapsed().as_secs_f64() * 1e3);
    std::io::stdout().flush()?;
    // Closing makes a snapshot, which is not what the next start is to find.
    drop(ledger);
    Ok(())
}

/// Plays at full load and tells how many events there are, until it is killed.
fn play_until_killed(dir: &Path) -> Result<()> {
    let mut input = String::new();
    std::io::stdin().read_line(&mut input)?;
    let seasons: usize = input.trim().parse()?;
    let mut load = Load::begin(dir, seasons)?;
    loop {
        // A third of a season each: a user starts few seasons a day.
        load.keep_waiting(4_096, Duration::from_millis(500), seasons as u64 * 100)?;
        println!("{}", load.ledger.head().seq);
        std::io::stdout().flush()?;
    }
}

/// Lets a process play at full load until there are so many events, and kills it in the middle.
pub fn kill_under_load(dir: &Path, seasons: usize, events: u64) -> Result<u64> {
    let mut child: Child = Command::new(std::env::current_exe()?)
        .env(TASK, "load")
        .env(ARGUMENT, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    writeln!(child.stdin.as_ref().context("its input")?, "{seasons}")?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let played = loop {
        let played: u64 = lines.next().context("a line")??.parse()?;
        if played >= events {
            break played;
        }
    };
    std::thread::sleep(Duration::from_millis(137));
    child.kill()?;
    child.wait()?;
    Ok(played)
}

/// Memory held for each season in play, in bytes: what is held more after so many were started.
fn memory(dir: &Path) -> Result<()> {
    let seasons = 100_000;
    let mut load = Load::registered(dir, seasons)?;
    let resident = || -> Result<u64> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = resident()?;
    load.start_all()?;
    std::thread::sleep(Duration::from_millis(500));
    println!("{}", (resident()?.saturating_sub(before)) as f64 / seasons as f64);
    Ok(())
}
