//! Play sessions by the day on which they began.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::range::{DaysAsked, Range};
use super::table::{Cell, Table};
use crate::read_models::calendar::day_text;

/// The play sessions that began on a UTC day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionDay {
    /// The day, such as `2026-01-05`.
    #[schema(format = "date")]
    pub day: String,
    /// How many.
    pub sessions: u64,
    /// Users who had one.
    pub users: u64,
    /// Commands in them.
    pub commands: u64,
    /// How long they were on average, in seconds; none where there was none.
    pub mean_seconds: Option<f64>,
    /// Half of them were no longer, in seconds.
    pub p50_seconds: Option<u64>,
    /// Nine of ten were no longer, in seconds.
    pub p90_seconds: Option<u64>,
    /// The longest, in seconds.
    pub max_seconds: Option<u64>,
    /// Whether the day is not over.
    pub partial: bool,
}

/// Play sessions, day by day; a day without any has a row of zeros.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Sessions {
    /// The days in order.
    pub days: Vec<SessionDay>,
}

#[derive(Default)]
struct Gathered {
    users: BTreeSet<String>,
    commands: u64,
    seconds: Vec<u64>,
}

/// Tells of the play sessions that began on some days.
///
/// # Errors
/// What SQLite says.
pub async fn sessions(
    database: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<Sessions, sqlx::Error> {
    let range = Range::of_ledger(database, asked).await?;
    let rows: Vec<(i64, String, i64, i64)> = sqlx::query_as(
        "SELECT started_at / 86400, user_id, commands, seconds FROM play_sessions \
         WHERE started_at >= ?1 AND started_at < ?2",
    )
    .bind(range.first * 86_400)
    .bind((range.last + 1) * 86_400)
    .fetch_all(database)
    .await?;
    let mut gathered: BTreeMap<i64, Gathered> = BTreeMap::new();
    for (day, user_id, commands, seconds) in rows {
        let day = gathered.entry(day).or_default();
        day.users.insert(user_id);
        day.commands += commands.unsigned_abs();
        day.seconds.push(seconds.unsigned_abs());
    }
    let days = range.days().map(|day| {
        let mut gathered = gathered.remove(&day).unwrap_or_default();
        gathered.seconds.sort_unstable();
        let seconds = &gathered.seconds;
        let sum: u64 = seconds.iter().sum();
        SessionDay {
            day: day_text(day),
            sessions: seconds.len() as u64,
            users: gathered.users.len() as u64,
            commands: gathered.commands,
            mean_seconds: super::table::share(sum, seconds.len() as u64),
            p50_seconds: nearest_rank(seconds, 50),
            p90_seconds: nearest_rank(seconds, 90),
            max_seconds: seconds.last().copied(),
            partial: !range.is_over(day),
        }
    });
    Ok(Sessions { days: days.collect() })
}

/// The smallest of sorted values that at least so many percent do not exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

impl Sessions {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> Table {
        let columns = [
            "day",
            "sessions",
            "users",
            "commands",
            "mean_seconds",
            "p50_seconds",
            "p90_seconds",
            "max_seconds",
            "partial",
        ];
        let rows = self.days.iter().map(|day| {
            vec![
                Cell::Text(day.day.clone()),
                day.sessions.into(),
                day.users.into(),
                day.commands.into(),
                Cell::number(day.mean_seconds),
                Cell::whole(day.p50_seconds),
                Cell::whole(day.p90_seconds),
                Cell::whole(day.max_seconds),
                Cell::Flag(day.partial),
            ]
        });
        Table::new("sessions", &columns, rows)
    }
}
