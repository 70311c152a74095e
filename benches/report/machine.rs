//! What was measured on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// The machine, its disk and the day, as one line.
pub fn describe(dir: &Path) -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("?", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism()?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let memory: u64 = memory.context("MemTotal")?.parse()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let rust = output("rustc", &["--version"]).unwrap_or_default();
    let disk = output("findmnt", &["-no", "SOURCE,FSTYPE", "-T", &dir.display().to_string()]);
    let disk = disk.unwrap_or_else(|_| "unknown".to_owned());
    let disk = disk.split_whitespace().collect::<Vec<_>>().join(", ");
    let day = output("date", &["-u", "+%Y-%m-%d"])?;
    Ok(format!(
        "{day}: {model}, {cores} cores, {} GiB; Linux {}; {rust}; disk {disk}; ledger.db with \
         synchronous=FULL, game.db with synchronous=NORMAL; client and service on the same cores",
        memory / 1_048_576,
        kernel.trim(),
    ))
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
