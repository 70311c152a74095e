//! An accepted loss, in both its versions, and the heads that it names: a list whose bound holds
//! while it is read.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, impl_borrow_decode};
use serde::{Deserialize, Serialize};

use crate::codec::{self, PayloadProblem, Versioned};
use crate::{Epoch, Head, limits};

/// That events are lost was accepted, and a new epoch began.
#[derive(Clone, Debug, PartialEq, Eq, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRestored {
    /// The epoch from now on.
    pub epoch: Epoch,
    /// Heads that were known of and are lost. None where version 1 was written: after a restore from
    /// a backup, when nobody knows. Its bytes and its JSON have no such field.
    #[serde(skip_serializing_if = "LostHeads::is_empty")]
    pub lost_heads: LostHeads,
}

impl LedgerRestored {
    /// Version 2 names at least one head.
    pub(super) const fn version(&self) -> u16 {
        if self.lost_heads.is_empty() { 1 } else { Self::VERSION }
    }
}

impl Encode for LedgerRestored {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.epoch.encode(encoder)?;
        if self.lost_heads.is_empty() { Ok(()) } else { self.lost_heads.encode(encoder) }
    }
}

#[derive(Encode, Decode)]
struct LedgerRestoredV1 {
    epoch: Epoch,
}

impl Versioned for LedgerRestored {
    const VERSION: u16 = 2;

    fn decode_version(version: u16, bytes: &[u8]) -> Result<Self, PayloadProblem> {
        match version {
            1 => codec::decode_exact::<LedgerRestoredV1>(bytes)
                .map(|old| Self { epoch: old.epoch, lost_heads: LostHeads::default() }),
            2 => codec::decode_exact(bytes),
            _ => Err(PayloadProblem::UnknownVersion { newest: Self::VERSION }),
        }
    }
}

/// Heads that a ledger no longer had when its loss was accepted: none, where
/// none was known of, or up to eight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostHeads(Vec<Head>);

impl LostHeads {
    /// The first eight of what is given.
    #[must_use]
    pub fn take_from(heads: impl IntoIterator<Item = Head>) -> Self {
        Self(heads.into_iter().take(limits::LOST_HEADS_MAX).collect())
    }

    /// The heads in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Head> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Encode for LostHeads {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<Context> Decode<Context> for LostHeads {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let given = usize::decode(decoder)?;
        if !(1..=limits::LOST_HEADS_MAX).contains(&given) {
            let problem =
                format!("invalid length {given}, expected 1 to {} heads", limits::LOST_HEADS_MAX);
            return Err(DecodeError::OtherString(problem));
        }
        (0..given).map(|_| Head::decode(decoder)).collect::<Result<_, _>>().map(Self)
    }
}

impl_borrow_decode!(LostHeads);

impl Serialize for LostHeads {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LostHeads {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneToEight;

        impl<'de> serde::de::Visitor<'de> for OneToEight {
            type Value = LostHeads;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "1 to {} heads", limits::LOST_HEADS_MAX)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut sequence: A,
            ) -> Result<Self::Value, A::Error> {
                use serde::de::Error;
                let is_allowed = |count: usize| (1..=limits::LOST_HEADS_MAX).contains(&count);
                if let Some(given) = sequence.size_hint().filter(|given| !is_allowed(*given)) {
                    return Err(A::Error::invalid_length(given, &self));
                }
                let mut heads = Vec::new();
                while heads.len() <= limits::LOST_HEADS_MAX
                    && let Some(head) = sequence.next_element()?
                {
                    heads.push(head);
                }
                match is_allowed(heads.len()) {
                    true => Ok(LostHeads(heads)),
                    false => Err(A::Error::invalid_length(heads.len(), &self)),
                }
            }
        }

        deserializer.deserialize_seq(OneToEight)
    }
}
