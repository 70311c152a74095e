//! Typed ids: one kind cannot be passed where another is meant.
//!
//! ```
//! use daybook_schema::{SeasonId, UserId};
//! fn find_season(_: SeasonId) {}
//! let season: SeasonId = "ssn_0193a0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b".parse()?;
//! find_season(season);
//! # Ok::<(), daybook_schema::ids::ParseIdError>(())
//! ```
//!
//! The same with a user's id does not compile:
//!
//! ```compile_fail,E0308
//! use daybook_schema::{SeasonId, UserId};
//! fn find_season(_: SeasonId) {}
//! let user: UserId = "usr_0193a0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b".parse()?;
//! find_season(user);
//! # Ok::<(), daybook_schema::ids::ParseIdError>(())
//! ```

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::UnixMicros;

/// A text was not an id of the kind that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a {} must be `{prefix}` and a UUID in lower case with hyphens, got `{given}`",
    crate::quantities::words(kind)
)]
pub struct ParseIdError {
    /// The id's type.
    pub kind: &'static str,
    /// What it starts with.
    pub prefix: &'static str,
    /// The text, cut after 80 characters.
    pub given: String,
}

/// One printed form for each id: what is parsed is exactly what is printed.
pub(crate) fn parse_prefixed(
    kind: &'static str,
    prefix: &'static str,
    text: &str,
) -> Result<Uuid, ParseIdError> {
    text.strip_prefix(prefix)
        .filter(|rest| rest.len() == 36 && !rest.bytes().any(|byte| byte.is_ascii_uppercase()))
        .and_then(|rest| Uuid::try_parse(rest).ok())
        .ok_or_else(|| ParseIdError { kind, prefix, given: text.chars().take(80).collect() })
}

prefixed_id! {
    /// A user: the only id that is random.
    pub struct UserId = "usr_";
}
prefixed_id! {
    /// A season of a user.
    pub struct SeasonId = "ssn_";
}
prefixed_id! {
    /// A companion of a user.
    pub struct SimulinId = "sim_";
}
prefixed_id! {
    /// A day of a season.
    pub struct DayId = "day_";
}
prefixed_id! {
    /// A bet on a pot on a day.
    pub struct BetId = "bet_";
}
prefixed_id! {
    /// A trigger earned on a day.
    pub struct TriggerId = "trg_";
}
prefixed_id! {
    /// A user's row of a leaderboard.
    pub struct LeaderboardEntryId = "ldb_";
}
prefixed_id! {
    /// A ledger; its bytes go into every derived id and key.
    pub struct LedgerId = "ldg_";
}
prefixed_id! {
    /// A stream of events: a season's, a user's or the ledger's own id. The kind of an event tells
    /// which.
    pub struct StreamId = "";
}

impl UserId {
    /// A new user's id, random (UUIDv7, so that indexes grow at their end).
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl LedgerId {
    /// A new ledger's id, random.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl From<UserId> for StreamId {
    fn from(id: UserId) -> Self {
        Self(id.0)
    }
}

impl From<SeasonId> for StreamId {
    fn from(id: SeasonId) -> Self {
        Self(id.0)
    }
}

impl From<LedgerId> for StreamId {
    fn from(id: LedgerId) -> Self {
        Self(id.0)
    }
}

impl StreamId {
    /// The same bytes as a user's id; right for events of a user's stream.
    #[must_use]
    pub const fn as_user(self) -> UserId {
        UserId(self.0)
    }

    /// The same bytes as a season's id; right for events of a season's stream.
    #[must_use]
    pub const fn as_season(self) -> SeasonId {
        SeasonId(self.0)
    }

    /// The same bytes as a ledger's id; right for events of the ledger's stream.
    #[must_use]
    pub const fn as_ledger(self) -> LedgerId {
        LedgerId(self.0)
    }
}

/// A command's id (`Idempotency-Key`): a UUIDv7, so it carries a time and 74 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(Uuid);

/// A text or bytes were not a command's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a command's id must be a UUIDv7 in lower case with hyphens, got `{given}`")]
pub struct ParseCommandIdError {
    /// What was given, cut after 80 characters.
    pub given: String,
}

impl CommandId {
    /// A new id: the time of now and 74 random bits. Make it when the command is made, and keep it
    /// for every retry.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id with these bytes.
    ///
    /// # Errors
    /// When they are not those of a UUIDv7 (RFC 9562).
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, ParseCommandIdError> {
        let uuid = Uuid::from_bytes(bytes);
        let is_v7 = uuid.get_version_num() == 7 && uuid.get_variant() == uuid::Variant::RFC4122;
        is_v7.then_some(Self(uuid)).ok_or_else(|| ParseCommandIdError { given: uuid.to_string() })
    }

    /// The id of a time and of 10 bytes of which 74 bits are used.
    #[must_use]
    pub fn from_parts(at: UnixMicros, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The time in it, in whole milliseconds.
    #[must_use]
    pub const fn time(&self) -> UnixMicros {
        let [a, b, c, d, e, f, ..] = *self.0.as_bytes();
        let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        UnixMicros::new(millis * 1_000)
    }
}

impl std::fmt::Display for CommandId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl std::str::FromStr for CommandId {
    type Err = ParseCommandIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_prefixed("CommandId", "", text)
            .map_err(|refused| ParseCommandIdError { given: refused.given })
            .and_then(|uuid| Self::from_bytes(uuid.into_bytes()))
    }
}

stored_as!(CommandId, [u8; 16], |id: &Self| *id.as_bytes(), Self::from_bytes);

impl Serialize for CommandId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommandId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
