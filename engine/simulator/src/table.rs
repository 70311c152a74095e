//! The entries of the state: found by a hash, told in the order of their keys alone.

#![expect(clippy::disallowed_types, reason = "the hash map's own order is never told")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use daybook_schema::codec;
use foldhash::fast::RandomState;

/// Entries that are encoded between two breaks.
const ENTRIES_PER_BREAK: usize = 64;

/// A map in the bytes of an ordered one. Nearly every event looks an entry up. Whoever goes through
/// all of them gets them in the order of their keys. Each lies in memory of its own, so that the map
/// stays small.
#[derive(Clone, PartialEq, Eq)]
pub struct Table<K: Eq + Hash, V>(HashMap<K, Box<V>, RandomState>);

impl<K: Copy + Ord + Hash + Debug, V: Debug> Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.ordered()).finish()
    }
}

impl<K: Eq + Hash, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Copy + Ord + Hash, V> Table<K, V> {
    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(Box::as_ref)
    }

    /// The entry of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key).map(Box::as_mut)
    }

    /// Whether there is an entry of a key.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Sets the entry of a key.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, Box::new(value));
    }

    /// Takes the entry of a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key).map(|value| *value)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries, ordered by key.
    #[must_use]
    pub fn ordered(&self) -> Vec<(K, &V)> {
        self.ordered_where(|_| true)
    }

    /// Those of which something is true, ordered by key.
    pub fn ordered_where(&self, is_meant: impl Fn(&V) -> bool) -> Vec<(K, &V)> {
        let meant = self.0.iter().filter(|(_, value)| is_meant(value));
        let mut meant: Vec<(K, &V)> = meant.map(|(key, value)| (*key, &**value)).collect();
        meant.sort_unstable_by_key(|(key, _)| *key);
        meant
    }

    /// Of how many something is true.
    pub fn count_where(&self, is_meant: impl Fn(&V) -> bool) -> usize {
        self.0.values().filter(|value| is_meant(value)).count()
    }

    /// Whether something is true of any.
    pub fn any(&self, is_meant: impl Fn(&V) -> bool) -> bool {
        self.0.values().any(|value| is_meant(value))
    }
}

impl<K: Copy + Ord + Hash + Encode, V: Encode> Table<K, V> {
    /// Appends the table, ordered by key. `take_break` is called after few entries each.
    pub(crate) fn encode(&self, into: &mut Vec<u8>, take_break: &mut dyn FnMut()) {
        codec::encode(&self.len(), into);
        for entries in self.ordered().chunks(ENTRIES_PER_BREAK) {
            entries.iter().for_each(|entry| codec::encode(entry, into));
            take_break();
        }
    }
}

/// In the order of the keys and in no other: a table has one form.
impl<K, V, Context> Decode<Context> for Table<K, V>
where
    K: Copy + Ord + Hash + Decode<Context>,
    V: Decode<Context>,
{
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (mut entries, mut newest) = (Self::default(), None);
        for _ in 0..u64::decode(decoder)? {
            let key = K::decode(decoder)?;
            if newest.replace(key) >= Some(key) {
                return Err(DecodeError::Other("entries out of order"));
            }
            entries.insert(key, V::decode(decoder)?);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::list::List;

    fn encoded(value: impl Encode) -> Vec<u8> {
        bincode::encode_to_vec(value, bincode::config::standard()).unwrap()
    }

    fn decoded<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
        bincode::decode_from_slice(bytes, bincode::config::standard()).map(|(value, _)| value)
    }

    /// Guards: the bytes are those of an ordered map, whatever the hashes are, and no other order is
    /// taken for the same state.
    #[test]
    fn a_table_has_the_bytes_of_an_ordered_map_and_no_others() {
        let ordered: BTreeMap<u16, u8> = (0..1_000_u16).map(|n| (n * 7 % 1_000, 1)).collect();
        let mut table = Table::default();
        ordered.iter().rev().for_each(|(key, value)| table.insert(*key, *value));
        let (mut bytes, mut breaks) = (Vec::new(), 0);
        table.encode(&mut bytes, &mut || breaks += 1);
        assert_eq!((bytes, breaks), (encoded(&ordered), 16));
        assert_eq!(format!("{table:?}"), format!("{ordered:?}"));
        assert_eq!(decoded::<Table<u16, u8>>(&encoded(&ordered)).unwrap(), table);
        for refused in [[2, 5, 1, 4, 1], [2, 4, 1, 4, 1]] {
            assert!(decoded::<Table<u16, u8>>(&refused).is_err(), "{refused:?}");
        }
    }

    /// Guards: a length that claims much is no reason to ask for memory.
    #[test]
    fn a_length_is_not_believed() {
        let endless = [253, 255, 255, 255, 255, 255, 255, 255, 127, 1, 2, 3, 4];
        assert!(decoded::<Table<u16, u8>>(&endless).is_err());
        assert!(decoded::<List<u64>>(&endless).is_err());
        assert_eq!(encoded(List::from(vec![7_u64, 300])), encoded(vec![7_u64, 300]));
        assert_eq!(*decoded::<List<u64>>(&[2, 7, 8]).unwrap(), [7, 8]);
    }
}
