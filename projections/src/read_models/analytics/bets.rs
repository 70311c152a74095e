//! The economics of bets: what was staked and paid, beside what the rules say exactly.

use std::sync::LazyLock;

use daybook_schema::events::BetResolved;
use daybook_schema::{BetType, Coins, Pot, Threshold, Weather};
use daybook_simulator::odds::{ThresholdWays, WAYS, return_billionths, threshold_ways};
use daybook_simulator::{RULESET_1, multiplier, pays};
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::insert::{Map, write};
use crate::projection::ApplyError;
use crate::read_models::calendar::day_text;

/// A pot, a type of bet and a weather.
type Cell = (Pot, BetType, Weather);

/// The chances of each pot in each weather, enumerated once.
static CHANCES: LazyLock<Map<(Weather, Pot), ThresholdWays>> = LazyLock::new(|| {
    let cells =
        Weather::ALL.iter().flat_map(|&weather| Pot::ALL.iter().map(move |&pot| (weather, pot)));
    cells.map(|(weather, pot)| ((weather, pot), threshold_ways(&RULESET_1, weather, pot))).collect()
});

/// The bets of a batch.
#[derive(Default)]
pub(super) struct Economics {
    cells: Map<Cell, Sums>,
    /// By UTC day.
    days: Map<i64, Sums>,
}

#[derive(Default, Serialize)]
struct Sums {
    bets: u64,
    won: u64,
    staked: u64,
    paid: u64,
    /// What bets of these amounts pay on average, each payout floored to whole coins, in millionths
    /// of a coin.
    expected_microcoins: u64,
}

impl Economics {
    pub(super) fn add(&mut self, day: i64, cell: Cell, resolved: &BetResolved) {
        let expected_microcoins = expected_microcoins(cell, resolved.amount);
        for sums in [self.cells.entry(cell).or_default(), self.days.entry(day).or_default()] {
            sums.bets += 1;
            sums.won += u64::from(resolved.threshold.is_some());
            sums.staked += resolved.amount.get();
            sums.paid += resolved.payout.get();
            sums.expected_microcoins += expected_microcoins;
        }
    }

    pub(super) async fn store(&self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        let days = self.days.iter().map(|(day, sums)| (day_text(*day), sums));
        write(database, STORE_DAYS, &days.collect::<Vec<_>>()).await?;
        let rows = self.cells.iter().map(|(&(pot, bet_type, weather), sums)| {
            let exact = return_billionths(&RULESET_1, weather, pot, bet_type);
            ((pot, bet_type, weather), sums, exact)
        });
        write(database, STORE, &rows.collect::<Vec<_>>()).await
    }
}

/// Σ over the thresholds of chance × floor(amount × multiplier).
fn expected_microcoins((pot, bet_type, weather): Cell, amount: Coins) -> u64 {
    let ways = CHANCES.get(&(weather, pot)).copied().unwrap_or_default();
    let sum: u64 = Threshold::ALL
        .iter()
        .filter_map(|&threshold| {
            let multiplier = multiplier(&RULESET_1, weather, pot, bet_type, threshold)?;
            Some(ways.get(threshold) * pays(amount, multiplier).get())
        })
        .sum();
    let microcoins = u128::from(sum) * 1_000_000 / u128::from(WAYS);
    u64::try_from(microcoins).unwrap_or(u64::MAX)
}

const STORE_DAYS: &str = "INSERT INTO bet_economics_days (day, bets, won, staked, paid, \
    expected_microcoins) SELECT value->>0, value->>'$[1].bets', value->>'$[1].won', \
    value->>'$[1].staked', value->>'$[1].paid', value->>'$[1].expected_microcoins' \
    FROM json_each(?1) WHERE true \
    ON CONFLICT (day) DO UPDATE SET bets = bets + excluded.bets, won = won + excluded.won, \
    staked = staked + excluded.staked, paid = paid + excluded.paid, \
    expected_microcoins = expected_microcoins + excluded.expected_microcoins";

const STORE: &str = "INSERT INTO bet_economics (pot_id, bet_type, weather, bets, won, staked, paid, \
    expected_microcoins, exact_return) \
    SELECT value->>'$[0][0]', value->>'$[0][1]', value->>'$[0][2]', value->>'$[1].bets', value->>'$[1].won', \
    value->>'$[1].staked', value->>'$[1].paid', value->>'$[1].expected_microcoins', \
    nullif((value->>'$[2]') / 1e9, 0) FROM json_each(?1) WHERE true \
    ON CONFLICT (pot_id, bet_type, weather) DO UPDATE SET bets = bets + excluded.bets, \
    won = won + excluded.won, staked = staked + excluded.staked, paid = paid + excluded.paid, \
    expected_microcoins = expected_microcoins + excluded.expected_microcoins";
