//! Coins that moved between the accounts, by UTC day.

use daybook_schema::Event;
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::insert::{Map, write};
use crate::projection::ApplyError;
use crate::read_models::calendar::day_text;

/// The movements of a batch, by UTC day.
#[derive(Default)]
pub(super) struct CoinDays(Map<i64, Moved>);

#[derive(Default, Serialize)]
struct Moved {
    started: u64,
    stipends: u64,
    ended: u64,
    placed: u64,
    given_back: u64,
    staked: u64,
    paid: u64,
    jackpot_in_millicoins: u64,
    jackpot_out: u64,
}

impl CoinDays {
    pub(super) fn fold(&mut self, event: &Event, day: i64) {
        let mut moved = |movement: fn(&mut Moved) -> &mut u64, amount: u64| {
            *movement(self.0.entry(day).or_default()) += amount;
        };
        match event {
            Event::SeasonStarted(started) => moved(|day| &mut day.started, started.coins.get()),
            Event::StipendGranted(stipend) => moved(|day| &mut day.stipends, stipend.amount.get()),
            Event::BetPlaced(placed) => moved(|day| &mut day.placed, placed.amount.get()),
            Event::BetResolved(resolved) => {
                moved(|day| &mut day.staked, resolved.amount.get());
                moved(|day| &mut day.paid, resolved.payout.get());
                moved(|day| &mut day.jackpot_in_millicoins, resolved.jackpot_share.get());
            }
            Event::JackpotPaid(paid) => moved(|day| &mut day.jackpot_out, paid.amount.get()),
            Event::SeasonCompleted(season) => moved(|day| &mut day.ended, season.coins.get()),
            Event::SeasonAbandoned(season) => {
                moved(|day| &mut day.given_back, season.escrow_returned.get());
                moved(|day| &mut day.ended, season.coins.get());
            }
            Event::SeasonExpired(season) => {
                moved(|day| &mut day.given_back, season.escrow_returned.get());
                moved(|day| &mut day.ended, season.coins.get());
            }
            _ => {}
        }
    }

    pub(super) async fn store(&self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        let days = self.0.iter().map(|(day, moved)| (day_text(*day), moved));
        write(database, STORE, &days.collect::<Vec<_>>()).await
    }
}

const STORE: &str = "INSERT INTO coin_days (day, started, stipends, ended, placed, given_back, \
    staked, paid, jackpot_in_millicoins, jackpot_out) SELECT value->>0, value->>'$[1].started', \
    value->>'$[1].stipends', value->>'$[1].ended', value->>'$[1].placed', \
    value->>'$[1].given_back', value->>'$[1].staked', value->>'$[1].paid', \
    value->>'$[1].jackpot_in_millicoins', value->>'$[1].jackpot_out' FROM json_each(?1) WHERE true \
    ON CONFLICT (day) DO UPDATE SET started = started + excluded.started, \
    stipends = stipends + excluded.stipends, ended = ended + excluded.ended, \
    placed = placed + excluded.placed, given_back = given_back + excluded.given_back, \
    staked = staked + excluded.staked, paid = paid + excluded.paid, \
    jackpot_in_millicoins = jackpot_in_millicoins + excluded.jackpot_in_millicoins, \
    jackpot_out = jackpot_out + excluded.jackpot_out";
