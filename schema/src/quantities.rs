//! All that is counted, timed or hashed: newtypes whose built values are valid values.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use crate::limits;

/// A number lay outside the bounds of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} must be {min} to {max}, got `{value}`", words(what))]
pub struct OutOfRange {
    /// The type's name.
    pub what: &'static str,
    /// What was given.
    pub value: i128,
    /// The smallest value allowed.
    pub min: i128,
    /// The largest value allowed.
    pub max: i128,
}

/// A text was not a value of a bounded number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// Not a whole number at all.
    #[error("{} must be a whole number, got `{given}`", words(what))]
    NotANumber {
        /// The type's name.
        what: &'static str,
        /// The text.
        given: String,
        /// What the parser said.
        source: std::num::ParseIntError,
    },
    /// A number outside the bounds.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

/// A text was not the hex form of a fixed number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} must be {expected} hex digits, got `{given}`", words(what))]
pub struct ParseHexError {
    /// The type's name.
    pub what: &'static str,
    /// How many hex digits there must be.
    pub expected: usize,
    /// The text.
    pub given: String,
}

/// A type's name as a person writes it: `DayNumber` is a day number.
pub(crate) fn words(type_name: &str) -> String {
    let mut words = String::with_capacity(type_name.len() + 4);
    for letter in type_name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    // Several times as fast as the formatting of each byte: every event's hashes and keys come by
    // here.
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let mut digits = nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16));
    digits.try_for_each(|digit| f.write_char(digit))
}

pub(crate) fn parse_hex(
    what: &'static str,
    text: &str,
    into: &mut [u8],
) -> Result<(), ParseHexError> {
    let refused =
        || ParseHexError { what, expected: into.len() * 2, given: text.chars().take(80).collect() };
    if text.len() != into.len() * 2 || !text.is_ascii() {
        return Err(refused());
    }
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    let mut bytes = Vec::with_capacity(into.len());
    while let (Some(high), Some(low)) = (digits.next(), digits.next()) {
        let (Some(high), Some(low)) = (high, low) else { return Err(refused()) };
        let byte = u8::try_from(high * 16 + low).map_err(|_| refused())?;
        bytes.push(byte);
    }
    into.copy_from_slice(&bytes);
    Ok(())
}

bounded_number! {
    /// An event's place in the ledger: gapless, from 1.
    pub struct Seq(u64) in 1, i64::MAX as u64;
}

impl Seq {
    /// The seq after this one; the last one there can be stays itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::clamped(self.0.saturating_add(1))
    }
}

bounded_number! {
    /// Whole coins.
    pub struct Coins(u64) in 0, limits::COINS_MAX;
}

impl Coins {
    /// No coins.
    pub const ZERO: Self = Self::MIN;

    /// The same amount in millicoins.
    #[must_use]
    pub const fn to_millicoins(self) -> Millicoins {
        Millicoins(self.0 * 1_000)
    }
}

bounded_number! {
    /// Thousandths of a coin: the unit of the accounts and of jackpot shares.
    pub struct Millicoins(u64) in 0, limits::COINS_MAX * 1_000;
}

bounded_number! {
    /// Ten-thousandths, the unit of multipliers: 10,000 pays the stake back.
    pub struct BasisPoints(u32) in 0, 10_000_000;
}

bounded_number! {
    /// A day of a season.
    pub struct DayNumber(u8) in 1, limits::DAYS_PER_SEASON;
}

impl DayNumber {
    /// The day after this one, or `None` after the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.0 < limits::DAYS_PER_SEASON { Some(Self(self.0 + 1)) } else { None }
    }

    /// Every day of a season in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=limits::DAYS_PER_SEASON).map(Self)
    }

    /// The week it lies in: `ceil(day / 7)`.
    #[must_use]
    pub const fn week(self) -> WeekNumber {
        WeekNumber::clamped(self.0.div_ceil(limits::DAYS_PER_WEEK))
    }

    /// Its place in its week, from 0.
    #[must_use]
    pub const fn index_in_week(self) -> u8 {
        (self.0 - 1) % limits::DAYS_PER_WEEK
    }

    /// Whether a week ends with it.
    #[must_use]
    pub const fn ends_week(self) -> bool {
        self.0.is_multiple_of(limits::DAYS_PER_WEEK)
    }

    /// The season's phase on this day.
    #[must_use]
    pub const fn phase(self) -> crate::SeasonPhase {
        match self.0 {
            ..=7 => crate::SeasonPhase::Planting,
            8..=21 => crate::SeasonPhase::Growth,
            _ => crate::SeasonPhase::Harvest,
        }
    }
}

bounded_number! {
    /// A week of a season.
    pub struct WeekNumber(u8) in 1, limits::WEEKS_PER_SEASON;
}

bounded_number! {
    /// Which of a user's seasons, from 1.
    pub struct SeasonNumber(u32) in 1, u32::MAX;
}

impl SeasonNumber {
    /// The user's next season.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

bounded_number! {
    /// Which of a user's adoptions, from 1.
    pub struct AdoptionNumber(u32) in 1, u32::MAX;
}

bounded_number! {
    /// Which of a user's sessions, from 1.
    pub struct SessionNumber(u32) in 1, u32::MAX;
}

bounded_number! {
    /// The number of a set of rules; a season keeps the one it started with.
    pub struct RulesetNumber(u16) in 1, u16::MAX;
}

bounded_number! {
    /// How full a pot was when its day resolved.
    pub struct PotLevel(u8) in 0, 100;
}

bounded_number! {
    /// How bad a trouble was.
    pub struct Severity(u8) in 1, 5;
}

bounded_number! {
    /// A trait of a simulin's personality.
    pub struct TraitLevel(u8) in 0, 100;
}

bounded_number! {
    /// A simulin's bond experience: a total that never falls.
    pub struct BondXp(u32) in 0, u32::MAX;
}

bounded_number! {
    /// A simulin's bond level.
    pub struct BondLevel(u8) in 1, limits::BOND_LEVEL_MAX;
}

impl BondLevel {
    /// The stage of a simulin of this level.
    #[must_use]
    pub const fn stage(self) -> crate::SimulinStage {
        match self.0 {
            ..=7 => crate::SimulinStage::Sproutling,
            8..=15 => crate::SimulinStage::Cultivar,
            16..=24 => crate::SimulinStage::Bloomform,
            _ => crate::SimulinStage::Legendary,
        }
    }
}

bounded_number! {
    /// Points of a day, a week or a season.
    pub struct Score(u64) in 0, limits::COINS_MAX;
}

bounded_number! {
    /// What a week's hand multiplies its score by.
    pub struct HandMultiplier(u16) in 1, 100;
}

/// Microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// ```
/// use daybook_schema::UnixMicros;
/// assert_eq!(UnixMicros::from_seconds(86_400).utc_day(), 1);
/// ```
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    bincode::Encode,
    bincode::Decode,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct UnixMicros(i64);

impl UnixMicros {
    /// The time of so many microseconds since 1970.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// The time of so many seconds since 1970.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole milliseconds since 1970, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The UTC day, counted from 1970-01-01 as 0.
    #[must_use]
    pub const fn utc_day(self) -> i64 {
        self.0.div_euclid(86_400_000_000)
    }

    /// So many microseconds later; stops at the ends of the scale.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this time; negative if it came before.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

fixed_bytes! {
    /// The hash that chains an event to all before it.
    pub struct EventHash([u8; 32]);
}

fixed_bytes! {
    /// The first 16 bytes of the hash of a command as stored.
    pub struct CommandHash([u8; 16]);
}

fixed_bytes! {
    /// A key of one day of a season; the key of day 28 is the season's secret.
    pub struct DayKey([u8; 32]);
}

fixed_bytes! {
    /// What the operator publishes of a season's keys before anybody starts it.
    pub struct Commitment([u8; 32]);
}

fixed_bytes! {
    /// Names one of the operator's season keys without telling it.
    pub struct KeyId([u8; 8]);
}

fixed_bytes! {
    /// The player's part of a season's randomness.
    pub struct ClientDigest([u8; 32]);
}

fixed_bytes! {
    /// Fresh random bytes that make a restored ledger's epoch its own; zero at the genesis.
    pub struct EpochNonce([u8; 16]);
}

/// Which life of the ledger it is: the genesis begins the first, each restore another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// 1 at the genesis, one more with each restore.
    pub number: u32,
    /// What tells two restores of one backup apart.
    pub nonce: EpochNonce,
}

impl Epoch {
    /// The epoch that the genesis begins.
    pub const FIRST: Self = Self { number: 1, nonce: EpochNonce::new([0; 16]) };
}
