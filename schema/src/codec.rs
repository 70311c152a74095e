//! Stored payloads: bincode 2.0.1 in its standard configuration, called by this one module. The
//! types say how they are stored by bincode's traits.
//!
//! Decoding is strict: what it accepts encodes to the very same bytes again. Types with a length
//! ([`Troubles`](crate::events::Troubles) and [`LostHeads`](crate::events::LostHeads)) bound it
//! themselves while they read, so that no length field can ask for memory.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use crate::limits;

type StoredConfiguration =
    Configuration<LittleEndian, Varint, Limit<{ limits::PAYLOAD_BYTES_MAX }>>;

const CONFIGURATION: StoredConfiguration =
    bincode::config::standard().with_limit::<{ limits::PAYLOAD_BYTES_MAX }>();

/// What is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadProblem {
    /// No kind has this number.
    #[error("unknown kind; a newer version of Daybook may know it")]
    UnknownKind,
    /// The kind has no such version.
    #[error(
        "unknown version, the newest known is {newest}; a newer version of Daybook may know it"
    )]
    UnknownVersion {
        /// The newest version that this program knows.
        newest: u16,
    },
    /// More bytes than a payload may have.
    #[error("{length} bytes, at most {} are allowed", limits::PAYLOAD_BYTES_MAX)]
    TooLong {
        /// How many there were.
        length: usize,
    },
    /// The bytes do not decode.
    #[error("{0}")]
    Malformed(String),
    /// Bytes were left over.
    #[error("{left} trailing bytes")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The bytes decode, but the value encodes to others.
    #[error("not the one encoding of its value")]
    NotCanonical,
}

/// A stored payload was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload of kind {kind}, version {version}: {problem}")]
pub struct PayloadError {
    /// The kind's number as stored.
    pub kind: u16,
    /// The version as stored.
    pub version: u16,
    /// What is wrong.
    pub problem: PayloadProblem,
}

/// A payload type and the versions of it that were ever written.
///
/// A payload whose shape has to change gets a new type with the next version; the old type stays,
/// and `decode_version` lifts it, in memory only:
///
/// ```
/// use daybook_schema::codec::{PayloadProblem, Versioned, decode_exact};
/// use bincode::{Decode, Encode};
///
/// #[derive(Encode, Decode)]
/// struct HarvestedV1 { coins: u64 }
///
/// #[derive(Encode, Decode)]
/// struct Harvested { coins: u64, gems: u64 }
///
/// impl Versioned for Harvested {
///     const VERSION: u16 = 2;
///
///     fn decode_version(version: u16, bytes: &[u8]) -> Result<Self, PayloadProblem> {
///         match version {
///             1 => decode_exact::<HarvestedV1>(bytes).map(|old| Self { coins: old.coins, gems: 0 }),
///             2 => decode_exact(bytes),
///             _ => Err(PayloadProblem::UnknownVersion { newest: Self::VERSION }),
///         }
///     }
/// }
///
/// let lifted = Harvested::decode_version(1, &[7])?;
/// assert_eq!((lifted.coins, lifted.gems), (7, 0));
/// # Ok::<(), PayloadProblem>(())
/// ```
pub trait Versioned: Encode + Decode<()> {
    /// The version that is written today.
    const VERSION: u16 = 1;

    /// Decodes a payload of any version that was ever written.
    ///
    /// # Errors
    /// [`PayloadProblem`] for bytes that this version never wrote.
    fn decode_version(version: u16, bytes: &[u8]) -> Result<Self, PayloadProblem> {
        if version == Self::VERSION {
            decode_exact(bytes)
        } else {
            Err(PayloadProblem::UnknownVersion { newest: Self::VERSION })
        }
    }
}

/// Appends the stored form of a value.
pub fn encode<T: Encode>(value: &T, into: &mut Vec<u8>) {
    #[expect(clippy::expect_used, reason = "memory takes every write, and no stored type refuses")]
    bincode::encode_into_std_write(value, into, bincode::config::standard())
        .expect("encoding to memory");
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// [`PayloadProblem`] when there are too many bytes, when they do not decode or not wholly, or when
/// the value encodes to other bytes.
pub fn decode_exact<T: Encode + Decode<()>>(bytes: &[u8]) -> Result<T, PayloadProblem> {
    if bytes.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(PayloadProblem::TooLong { length: bytes.len() });
    }
    let (value, taken): (T, usize) =
        bincode::decode_from_slice(bytes, CONFIGURATION).map_err(|error| {
            PayloadProblem::Malformed(match error {
                DecodeError::OtherString(problem) => problem,
                other => other.to_string(),
            })
        })?;
    if taken != bytes.len() {
        return Err(PayloadProblem::Trailing { left: bytes.len() - taken });
    }
    let mut comparison = Comparison { rest: bytes };
    bincode::encode_into_writer(&value, &mut comparison, bincode::config::standard())
        .map_err(|_| PayloadProblem::NotCanonical)?;
    if comparison.rest.is_empty() { Ok(value) } else { Err(PayloadProblem::NotCanonical) }
}

/// Takes only the bytes it was made with: a comparison without a copy.
struct Comparison<'a> {
    rest: &'a [u8],
}

impl Writer for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(EncodeError::Other("differs"))?;
        Ok(())
    }
}
