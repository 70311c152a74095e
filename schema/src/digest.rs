//! BLAKE3 in derive-key mode: every use has a context string of its own, listed in FORMAT.md.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::thread::LocalKey;

pub use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

/// A hasher of the thread's own that is used again and again. Its 2 KB are not made anew for each of
/// the small inputs, which takes as long as hashing them.
type ReusedHasher = RefCell<Option<Box<Hasher>>>;

/// One use of BLAKE3, named by its context string.
#[derive(Debug)]
pub struct Context {
    string: &'static str,
    key: OnceLock<ContextKey>,
    reused: &'static LocalKey<ReusedHasher>,
}

macro_rules! contexts {
    ($($(#[$meta:meta])* $name:ident = $string:literal;)+) => {
        $($(#[$meta])* pub static $name: Context = {
            thread_local! {
                static REUSED: ReusedHasher = const { RefCell::new(None) };
            }
            Context { string: $string, key: OnceLock::new(), reused: &REUSED }
        };)+

        /// Every context there is, in the order of FORMAT.md.
        pub static ALL: &[&Context] = &[$(&$name,)+];
    };
}

contexts! {
    /// hash(0) in format 1: over the genesis.
    GENESIS = "daybook v1 genesis";
    /// hash(0) in format 2: over the genesis with its game.
    GENESIS_2 = "daybook v2 genesis";
    /// hash(n): over hash(n−1) and the other columns of row n.
    EVENT = "daybook v1 event";
    /// The hash of a command as stored.
    COMMAND = "daybook v1 command";
    /// The hash of a state.
    STATE = "daybook v1 state";
    /// The id of a season key.
    KEY_ID = "daybook v1 season key id";
    /// A season's secret k28 from the operator's season key.
    SEASON_SECRET = "daybook v1 season secret";
    /// k(d−1) from k(d).
    DAY_KEY = "daybook v1 day key";
    /// A commitment from k0.
    COMMITMENT = "daybook v1 commitment";
    /// The client's digest from its seed or the command's id.
    CLIENT_SEED = "daybook v1 client seed";
    /// The day seed of d from k(d), the client's digest and d.
    DAY_SEED = "daybook v1 day seed";
    /// The generator of the next day's weather, from a day seed.
    WEATHER_STREAM = "daybook v1 weather stream";
    /// The generator of a day's levels and troubles, from a day seed.
    FILL_STREAM = "daybook v1 fill stream";
    /// The generator of a simulin's personality.
    PERSONALITY_STREAM = "daybook v1 personality stream";
    /// The checksum of a snapshot.
    SNAPSHOT = "daybook v1 snapshot";
    /// Ids that derive from the ledger.
    DERIVED_ID = "daybook v1 derived id";
}

impl Context {
    /// The context string.
    #[must_use]
    pub const fn string(&self) -> &'static str {
        self.string
    }

    /// A hasher that has seen nothing yet.
    #[must_use]
    pub fn hasher(&self) -> Hasher {
        let key = self.key.get_or_init(|| hash_derive_key_context(self.string));
        Hasher::new_from_context_key(key)
    }

    /// The 32 bytes derived from the parts, one after another.
    #[must_use]
    pub fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        let derive = |hasher: &mut Hasher| {
            for part in parts {
                hasher.update(part);
            }
            *hasher.finalize().as_bytes()
        };
        let reused = self.reused.try_with(|reused| {
            let mut reused = reused.try_borrow_mut().ok()?;
            let hasher = reused.get_or_insert_with(|| Box::new(self.hasher()));
            let derived = derive(hasher);
            // Takes what was hashed out of memory, too.
            hasher.reset();
            Some(derived)
        });
        // A thread that ends has none any more.
        reused.ok().flatten().unwrap_or_else(|| derive(&mut self.hasher()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: the contexts are all different, and the fast path is BLAKE3's own derive-key mode.
    #[test]
    fn contexts_are_distinct_and_are_blake3_derive_key() {
        for (index, context) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.string != context.string));
            assert_eq!(
                context.derive(&[b"some ", b"material"]),
                blake3::derive_key(context.string, b"some material")
            );
        }
    }
}
