//! The economics of bets: what was staked and paid, beside what the rules say exactly.

use std::sync::LazyLock;

use daybook_schema::events::BetResolved;
use daybook_schema::{BetType, Coins, DayNumber, Pot, SeasonId, Threshold, UserId, Weather};
use daybook_simulator::odds::{ThresholdWays, WAYS, return_billionths, threshold_ways};
use daybook_simulator::{RULESET_1, multiplier, pays};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::insert::{Map, write};
use crate::projection::ApplyError;
use crate::read_models::calendar::day_text;

/// A pot, a type of bet and a weather.
pub(super) type Cell = (Pot, BetType, Weather);

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
    days: Map<(i64, Cell), Sums>,
    first_weeks: Vec<FirstWeek>,
    large_wins: Vec<LargeWin>,
}

/// From here on a win is kept by itself, in coins beyond the stake.
pub const LARGE_WIN_MIN: u64 = 1_000;

/// Season, day, pot, user, type, stake, payout, time.
#[derive(Serialize)]
struct LargeWin(SeasonId, DayNumber, Pot, UserId, BetType, Coins, Coins, i64);

/// User, season, the UTC day on which day 7 was resolved, and its bets.
#[derive(Serialize)]
struct FirstWeek(UserId, SeasonId, String, Sums);

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    bets: u64,
    won: u64,
    staked: u64,
    staked_squared: u64,
    paid: u64,
    /// What bets of these amounts pay on average, each payout floored to whole coins, in millionths
    /// of a coin.
    expected_microcoins: u64,
    /// The variance of what they pay, in thousandths of a squared coin.
    variance_thousandths: u64,
}

impl Sums {
    /// What one bet is.
    pub(super) fn of(cell: Cell, resolved: &BetResolved) -> Self {
        let staked = resolved.amount.get();
        let (expected_microcoins, variance_thousandths) = moments(cell, resolved.amount);
        Self {
            bets: 1,
            won: u64::from(resolved.threshold.is_some()),
            staked,
            staked_squared: staked * staked,
            paid: resolved.payout.get(),
            expected_microcoins,
            variance_thousandths,
        }
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.bets += other.bets;
        self.won += other.won;
        self.staked += other.staked;
        self.staked_squared += other.staked_squared;
        self.paid += other.paid;
        self.expected_microcoins += other.expected_microcoins;
        self.variance_thousandths += other.variance_thousandths;
    }
}

impl Economics {
    pub(super) fn add(&mut self, day: i64, cell: Cell, bet: Sums) {
        self.cells.entry(cell).or_default().add(bet);
        self.days.entry((day, cell)).or_default().add(bet);
    }

    /// Keeps a bet that won much.
    pub(super) fn note_win(
        &mut self,
        (season_id, user_id): (SeasonId, UserId),
        bet_type: BetType,
        resolved: &BetResolved,
        at: i64,
    ) {
        let BetResolved { day_number, pot_id, amount, payout, .. } = *resolved;
        if payout.get().saturating_sub(amount.get()) >= LARGE_WIN_MIN {
            let win =
                LargeWin(season_id, day_number, pot_id, user_id, bet_type, amount, payout, at);
            self.large_wins.push(win);
        }
    }

    /// Day 7 of a user's first season was resolved.
    pub(super) fn end_first_week(
        &mut self,
        user_id: UserId,
        season_id: SeasonId,
        day: i64,
        bets: Sums,
    ) {
        self.first_weeks.push(FirstWeek(user_id, season_id, day_text(day), bets));
    }

    pub(super) async fn store(&self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        let days = self.days.iter().map(|((day, cell), sums)| (cell, sums, day_text(*day)));
        write(database, STORE_DAYS, &days.collect::<Vec<_>>()).await?;
        write(database, STORE_FIRST_WEEKS, &self.first_weeks).await?;
        write(database, STORE_LARGE_WINS, &self.large_wins).await?;
        let rows = self.cells.iter().map(|(&(pot, bet_type, weather), sums)| {
            let exact = return_billionths(&RULESET_1, weather, pot, bet_type);
            ((pot, bet_type, weather), sums, exact)
        });
        write(database, STORE, &rows.collect::<Vec<_>>()).await
    }
}

/// What a bet pays on average, in millionths of a coin, and its variance, in thousandths of a
/// squared coin; each payout floored to whole coins, and both rounded down.
///
/// With w ways of W for a payout p: Σ w p ÷ W, and (W Σ w p² − (Σ w p)²) ÷ W².
fn moments((pot, bet_type, weather): Cell, amount: Coins) -> (u64, u64) {
    let chances = CHANCES.get(&(weather, pot)).copied().unwrap_or_default();
    let (mut sum, mut of_squares) = (0_u128, 0_u128);
    for &threshold in Threshold::ALL {
        if let Some(multiplier) = multiplier(&RULESET_1, weather, pot, bet_type, threshold) {
            let ways = u128::from(chances.get(threshold));
            let payout = u128::from(pays(amount, multiplier).get());
            sum += ways * payout;
            of_squares += ways * payout * payout;
        }
    }
    let all_ways = u128::from(WAYS);
    let expected = sum * 1_000_000 / all_ways;
    let variance =
        (all_ways * of_squares).saturating_sub(sum * sum) * 1_000 / (all_ways * all_ways);
    let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    (whole(expected), whole(variance))
}

/// A statement that adds sums to a table: its key, what else it has, and where both come from.
macro_rules! sums {
    ($table:literal, $key:literal, $more:literal, $values:literal, $exact:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            $key,
            $more,
            ", bets, won, staked, staked_squared, paid, \
             expected_microcoins, variance_thousandths) SELECT ",
            $values,
            $exact,
            ", value->>'$[1].bets', value->>'$[1].won', value->>'$[1].staked', \
             value->>'$[1].staked_squared', value->>'$[1].paid', \
             value->>'$[1].expected_microcoins', value->>'$[1].variance_thousandths' \
             FROM json_each(?1) WHERE true ON CONFLICT (",
            $key,
            ") DO UPDATE SET \
             bets = bets + excluded.bets, won = won + excluded.won, \
             staked = staked + excluded.staked, \
             staked_squared = staked_squared + excluded.staked_squared, \
             paid = paid + excluded.paid, \
             expected_microcoins = expected_microcoins + excluded.expected_microcoins, \
             variance_thousandths = variance_thousandths + excluded.variance_thousandths"
        )
    };
}

const STORE_DAYS: &str = sums!(
    "bet_economics_days",
    "pot_id, bet_type, weather, day",
    "",
    "value->>'$[0][0]', value->>'$[0][1]', value->>'$[0][2]', value->>2",
    ""
);

const STORE: &str = sums!(
    "bet_economics",
    "pot_id, bet_type, weather",
    ", exact_return",
    "value->>'$[0][0]', value->>'$[0][1]', value->>'$[0][2]'",
    ", nullif((value->>'$[2]') / 1e9, 0)"
);

const STORE_LARGE_WINS: &str = "INSERT INTO large_wins (season_id, day_number, pot_id, user_id, \
    bet_type, amount, payout, resolved_at) SELECT value->>0, value->>1, value->>2, value->>3, \
    value->>4, value->>5, value->>6, value->>7 FROM json_each(?1)";

const STORE_FIRST_WEEKS: &str = "INSERT INTO first_weeks (user_id, season_id, resolved_day, bets, \
    staked, paid, expected_microcoins, variance_thousandths) \
    SELECT value->>0, value->>1, value->>2, value->>'$[3].bets', value->>'$[3].staked', \
    value->>'$[3].paid', value->>'$[3].expected_microcoins', \
    value->>'$[3].variance_thousandths' FROM json_each(?1)";
