//! What an analyst asks of the read models: activity, retention, the funnel, bets, sessions, coins.
//!
//! Each answer reads one connection, so that a transaction around it makes it of one moment. Days
//! are UTC days. A day is over once an event of a later day is recorded; until then it is partial.

mod active;
mod bets;
mod coins;
mod funnel;
mod month;
mod range;
mod retention;
mod sessions;
mod table;
mod telemetry;

use daybook_schema::{Head, LedgerId};
use sqlx::SqliteConnection;

use crate::projection::Projection;
use crate::read_models::Analytics;

pub use active::{ActiveDay, ActiveDays, active_days};
pub use bets::{Alarm, BetReturns, BetRow, BetsBy, JackpotLine, bets};
pub use coins::{CoinDay, Coins, coins};
pub use funnel::{Funnel, FunnelStep, GivenUp, funnel};
pub use month::{LargeWin, Month, MonthDay, Noted, Period, month};
pub use range::DaysAsked;
pub use retention::{Cohort, LuckTercile, Retention, RetentionAverage, retention};
pub use sessions::{SessionDay, Sessions, sessions};
pub use table::{Cell, Table};
pub use telemetry::{telemetry_days, telemetry_retention};

/// What the tables stand for: which ledger, and its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The newest event that they have.
    pub head: Head,
}

/// What the tables stand for; none where they are not of this version, or not begun.
///
/// # Errors
/// What SQLite says.
pub async fn stands_for(database: &mut SqliteConnection) -> Result<Option<Stands>, sqlx::Error> {
    let position: Option<(String, i64, String)> = sqlx::query_as(
        "SELECT ledger_id, seq, hash FROM projection_positions WHERE name = ?1 AND version = ?2",
    )
    .bind(Analytics.name())
    .bind(Analytics.version())
    .fetch_optional(database)
    .await?;
    let Some((ledger_id, seq, hash)) = position else { return Ok(None) };
    let ledger_id = ledger_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let hash = hash.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Some(Stands { ledger_id, head: Head { seq: seq.unsigned_abs(), hash } }))
}
