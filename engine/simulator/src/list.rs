//! A list of the state.

use std::ops::{Deref, DerefMut};

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

/// A vector, in the same bytes. Memory is taken entry by entry, never for the length that is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(entries: Vec<T>) -> Self {
        Self(entries)
    }
}

impl<T> Deref for List<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T: Encode> Encode for List<T> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.len().encode(encoder)?;
        self.iter().try_for_each(|entry| entry.encode(encoder))
    }
}

impl<T> List<T> {
    fn read<D: Decoder>(
        decoder: &mut D,
        mut entry: impl FnMut(&mut D) -> Result<T, DecodeError>,
    ) -> Result<Self, DecodeError> {
        let mut entries = Vec::new();
        for _ in 0..u64::decode(decoder)? {
            entries.push(entry(decoder)?);
        }
        Ok(Self(entries))
    }
}

impl<T: Decode<Context>, Context> Decode<Context> for List<T> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::read(decoder, T::decode)
    }
}

impl<'de, T: BorrowDecode<'de, Context>, Context> BorrowDecode<'de, Context> for List<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::read(decoder, T::borrow_decode)
    }
}
