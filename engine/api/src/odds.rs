//! The odds of a day that is open: exact chances, and what each bet pays.

use daybook_schema::{BetType, Coins, DayNumber, Pot, RulesetNumber, SeasonId, Threshold, Weather};
use daybook_simulator::odds::{WAYS, return_billionths, threshold_ways};
use daybook_simulator::{Rules, Rulesets, Season, bet_bounds, multiplier};
use serde::Serialize;
use utoipa::ToSchema;

/// The odds of a day.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Odds {
    /// The season.
    #[schema(value_type = String)]
    season_id: SeasonId,
    /// The day that is open.
    day_number: u8,
    /// Its weather.
    #[schema(value_type = String)]
    weather: Weather,
    /// The balance, which bounds the stakes.
    coins: u64,
    /// What each type of bet allows with this balance.
    stakes: Vec<AllowedStake>,
    /// The pots, in the order in which they are resolved.
    pots: Vec<PotOdds>,
}

/// What a type of bet allows.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllowedStake {
    /// The type.
    #[schema(value_type = String)]
    bet_type: BetType,
    /// The smallest stake; null where the type is not allowed at all.
    smallest: Option<u64>,
    /// The largest.
    largest: Option<u64>,
}

/// What the odds of a day depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Today {
    day_number: DayNumber,
    weather: Weather,
    coins: Coins,
}

impl Today {
    /// The open day of a season.
    pub(crate) fn of(season: &Season) -> Self {
        let Season { day_number, weather, .. } = *season;
        Self { day_number, weather, coins: season.coins() }
    }
}

/// The odds of a pot.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PotOdds {
    /// The pot.
    #[schema(value_type = String)]
    pot_id: Pot,
    /// Each threshold as the highest that the level reaches.
    thresholds: Vec<ThresholdOdds>,
    /// What a coin brings back on average, by type of bet.
    returns: Payments<f64>,
}

/// The odds of a threshold.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThresholdOdds {
    /// 50, 80 or 100.
    threshold: u8,
    /// In so many of `waysInAll` equally likely ways it is the highest that is reached.
    ways: u64,
    /// All ways that there are.
    ways_in_all: u64,
    /// The chance, 0 to 1.
    chance: f64,
    /// What a won bet pays, in ten-thousandths of the stake.
    multipliers: Payments<u32>,
}

/// A value for each type of bet that can be won.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payments<T> {
    /// Of a call.
    call: T,
    /// Of a raise.
    raise: T,
    /// Of an all-in.
    all_in: T,
}

impl<T> Payments<T> {
    fn of(value: impl Fn(BetType) -> T) -> Self {
        let (call, raise) = (value(BetType::Call), value(BetType::Raise));
        Self { call, raise, all_in: value(BetType::AllIn) }
    }
}

/// A whole number as one that may be divided; those here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "at most WAYS or a billion")]
const fn part(of: u64, all: u64) -> f64 {
    of as f64 / all as f64
}

impl Odds {
    /// The odds of a season's open day; none where its rules are unknown.
    pub(crate) fn of(season_id: SeasonId, ruleset: RulesetNumber, today: Today) -> Option<Self> {
        let rulesets = Rulesets::default();
        let rules = rulesets.get(ruleset)?;
        let Today { day_number, weather, coins } = today;
        let stakes = BetType::ALL.iter().map(|&bet_type| {
            let allowed = bet_bounds(bet_type, coins);
            AllowedStake {
                bet_type,
                smallest: allowed.map(|(smallest, _)| smallest.get()),
                largest: allowed.map(|(_, largest)| largest.get()),
            }
        });
        Some(Self {
            season_id,
            day_number: day_number.get(),
            weather,
            coins: coins.get(),
            stakes: stakes.collect(),
            pots: Pot::ALL.iter().map(|&pot| PotOdds::of(rules, weather, pot)).collect(),
        })
    }
}

impl PotOdds {
    fn of(rules: &Rules, weather: Weather, pot_id: Pot) -> Self {
        let ways = threshold_ways(rules, weather, pot_id);
        let thresholds = Threshold::ALL.iter().map(|&threshold| ThresholdOdds {
            threshold: threshold.number(),
            ways: ways.get(threshold),
            ways_in_all: WAYS,
            chance: part(ways.get(threshold), WAYS),
            multipliers: Payments::of(|bet_type| {
                multiplier(rules, weather, pot_id, bet_type, threshold)
                    .map_or(0, |multiplier| multiplier.get())
            }),
        });
        let returns = Payments::of(|bet_type| {
            part(return_billionths(rules, weather, pot_id, bet_type), 1_000_000_000)
        });
        Self { pot_id, thresholds: thresholds.collect(), returns }
    }
}
