//! Transfers of coins between the ledger's accounts and those of a season.

use daybook_schema::Coins;

use crate::accounts::Accounts;
use crate::state::Season;

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

    /// Pays a royal flush from the jackpot to a season's balance.
    pub(crate) fn pay_jackpot(&mut self, season: &mut Season, amount: Coins) {
        self.jackpot -= i128::from(amount.to_millicoins().get());
        self.add(season, Account::Balance, i64::try_from(amount.get()).unwrap_or(i64::MAX));
    }
}
