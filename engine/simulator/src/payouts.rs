//! What a won bet pays.

use daybook_schema::{BasisPoints, BetType, Coins, Pot, Threshold, Weather};

use crate::rulesets::Rules;

/// The multiplier of a bet; a fold has none.
#[must_use]
pub fn multiplier(
    rules: &Rules,
    weather: Weather,
    pot: Pot,
    bet_type: BetType,
    threshold: Threshold,
) -> Option<BasisPoints> {
    let cell = rules.multipliers.get(weather).get(pot);
    let multipliers = match bet_type {
        BetType::Fold => return None,
        BetType::Call => cell.call,
        BetType::Raise => cell.raise,
        BetType::AllIn => cell.all_in,
    };
    Some(multipliers.get(threshold))
}

/// What a won bet pays: `amount × multiplier div 10,000`.
#[must_use]
pub fn pays(amount: Coins, multiplier: BasisPoints) -> Coins {
    let product = u128::from(amount.get()) * u128::from(multiplier.get()) / 10_000;
    Coins::clamped(u64::try_from(product).unwrap_or(u64::MAX))
}
