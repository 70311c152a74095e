//! What is too old or too much is taken out, and addresses are cleared, a part at a time.

use daybook_projections::sqlx::{self, SqliteConnection};
use daybook_schema::limits::{TELEMETRY_IP_KEPT_MS, TELEMETRY_ROWS_PER_SWEEP};
use tokio::time::Instant;

use super::amounts::{DAY_MS, day_of};
use super::shared::now_ms;
use super::store;
use crate::settings::TelemetrySettings;

/// What one step did.
pub(super) struct Swept {
    /// Events that were taken out.
    pub(super) gone: u64,
    /// Whether there is more to do.
    pub(super) is_more: bool,
}

/// How far the sweep has come.
pub(super) struct Sweep {
    /// The wall clock and the other one at the start: a clock that jumps ahead makes nothing old.
    began: (i64, Instant),
    /// Events that came before this go: their day is being taken out.
    before_ms: Option<i64>,
}

impl Sweep {
    pub(super) fn new() -> Self {
        Self { began: (now_ms(), Instant::now()), before_ms: None }
    }

    /// Now, but never later than the time that has passed since the start allows.
    fn cautious_now_ms(&self) -> i64 {
        let (wall_ms, at) = self.began;
        let passed = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        now_ms().min(wall_ms.saturating_add(passed))
    }

    /// Does a part.
    ///
    /// # Errors
    /// What SQLite says.
    pub(super) async fn step(
        &mut self,
        database: &mut SqliteConnection,
        settings: TelemetrySettings,
    ) -> Result<Swept, sqlx::Error> {
        let (wall_ms, now) = (now_ms(), self.cautious_now_ms());
        let rows_max = u64::from(TELEMETRY_ROWS_PER_SWEEP);
        store::forget_amounts(database, day_of(wall_ms)).await?;
        let cleared = store::clear_addresses(database, wall_ms - TELEMETRY_IP_KEPT_MS).await?;
        let old_ms = now.saturating_sub(i64::from(settings.kept_days) * DAY_MS);
        let before_ms = self.before_ms.map_or(old_ms, |before_ms| before_ms.max(old_ms));
        let gone = store::take_out(database, before_ms).await?;
        if cleared >= rows_max || gone >= rows_max {
            return Ok(Swept { gone, is_more: true });
        }
        // That day is gone. What comes with an earlier time, from a clock that was put right, stays.
        self.before_ms = None;
        if store::used_bytes(database).await? <= settings.bytes_max {
            return Ok(Swept { gone, is_more: false });
        }
        let Some(days_end_ms) = store::oldest_days_end_ms(database).await? else {
            return Ok(Swept { gone, is_more: false });
        };
        // The oldest day goes whole; of today only what must.
        if days_end_ms <= day_of(now) * DAY_MS {
            let day = day_text(days_end_ms - DAY_MS);
            tracing::warn!(day, "telemetry.db is full: its oldest day goes");
            self.before_ms = Some(days_end_ms);
            return Ok(Swept { gone, is_more: true });
        }
        let of_today = store::take_out(database, i64::MAX).await?;
        tracing::warn!(events = of_today, "telemetry.db is full: events of today go");
        Ok(Swept { gone: gone + of_today, is_more: of_today > 0 })
    }
}

fn day_text(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d").to_string()
}
