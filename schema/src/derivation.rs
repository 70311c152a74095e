//! Ids that derive from the ledger, so that a rebuild gives the same ones.
//!
//! A derived id is a UUIDv8: its first 48 bits are the time, in milliseconds, of the event that
//! made it, the rest comes from BLAKE3 over what it is the id of.

use uuid::Builder;

use crate::{
    AdoptionNumber, BetId, DayId, DayNumber, Epoch, LeaderboardEntryId, LedgerId, Period, Pot,
    SeasonId, SeasonNumber, SimulinId, Trigger, TriggerId, UnixMicros, UserId, digest,
};

/// What goes into every derived id and key: the ledger and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerIdentity {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Its epoch when the id was made.
    pub epoch: Epoch,
}

/// The kind byte of each derived id.
#[derive(Clone, Copy)]
#[repr(u8)]
enum DerivedKind {
    Season = 1,
    Simulin = 2,
    Day = 3,
    Bet = 4,
    Trigger = 5,
    LeaderboardEntry = 6,
}

impl LedgerIdentity {
    /// The ledger's id and the epoch as bytes: 16, then the number as 4 little-endian, then 16.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        let parts = self
            .ledger_id
            .as_bytes()
            .iter()
            .chain(&self.epoch.number.to_le_bytes())
            .chain(self.epoch.nonce.as_bytes())
            .copied()
            .collect::<Vec<u8>>();
        bytes.copy_from_slice(&parts);
        bytes
    }

    fn derive(&self, kind: DerivedKind, at: UnixMicros, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = digest::DERIVED_ID.hasher();
        hasher.update(&[kind as u8]);
        hasher.update(&self.to_bytes());
        for part in parts {
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        let [_, _, a, b, c, d, e, f] = at.millis().to_be_bytes();
        let [_, _, _, _, _, _, rest @ ..] = bytes;
        let [g, h, i, j, k, l, m, n, o, p] = rest;
        Builder::from_custom_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
            .into_uuid()
            .into_bytes()
    }

    /// The id of a user's season that started at `at`.
    #[must_use]
    pub fn season_id(&self, at: UnixMicros, user: UserId, number: SeasonNumber) -> SeasonId {
        let parts: [&[u8]; 2] = [user.as_bytes(), &number.get().to_le_bytes()];
        SeasonId::from_bytes(self.derive(DerivedKind::Season, at, &parts))
    }

    /// The id of a user's simulin that was adopted at `at`.
    #[must_use]
    pub fn simulin_id(&self, at: UnixMicros, user: UserId, number: AdoptionNumber) -> SimulinId {
        let parts: [&[u8]; 2] = [user.as_bytes(), &number.get().to_le_bytes()];
        SimulinId::from_bytes(self.derive(DerivedKind::Simulin, at, &parts))
    }

    /// The id of a season's day that was opened at `at`.
    #[must_use]
    pub fn day_id(&self, at: UnixMicros, season: SeasonId, day: DayNumber) -> DayId {
        let parts: [&[u8]; 2] = [season.as_bytes(), &[day.get()]];
        DayId::from_bytes(self.derive(DerivedKind::Day, at, &parts))
    }

    /// The id of a bet that was placed at `at`, on a pot on a day (of a season).
    #[must_use]
    pub fn bet_id(&self, at: UnixMicros, season: SeasonId, day: DayNumber, pot: Pot) -> BetId {
        let parts: [&[u8]; 2] = [season.as_bytes(), &[day.get(), pot.number()]];
        BetId::from_bytes(self.derive(DerivedKind::Bet, at, &parts))
    }

    /// The id of a trigger that was earned at `at`, on a day (of a season).
    #[must_use]
    pub fn trigger_id(
        &self,
        at: UnixMicros,
        season: SeasonId,
        day: DayNumber,
        trigger: Trigger,
    ) -> TriggerId {
        let parts: [&[u8]; 2] = [season.as_bytes(), &[day.get(), trigger.number()]];
        TriggerId::from_bytes(self.derive(DerivedKind::Trigger, at, &parts))
    }

    /// The id of a user's row of a board, where `at` is the completion that first put the user
    /// there and the board is told by its period and that period's first UTC day since 1970 (0 for
    /// all time).
    #[must_use]
    pub fn leaderboard_entry_id(
        &self,
        at: UnixMicros,
        period: Period,
        first_day: i32,
        user: UserId,
    ) -> LeaderboardEntryId {
        let parts: [&[u8]; 3] = [&[period.number()], &first_day.to_le_bytes(), user.as_bytes()];
        LeaderboardEntryId::from_bytes(self.derive(DerivedKind::LeaderboardEntry, at, &parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: derived ids keep version, variant, time order and are different for each input.
    #[test]
    fn derived_ids_are_uuids_of_version_8_that_start_with_their_time() {
        let ledger =
            LedgerIdentity { ledger_id: LedgerId::from_bytes([1; 16]), epoch: Epoch::FIRST };
        let user = UserId::from_bytes([2; 16]);
        let at = UnixMicros::new(1_767_225_600_123_456);
        let first = ledger.season_id(at, user, SeasonNumber::MIN);
        let second = ledger.season_id(at, user, SeasonNumber::MIN.next());
        let uuid = uuid::Uuid::from_bytes(*first.as_bytes());
        assert_eq!(uuid.get_version_num(), 8);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(&uuid.as_bytes()[..6], &1_767_225_600_123_u64.to_be_bytes()[2..]);
        assert_ne!(first, second);
        let simulin = ledger.simulin_id(at, user, AdoptionNumber::MIN);
        assert_ne!(simulin.as_bytes(), first.as_bytes());
    }
}
