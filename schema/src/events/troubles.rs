//! The troubles of a day: a list whose bound holds while it is read.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode, impl_borrow_decode};
use serde::{Deserialize, Serialize};

use crate::{Severity, TroubleKind, limits};

/// A trouble of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// What it was.
    pub kind: TroubleKind,
    /// How bad.
    pub severity: Severity,
    /// Whether it was cleared.
    pub cleared: bool,
}

/// The troubles of a day: none, one or two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles([Option<Trouble>; limits::TROUBLES_PER_DAY_MAX]);

impl Troubles {
    /// The first one or two of what is given.
    #[must_use]
    pub fn take_from(troubles: impl IntoIterator<Item = Trouble>) -> Self {
        let mut given = troubles.into_iter().fuse();
        Self([given.next(), given.next()])
    }

    /// The troubles in the order of their draws.
    pub fn iter(&self) -> impl Iterator<Item = &Trouble> {
        self.0.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether it was a quiet day.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Encode for Troubles {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.len().encode(encoder)?;
        self.iter().try_for_each(|trouble| trouble.encode(encoder))
    }
}

impl<Context> Decode<Context> for Troubles {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let given = usize::decode(decoder)?;
        let mut next = || Trouble::decode(decoder).map(Some);
        match given {
            0 => Ok(Self::default()),
            1 => Ok(Self([next()?, None])),
            2 => Ok(Self([next()?, next()?])),
            _ => Err(DecodeError::OtherString(format!(
                "invalid length {given}, expected at most {} troubles",
                limits::TROUBLES_PER_DAY_MAX
            ))),
        }
    }
}

impl_borrow_decode!(Troubles);

impl Serialize for Troubles {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        self.iter().try_for_each(|trouble| sequence.serialize_element(trouble))?;
        sequence.end()
    }
}

impl<'de> Deserialize<'de> for Troubles {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtMostTwo;

        impl<'de> serde::de::Visitor<'de> for AtMostTwo {
            type Value = Troubles;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "at most {} troubles", limits::TROUBLES_PER_DAY_MAX)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut sequence: A,
            ) -> Result<Self::Value, A::Error> {
                use serde::de::Error;
                let given = sequence.size_hint().unwrap_or(0);
                if given > limits::TROUBLES_PER_DAY_MAX {
                    return Err(A::Error::invalid_length(given, &self));
                }
                let troubles = Troubles([sequence.next_element()?, sequence.next_element()?]);
                match sequence.next_element::<Trouble>()? {
                    None => Ok(troubles),
                    Some(_) => Err(A::Error::invalid_length(3, &self)),
                }
            }
        }

        deserializer.deserialize_seq(AtMostTwo)
    }
}
