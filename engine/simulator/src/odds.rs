//! The exact odds of ruleset tables, by enumeration of every roll. Whole numbers throughout.

use daybook_schema::{BetType, Pot, Threshold, Weather};

use crate::payouts::multiplier;
use crate::ruleset_1::LEVEL_DIE_SIDES;
use crate::rulesets::Rules;

/// How many equally likely ways there are: both dice and the event's percent.
pub const WAYS: u64 = LEVEL_DIE_SIDES * LEVEL_DIE_SIDES * 100;

/// The ways in which each threshold is the highest that a pot's level reaches, of [`WAYS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThresholdWays {
    /// Level 50 to 79.
    pub fifty: u64,
    /// Level 80 to 99.
    pub eighty: u64,
    /// Level 100.
    pub hundred: u64,
}

impl ThresholdWays {
    /// The ways in which a bet is won.
    #[must_use]
    pub const fn won(&self) -> u64 {
        self.fifty + self.eighty + self.hundred
    }

    /// The ways of one threshold.
    #[must_use]
    pub const fn get(&self, threshold: Threshold) -> u64 {
        match threshold {
            Threshold::Fifty => self.fifty,
            Threshold::Eighty => self.eighty,
            Threshold::Hundred => self.hundred,
        }
    }
}

/// Enumerates every roll of a pot in a weather.
#[must_use]
pub fn threshold_ways(rules: &Rules, weather: Weather, pot: Pot) -> ThresholdWays {
    let start =
        i64::from(*rules.level_base.get(pot)) + i64::from(*rules.level_shift.get(weather).get(pot));
    let mut ways = ThresholdWays::default();
    for sum in 0..=2 * (LEVEL_DIE_SIDES - 1) {
        // As many pairs of dice show a sum as it lies away from the nearer end, and one more.
        let pairs = sum.min(2 * (LEVEL_DIE_SIDES - 1) - sum) + 1;
        for (_, percent, addition) in rules.pot_events.entries {
            let level = start + i64::try_from(sum).unwrap_or(0) + i64::from(addition);
            match crate::draws::threshold_reached(level) {
                None => {}
                Some(Threshold::Fifty) => ways.fifty += pairs * percent,
                Some(Threshold::Eighty) => ways.eighty += pairs * percent,
                Some(Threshold::Hundred) => ways.hundred += pairs * percent,
            }
        }
    }
    ways
}

/// The exact return of a bet before payouts are floored to whole coins, in billionths of the stake.
#[must_use]
pub fn return_billionths(rules: &Rules, weather: Weather, pot: Pot, bet_type: BetType) -> u64 {
    let ways = threshold_ways(rules, weather, pot);
    let sum: u64 = Threshold::ALL
        .iter()
        .filter_map(|&threshold| {
            let multiplier = multiplier(rules, weather, pot, bet_type, threshold)?;
            Some(ways.get(threshold) * u64::from(multiplier.get()))
        })
        .sum();
    // sum / (WAYS × 10,000), in billionths.
    sum * 100_000 / WAYS
}
