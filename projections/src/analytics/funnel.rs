//! How far new users came, and where seasons were given up.

use serde::Serialize;
use sqlx::SqliteConnection;
use utoipa::ToSchema;

use super::range::{DaysAsked, Range};
use super::table::{Cell, Table, share};

/// A step of the funnel.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunnelStep {
    /// Its place, from 1.
    pub step: u64,
    /// registered, first_season, first_bet, first_week or completed_season.
    pub name: String,
    /// Users who reached it, having reached all before it.
    pub users: u64,
    /// `users` of those of the first step.
    pub of_first: Option<f64>,
    /// `users` of those of the step before.
    pub of_previous: Option<f64>,
}

/// Seasons that were given up on a day of the season.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GivenUp {
    /// The highest day that the seasons reached.
    pub day_number: u64,
    /// Seasons that their players abandoned.
    pub abandoned: u64,
    /// Seasons that expired.
    pub expired: u64,
}

/// How far new users came.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Funnel {
    /// The steps of those who registered on the days asked for.
    pub steps: Vec<FunnelStep>,
    /// Seasons that were abandoned or expired on the days asked for, by the day they reached.
    pub given_up: Vec<GivenUp>,
}

/// Tells how far the users came who registered on some days.
///
/// # Errors
/// What SQLite says.
pub async fn funnel(
    database: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<Funnel, sqlx::Error> {
    let range = Range::of_ledger(database, asked).await?;
    let rows: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT step, name, sum(users) FROM funnel_steps WHERE cohort_day BETWEEN ?1 AND ?2 \
         GROUP BY step, name ORDER BY step",
    )
    .bind(range.first_text())
    .bind(range.last_text())
    .fetch_all(&mut *database)
    .await?;
    let first = rows.first().map_or(0, |(.., users)| users.unsigned_abs());
    let mut previous = first;
    let steps = rows.into_iter().map(|(step, name, users)| {
        let users = users.unsigned_abs();
        let of_previous = share(users, std::mem::replace(&mut previous, users));
        let of_first = share(users, first);
        FunnelStep { step: step.unsigned_abs(), name, users, of_first, of_previous }
    });
    let steps = steps.collect();
    let given_up: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT current_day, sum(how = 'abandoned'), sum(how <> 'abandoned') FROM season_ends \
         JOIN seasons ON seasons.id = season_id \
         WHERE how <> 'completed' AND ended_at >= ?1 AND ended_at < ?2 \
         GROUP BY current_day ORDER BY current_day",
    )
    .bind(range.first * 86_400)
    .bind((range.last + 1) * 86_400)
    .fetch_all(database)
    .await?;
    let given_up = given_up.into_iter().map(|(day_number, abandoned, expired)| GivenUp {
        day_number: day_number.unsigned_abs(),
        abandoned: abandoned.unsigned_abs(),
        expired: expired.unsigned_abs(),
    });
    Ok(Funnel { steps, given_up: given_up.collect() })
}

impl Funnel {
    /// The steps.
    #[must_use]
    pub fn table(&self) -> Table {
        let columns = ["step", "name", "users", "of_first", "of_previous"];
        let rows = self.steps.iter().map(|step| {
            vec![
                step.step.into(),
                Cell::Text(step.name.clone()),
                step.users.into(),
                Cell::share(step.of_first),
                Cell::share(step.of_previous),
            ]
        });
        Table::new("funnel", &columns, rows)
    }

    /// Where seasons were given up.
    #[must_use]
    pub fn given_up_table(&self) -> Table {
        let columns = ["day_number", "abandoned", "expired"];
        let rows = self
            .given_up
            .iter()
            .map(|day| vec![day.day_number.into(), day.abandoned.into(), day.expired.into()]);
        Table::new("given_up", &columns, rows)
    }
}
