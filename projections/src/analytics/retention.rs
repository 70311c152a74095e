//! Who came back: cohorts by the day of first activity, and the luck of the first week.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::range::{DaysAsked, Range};
use super::table::{Cell, Table, share};
use crate::read_models::calendar::day_text;

/// Whoever is active within so many days after day 7 was resolved came back.
const CAME_BACK_WITHIN: i64 = 7;
const TERCILES: usize = 3;

/// Everybody first active on a UTC day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cohort {
    /// The day, such as `2026-01-05`.
    #[schema(format = "date")]
    pub cohort_day: String,
    /// How many they are.
    pub cohort_size: u64,
    /// How many of them were active exactly n days later, from n = 0; none while that day is not
    /// over.
    pub retained: Vec<Option<u64>>,
}

/// What all cohorts have in common that reached a day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionAverage {
    /// Days after the first.
    pub day_n: u64,
    /// Users of all cohorts whose day n is over.
    pub cohort_size: u64,
    /// Those of them who were active on it.
    pub retained: u64,
    /// `retained` of `cohortSize`; none where there are no users.
    pub rate: Option<f64>,
}

/// A third of the players, by how lucky their first week was.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LuckTercile {
    /// 1 is the least lucky third, 3 the luckiest.
    pub tercile: u64,
    /// How many they are.
    pub users: u64,
    /// The lowest and the highest luck among them: (paid − expected) ÷ √variance.
    pub luck_from: Option<f64>,
    /// See `luckFrom`.
    pub luck_until: Option<f64>,
    /// Those of them who were active within 7 UTC days after day 7 was resolved.
    pub came_back: u64,
    /// `cameBack` of `users`.
    pub rate: Option<f64>,
}

/// Who came back.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The cohorts by day; a day without anybody new has a cohort of nobody.
    pub cohorts: Vec<Cohort>,
    /// The average of the cohorts, by n.
    pub averages: Vec<RetentionAverage>,
    /// Whether luck brings players back: those whose day 7 of the first season was resolved on the
    /// days asked for, and whose 7 days after it are over. Who only folded has no luck, and is left
    /// out. Empty where telemetry is the source.
    pub first_week_luck: Vec<LuckTercile>,
}

/// Tells who came back, of the cohorts of some days.
///
/// # Errors
/// What SQLite says.
pub async fn retention(
    database: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<Retention, sqlx::Error> {
    let range = Range::of_ledger(database, asked).await?;
    let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT unixepoch(cohort_day) / 86400, day_n, cohort_size, retained FROM cohort_retention \
         WHERE cohort_day BETWEEN ?1 AND ?2",
    )
    .bind(range.first_text())
    .bind(range.last_text())
    .fetch_all(&mut *database)
    .await?;
    let mut sizes: BTreeMap<i64, u64> = BTreeMap::new();
    let mut counts: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    for (cohort, day_n, size, retained) in rows {
        sizes.insert(cohort, size.unsigned_abs());
        counts.insert((cohort, day_n), retained.unsigned_abs());
    }
    let retained = |cohort: i64, day_n: i64| {
        range
            .is_over(cohort + day_n)
            .then(|| counts.get(&(cohort, day_n)).copied().unwrap_or_default())
    };
    let cohorts = range.days().map(|cohort| Cohort {
        cohort_day: day_text(cohort),
        cohort_size: sizes.get(&cohort).copied().unwrap_or_default(),
        retained: (0..=range.newest - cohort).map(|day_n| retained(cohort, day_n)).collect(),
    });
    let cohorts: Vec<Cohort> = cohorts.collect();
    let averages = averages(&cohorts);
    let first_week_luck = first_week_luck(database, range).await?;
    Ok(Retention { cohorts, averages, first_week_luck })
}

/// Of each n, over the cohorts whose day n is over.
pub(super) fn averages(cohorts: &[Cohort]) -> Vec<RetentionAverage> {
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for cohort in cohorts {
        for (day_n, retained) in cohort.retained.iter().enumerate() {
            if let Some(retained) = retained {
                let (size, back) = sums.entry(day_n).or_default();
                *size += cohort.cohort_size;
                *back += retained;
            }
        }
    }
    let averages = sums.into_iter().map(|(day_n, (cohort_size, retained))| RetentionAverage {
        day_n: day_n as u64,
        cohort_size,
        retained,
        rate: share(retained, cohort_size),
    });
    averages.collect()
}

async fn first_week_luck(
    database: &mut SqliteConnection,
    range: Range,
) -> Result<Vec<LuckTercile>, sqlx::Error> {
    // Each of the days is looked up by itself: a range of days would read everybody's.
    let rows: Vec<(i64, i64, i64, bool)> = sqlx::query_as(
        "SELECT paid, expected_microcoins, variance_thousandths, EXISTS ( \
           SELECT 1 FROM json_each(?3) AS later JOIN user_days \
           ON user_days.day = date(resolved_day, '+' || later.value || ' days') \
           AND user_days.user_id = first_weeks.user_id) \
         FROM first_weeks WHERE resolved_day BETWEEN ?1 AND ?2 AND variance_thousandths > 0 \
         ORDER BY user_id",
    )
    .bind(range.first_text())
    .bind(day_text(range.last.min(range.newest - 1 - CAME_BACK_WITHIN)))
    .bind(serde_json::json!((1..=CAME_BACK_WITHIN).collect::<Vec<_>>()).to_string())
    .fetch_all(database)
    .await?;
    let mut lucks: Vec<(f64, bool)> = rows
        .into_iter()
        .map(|(paid, expected_microcoins, variance_thousandths, came_back)| {
            let above = paid as f64 - expected_microcoins as f64 / 1e6;
            (above / (variance_thousandths as f64 / 1e3).sqrt(), came_back)
        })
        .collect();
    // A stable sort: among equals the user's id decides, and so everybody finds the same thirds.
    lucks.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let mut rest = lucks.as_slice();
    let terciles = (1..=TERCILES).map(|tercile| {
        let end = lucks.len() * tercile / TERCILES;
        let (users, after) = rest.split_at(end - (lucks.len() - rest.len()));
        rest = after;
        let came_back = users.iter().filter(|(_, came_back)| *came_back).count() as u64;
        LuckTercile {
            tercile: tercile as u64,
            users: users.len() as u64,
            luck_from: users.first().map(|(luck, _)| *luck),
            luck_until: users.last().map(|(luck, _)| *luck),
            came_back,
            rate: share(came_back, users.len() as u64),
        }
    });
    Ok(terciles.collect())
}

impl Retention {
    /// The cells that are over, one in a row.
    #[must_use]
    pub fn table(&self) -> Table {
        let columns = ["cohort_day", "day_n", "cohort_size", "retained", "rate"];
        let rows = self.cohorts.iter().flat_map(|cohort| {
            let cells = cohort.retained.iter().enumerate();
            cells.filter_map(|(day_n, retained)| {
                let retained = (*retained)?;
                Some(vec![
                    Cell::Text(cohort.cohort_day.clone()),
                    (day_n as u64).into(),
                    cohort.cohort_size.into(),
                    retained.into(),
                    Cell::share(share(retained, cohort.cohort_size)),
                ])
            })
        });
        Table::new("retention", &columns, rows)
    }

    /// The averages.
    #[must_use]
    pub fn averages_table(&self) -> Table {
        let columns = ["day_n", "cohort_size", "retained", "rate"];
        let rows = self.averages.iter().map(|average| {
            vec![
                average.day_n.into(),
                average.cohort_size.into(),
                average.retained.into(),
                Cell::share(average.rate),
            ]
        });
        Table::new("retention_averages", &columns, rows)
    }

    /// The luck of the first week.
    #[must_use]
    pub fn luck_table(&self) -> Table {
        let columns = ["tercile", "users", "luck_from", "luck_until", "came_back", "rate"];
        let rows = self.first_week_luck.iter().map(|tercile| {
            vec![
                tercile.tercile.into(),
                tercile.users.into(),
                Cell::number(tercile.luck_from),
                Cell::number(tercile.luck_until),
                tercile.came_back.into(),
                Cell::share(tercile.rate),
            ]
        });
        Table::new("first_week_luck", &columns, rows)
    }
}
