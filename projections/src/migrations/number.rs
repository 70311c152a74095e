//! Which migration: ours and a team's own never share a number.

use std::fmt;
use std::str::FromStr;

/// What a team's numbers have added where they are stored, beyond every number that a file may
/// have.
const TEAMS: i64 = 1_000_000_000_000_000;

/// Room for a date and a time, `20261231235959`.
const NUMBER_MAX: i64 = 99_999_999_999_999;

/// A migration's number, in the order in which they are applied: ours first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MigrationNumber {
    /// One that Daybook carries.
    Ours(i64),
    /// A team's own.
    Teams(i64),
}

impl MigrationNumber {
    /// The number of a file's name.
    pub(super) fn of_file(text: &str, of: fn(i64) -> Self) -> Option<Self> {
        let is_plain = text.bytes().all(|letter| letter.is_ascii_digit());
        let number: i64 = text.parse().ok().filter(|number| (1..=NUMBER_MAX).contains(number))?;
        is_plain.then(|| of(number))
    }

    /// As it stands in the table of what was applied.
    pub(super) const fn stored(self) -> i64 {
        match self {
            Self::Ours(number) => number,
            Self::Teams(number) => TEAMS + number,
        }
    }

    pub(super) const fn from_stored(stored: i64) -> Self {
        match stored > TEAMS {
            true => Self::Teams(stored - TEAMS),
            false => Self::Ours(stored),
        }
    }

    /// The number alone.
    pub(super) const fn get(self) -> i64 {
        match self {
            Self::Ours(number) | Self::Teams(number) => number,
        }
    }
}

impl fmt::Display for MigrationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(number) => write!(f, "{number:04}"),
            Self::Teams(number) => write!(f, "team-{number:04}"),
        }
    }
}

/// A text names no migration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a migration is named by its number, 4, or team-4 where it is a team's own; got `{given}`")]
pub struct ParseMigrationNumberError {
    /// The text.
    pub given: String,
}

impl FromStr for MigrationNumber {
    type Err = ParseMigrationNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, of): (&str, fn(i64) -> Self) = match text.strip_prefix("team-") {
            Some(digits) => (digits, Self::Teams),
            None => (text, Self::Ours),
        };
        // 0 comes before the first.
        let zero = (!digits.is_empty() && digits.bytes().all(|digit| digit == b'0')).then(|| of(0));
        let refused = || ParseMigrationNumberError { given: text.chars().take(40).collect() };
        zero.or_else(|| Self::of_file(digits, of)).ok_or_else(refused)
    }
}
