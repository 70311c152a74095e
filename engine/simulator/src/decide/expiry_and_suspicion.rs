//! How a season ends early, by its player or because it is idle, and suspicion.

use daybook_schema::events::{SeasonAbandoned, SeasonExpired, SuspicionFlagged};
use daybook_schema::{Coins, DayKey, DayNumber, SeasonId, SuspicionCode, UserId, limits};

use super::{Decision, NewEvent};
use crate::rejection::{Rejection, Rejections};
use crate::state::Season;

impl Decision<'_> {
    pub(super) fn abandon(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let season = self.playable(user_id, season_id)?;
        let (escrow_returned, coins, season_secret) = self.early_end(season);
        let event = SeasonAbandoned { escrow_returned, coins, season_secret };
        let next = self.next_commitment(user_id, season.season_number.next().get())?;
        Ok(vec![NewEvent::new(season_id, event), next])
    }

    pub(super) fn expire(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let season = self.season(user_id, season_id)?;
        let expirable_at = match self.state.is_good(season.key_id, season.epoch_number) {
            true => self.state.expirable_at(season).max(self.context.idle_expiry_from),
            false => self.state.expirable_at(season),
        };
        if self.context.now < expirable_at {
            return Err(Rejection::SeasonNotIdle { expirable_at }.into());
        }
        let (escrow_returned, coins, season_secret) = self.early_end(season);
        let event = SeasonExpired { escrow_returned, coins, season_secret };
        let next = self.next_commitment(user_id, season.season_number.next().get())?;
        Ok(vec![NewEvent::new(season_id, event), next])
    }

    /// The escrow that comes back, the balance with it, and the secret if it is to be had.
    fn early_end(&self, season: &Season) -> (Coins, Coins, Option<DayKey>) {
        let escrow = season.escrow_coins();
        let coins = Coins::clamped(season.coins().get().saturating_add(escrow.get()));
        let request = self.state.key_request(season);
        (escrow, coins, self.context.keys.day_key(&request, limits::DAYS_PER_SEASON))
    }

    pub(super) fn flag(
        &self,
        user_id: UserId,
        season_id: SeasonId,
        day_number: DayNumber,
        code: SuspicionCode,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let season = self.season(user_id, season_id)?;
        if day_number > season.day_number {
            let current = season.day_number;
            return Err(Rejection::WrongDay { expected: day_number, current }.into());
        }
        let flagged = season.suspicions.get(&day_number).copied().unwrap_or(0);
        if flagged & (1 << code.number()) != 0 {
            return Err(Rejection::AlreadyFlagged { day_number, code }.into());
        }
        Ok(vec![NewEvent::new(season_id, SuspicionFlagged { day_number, code })])
    }
}
