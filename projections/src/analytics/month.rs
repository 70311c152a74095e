//! A month in figures: by day, and summed over the month, the year and all time.

use jiff::civil::Date;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::active::{ActiveDay, active_days};
use super::bets::{BetReturns, BetsBy, bets};
use super::coins::{CoinDay, coins};
use super::range::{DaysAsked, Range, number_of};
use super::retention::{Cohort, Retention, RetentionAverage, averages, retention};
use super::table::{Cell, Table};
use crate::read_models::calendar::day_text;

const DAY_SECONDS: i64 = 86_400;
/// A season without a command for so long before the end is interrupted, in seconds.
const INTERRUPTED_AFTER: i64 = DAY_SECONDS;

/// What is counted of a time, from a second to before another; the third value is how large a large
/// win is.
const COUNTED: [&str; 9] = [
    "SELECT count(*) FROM seasons WHERE started_at >= ?1 AND started_at < ?2 AND ?3 > 0",
    "SELECT count(*) FROM season_ends WHERE ended_at >= ?1 AND ended_at < ?2 AND ?3 > 0 \
     AND how = 'completed'",
    "SELECT count(*) FROM season_ends WHERE ended_at >= ?1 AND ended_at < ?2 AND ?3 > 0 \
     AND how = 'abandoned'",
    "SELECT count(*) FROM season_ends WHERE ended_at >= ?1 AND ended_at < ?2 AND ?3 > 0 \
     AND how LIKE 'expired%'",
    "SELECT count(*) FROM large_wins WHERE resolved_at >= ?1 AND resolved_at < ?2 \
     AND payout - amount >= ?3",
    "SELECT coalesce(sum(payout), 0) FROM large_wins WHERE resolved_at >= ?1 \
     AND resolved_at < ?2 AND payout - amount >= ?3",
    "SELECT count(*) FROM flags WHERE flagged_at >= ?1 AND flagged_at < ?2 AND ?3 > 0",
    "SELECT count(*) FROM ledger_events WHERE recorded_at >= ?1 AND recorded_at < ?2 \
     AND ?3 > 0 AND kind = 'key_rotated'",
    "SELECT count(*) FROM ledger_events WHERE recorded_at >= ?1 AND recorded_at < ?2 \
     AND ?3 > 0 AND kind = 'ledger_restored'",
];

/// A day of the month.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MonthDay {
    /// Who was active.
    #[serde(flatten)]
    pub active: ActiveDay,
    /// Bets that were resolved.
    pub bets: u64,
    /// How coins moved.
    pub coins: CoinDay,
}

/// Figures of a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Period {
    /// `month`, `year` or `beginning`.
    pub name: &'static str,
    /// The first UTC day.
    pub from: String,
    /// The last UTC day; before the first where there is none.
    pub until: String,
    /// Users who were active.
    pub active: u64,
    /// Those of them who were never active before.
    pub new: u64,
    /// Seasons that started.
    pub seasons_started: u64,
    /// Seasons that ended, by how: completed, abandoned, expired.
    pub seasons_completed: u64,
    /// See `seasonsCompleted`.
    pub seasons_abandoned: u64,
    /// See `seasonsCompleted`.
    pub seasons_expired: u64,
    /// Stakes that were given back.
    pub given_back: u64,
    /// What bets gave back, by pot, type and weather, with the jackpot and the alarms.
    pub bets: BetReturns,
    /// Bets that won as much beyond their stake as was asked for, or more.
    pub large_wins: u64,
    /// Coins that these paid.
    pub large_wins_paid: u64,
    /// Suspicious commands and claims that were flagged.
    pub flags: u64,
    /// Rotations of keys, those by which older keys were given up included.
    pub key_rotations: u64,
    /// Losses of events that were accepted.
    pub restores: u64,
}

/// A bet that won much.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LargeWin {
    /// The season.
    pub season_id: String,
    /// The user.
    pub user_id: String,
    /// The day of the season.
    pub day_number: i64,
    /// The pot.
    pub pot_id: String,
    /// The type.
    pub bet_type: String,
    /// Coins staked.
    pub amount: i64,
    /// Coins paid.
    pub payout: i64,
    /// When, in seconds since 1970.
    pub resolved_at: i64,
}

/// Something that the operator did to the ledger, or that was flagged.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// The event.
    pub seq: i64,
    /// What: `key_rotated`, `ledger_restored`, or the code of a flag.
    pub what: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The event's fields as JSON, or the season.
    pub detail: String,
}

/// A month in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Month {
    /// The month's first day.
    pub first: String,
    /// The last day of the figures: the month's, or the last that is over; none where no day of the
    /// month is over.
    pub until: Option<String>,
    /// Whether the month is not over.
    pub partial: bool,
    /// The days up to there.
    pub days: Vec<MonthDay>,
    /// The month, the year up to there, and all time up to there.
    pub periods: Vec<Period>,
    /// Seasons in play at the end without a command for 24 hours.
    pub interrupted_seasons: u64,
    /// Coins in their balances and in escrow.
    pub interrupted_coins: u64,
    /// Bets of the month that won as much as was asked for, the largest first; 100 at most.
    pub large_wins: Vec<LargeWin>,
    /// What was flagged in the month; 100 at most.
    pub flags: Vec<Noted>,
    /// What the operator did to the ledger in the month.
    pub ledger_events: Vec<Noted>,
    /// The month's cohorts, and who of them came back up to the end.
    pub cohorts: Vec<Cohort>,
    /// The average of these cohorts, by n.
    pub averages: Vec<RetentionAverage>,
}

/// Tells a month. A win is large from so many coins beyond the stake, at least 1,000.
///
/// # Errors
/// What SQLite says.
pub async fn month(
    database: &mut SqliteConnection,
    first: Date,
    large_win: u64,
) -> Result<Month, sqlx::Error> {
    let (first, last) = (first.first_of_month(), first.last_of_month());
    let reached = Range::of_ledger(database, DaysAsked::ALL).await?;
    let last_over = number_of(last).min(reached.newest - 1);
    let is_over = last_over >= number_of(first);
    let until = last_over;
    let until_date = date(until);
    let asked = DaysAsked { from: first, until: until_date };
    let active = active_days(database, asked).await?.days;
    let coins = coins(database, asked).await?.days;
    let by_day = bets(database, asked, BetsBy::DayAndCell).await?;
    let days = active.into_iter().zip(coins).map(|(active, coins)| {
        let of_day = by_day.rows.iter().filter(|row| row.day.as_ref() == Some(&active.day));
        let bets = of_day.map(|row| row.bets).sum();
        MonthDay { active, bets, coins }
    });
    let mut month = Month {
        first: first.to_string(),
        until: is_over.then(|| day_text(until)),
        partial: until < number_of(last),
        days: days.collect(),
        periods: Vec::new(),
        interrupted_seasons: 0,
        interrupted_coins: 0,
        large_wins: Vec::new(),
        flags: Vec::new(),
        ledger_events: Vec::new(),
        cohorts: Vec::new(),
        averages: Vec::new(),
    };
    if is_over {
        month.cohorts = cohorts_until(database, asked, until).await?;
        month.averages = averages(&month.cohorts);
    }
    let begun = [
        ("month", first),
        ("year", first.first_of_year()),
        ("beginning", date(reached.first.min(until + 1))),
    ];
    for (name, from) in begun {
        let period = period(database, name, DaysAsked { from, until: until_date }, large_win);
        month.periods.push(period.await?);
    }
    let seconds = (number_of(first) * DAY_SECONDS, (until + 1) * DAY_SECONDS);
    (month.interrupted_seasons, month.interrupted_coins) = interrupted(database, seconds.1).await?;
    list(database, &mut month, seconds, large_win).await?;
    Ok(month)
}

/// The cohorts of some days, with what was known of them on the last day.
async fn cohorts_until(
    database: &mut SqliteConnection,
    asked: DaysAsked,
    until: i64,
) -> Result<Vec<Cohort>, sqlx::Error> {
    let mut cohorts = retention(database, asked).await?.cohorts;
    for cohort in &mut cohorts {
        let day = cohort.cohort_day.parse().map_or(until, number_of);
        let known = usize::try_from(until - day + 1).unwrap_or(0);
        cohort.retained.truncate(known);
    }
    Ok(cohorts)
}

fn date(day: i64) -> Date {
    day_text(day).parse().unwrap_or(Date::MIN)
}

async fn period(
    database: &mut SqliteConnection,
    name: &'static str,
    asked: DaysAsked,
    large_win: u64,
) -> Result<Period, sqlx::Error> {
    let (from, until) = (asked.from.to_string(), asked.until.to_string());
    let seconds = (number_of(asked.from) * DAY_SECONDS, (number_of(asked.until) + 1) * DAY_SECONDS);
    let (active, new): (i64, i64) = sqlx::query_as(
        "SELECT count(DISTINCT user_id), coalesce(sum(is_new), 0) FROM user_days \
         WHERE day BETWEEN ?1 AND ?2",
    )
    .bind(&from)
    .bind(&until)
    .fetch_one(&mut *database)
    .await?;
    let mut counts = [0_u64; COUNTED.len()];
    for (count, ask) in counts.iter_mut().zip(COUNTED) {
        let found: i64 = sqlx::query_scalar(ask)
            .bind(seconds.0)
            .bind(seconds.1)
            .bind(i64::try_from(large_win).unwrap_or(i64::MAX))
            .fetch_one(&mut *database)
            .await?;
        *count = found.unsigned_abs();
    }
    let [started, completed, abandoned, expired, wins, wins_paid, flags, rotations, restores] =
        counts;
    let given_back: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(given_back), 0) FROM coin_days WHERE day BETWEEN ?1 AND ?2",
    )
    .bind(&from)
    .bind(&until)
    .fetch_one(&mut *database)
    .await?;
    Ok(Period {
        name,
        from,
        until,
        active: active.unsigned_abs(),
        new: new.unsigned_abs(),
        seasons_started: started,
        seasons_completed: completed,
        seasons_abandoned: abandoned,
        seasons_expired: expired,
        given_back: given_back.unsigned_abs(),
        bets: bets(database, asked, BetsBy::Cell).await?,
        large_wins: wins,
        large_wins_paid: wins_paid,
        flags,
        key_rotations: rotations,
        restores,
    })
}

/// Seasons in play at a time without a command for 24 hours, and the coins in them.
async fn interrupted(database: &mut SqliteConnection, end: i64) -> Result<(u64, u64), sqlx::Error> {
    let (seasons, coins): (i64, i64) = sqlx::query_as(
        "WITH in_play AS ( \
           SELECT id, max(started_at, \
             coalesce((SELECT max(created_at) FROM days WHERE season_id = seasons.id AND created_at < ?1), 0), \
             coalesce((SELECT max(placed_at) FROM bets WHERE season_id = seasons.id AND placed_at < ?1), 0)) \
             AS newest \
           FROM seasons WHERE started_at < ?1 AND (completed_at IS NULL OR completed_at >= ?1)) \
         SELECT count(*), coalesce(sum( \
           (SELECT coalesce(sum(amount), 0) FROM season_coins \
            WHERE season_id = in_play.id AND kind <> 'end' AND moved_at < ?1) \
           - (SELECT coalesce(sum(amount), 0) FROM bets WHERE season_id = in_play.id \
              AND placed_at < ?1 AND resolved_at < ?1) \
           + (SELECT coalesce(sum(payout), 0) FROM bets WHERE season_id = in_play.id \
              AND resolved_at < ?1)), 0) \
         FROM in_play WHERE newest < ?2",
    )
    .bind(end)
    .bind(end - INTERRUPTED_AFTER)
    .fetch_one(database)
    .await?;
    Ok((seasons.unsigned_abs(), coins.unsigned_abs()))
}

async fn list(
    database: &mut SqliteConnection,
    month: &mut Month,
    (from, until): (i64, i64),
    large_win: u64,
) -> Result<(), sqlx::Error> {
    type WinRow = (String, String, i64, String, String, i64, i64, i64);
    let wins: Vec<WinRow> = sqlx::query_as(
        "SELECT season_id, user_id, day_number, pot_id, bet_type, amount, payout, resolved_at \
         FROM large_wins WHERE resolved_at >= ?1 AND resolved_at < ?2 AND payout - amount >= ?3 \
         ORDER BY payout - amount DESC, season_id, day_number LIMIT 100",
    )
    .bind(from)
    .bind(until)
    .bind(i64::try_from(large_win).unwrap_or(i64::MAX))
    .fetch_all(&mut *database)
    .await?;
    let wins = wins.into_iter().map(
        |(season_id, user_id, day_number, pot_id, bet_type, amount, payout, resolved_at)| {
            LargeWin {
                season_id,
                user_id,
                day_number,
                pot_id,
                bet_type,
                amount,
                payout,
                resolved_at,
            }
        },
    );
    month.large_wins = wins.collect();
    let flags = "SELECT seq, code, flagged_at, season_id FROM flags \
        WHERE flagged_at >= ?1 AND flagged_at < ?2 ORDER BY seq LIMIT 100";
    month.flags = noted(database, flags, (from, until)).await?;
    let of_ledger = "SELECT seq, kind, recorded_at, payload FROM ledger_events \
        WHERE recorded_at >= ?1 AND recorded_at < ?2 ORDER BY seq";
    month.ledger_events = noted(database, of_ledger, (from, until)).await?;
    Ok(())
}

async fn noted(
    database: &mut SqliteConnection,
    statement: &'static str,
    (from, until): (i64, i64),
) -> Result<Vec<Noted>, sqlx::Error> {
    let rows: Vec<(i64, String, i64, String)> =
        sqlx::query_as(statement).bind(from).bind(until).fetch_all(database).await?;
    let rows = rows.into_iter().map(|(seq, what, at, detail)| Noted { seq, what, at, detail });
    Ok(rows.collect())
}

impl Month {
    /// The days.
    #[must_use]
    pub fn days_table(&self) -> Table {
        let columns = [
            "day",
            "dau",
            "new",
            "bets",
            "staked",
            "paid",
            "given_back",
            "jackpot_in_millicoins",
            "jackpot_out",
        ];
        let rows = self.days.iter().map(|day| {
            vec![
                Cell::Text(day.active.day.clone()),
                day.active.dau.into(),
                Cell::whole(day.active.new),
                day.bets.into(),
                day.coins.staked.into(),
                day.coins.paid.into(),
                day.coins.given_back.into(),
                day.coins.jackpot_in_millicoins.into(),
                day.coins.jackpot_out.into(),
            ]
        });
        Table::new("days", &columns, rows)
    }

    /// The periods side by side: a row for each figure.
    #[must_use]
    pub fn periods_table(&self) -> Table {
        type Figure = fn(&Period) -> Cell;
        let figures: [(&str, Figure); 21] = [
            ("from", |it| Cell::Text(it.from.clone())),
            ("until", |it| Cell::Text(it.until.clone())),
            ("active", |it| it.active.into()),
            ("new", |it| it.new.into()),
            ("seasons_started", |it| it.seasons_started.into()),
            ("seasons_completed", |it| it.seasons_completed.into()),
            ("seasons_abandoned", |it| it.seasons_abandoned.into()),
            ("seasons_expired", |it| it.seasons_expired.into()),
            ("bets", |it| it.bets.all.bets.into()),
            ("staked", |it| it.bets.all.staked.into()),
            ("paid", |it| it.bets.all.paid.into()),
            ("actual_return", |it| Cell::share(it.bets.all.actual_return)),
            ("expected_return", |it| Cell::share(it.bets.all.expected_return)),
            ("jackpot_in_millicoins", |it| it.bets.jackpot.in_millicoins.into()),
            ("jackpot_out", |it| it.bets.jackpot.out.into()),
            ("given_back", |it| it.given_back.into()),
            ("large_wins", |it| it.large_wins.into()),
            ("large_wins_paid", |it| it.large_wins_paid.into()),
            ("flags", |it| it.flags.into()),
            ("key_rotations", |it| it.key_rotations.into()),
            ("restores", |it| it.restores.into()),
        ];
        let rows = figures.into_iter().map(|(name, figure)| {
            let of_periods = self.periods.iter().map(figure);
            std::iter::once(Cell::Text(name.to_owned())).chain(of_periods).collect()
        });
        Table::new("periods", &["figure", "month", "year", "beginning"], rows)
    }

    /// Who came back, of the month's cohorts.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let (cohorts, averages) = (self.cohorts.clone(), self.averages.clone());
        Retention { cohorts, averages, first_week_luck: Vec::new() }
    }

    /// The large wins.
    #[must_use]
    pub fn large_wins_table(&self) -> Table {
        let columns = [
            "season_id",
            "user_id",
            "day_number",
            "pot_id",
            "bet_type",
            "amount",
            "payout",
            "win",
            "resolved_at",
        ];
        let rows = self.large_wins.iter().map(|win| {
            vec![
                Cell::Text(win.season_id.clone()),
                Cell::Text(win.user_id.clone()),
                Cell::Whole(win.day_number),
                Cell::Text(win.pot_id.clone()),
                Cell::Text(win.bet_type.clone()),
                Cell::Whole(win.amount),
                Cell::Whole(win.payout),
                Cell::Whole(win.payout - win.amount),
                Cell::Whole(win.resolved_at),
            ]
        });
        Table::new("large_wins", &columns, rows)
    }

    /// What was flagged, and what the operator did to the ledger.
    #[must_use]
    pub fn noted_table(&self) -> Table {
        let rows = self.ledger_events.iter().chain(&self.flags).map(|noted| {
            vec![
                Cell::Whole(noted.seq),
                Cell::Text(noted.what.clone()),
                Cell::Whole(noted.at),
                Cell::Text(noted.detail.clone()),
            ]
        });
        Table::new("noted", &["seq", "what", "at", "detail"], rows)
    }
}
