//! Which days are asked for, and which of them the ledger has reached.

use jiff::civil::Date;
use sqlx::SqliteConnection;

use crate::projection::Projection;
use crate::read_models::Seasons;
use crate::read_models::calendar::day_text;

const EPOCH: Date = Date::constant(1970, 1, 1);

/// The UTC days that are asked for, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaysAsked {
    /// The first.
    pub from: Date,
    /// The last.
    pub until: Date,
}

impl DaysAsked {
    /// Every day that there is.
    pub const ALL: Self = Self { from: Date::MIN, until: Date::MAX };
}

/// A date as a number of days since 1970.
pub(super) fn number_of(date: Date) -> i64 {
    date.duration_since(EPOCH).as_hours().div_euclid(24)
}

/// Days that are asked for and that there are, as days since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) last: i64,
    /// The day of the newest event, which is not over.
    pub(super) newest: i64,
}

impl Range {
    /// Days between the first and the newest that there are. None of them: the range is empty.
    pub(super) fn new(asked: DaysAsked, reached: Option<(i64, i64)>) -> Self {
        let (first, newest) = reached.unwrap_or((0, -1));
        Self {
            first: number_of(asked.from).max(first),
            last: number_of(asked.until).min(newest),
            newest,
        }
    }

    /// The days asked for of those that the ledger has reached: from the first on which somebody
    /// was active to that of the newest event.
    pub(super) async fn of_ledger(
        database: &mut SqliteConnection,
        asked: DaysAsked,
    ) -> Result<Self, sqlx::Error> {
        // Read models are never quite at the same event. A day is told of when all have come to it.
        let reached: (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT unixepoch((SELECT min(day) FROM user_days)) / 86400, \
             min(unixepoch((SELECT newest_day FROM analytics_progress)) / 86400, \
             (SELECT recorded_at_micros / 86400000000 FROM projection_positions WHERE name = ?1))",
        )
        .bind(Seasons.name())
        .fetch_one(database)
        .await?;
        Ok(Self::new(asked, reached.0.zip(reached.1)))
    }

    pub(super) fn days(self) -> impl Iterator<Item = i64> {
        self.first..=self.last
    }

    pub(super) const fn is_over(self, day: i64) -> bool {
        day < self.newest
    }

    pub(super) fn first_text(self) -> String {
        day_text(self.first)
    }

    /// The last day; before the first where the range is empty.
    pub(super) fn last_text(self) -> String {
        day_text(self.last.max(self.first - 1))
    }
}
