//! Bots that play whole seasons through the real engine: for the demo, the benches and the tests.
//!
//! Everything is simulated from a seed, ids, keys and clock too: the same seed makes the same
//! events, row for row.

mod bot;
mod client;
mod driver;

use std::path::Path;

use anyhow::Result;
use daybook_ledger::{Head, Ledger, NewLedger, Options, Time};
use daybook_schema::LedgerId;
use daybook_simulator::{Generator, Keyring, SeasonKey};

pub use client::Told;
use driver::Driver;
pub use driver::{Played, STARTS_AT};

/// Who plays for how long.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// How many bots.
    pub players: u32,
    /// How many UTC days; then the clock runs on, so that idle seasons expire.
    pub days: u32,
    /// What makes one play differ from another.
    pub seed: u64,
}

impl Play {
    /// Plays through an open ledger. `progress` is told the day and the number of events.
    ///
    /// # Errors
    /// When the engine refuses what it must accept, or stops.
    pub fn run(self, ledger: &Ledger, progress: &mut dyn FnMut(u32, u64)) -> Result<Played> {
        self.run_telling(ledger, progress, &mut drop)
    }

    /// The same, and is told what the bots' clients tell of themselves: telemetry, each event with
    /// its time in the demo.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_telling(
        self,
        ledger: &Ledger,
        progress: &mut dyn FnMut(u32, u64),
        tell: &mut dyn FnMut(Told),
    ) -> Result<Played> {
        let simulated = Simulated::from_seed(self.seed);
        let Simulated { first_key, second_key, .. } = simulated;
        Driver::new(ledger, self, tell)?.play(first_key.key_id(), second_key.key_id(), progress)
    }

    /// Makes a demo's ledger in a directory and plays it to its end.
    ///
    /// # Errors
    /// As [`Self::run`], and when the ledger cannot be made.
    pub fn into_new_ledger(self, data_dir: &Path) -> Result<Head> {
        let ledger = Ledger::open(Simulated::from_seed(self.seed).options(data_dir))?;
        self.run(&ledger, &mut |_, _| {})?;
        Ok(ledger.close().wait()?)
    }
}

/// What a seed makes: keys and ids, all simulated.
pub struct Simulated {
    /// What the ledger begins with.
    pub new: NewLedger,
    /// The season key that is in force first.
    pub first_key: SeasonKey,
    /// The one that is in force from the middle on.
    pub second_key: SeasonKey,
}

impl Simulated {
    /// What this seed makes.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut generator = generator(seed, u64::MAX);
        let mut bytes = || {
            let mut bytes = [0; 32];
            for chunk in bytes.chunks_exact_mut(8) {
                chunk.copy_from_slice(&generator.next_u64().to_le_bytes());
            }
            bytes
        };
        let (first_key, second_key) = (SeasonKey::new(bytes()), SeasonKey::new(bytes()));
        let mut id = [0; 16];
        id.copy_from_slice(bytes().split_at(16).0);
        let new = NewLedger {
            ledger_id: LedgerId::from_bytes(id),
            created_at: Some(STARTS_AT),
            is_demo: true,
        };
        Self { new, first_key, second_key }
    }

    /// How a ledger is opened that these bots play.
    #[must_use]
    pub fn options(&self, data_dir: &Path) -> Options {
        let keyring = Keyring::new([self.first_key.clone(), self.second_key.clone()]);
        Options::new(data_dir, keyring).create(self.new).time(Time::FromSubmissions)
    }
}

/// A generator of the bots' own, one for each bot, one for its client, and for the ledger.
fn generator(seed: u64, stream: u64) -> Generator {
    let mut bytes = [0x5a; 32];
    let (first, rest) = bytes.split_at_mut(8);
    first.copy_from_slice(&seed.to_le_bytes());
    rest.split_at_mut(8).0.copy_from_slice(&stream.to_le_bytes());
    let mut generator = Generator::from_seed(bytes);
    // Seeds that differ in a few bits give streams that differ only after some draws.
    for _ in 0..16 {
        generator.next_u64();
    }
    generator
}
