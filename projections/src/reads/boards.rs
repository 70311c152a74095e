//! Leaderboards, by their own date: a week that is over stays as it was.

use daybook_schema::{Period, SeasonId, UnixMicros, UserId};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Row, Sqlite, Transaction};

use super::types::Column;
use super::{ReadError, Reads};
use crate::ranks::Ranks;
use crate::read_models::calendar::{day_text, first_day};

/// A row of a board; equal scores share a rank (1, 1, 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderboardRow {
    /// The rank.
    pub rank: i64,
    /// The row's id.
    pub id: String,
    /// The user.
    pub user_id: UserId,
    /// The user's best season of the period.
    pub season_id: SeasonId,
    /// Its final score.
    pub score: i64,
    /// When it was completed, in seconds since 1970.
    pub calculated_at: i64,
}

impl LeaderboardRow {
    /// Where the next page goes on.
    #[must_use]
    pub fn cursor(&self) -> BoardCursor {
        BoardCursor { score: self.score, id: self.id.clone() }
    }
}

/// A place on a board: the score and the id of the row before the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardCursor {
    /// The score.
    pub score: i64,
    /// The row's id.
    pub id: String,
}

/// A page of a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaderboard {
    /// The period's first UTC day.
    pub first_day: String,
    /// The rows, best first.
    pub rows: Vec<LeaderboardRow>,
    /// The caller's own row, wherever it stands.
    pub own: Option<LeaderboardRow>,
}

struct Entry {
    id: String,
    user_id: UserId,
    season_id: SeasonId,
    score: i64,
    calculated_at: i64,
}

impl<'row> FromRow<'row, sqlx::sqlite::SqliteRow> for Entry {
    fn from_row(row: &'row sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            user_id: UserId::get(row, "user_id")?,
            season_id: SeasonId::get(row, "season_id")?,
            score: row.try_get("score")?,
            calculated_at: row.try_get("calculated_at")?,
        })
    }
}

impl Entry {
    fn ranked(self, rank: i64) -> LeaderboardRow {
        let Self { id, user_id, season_id, score, calculated_at } = self;
        LeaderboardRow { rank, id, user_id, season_id, score, calculated_at }
    }
}

impl Reads {
    /// The board of the period that a time falls in: a page of it after a cursor, that of the last
    /// row of the page before, and the caller's own row.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn leaderboard(
        &self,
        period: Period,
        at: UnixMicros,
        after: Option<&BoardCursor>,
        limit: u32,
        caller: Option<UserId>,
    ) -> Result<Leaderboard, ReadError> {
        let first_day = day_text(first_day(period, at));
        let pool = self.pool()?;
        let mut moment = pool.begin().await?;
        let (score, id) = after.map_or((i64::MAX, ""), |row| (row.score, row.id.as_str()));
        let entries: Vec<Entry> = sqlx::query_as(
            "SELECT id, user_id, season_id, score, calculated_at FROM leaderboard_history \
             WHERE period = ?1 AND first_day = ?2 AND (score < ?3 OR (score = ?3 AND id > ?4)) \
             ORDER BY score DESC, id LIMIT ?5",
        )
        .bind(period.as_str())
        .bind(first_day.clone())
        .bind(score)
        .bind(id.to_owned())
        .bind(limit)
        .fetch_all(&mut *moment)
        .await?;
        let own: Option<Entry> = sqlx::query_as(
            "SELECT id, user_id, season_id, score, calculated_at FROM leaderboard_history \
             WHERE period = ?1 AND first_day = ?2 AND user_id = ?3",
        )
        .bind(period.as_str())
        .bind(first_day.clone())
        .bind(caller.map(|user| user.to_string()))
        .fetch_optional(&mut *moment)
        .await?;
        // One statement for the ranks of the page's first row and of the caller's.
        let (of_first, of_own): (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE score > ?3), count(*) FILTER (WHERE score > ?4) \
             FROM leaderboard_history WHERE period = ?1 AND first_day = ?2 AND score > min(?3, ?4)",
        )
        .bind(period.as_str())
        .bind(first_day.clone())
        .bind(entries.first().map_or(i64::MAX, |entry| entry.score))
        .bind(own.as_ref().map_or(i64::MAX, |entry| entry.score))
        .fetch_one(&mut *moment)
        .await?;
        let mut rows: Vec<LeaderboardRow> = Vec::with_capacity(entries.len());
        let before = match after {
            // The page begins among equals of the row before it.
            Some(after) if entries.first().is_some_and(|first| first.score == after.score) => {
                standing(&mut moment, &first_day, period, after).await?
            }
            _ => of_first,
        };
        moment.commit().await?;
        let first_score = entries.first().map_or(i64::MAX, |first| first.score);
        let mut ranks = Ranks::after(before, first_score, of_first + 1);
        for entry in entries {
            let rank = ranks.next(entry.score);
            rows.push(entry.ranked(rank));
        }
        let own = own.map(|own| own.ranked(of_own + 1));
        Ok(Leaderboard { first_day, rows, own })
    }
}

/// How many stand up to a row, with it.
async fn standing(
    moment: &mut Transaction<'_, Sqlite>,
    first_day: &str,
    period: Period,
    row: &BoardCursor,
) -> Result<i64, sqlx::Error> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM leaderboard_history WHERE period = ?1 AND first_day = ?2 \
         AND (score > ?3 OR (score = ?3 AND id <= ?4))",
    );
    let count = count.bind(period.as_str()).bind(first_day.to_owned());
    count.bind(row.score).bind(row.id.clone()).fetch_one(&mut **moment).await
}
