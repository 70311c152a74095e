//! What a ledger begins with, in each format that there is. A ledger keeps the format that it was
//! made with.

use crate::{EventHash, LedgerId, UnixMicros, digest};

/// A format of `ledger.db`: its tables, and what hash(0) covers. The rows of events are the same in
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerFormat {
    /// Its genesis names no game: it is [`Game::FarmingSeason`]'s.
    V1,
    /// Its genesis names its game.
    V2,
}

impl LedgerFormat {
    /// The format of new ledgers.
    pub const NEWEST: Self = Self::V2;

    /// Its number: `user_version` of the file, and `format_version` of the genesis.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The format of a number.
    #[must_use]
    pub const fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// The SQL of its tables and triggers.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            Self::V1 => include_str!("../sql/ledger.v1.sql"),
            Self::V2 => include_str!("../sql/ledger.v2.sql"),
        }
    }
}

named_enum! {
    /// The game whose events a ledger holds.
    pub enum Game {
        /// The one of RULEBOOK.md: farming seasons of 28 days.
        FarmingSeason = 1 => "farming_season",
    }
}

/// What a ledger begins with: the ground of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The ledger's id.
    pub ledger_id: LedgerId,
    /// The format of its file.
    pub format: LedgerFormat,
    /// When it was created.
    pub created_at: UnixMicros,
    /// Whether it is a demo's, whose keys are simulated and whose directory may be replaced.
    pub is_demo: bool,
    /// The game that it records.
    pub game: Game,
}

impl Genesis {
    /// hash(0).
    #[must_use]
    pub fn hash(&self) -> EventHash {
        let number = self.format.number().to_le_bytes();
        let created_at = self.created_at.get().to_le_bytes();
        let is_demo = [u8::from(self.is_demo)];
        let shared: [&[u8]; 4] = [self.ledger_id.as_bytes(), &number, &created_at, &is_demo];
        EventHash::new(match self.format {
            LedgerFormat::V1 => digest::GENESIS.derive(&shared),
            LedgerFormat::V2 => {
                let [ledger_id, number, created_at, is_demo] = shared;
                let name = self.game.as_str().as_bytes();
                let length = [u8::try_from(name.len()).unwrap_or(u8::MAX)];
                digest::GENESIS_2.derive(&[ledger_id, number, created_at, is_demo, &length, name])
            }
        })
    }
}
