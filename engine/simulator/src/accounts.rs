//! The double entry: coins only ever move from one account to another.

use daybook_schema::{Coins, Millicoins};
use serde::{Deserialize, Serialize};

use crate::state::Season;

/// The accounts of the whole ledger, in millicoins. Their sum is zero after every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// An account of the double entry; the last two are a season's own.
#[derive(Clone, Copy)]
pub(crate) enum Account {
    Mint,
    House,
    Balance,
    Escrow,
}

impl Accounts {
    /// Moves coins between accounts, of which `Balance` and `Escrow` are the season's.
    pub(crate) fn transfer(
        &mut self,
        season: &mut Season,
        from: Account,
        to: Account,
        amount: Coins,
    ) {
        let coins = i64::try_from(amount.get()).unwrap_or(i64::MAX);
        self.add(season, from, -coins);
        self.add(season, to, coins);
    }

    fn add(&mut self, season: &mut Season, account: Account, coins: i64) {
        let millicoins = i128::from(coins) * 1_000;
        match account {
            Account::Mint => self.mint += millicoins,
            Account::House => self.house += millicoins,
            Account::Balance => {
                season.balance = season.balance.saturating_add(coins);
                self.balances += millicoins;
            }
            Account::Escrow => {
                season.escrow = season.escrow.saturating_add(coins);
                self.escrows += millicoins;
            }
        }
    }

    /// Moves a stake's share from the house to the jackpot.
    pub(crate) fn save_for_jackpot(&mut self, share: Millicoins) {
        self.house -= i128::from(share.get());
        self.jackpot += i128::from(share.get());
    }

    /// Pays a royal flush from the jackpot to a season's balance.
    pub(crate) fn pay_jackpot(&mut self, season: &mut Season, amount: Coins) {
        self.jackpot -= i128::from(amount.to_millicoins().get());
        self.add(season, Account::Balance, i64::try_from(amount.get()).unwrap_or(i64::MAX));
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
