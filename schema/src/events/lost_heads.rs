//! The heads whose loss was accepted: a list whose bound holds while it is read.

use serde::{Deserialize, Serialize};

use crate::{Head, limits};

/// Heads that a ledger no longer had when its loss was accepted: none, where an earlier version wrote the event
/// and named none, or up to eight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostHeads([Option<Head>; limits::LOST_HEADS_MAX]);

impl LostHeads {
    /// The first eight of what is given.
    #[must_use]
    pub fn take_from(heads: impl IntoIterator<Item = Head>) -> Self {
        let mut given = heads.into_iter().fuse();
        Self(std::array::from_fn(|_| given.next()))
    }

    /// The heads in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Head> {
        self.0.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether none is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.0, [None, ..])
    }
}

impl Serialize for LostHeads {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        self.iter().try_for_each(|head| sequence.serialize_element(head))?;
        sequence.end()
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
                let given = sequence.size_hint().unwrap_or(0);
                if !(1..=limits::LOST_HEADS_MAX).contains(&given) {
                    return Err(A::Error::invalid_length(given, &self));
                }
                let mut heads = LostHeads::default();
                for place in &mut heads.0 {
                    *place = sequence.next_element()?;
                }
                Ok(heads)
            }
        }

        deserializer.deserialize_seq(OneToEight)
    }
}
