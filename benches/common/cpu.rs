//! CPU time of this process by thread.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// CPU time of each thread so far, in nanoseconds, by its name; threads of one name together. The
/// process's first thread, which is the bench's own client, is named `client`.
#[derive(Clone, Default)]
pub struct CpuTimes(pub BTreeMap<String, u64>);

impl CpuTimes {
    /// Those of this process.
    pub fn now() -> Result<Self> {
        let mut times = BTreeMap::new();
        let process = std::process::id().to_string();
        for task in std::fs::read_dir("/proc/self/task")? {
            let task = task?;
            let is_first = task.file_name().to_string_lossy() == process;
            // A thread may end meanwhile.
            let Ok(name) = std::fs::read_to_string(task.path().join("comm")) else { continue };
            let Ok(spent) = std::fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let spent: u64 = spent.split_whitespace().next().context("a time")?.parse()?;
            let name = if is_first { "client" } else { name.trim_end() };
            *times.entry(name.to_owned()).or_insert(0) += spent;
        }
        Ok(Self(times))
    }

    /// What was spent since, in microseconds for each of so many.
    pub fn each_since(&self, before: &Self, count: u64) -> BTreeMap<String, f64> {
        let spent = self.0.iter().map(|(name, after)| {
            let spent = after.saturating_sub(before.0.get(name).copied().unwrap_or(0));
            (name.clone(), spent as f64 / 1_000.0 / count.max(1) as f64)
        });
        spent.filter(|(_, micros)| *micros >= 0.005).collect()
    }
}
