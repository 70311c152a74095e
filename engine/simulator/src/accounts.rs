//! The double entry: coins only ever move from one account to another.

use bincode::{Decode, Encode};
use daybook_schema::{Coins, Millicoins};

/// The accounts of the whole ledger, in millicoins. Their sum is zero after every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Accounts {
    /// Issues coins, and takes back what a season ends with.
    pub mint: i128,
    /// Takes resolved stakes and pays what bets win.
    pub house: i128,
    /// Saves up for royal flushes.
    pub jackpot: i128,
    /// All seasons' balances together.
    pub balances: i128,
    /// All seasons' escrows together.
    pub escrows: i128,
}

/// The accounts do not balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbalanced {
    /// The sum is not zero.
    #[error("the accounts sum to {sum} millicoins, expected 0")]
    Sum {
        /// The sum.
        sum: i128,
    },
    /// An account that may not be is below zero.
    #[error("account {account} holds {millicoins} millicoins, expected 0 or more")]
    Negative {
        /// Which.
        account: &'static str,
        /// What it holds.
        millicoins: i128,
    },
}

impl Accounts {
    /// Moves a stake's share from the house to the jackpot.
    pub(crate) fn save_for_jackpot(&mut self, share: Millicoins) {
        self.house -= i128::from(share.get());
        self.jackpot += i128::from(share.get());
    }

    /// The whole coins that the jackpot holds.
    #[must_use]
    pub fn jackpot_coins(&self) -> Coins {
        Coins::clamped(u64::try_from(self.jackpot / 1_000).unwrap_or(0))
    }

    /// The sum of all accounts.
    #[must_use]
    pub const fn sum(&self) -> i128 {
        self.mint + self.house + self.jackpot + self.balances + self.escrows
    }

    /// Checks that the sum is zero and that none but mint and house is below zero.
    ///
    /// # Errors
    /// [`Unbalanced`] with the first that fails.
    pub fn check(&self) -> Result<(), Unbalanced> {
        if self.sum() != 0 {
            return Err(Unbalanced::Sum { sum: self.sum() });
        }
        let bounded =
            [("jackpot", self.jackpot), ("balances", self.balances), ("escrows", self.escrows)];
        match bounded.into_iter().find(|(_, millicoins)| *millicoins < 0) {
            None => Ok(()),
            Some((account, millicoins)) => Err(Unbalanced::Negative { account, millicoins }),
        }
    }
}
