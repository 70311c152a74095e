//! Events as a ledger holds them, and places in its chain.

use crate::{Event, EventHash, EventHeader};

/// An event as the ledger holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place, time, stream and command.
    pub header: EventHeader,
    /// What happened.
    pub event: Event,
    /// Its hash.
    pub hash: EventHash,
}

impl StoredEvent {
    /// Its place in the chain.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head { seq: self.header.seq.get(), hash: self.hash }
    }
}

/// A place in the chain: a seq and its hash; seq 0 is the genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Head {
    /// The seq, 0 for the genesis.
    pub seq: u64,
    /// The hash.
    pub hash: EventHash,
}

impl serde::Serialize for Head {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Head {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// A text was not `SEQ:HASH`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is SEQ:HASH with 64 hex digits, got `{given}`")]
pub struct ParseHeadError {
    /// The text.
    pub given: String,
}

impl std::str::FromStr for Head {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(seq, hash)| {
            Some(Self { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
        });
        parsed.ok_or_else(|| ParseHeadError { given: text.chars().take(120).collect() })
    }
}
