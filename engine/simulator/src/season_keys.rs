//! Season keys: the operator's commitment, revealed day by day.

use std::collections::BTreeMap;

use daybook_schema::{
    ClientDigest, Commitment, DayKey, KeyId, LedgerIdentity, SeasonNumber, UserId, digest, limits,
};
use zeroize::ZeroizeOnDrop;

/// Names the season whose keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeasonKeyRequest {
    /// The operator's season key.
    pub key_id: KeyId,
    /// The ledger and the epoch in which the season was promised.
    pub identity: LedgerIdentity,
    /// Whose season.
    pub user_id: UserId,
    /// Which of the user's seasons.
    pub season_number: SeasonNumber,
}

/// Where [`crate::decide`] gets a season's keys from: the operator's season keys when live, the
/// reveals in the events when audited.
pub trait SeasonKeys {
    /// The key of a day, 0 to 28, or `None` where it is not to be had.
    ///
    /// For one season, the key of day d − 1 MUST be [`previous_key`] of the key of day d.
    fn day_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey>;

    /// The same where the engine may keep it, and make the keys of earlier days from it; `None`
    /// where it shall ask for each.
    fn kept_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        let _ = (season, day);
        None
    }

    /// The commitment to the season's keys, or `None` where it is not to be had.
    fn commitment(&self, season: &SeasonKeyRequest) -> Option<Commitment> {
        self.day_key(season, 0).map(|key| commitment_of(&key))
    }
}

/// k(d−1) from k(d).
#[must_use]
pub fn previous_key(key: &DayKey) -> DayKey {
    DayKey::new(digest::DAY_KEY.derive(&[key.as_bytes()]))
}

/// What is published of k0.
#[must_use]
pub fn commitment_of(key_zero: &DayKey) -> Commitment {
    Commitment::new(digest::COMMITMENT.derive(&[key_zero.as_bytes()]))
}

/// The seed of a day (0 for the draw of day 1's weather), from its key and the player's part.
#[must_use]
pub fn day_seed(key: &DayKey, client: &ClientDigest, day: u8) -> [u8; 32] {
    digest::DAY_SEED.derive(&[key.as_bytes(), client.as_bytes(), &[day]])
}

/// One of the operator's season keys. Its bytes leave memory when it is dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SeasonKey([u8; 32]);

impl SeasonKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept secret.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its public name: the first 8 bytes of a hash of it.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let hash = digest::KEY_ID.derive(&[&self.0]);
        let mut first = [0; 8];
        first.copy_from_slice(hash.split_at(8).0);
        KeyId::new(first)
    }

    /// k28 of a season.
    #[must_use]
    pub fn season_secret(&self, season: &SeasonKeyRequest) -> DayKey {
        DayKey::new(digest::SEASON_SECRET.derive(&[
            &self.0,
            &season.identity.to_bytes(),
            season.user_id.as_bytes(),
            &season.season_number.get().to_le_bytes(),
        ]))
    }
}

impl std::fmt::Debug for SeasonKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SeasonKey({})", self.key_id())
    }
}

/// The operator's season keys by their names.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    keys: BTreeMap<KeyId, SeasonKey>,
}

impl Keyring {
    /// A keyring of these keys.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = SeasonKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.key_id(), key)).collect() }
    }

    /// Adds a key.
    pub fn insert(&mut self, key: SeasonKey) {
        self.keys.insert(key.key_id(), key);
    }

    /// Whether it holds a key.
    #[must_use]
    pub fn contains(&self, key_id: &KeyId) -> bool {
        self.keys.contains_key(key_id)
    }

    /// The names of its keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }
}

impl SeasonKeys for Keyring {
    fn day_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        let steps = limits::DAYS_PER_SEASON.checked_sub(day)?;
        let secret = self.keys.get(&season.key_id)?.season_secret(season);
        Some((0..steps).fold(secret, |key, _| previous_key(&key)))
    }

    fn kept_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        self.day_key(season, day)
    }
}
