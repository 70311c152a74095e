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

use sqlx::SqliteConnection;

use crate::position::Position;
use crate::projection::Projection;
pub use crate::read_models::LARGE_WIN_MIN;
use crate::read_models::{Analytics, Seasons};

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

/// What the tables stand for: the position of the read model that is furthest behind of those that
/// answers are made of. None where they are not of this version, or not begun.
///
/// # Errors
/// What SQLite says.
pub async fn stands_for(database: &mut SqliteConnection) -> Result<Option<Position>, sqlx::Error> {
    let made_of = [(Analytics.name(), Analytics.version()), (Seasons.name(), Seasons.version())];
    let mut furthest_behind: Option<Position> = None;
    for (name, version) in made_of {
        let position = Position::load(&mut *database, name).await?;
        let Some(position) = position.filter(|position| position.version == version) else {
            return Ok(None);
        };
        if furthest_behind.is_none_or(|other| position.head.seq < other.head.seq) {
            furthest_behind = Some(position);
        }
    }
    Ok(furthest_behind)
}
