//! What becomes of seasons and commitments whose season key was compromised or whose epoch has
//! ended: seasons in play expire, commitments are published anew.

use daybook_schema::{KeyId, SeasonId, UnixMicros, UserId, limits};

use crate::state::{PublishedCommitment, Season, State, User};

impl State {
    /// Whether seasons and commitments of this key and epoch are still good.
    #[must_use]
    pub fn is_good(&self, key_id: KeyId, epoch_number: u32) -> bool {
        let compromised =
            self.season_keys.iter().any(|status| status.key_id == key_id && status.compromised);
        epoch_number == self.identity().epoch.number && !compromised
    }

    /// The seasons in play whose key or epoch is no longer good.
    #[must_use]
    pub fn withdrawn_seasons(&self) -> Vec<(UserId, SeasonId)> {
        self.seasons_where(|season| !self.is_good(season.key_id, season.epoch_number))
    }

    /// The users without a season in play whose commitment is not of the key and epoch in force.
    #[must_use]
    pub fn users_to_renew(&self) -> Vec<UserId> {
        let current = (self.current_key(), self.identity().epoch.number);
        let is_outdated = |user: &User| {
            user.next_commitment
                .is_none_or(|next| (Some(next.key_id), next.epoch_number) != current)
        };
        self.users_where(|user| !user.erased && user.season_in_play.is_none() && is_outdated(user))
    }

    /// Whether a season in play or a waiting commitment is of an older epoch than the one in force.
    #[must_use]
    pub fn has_older_epochs_left(&self) -> bool {
        let epoch_number = self.identity().epoch.number;
        let is_waiting = |user: &User| !user.erased && user.season_in_play.is_none();
        let is_older = |next: PublishedCommitment| next.epoch_number != epoch_number;
        self.seasons.any(|season| season.epoch_number != epoch_number)
            || self.users.any(|user| is_waiting(user) && user.next_commitment.is_some_and(is_older))
    }

    /// When the engine may expire a season: at once if its key or epoch is no longer good, else 30
    /// days after its start or last advance.
    #[must_use]
    pub fn expirable_at(&self, season: &Season) -> UnixMicros {
        if self.is_good(season.key_id, season.epoch_number) {
            season.last_progress_at.plus_micros(limits::SEASON_IDLE_MICROS_MAX)
        } else {
            UnixMicros::new(i64::MIN)
        }
    }
}
