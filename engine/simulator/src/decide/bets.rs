//! Placing bets: one to four in a command, all or none.

use daybook_schema::commands::{BetOrder, BetOrders};
use daybook_schema::events::BetPlaced;
use daybook_schema::{Coins, SeasonId, UserId, limits};

use super::{Decision, NewEvent};
use crate::rejection::{Rejection, Rejections};
use crate::stakes::bet_bounds;
use crate::state::Season;

impl Decision<'_> {
    pub(super) fn place_bets(
        &self,
        user_id: UserId,
        season_id: SeasonId,
        bets: &BetOrders,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let season = self.playable(user_id, season_id).map_err(|rejection| match rejection {
            Rejection::SeasonComplete => Rejection::NotInActionPhase,
            other => other,
        })?;
        self.check_day(season)?;
        let mut rejections: Vec<Rejection> = self.check_pace(season).into_iter().collect();
        let mut balance = season.coins();
        let mut taken = season.bets.iter().filter(|(_, bet)| bet.is_some()).fold(
            Vec::with_capacity(limits::POTS),
            |mut pots, (pot, _)| {
                pots.push(pot);
                pots
            },
        );
        let mut events = Vec::with_capacity(limits::POTS);
        for bet in bets.iter() {
            let refused = rejections.len();
            if taken.contains(&bet.pot_id) {
                rejections.push(Rejection::DuplicateBet { pot_id: bet.pot_id });
            }
            check_amount(bet, balance, &mut rejections);
            if rejections.len() > refused {
                continue;
            }
            taken.push(bet.pot_id);
            balance = Coins::clamped(balance.get().saturating_sub(bet.amount.get()));
            let placed = BetPlaced {
                day_number: season.day_number,
                pot_id: bet.pot_id,
                bet_type: bet.bet_type,
                amount: bet.amount,
            };
            events.push(NewEvent::new(season_id, placed));
        }
        Rejections::refuse(rejections)?;
        Ok(events)
    }

    /// A copy that comes late must not bet on the next day. What else there is to check is checked
    /// against the day that was meant.
    fn check_day(&self, season: &Season) -> Result<(), Rejection> {
        let current = season.day_number;
        match self.context.expected_day {
            Some(expected) if expected != current => Err(Rejection::WrongDay { expected, current }),
            _ => Ok(()),
        }
    }

    fn check_pace(&self, season: &Season) -> Option<Rejection> {
        let allowed_at = season.last_bet_at?.plus_micros(limits::BET_INTERVAL_MICROS_MIN);
        (self.context.now < allowed_at).then_some(Rejection::RapidBet { allowed_at })
    }
}

fn check_amount(bet: &BetOrder, balance: Coins, rejections: &mut Vec<Rejection>) {
    let BetOrder { pot_id, bet_type, amount } = *bet;
    if amount > balance {
        rejections.push(Rejection::InsufficientBalance { pot_id, amount, balance });
    }
    let allowed = bet_bounds(bet_type, balance);
    let within = allowed.is_some_and(|(least, most)| least <= amount && amount <= most);
    if amount.get() > limits::BET_COINS_MAX || (amount <= balance && !within) {
        rejections.push(Rejection::AmountNotAllowed { pot_id, bet_type, amount, allowed });
    }
}
