//! Feeds damaged and made-up bytes to what reads bytes, and stops at the first input that breaks a
//! promise. Runs on stable Rust; inputs grow by mutation from a corpus in the repository.
//!
//! An input that breaks something is written beside the corpus and becomes part of it: `cargo test`
//! runs the whole corpus and a short time of mutations.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fuzz target stops at what it does not expect"
)]

mod codec;
mod ledger;
mod mutation;
mod simulator;
mod snapshot;
#[path = "../../../engine/simulator/tests/simulator/world.rs"]
#[expect(dead_code, clippy::panic, reason = "the simulator's tests use more of it")]
mod world;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use mutation::Mutator;

/// Runs one fuzz target for a time, or the inputs that are given.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  daybook-fuzz codec --seconds 3600\n  daybook-fuzz ledger --input FILE"
)]
struct Arguments {
    /// What is fed
    target: Target,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What the mutations come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs these inputs alone
    #[arg(long)]
    input: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Payloads: what decodes encodes to the same bytes
    Codec,
    /// A ledger's file: what is called intact is as it was
    Ledger,
    /// A snapshot's file: of no use, or the state that the ledger gives
    Snapshot,
    /// Commands: refused or audited, and the accounts balance
    Simulator,
}

impl Target {
    fn run(self, input: &[u8]) {
        match self {
            Self::Codec => codec::run(input),
            Self::Ledger => ledger::run(input),
            Self::Snapshot => snapshot::run(input),
            Self::Simulator => simulator::run(input),
        }
    }

    /// The inputs that mutations begin with.
    fn corpus(self) -> Vec<Vec<u8>> {
        let mut corpus = match self {
            Self::Codec => codec::corpus(),
            Self::Ledger => ledger::corpus(),
            Self::Snapshot => snapshot::corpus(),
            Self::Simulator => simulator::corpus(),
        };
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.found())
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        found.sort();
        corpus.extend(found.iter().map(|path| std::fs::read(path).unwrap()));
        corpus
    }

    /// Where inputs that broke something are kept.
    fn found(self) -> PathBuf {
        let name = self.to_possible_value().unwrap().get_name().to_owned();
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
    }
}

/// A file of the frozen fixture.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/ledger/fixtures/0.1.0").join(name)
}

/// Runs an input; one that breaks something is kept before the process stops.
fn try_input(target: Target, input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target.run(input));
    if let Err(panic) = outcome {
        let directory = target.found();
        std::fs::create_dir_all(&directory).unwrap();
        let hash = daybook_schema::digest::STATE.derive(&[input]);
        let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let path = directory.join(name);
        std::fs::write(&path, input).unwrap();
        eprintln!("an input that breaks {target:?} was written to {}", path.display());
        std::panic::resume_unwind(panic);
    }
}

/// Runs the corpus, then mutations of it until the time is over or so many were tried.
fn fuzz(target: Target, seed: u64, most: u64, time: Duration) -> u64 {
    let corpus = target.corpus();
    corpus.iter().for_each(|input| try_input(target, input));
    let mut mutator = Mutator::new(seed, corpus);
    let started = Instant::now();
    let mut tried = 0;
    while started.elapsed() < time && tried < most {
        try_input(target, &mutator.next());
        tried += 1;
    }
    tried
}

fn main() {
    let Arguments { target, seconds, seed, input } = Arguments::parse();
    if !input.is_empty() {
        input.iter().for_each(|path| target.run(&std::fs::read(path).unwrap()));
        return;
    }
    let tried = fuzz(target, seed, u64::MAX, Duration::from_secs(seconds));
    println!("{target:?}: {tried} inputs in {seconds} s, nothing found");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpus and so many mutations of it; no time decides.
    fn short(target: Target, most: u64) {
        assert_eq!(fuzz(target, 1, most, Duration::MAX), most);
    }

    #[test]
    fn codec() {
        short(Target::Codec, 100_000);
    }

    #[test]
    fn ledger() {
        short(Target::Ledger, 150);
    }

    #[test]
    fn snapshot() {
        short(Target::Snapshot, 300);
    }

    #[test]
    fn simulator() {
        short(Target::Simulator, 200);
    }
}
