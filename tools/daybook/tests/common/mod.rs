//! Processes of the command, and the tables that they should leave.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use daybook_projections::test_kit::rows_of;
use daybook_projections::{DatabaseSettings, FeedSource, GameDatabase, Workers, all_projections};
use serde_json::Value;

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    command.args(arguments).env_remove("DAYBOOK_DATA").env_remove("DATABASE_URL");
    command
}

pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// A process of the command that may be killed and started again; it ends with this.
pub struct Process {
    pub child: Child,
}

impl Process {
    pub fn start(arguments: &[&str]) -> Self {
        let child = Self::spawn(arguments);
        Self { child }
    }

    fn spawn(arguments: &[&str]) -> Child {
        command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn tables() -> Vec<&'static str> {
    let all = all_projections();
    let own = all.iter().flat_map(|projection| projection.tables().iter().copied());
    own.chain(["users", "projection_positions"]).collect()
}

/// Waits until the ledger has been applied to its end.
pub fn wait_until_current(data: &str) -> Value {
    let started = Instant::now();
    loop {
        let status = run(&["projections", "status", "--json", "--data", data]);
        // Where the file is being made there is nothing to tell of yet.
        if !status.stdout.is_empty() {
            let status = json(&status);
            let all = status["projections"].as_array().unwrap();
            if all.iter().all(|projection| projection["state"] == "current") {
                return status;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{status:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn tables_from_the_tail(data_dir: &Path) -> daybook_projections::test_kit::Rows {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let path = data_dir.join("reference.db");
        let database = GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
        let source = FeedSource::ledger(data_dir);
        Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
        rows_of(&path, &tables()).await.unwrap()
    })
}
