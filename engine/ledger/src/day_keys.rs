//! Keys of days, with fewer steps: of each season in play the key of its current week's end is kept.

use std::cell::RefCell;
use std::collections::HashMap;

use daybook_schema::{Commitment, DayKey, KeyId, SeasonNumber, UserId, limits};
use daybook_simulator::{SeasonKeyRequest, SeasonKeys, previous_key};
use foldhash::fast::RandomState;

/// A source of season keys, asked once a week of each season. The key of day 1 is 27 steps away from
/// the season's secret, and at most 6 from the key of day 7.
pub(crate) struct DayKeys {
    source: Box<dyn SeasonKeys + Send>,
    weeks: RefCell<HashMap<UserId, WeekEnd, RandomState>>,
}

/// The key of the last day of a week. It is the season's that has these: a user has one in play.
struct WeekEnd {
    key_id: KeyId,
    epoch_number: u32,
    season_number: SeasonNumber,
    day: u8,
    key: DayKey,
}

impl WeekEnd {
    /// The key of an earlier day of the week, or of this one.
    fn step_down(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        let is_of_season = self.season_number == season.season_number
            && self.key_id == season.key_id
            && self.epoch_number == season.identity.epoch.number;
        let steps = self.day.checked_sub(day).filter(|steps| *steps <= limits::DAYS_PER_WEEK)?;
        is_of_season.then(|| (0..steps).fold(self.key, |key, _| previous_key(&key)))
    }
}

impl DayKeys {
    pub(crate) fn new(source: Box<dyn SeasonKeys + Send>) -> Self {
        Self { source, weeks: RefCell::default() }
    }

    /// Forgets what is kept of a user's season, which is over.
    pub(crate) fn forget(&self, user_id: &UserId) {
        self.weeks.borrow_mut().remove(user_id);
    }
}

impl SeasonKeys for DayKeys {
    fn day_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        let mut weeks = self.weeks.borrow_mut();
        let known = weeks.get(&season.user_id).and_then(|week| week.step_down(season, day));
        if known.is_some() {
            return known;
        }
        let week_end = day.max(1).next_multiple_of(limits::DAYS_PER_WEEK);
        let Some(key) = self.source.kept_key(season, week_end) else {
            return self.source.day_key(season, day);
        };
        let week = WeekEnd {
            key_id: season.key_id,
            epoch_number: season.identity.epoch.number,
            season_number: season.season_number,
            day: week_end,
            key,
        };
        let key = week.step_down(season, day);
        weeks.insert(season.user_id, week);
        key
    }

    /// Most commitments are to seasons that are not begun yet: nothing is kept of these.
    fn commitment(&self, season: &SeasonKeyRequest) -> Option<Commitment> {
        self.source.commitment(season)
    }
}

#[cfg(test)]
mod tests {
    use daybook_schema::{Epoch, LedgerId, LedgerIdentity};
    use daybook_simulator::{Keyring, SeasonKey};

    use super::*;

    fn request(user: u8, number: u32, epoch: u32, key_id: KeyId) -> SeasonKeyRequest {
        let epoch = Epoch { number: epoch, ..Epoch::FIRST };
        let identity = LedgerIdentity { ledger_id: LedgerId::from_bytes([1; 16]), epoch };
        let season_number = SeasonNumber::clamped(number);
        let user_id = UserId::from_bytes([user; 16]);
        SeasonKeyRequest { key_id, identity, user_id, season_number }
    }

    /// Guards: whatever was asked before, every key and commitment is the source's own.
    #[test]
    fn keys_are_the_sources_in_whatever_order_they_are_asked_for() {
        let (first, second) = (SeasonKey::new([7; 32]), SeasonKey::new([8; 32]));
        let ids = [first.key_id(), second.key_id(), SeasonKey::new([9; 32]).key_id()];
        let source = Keyring::new([first, second]);
        let keys = DayKeys::new(Box::new(source.clone()));
        for step in 0..4_000_u32 {
            // Days, seasons, epochs and keys in an order that looks random, and most of it forward.
            let drawn = step.wrapping_mul(2_654_435_761) >> 16;
            let day = u8::try_from(if step % 3 == 0 { drawn % 30 } else { step % 29 }).unwrap();
            let user = u8::try_from(drawn % 3).unwrap();
            let id = ids[usize::try_from(drawn / 64 % 7 / 3).unwrap()];
            let season = request(user, 1 + drawn / 8 % 2, drawn / 16 % 2, id);
            assert_eq!(keys.day_key(&season, day), source.day_key(&season, day), "{step}");
            assert_eq!(keys.commitment(&season), source.commitment(&season));
            if step % 97 == 0 {
                keys.forget(&season.user_id);
            }
        }
        assert!(keys.weeks.borrow().len() <= 3, "one a user");
    }
}
