//! The same by the seed's own SQL over `telemetry.db`: what clients told, which may be lost or
//! forged.

use sqlx::SqliteConnection;

use super::active::{ActiveDay, ActiveDays};
use super::range::{DaysAsked, Range};
use super::retention::{Cohort, Retention, averages};
use crate::read_models::calendar::day_text;

const DAILY_ACTIVE_USERS: &str = include_str!("../../../schema/sql/seed_daily_active_users.sql");
const RETENTION: &str = include_str!("../../../schema/sql/seed_retention.sql");
const DAY_MS: i64 = 86_400_000;

/// The days that there are: events that clients dated ahead begin no day.
async fn range(telemetry: &mut SqliteConnection, asked: DaysAsked) -> Result<Range, sqlx::Error> {
    let reached: (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT min(timestamp) / ?1, (SELECT max(server_timestamp) / ?1 FROM telemetry_events) \
         FROM telemetry_events",
    )
    .bind(DAY_MS)
    .fetch_one(telemetry)
    .await?;
    Ok(Range::new(asked, reached.0.zip(reached.1)))
}

/// Counts users with an event, by the seed's query.
///
/// # Errors
/// What SQLite says.
pub async fn telemetry_days(
    telemetry: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<ActiveDays, sqlx::Error> {
    let range = range(telemetry, asked).await?;
    let mut days = Vec::new();
    for day in range.days() {
        let dau: i64 = sqlx::query_scalar(DAILY_ACTIVE_USERS)
            .bind(day * DAY_MS)
            .bind(day * DAY_MS + (DAY_MS - 1))
            .fetch_one(&mut *telemetry)
            .await?;
        days.push(ActiveDay {
            day: day_text(day),
            dau: dau.unsigned_abs(),
            new: None,
            returning: None,
            wau: None,
            mau: None,
            stickiness: None,
            partial: !range.is_over(day),
        });
    }
    Ok(ActiveDays { days })
}

/// Tells who began a session again n days after a day on which they began one, by the seed's query:
/// a cohort is whoever did so on a day, be it the first or not.
///
/// # Errors
/// What SQLite says.
pub async fn telemetry_retention(
    telemetry: &mut SqliteConnection,
    asked: DaysAsked,
) -> Result<Retention, sqlx::Error> {
    let range = range(telemetry, asked).await?;
    let mut cohorts = Vec::new();
    for cohort in range.days() {
        let cohort_day = day_text(cohort);
        let (mut cohort_size, mut retained) = (0, Vec::new());
        for day_n in 0..=range.newest - cohort {
            // Of nobody nobody comes back, and who does on a day that is not over is not told.
            let is_over = range.is_over(cohort + day_n);
            if day_n == 0 || (is_over && cohort_size > 0) {
                let (size, back): (i64, i64) = sqlx::query_as(RETENTION)
                    .bind(&cohort_day)
                    .bind(day_n)
                    .fetch_one(&mut *telemetry)
                    .await?;
                cohort_size = size.unsigned_abs();
                retained.push(is_over.then_some(back.unsigned_abs()));
            } else {
                retained.push(is_over.then_some(0));
            }
        }
        cohorts.push(Cohort { cohort_day, cohort_size, retained });
    }
    let averages = averages(&cohorts);
    Ok(Retention { cohorts, averages, first_week_luck: Vec::new() })
}
