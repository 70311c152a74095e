//! Coins that moved between the accounts, by UTC day, and what the accounts then held.

use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};
use utoipa::ToSchema;

use super::range::{DaysAsked, Range};
use super::table::{Cell, Table};
use crate::insert::Map;
use crate::read_models::calendar::day_text;

/// The coins of a UTC day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoinDay {
    /// The day, such as `2026-01-05`.
    #[schema(format = "date")]
    pub day: String,
    /// From mint to balances, as seasons started.
    pub started: u64,
    /// From mint to balances, as stipends.
    pub stipends: u64,
    /// From balances to mint, as seasons ended.
    pub ended: u64,
    /// From balances to escrow: stakes placed.
    pub placed: u64,
    /// From escrow to balances: stakes given back.
    pub given_back: u64,
    /// From escrow to house: stakes of bets that were resolved.
    pub staked: u64,
    /// From house to balances: payouts.
    pub paid: u64,
    /// From house to jackpot, in thousandths of a coin.
    pub jackpot_in_millicoins: u64,
    /// From jackpot to balances.
    pub jackpot_out: u64,
    /// What mint has at the end of the day. It issues coins, so it is below zero.
    pub mint: i64,
    /// What the balances of all seasons have then.
    pub balances: i64,
    /// What is in escrow then.
    pub escrow: i64,
    /// What house has then, in thousandths of a coin.
    pub house_millicoins: i64,
    /// What is in the jackpot then, in thousandths of a coin.
    pub jackpot_millicoins: i64,
    /// Whether the day is not over.
    pub partial: bool,
}

impl FromRow<'_, SqliteRow> for CoinDay {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let number = |name| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
        Ok(Self {
            day: row.try_get("day")?,
            started: number("started")?,
            stipends: number("stipends")?,
            ended: number("ended")?,
            placed: number("placed")?,
            given_back: number("given_back")?,
            staked: number("staked")?,
            paid: number("paid")?,
            jackpot_in_millicoins: number("jackpot_in_millicoins")?,
            jackpot_out: number("jackpot_out")?,
            ..Self::default()
        })
    }
}

/// Coins, day by day; a day on which none moved has a row of zeros.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Coins {
    /// The days in order.
    pub days: Vec<CoinDay>,
}

/// Tells how coins moved.
///
/// # Errors
/// What SQLite says.
pub async fn coins(
    database: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<Coins, sqlx::Error> {
    let range = Range::of_ledger(database, asked).await?;
    // From the first day on: what accounts have is the sum of all that moved.
    let moved: Vec<CoinDay> =
        sqlx::query_as("SELECT * FROM coin_days WHERE day <= ?1 ORDER BY day")
            .bind(range.last_text())
            .fetch_all(database)
            .await?;
    let first = range.first_text();
    let (before, asked): (Vec<_>, Vec<_>) = moved.into_iter().partition(|day| day.day < first);
    let mut held = CoinDay::default();
    before.iter().for_each(|day| held.carry(day));
    let mut asked: Map<String, CoinDay> =
        asked.into_iter().map(|day| (day.day.clone(), day)).collect();
    let days = range.days().map(|number| {
        let text = day_text(number);
        let mut day = asked.remove(&text).unwrap_or_default();
        held.carry(&day);
        (day.day, day.partial) = (text, !range.is_over(number));
        (day.mint, day.balances, day.escrow) = (held.mint, held.balances, held.escrow);
        (day.house_millicoins, day.jackpot_millicoins) =
            (held.house_millicoins, held.jackpot_millicoins);
        day
    });
    Ok(Coins { days: days.collect() })
}

impl CoinDay {
    /// Adds what moved on a day to what the accounts held.
    fn carry(&mut self, day: &Self) {
        let of = u64::cast_signed;
        self.mint += of(day.ended) - of(day.started) - of(day.stipends);
        self.balances += of(day.started)
            + of(day.stipends)
            + of(day.given_back)
            + of(day.paid)
            + of(day.jackpot_out)
            - of(day.placed)
            - of(day.ended);
        self.escrow += of(day.placed) - of(day.given_back) - of(day.staked);
        self.house_millicoins +=
            (of(day.staked) - of(day.paid)) * 1_000 - of(day.jackpot_in_millicoins);
        self.jackpot_millicoins += of(day.jackpot_in_millicoins) - of(day.jackpot_out) * 1_000;
    }
}

impl Coins {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> Table {
        let columns = [
            "day",
            "started",
            "stipends",
            "ended",
            "placed",
            "given_back",
            "staked",
            "paid",
            "jackpot_in_millicoins",
            "jackpot_out",
            "mint",
            "balances",
            "escrow",
            "house_millicoins",
            "jackpot_millicoins",
            "partial",
        ];
        let rows = self.days.iter().map(|day| {
            vec![
                Cell::Text(day.day.clone()),
                day.started.into(),
                day.stipends.into(),
                day.ended.into(),
                day.placed.into(),
                day.given_back.into(),
                day.staked.into(),
                day.paid.into(),
                day.jackpot_in_millicoins.into(),
                day.jackpot_out.into(),
                Cell::Whole(day.mint),
                Cell::Whole(day.balances),
                Cell::Whole(day.escrow),
                Cell::Whole(day.house_millicoins),
                Cell::Whole(day.jackpot_millicoins),
                Cell::Flag(day.partial),
            ]
        });
        Table::new("coins", &columns, rows)
    }
}
