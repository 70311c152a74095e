//! What bets gave back, beside what the rules give for these very stakes.

use std::collections::{BTreeMap, VecDeque};

use daybook_schema::{BetType, Pot, Weather};
use daybook_simulator::RULESET_1;
use daybook_simulator::odds::return_billionths;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};
use utoipa::ToSchema;

use super::range::{DaysAsked, Range};
use super::table::{Cell, Table};
use crate::read_models::calendar::day_text;

/// 95 of 100 sums lie within so many standard deviations.
const INTERVAL_DEVIATIONS: f64 = 1.96;
/// A sum further away than so many is an alarm: that of one cell in 16,000 is, by chance.
const ALARM_DEVIATIONS: f64 = 4.0;
/// The days that are looked at together.
const ALARM_DAYS: i64 = 30;
/// So many bets of equal stakes are needed, or as much as that: (Σ stake)² ÷ Σ stake².
const ALARM_BETS_MIN: f64 = 1_000.0;

/// A pot, a type of bet and a weather.
type CellKey = (Pot, BetType, Weather);

/// How rows are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetsBy {
    /// A row for each pot, type and weather.
    Cell,
    /// A row for each of these on each day.
    DayAndCell,
}

/// Bets that were resolved. A coin that was given back was not staked.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetRow {
    /// The UTC day of the resolution, where rows are by day.
    #[schema(format = "date")]
    pub day: Option<String>,
    /// The pot; none in the row of all.
    #[schema(value_type = Option<String>)]
    pub pot_id: Option<Pot>,
    /// The type; none in the row of all.
    #[schema(value_type = Option<String>)]
    pub bet_type: Option<BetType>,
    /// The weather; none in the row of all.
    #[schema(value_type = Option<String>)]
    pub weather: Option<Weather>,
    /// How many, folds too.
    pub bets: u64,
    /// How many were won.
    pub won: u64,
    /// Coins staked.
    pub staked: u64,
    /// Coins paid.
    pub paid: u64,
    /// Coins that these stakes pay on average, each payout floored to whole coins.
    pub expected: f64,
    /// `paid` of `staked`; none where nothing was staked.
    pub actual_return: Option<f64>,
    /// `expected` of `staked`.
    pub expected_return: Option<f64>,
    /// (expected − 1.96 √variance) of `staked`.
    pub low_return: Option<f64>,
    /// (expected + 1.96 √variance) of `staked`.
    pub high_return: Option<f64>,
    /// What the rules give before payouts are floored; none for folds and in the row of all.
    pub exact_return: Option<f64>,
    /// (paid − expected) ÷ √variance; none where there is no variance.
    pub deviations: Option<f64>,
}

/// A cell whose payouts over 30 days are further from what the rules give than chance explains.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// The last of the 30 UTC days, which is over.
    #[schema(format = "date")]
    pub day: String,
    /// The pot.
    #[schema(value_type = String)]
    pub pot_id: Pot,
    /// The type.
    #[schema(value_type = String)]
    pub bet_type: BetType,
    /// The weather.
    #[schema(value_type = String)]
    pub weather: Weather,
    /// Coins staked.
    pub staked: u64,
    /// Coins paid.
    pub paid: u64,
    /// Coins that these stakes pay on average.
    pub expected: f64,
    /// (paid − expected) ÷ √variance.
    pub deviations: f64,
}

/// The jackpot, which is no part of any bet's return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JackpotLine {
    /// What stakes gave to it, in thousandths of a coin.
    pub in_millicoins: u64,
    /// Coins that it paid.
    pub out: u64,
}

/// What bets gave back.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetReturns {
    /// By pot, type and weather, or by these and the day.
    pub rows: Vec<BetRow>,
    /// All of them.
    pub all: BetRow,
    /// The jackpot on the same days.
    pub jackpot: JackpotLine,
    /// How many pots, types and weathers had enough bets to be judged within the 30 days that end
    /// with `judgedDay`.
    pub judged: u64,
    /// The last of the days asked for that is over; none where no day is.
    #[schema(format = "date")]
    pub judged_day: Option<String>,
    /// Where the payouts of 30 days were out of what chance explains, day by day.
    pub alarms: Vec<Alarm>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    bets: u64,
    won: u64,
    staked: u64,
    staked_squared: f64,
    paid: u64,
    expected_microcoins: u64,
    variance_thousandths: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.bets += other.bets;
        self.won += other.won;
        self.staked += other.staked;
        self.staked_squared += other.staked_squared;
        self.paid += other.paid;
        self.expected_microcoins += other.expected_microcoins;
        self.variance_thousandths += other.variance_thousandths;
    }

    fn expected(&self) -> f64 {
        self.expected_microcoins as f64 / 1e6
    }

    fn deviation(&self) -> f64 {
        (self.variance_thousandths / 1e3).sqrt()
    }

    fn deviations(&self) -> Option<f64> {
        let deviation = self.deviation();
        (deviation > 0.0).then(|| (self.paid as f64 - self.expected()) / deviation)
    }

    fn row(&self, day: Option<String>, cell: Option<CellKey>) -> BetRow {
        let staked = self.staked as f64;
        let of_staked = |coins: f64| (self.staked > 0).then(|| coins / staked);
        let interval = INTERVAL_DEVIATIONS * self.deviation();
        let exact = cell.map(|(pot, bet_type, weather)| {
            return_billionths(&RULESET_1, weather, pot, bet_type) as f64 / 1e9
        });
        BetRow {
            day,
            pot_id: cell.map(|(pot, ..)| pot),
            bet_type: cell.map(|(_, bet_type, _)| bet_type),
            weather: cell.map(|(.., weather)| weather),
            bets: self.bets,
            won: self.won,
            staked: self.staked,
            paid: self.paid,
            expected: self.expected(),
            actual_return: of_staked(self.paid as f64),
            expected_return: of_staked(self.expected()),
            low_return: of_staked(self.expected() - interval),
            high_return: of_staked(self.expected() + interval),
            exact_return: exact.filter(|exact| *exact > 0.0),
            deviations: self.deviations(),
        }
    }
}

/// A cell's bets of a day.
struct DayCell {
    day: i64,
    cell: CellKey,
    sums: Sums,
}

impl FromRow<'_, SqliteRow> for DayCell {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        fn named<T: std::str::FromStr>(row: &SqliteRow, name: &str) -> Result<T, sqlx::Error>
        where
            T::Err: std::error::Error + Send + Sync + 'static,
        {
            let text: &str = row.try_get(name)?;
            text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
        }
        let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
        Ok(Self {
            day: row.try_get("day_number")?,
            cell: (named(row, "pot_id")?, named(row, "bet_type")?, named(row, "weather")?),
            sums: Sums {
                bets: number("bets")?,
                won: number("won")?,
                staked: number("staked")?,
                staked_squared: number("staked_squared")? as f64,
                paid: number("paid")?,
                expected_microcoins: number("expected_microcoins")?,
                variance_thousandths: number("variance_thousandths")? as f64,
            },
        })
    }
}

/// Tells what the bets gave back that were resolved on some days.
///
/// # Errors
/// What SQLite says.
pub async fn bets(
    database: &mut SqliteConnection,
    asked: DaysAsked,
    by: BetsBy,
) -> Result<BetReturns, sqlx::Error> {
    let range = Range::of_ledger(database, asked).await?;
    let days: Vec<DayCell> = sqlx::query_as(
        "SELECT *, unixepoch(day) / 86400 AS day_number FROM bet_economics_days \
         WHERE day BETWEEN ?1 AND ?2 ORDER BY day",
    )
    .bind(day_text(range.first - (ALARM_DAYS - 1)))
    .bind(range.last_text())
    .fetch_all(&mut *database)
    .await?;
    let (mut cells, mut all) = (BTreeMap::new(), Sums::default());
    for row in days.iter().filter(|row| row.day >= range.first) {
        all.add(&row.sums);
        let day = (by == BetsBy::DayAndCell).then_some(row.day);
        cells
            .entry((day, names(row.cell)))
            .or_insert_with(|| (row.cell, Sums::default()))
            .1
            .add(&row.sums);
    }
    let rows = cells
        .iter()
        .map(|((day, _), (cell, sums))| sums.row(day.map(day_text), Some(*cell)))
        .collect();
    let (in_millicoins, out): (i64, i64) = sqlx::query_as(
        "SELECT coalesce(sum(jackpot_in_millicoins), 0), coalesce(sum(jackpot_out), 0) \
         FROM coin_days WHERE day BETWEEN ?1 AND ?2",
    )
    .bind(range.first_text())
    .bind(range.last_text())
    .fetch_one(database)
    .await?;
    let (judged, alarms) = alarms(&days, range);
    Ok(BetReturns {
        rows,
        all: all.row(None, None),
        jackpot: JackpotLine {
            in_millicoins: in_millicoins.unsigned_abs(),
            out: out.unsigned_abs(),
        },
        judged,
        judged_day: range.days().filter(|day| range.is_over(*day)).last().map(day_text),
        alarms,
    })
}

/// The order of rows: by name.
fn names((pot, bet_type, weather): CellKey) -> [&'static str; 3] {
    [pot.as_str(), bet_type.as_str(), weather.as_str()]
}

/// Looks at each cell each day that is over, with the 29 days before it. Tells how many could be
/// judged on the last of these.
fn alarms(days: &[DayCell], range: Range) -> (u64, Vec<Alarm>) {
    let mut cells: BTreeMap<_, VecDeque<&DayCell>> = BTreeMap::new();
    let mut rest = days.iter().peekable();
    let (mut judged, mut alarms) = (0, Vec::new());
    for day in range.days().filter(|day| range.is_over(*day)) {
        while let Some(row) = rest.next_if(|row| row.day <= day) {
            cells.entry(names(row.cell)).or_default().push_back(row);
        }
        judged = 0;
        for watched in cells.values_mut() {
            while watched.pop_front_if(|row| row.day <= day - ALARM_DAYS).is_some() {}
            let mut sums = Sums::default();
            watched.iter().for_each(|row| sums.add(&row.sums));
            let staked = sums.staked as f64;
            let is_enough =
                sums.staked > 0 && staked * staked >= ALARM_BETS_MIN * sums.staked_squared;
            judged += u64::from(is_enough);
            let far = sums.deviations().filter(|far| is_enough && far.abs() > ALARM_DEVIATIONS);
            if let (Some(deviations), Some(row)) = (far, watched.front()) {
                let (pot_id, bet_type, weather) = row.cell;
                alarms.push(Alarm {
                    day: day_text(day),
                    pot_id,
                    bet_type,
                    weather,
                    staked: sums.staked,
                    paid: sums.paid,
                    expected: sums.expected(),
                    deviations,
                });
            }
        }
    }
    (judged, alarms)
}

impl BetRow {
    fn cells(&self) -> Vec<Cell> {
        let text = |name: Option<&'static str>| {
            name.map_or_else(|| Cell::Text("all".to_owned()), |name| Cell::Text(name.to_owned()))
        };
        vec![
            text(self.pot_id.map(Pot::as_str)),
            text(self.bet_type.map(BetType::as_str)),
            text(self.weather.map(Weather::as_str)),
            self.bets.into(),
            self.won.into(),
            self.staked.into(),
            self.paid.into(),
            Cell::Number(self.expected),
            Cell::share(self.actual_return),
            Cell::share(self.expected_return),
            Cell::share(self.low_return),
            Cell::share(self.high_return),
            Cell::share(self.exact_return),
            Cell::number(self.deviations),
        ]
    }
}

const COLUMNS: [&str; 14] = [
    "pot_id",
    "bet_type",
    "weather",
    "bets",
    "won",
    "staked",
    "paid",
    "expected",
    "actual_return",
    "expected_return",
    "low_return",
    "high_return",
    "exact_return",
    "deviations",
];

impl BetReturns {
    /// The rows, without that of all.
    #[must_use]
    pub fn table(&self) -> Table {
        let by_day = self.rows.iter().any(|row| row.day.is_some());
        let columns: Vec<&str> = by_day.then_some("day").into_iter().chain(COLUMNS).collect();
        let rows = self.rows.iter().map(|row| {
            let day = row.day.clone().map(Cell::Text);
            day.into_iter().chain(row.cells()).collect()
        });
        Table::new("bets", &columns, rows)
    }

    /// The row of all.
    #[must_use]
    pub fn all_table(&self) -> Table {
        Table::new("all_bets", &COLUMNS, [self.all.cells()])
    }

    /// The alarms.
    #[must_use]
    pub fn alarms_table(&self) -> Table {
        let columns =
            ["day", "pot_id", "bet_type", "weather", "staked", "paid", "expected", "deviations"];
        let rows = self.alarms.iter().map(|alarm| {
            vec![
                Cell::Text(alarm.day.clone()),
                Cell::Text(alarm.pot_id.to_string()),
                Cell::Text(alarm.bet_type.to_string()),
                Cell::Text(alarm.weather.to_string()),
                alarm.staked.into(),
                alarm.paid.into(),
                Cell::Number(alarm.expected),
                Cell::Number(alarm.deviations),
            ]
        });
        Table::new("alarms", &columns, rows)
    }
}
