//! What may be staked.

use daybook_schema::{BetType, Coins, limits};

/// The amounts, smallest and largest, that a type of bet allows with a balance; `None` where it is
/// no bet at all (any but a fold with a balance of 0).
#[must_use]
pub fn bet_bounds(bet_type: BetType, balance: Coins) -> Option<(Coins, Coins)> {
    let balance = balance.get();
    let most = balance.min(limits::BET_COINS_MAX);
    let bounds = match bet_type {
        BetType::Fold => return Some((Coins::ZERO, Coins::ZERO)),
        _ if balance == 0 => return None,
        BetType::Call => (1, (balance / 10).max(1).min(most)),
        BetType::Raise => (1, (balance / 2).max(1).min(most)),
        BetType::AllIn => (most, most),
    };
    Some((Coins::clamped(bounds.0), Coins::clamped(bounds.1)))
}
