//! Who was active: by day, and over the 7 and 30 days that end with it.

use std::collections::BTreeMap;

use daybook_schema::UserId;
use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::range::{DaysAsked, Range};
use super::table::{Cell, Table, share};
use crate::insert::Map;
use crate::read_models::calendar::day_text;

const WEEK: i64 = 7;
const MONTH: i64 = 30;

/// Who was active on a UTC day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveDay {
    /// The day, such as `2026-01-05`.
    #[schema(format = "date")]
    pub day: String,
    /// Users who were active on it.
    pub dau: u64,
    /// Those of them who were never active before. Of telemetry this and the following is not told.
    pub new: Option<u64>,
    /// Those of them who were.
    pub returning: Option<u64>,
    /// Users who were active within the 7 days that end with it.
    pub wau: Option<u64>,
    /// Users who were active within the 30 days that end with it.
    pub mau: Option<u64>,
    /// `dau` of `mau`; none where nobody was active.
    pub stickiness: Option<f64>,
    /// Whether the day is not over.
    pub partial: bool,
}

/// Who was active, day by day; a day without anybody has a row of zeros.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ActiveDays {
    /// The days in order.
    pub days: Vec<ActiveDay>,
}

/// Counts who was active.
///
/// # Errors
/// What SQLite says.
pub async fn active_days(
    database: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<ActiveDays, sqlx::Error> {
    let range = Range::of_ledger(database, asked).await?;
    let (mut week, mut month) = (Rolling::new(WEEK), Rolling::new(MONTH));
    let mut counted: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    {
        let mut rows = sqlx::query_as::<_, (i64, String, bool)>(
            "SELECT unixepoch(day) / 86400, user_id, is_new FROM user_days \
             WHERE day BETWEEN ?1 AND ?2 ORDER BY day",
        )
        .bind(day_text(range.first - (MONTH - 1)))
        .bind(range.last_text())
        .fetch(database);
        while let Some((day, user_id, is_new)) = rows.try_next().await? {
            let user_id = user_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            week.note(user_id, day);
            month.note(user_id, day);
            let (dau, new) = counted.entry(day).or_default();
            *dau += 1;
            *new += u64::from(is_new);
        }
    }
    let days = range.days().map(|day| {
        let (dau, new) = counted.get(&day).copied().unwrap_or_default();
        let (wau, mau) = (week.at(day), month.at(day));
        ActiveDay {
            day: day_text(day),
            dau,
            new: Some(new),
            returning: Some(dau - new),
            wau: Some(wau),
            mau: Some(mau),
            stickiness: share(dau, mau),
            partial: !range.is_over(day),
        }
    });
    Ok(ActiveDays { days: days.collect() })
}

/// Counts users who were active within so many days: each counts from a day of activity on until
/// the days are over.
struct Rolling {
    days: i64,
    newest: Map<UserId, i64>,
    /// By how many the count changes on a day.
    changes: BTreeMap<i64, i64>,
}

impl Rolling {
    fn new(days: i64) -> Self {
        Self { days, newest: Map::default(), changes: BTreeMap::new() }
    }

    /// Days come in order.
    fn note(&mut self, user_id: UserId, day: i64) {
        let counted_until = self.newest.insert(user_id, day).map_or(day, |last| last + self.days);
        *self.changes.entry(day.max(counted_until)).or_default() += 1;
        *self.changes.entry(day + self.days).or_default() -= 1;
    }

    fn at(&self, day: i64) -> u64 {
        self.changes.range(..=day).map(|(_, change)| change).sum::<i64>().unsigned_abs()
    }
}

impl ActiveDays {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> Table {
        let columns = ["day", "dau", "new", "returning", "wau", "mau", "stickiness", "partial"];
        let rows = self.days.iter().map(|day| {
            vec![
                Cell::Text(day.day.clone()),
                day.dau.into(),
                Cell::whole(day.new),
                Cell::whole(day.returning),
                Cell::whole(day.wau),
                Cell::whole(day.mau),
                Cell::share(day.stickiness),
                Cell::Flag(day.partial),
            ]
        });
        Table::new("active_days", &columns, rows)
    }
}
