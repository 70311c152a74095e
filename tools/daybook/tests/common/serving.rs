//! A service as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::command;

/// A process that serves; it is killed with this.
pub struct Serving {
    pub child: Child,
    pub base: String,
    /// What it printed: the address, and what can be tried.
    pub printed: String,
    /// Where it logs: a pipe would hold it up once it is full.
    log: tempfile::NamedTempFile,
}

/// Options with which nothing is limited, and a password is hashed quickly.
pub const UNLIMITED: [&str; 12] = [
    "--api-limit",
    "1000000/1000000",
    "--auth-limit",
    "1000000/1000000",
    "--registrations-per-day",
    "1000000",
    "--password-memory",
    "8",
    "--password-passes",
    "1",
    "--command-wait",
    "10000",
];

impl Serving {
    /// Starts a service at a free port and waits until it says where it listens.
    pub fn start(data: &Path, more: &[&str]) -> Self {
        let arguments = ["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = command(&[&arguments[..], more].concat())
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        while !printed.contains("shows every route") {
            let Some(Ok(line)) = lines.next() else {
                let told = std::fs::read_to_string(log.path()).unwrap();
                panic!("it did not start: {printed}{told}");
            };
            printed.push_str(&line);
            printed.push('\n');
        }
        let address = printed.split("Listening at ").nth(1).unwrap();
        let base = address.split(',').next().unwrap().to_owned();
        Self { child, base, printed, log }
    }

    /// Asks it to stop, and gives its status and what it logged.
    pub fn stop(mut self) -> (ExitStatus, String) {
        signal(&self.child, "TERM");
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "it did not end within 60 s");
            std::thread::sleep(Duration::from_millis(20));
        };
        (status, std::fs::read_to_string(self.log.path()).unwrap())
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
