//! What an API asks of the read models: prepared, pooled, a fixed number of statements each.

pub(crate) mod boards;
pub(crate) mod play;
mod types;

use std::path::Path;
use std::time::Duration;

use daybook_monitor::Metric;
use daybook_schema::{SeasonId, Seq, UserId};
use serde::Serialize;
use sqlx::{FromRow, Sqlite, SqlitePool, Transaction};

use crate::database::GameDatabase;
use crate::feed::deadline;
use crate::game_file::FileLost;
use crate::measured_pool::MeasuredPool;
use crate::sqlite::look;
pub use types::{
    BetDetails, DayDetails, FlagDetails, SeasonDetails, SeasonSummary, SimulinDetails,
    TriggerDetails, WeekDetails,
};

/// While another process applies events, the position is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The read models could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite could not do it.
    #[error("game.db cannot be read")]
    Sqlite(#[from] sqlx::Error),
    /// The file is lost to this process: what could still be read of it would be out of date.
    #[error(transparent)]
    Lost(#[from] FileLost),
}

/// Which part of the ledger a read stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StandsFor {
    /// The newest event that every projection asked for has applied.
    pub seq: u64,
    /// Whether that is less than what was asked for.
    pub is_stale: bool,
}

/// How many seasons there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeasonCounts {
    /// Those that were started.
    pub started: u64,
    /// Those that were played to their end.
    pub completed: u64,
}

/// All that is known of a user's play.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Played {
    /// The seasons, oldest first.
    pub seasons: Vec<SeasonSummary>,
    /// Their days.
    pub days: Vec<DayDetails>,
    /// Their bets.
    pub bets: Vec<BetDetails>,
    /// Their triggers.
    pub triggers: Vec<TriggerDetails>,
    /// Their weeks.
    pub weeks: Vec<WeekDetails>,
    /// The companions, with their names.
    pub simulins: Vec<SimulinDetails>,
    /// What was suspicious.
    pub flags: Vec<FlagDetails>,
    /// The places on boards: the seed's columns.
    pub leaderboard_entries: serde_json::Value,
}

const ENTRIES_AS_JSON: &str = "SELECT json_group_array(json_object('id', id, 'seasonId', season_id, \
    'score', score, 'rank', rank, 'period', period, 'calculatedAt', calculated_at)) \
    FROM leaderboard_entries WHERE user_id = ?1";

/// Reads `game.db`, beside the workers that write it.
#[derive(Clone, Debug)]
pub struct Reads {
    pool: SqlitePool,
    database: GameDatabase,
    query: Metric,
}

/// A season's newest event as a `game.db` knows it, if it knows the season: where to begin to walk
/// back its stream in the ledger.
///
/// # Errors
/// [`ReadError`] when the file cannot be read.
pub async fn season_head(game_db: &Path, season_id: SeasonId) -> Result<Option<Seq>, ReadError> {
    let mut looked = look(game_db).await?;
    let seq: Option<i64> =
        sqlx::query_scalar("SELECT last_seq FROM season_streams WHERE season_id = ?1")
            .bind(season_id.to_string())
            .fetch_optional(&mut looked.connection)
            .await?;
    Ok(seq.and_then(|seq| Seq::new(seq.unsigned_abs()).ok()))
}

impl Reads {
    /// Reads a database; connections are made when they are needed.
    #[must_use]
    pub fn new(database: &GameDatabase) -> Self {
        let query = database.monitor().metric("db_query");
        Self { pool: database.reader_pool(), database: database.clone(), query }
    }

    /// Closes the connections, if the file is still there: [`GameDatabase::close`] folds the log in
    /// where none is left.
    pub async fn close(self) {
        if let Ok(pool) = self.pool() {
            pool.close().await;
        }
    }

    /// The connections, if the file is still there.
    fn pool(&self) -> Result<MeasuredPool<'_>, FileLost> {
        if let Err(lost) = self.database.file.check() {
            // They are never closed: SQLite would fold a log into what is no longer ours.
            std::mem::forget(self.pool.clone());
            return Err(lost);
        }
        Ok(MeasuredPool::new(&self.pool, &self.query))
    }

    /// Waits until some projections have applied an event, but not longer than the time limit, and
    /// tells what a read stands for that is begun now. A projection that lags or stopped makes no
    /// error of it.
    ///
    /// # Errors
    /// [`ReadError`] when the positions cannot be read.
    pub async fn wait_for(
        &self,
        projections: &[&'static str],
        at_least: u64,
        time_limit: Duration,
    ) -> Result<StandsFor, ReadError> {
        let deadline = deadline(time_limit);
        let applied = &self.database.applied;
        let stands_for = || {
            let seq = applied.least(projections).unwrap_or(0);
            StandsFor { seq, is_stale: seq < at_least }
        };
        if !stands_for().is_stale {
            return Ok(stands_for());
        }
        let mut waiting = applied.wait_for(projections, at_least);
        // It may have come to it before we waited.
        if !stands_for().is_stale {
            return Ok(stands_for());
        }
        // A worker of this process wakes those who wait; of them one looks into the file, for it
        // may be another process that writes it.
        let looking = tokio::select! {
            _ = &mut waiting.reached => return Ok(stands_for()),
            looking = applied.looking.lock() => looking,
            () = tokio::time::sleep_until(deadline) => {
                self.look_at_positions().await?;
                return Ok(stands_for());
            }
        };
        loop {
            self.look_at_positions().await?;
            let now = tokio::time::Instant::now();
            if !stands_for().is_stale || now >= deadline {
                drop(looking);
                return Ok(stands_for());
            }
            let next_look = deadline.min(now + LOOK_EVERY);
            if tokio::time::timeout_at(next_look, &mut waiting.reached).await.is_ok() {
                return Ok(stands_for());
            }
        }
    }

    /// Looks how far all projections have come, and wakes those who waited for that.
    async fn look_at_positions(&self) -> Result<(), ReadError> {
        let positions: Vec<(String, i64)> =
            sqlx::query_as("SELECT name, seq FROM projection_positions")
                .fetch_all(&*self.pool()?)
                .await?;
        for (name, seq) in positions {
            self.database.applied.observe(&name, seq.unsigned_abs());
        }
        Ok(())
    }

    /// A season with its days, bets, triggers and weeks, all of one moment, in six statements
    /// however many there are.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn season_with_details(
        &self,
        season_id: SeasonId,
    ) -> Result<Option<SeasonDetails>, ReadError> {
        let pool = self.pool()?;
        let mut moment = pool.begin().await?;
        let season: Option<SeasonSummary> = sqlx::query_as("SELECT * FROM seasons WHERE id = ?1")
            .bind(season_id.to_string())
            .fetch_optional(&mut *moment)
            .await?;
        let Some(season) = season else { return Ok(None) };
        let days = of_season(
            &mut moment,
            "SELECT * FROM days WHERE season_id = ?1 ORDER BY day_number",
            season_id,
        );
        let days = days.await?;
        let bets = of_season(
            &mut moment,
            "SELECT * FROM bets WHERE season_id = ?1 ORDER BY day_number, id",
            season_id,
        );
        let bets = bets.await?;
        let triggers = of_season(
            &mut moment,
            "SELECT * FROM daily_triggers WHERE season_id = ?1 ORDER BY day_number, id",
            season_id,
        );
        let triggers = triggers.await?;
        let weeks = of_season(
            &mut moment,
            "SELECT * FROM week_results WHERE season_id = ?1 ORDER BY week_number",
            season_id,
        );
        let weeks = weeks.await?;
        let end = sqlx::query_scalar("SELECT how FROM season_ends WHERE season_id = ?1");
        let end = end.bind(season_id.to_string()).fetch_optional(&mut *moment).await?;
        moment.commit().await?;
        Ok(Some(SeasonDetails { season, end, days, bets, triggers, weeks }))
    }

    /// Whether nothing of a person's is known of a user: there is a placeholder at most.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn is_erased(&self, user_id: UserId) -> Result<bool, ReadError> {
        let known: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM users WHERE id = ?1 AND email <> 'erased+' || id || '@erased.invalid') \
             + (SELECT count(*) FROM sessions WHERE user_id = ?1)",
        )
        .bind(user_id.to_string())
        .fetch_one(&*self.pool()?)
        .await?;
        Ok(known == 0)
    }

    /// All that is known of a user's play, of one moment, in a fixed number of statements.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn all_of(&self, user_id: UserId) -> Result<Played, ReadError> {
        let pool = self.pool()?;
        let mut moment = pool.begin().await?;
        macro_rules! rows {
            ($statement:literal) => {
                sqlx::query_as($statement).bind(user_id.to_string()).fetch_all(&mut *moment).await?
            };
        }
        let played = Played {
            seasons: rows!("SELECT * FROM seasons WHERE user_id = ?1 ORDER BY season_number"),
            days: rows!(
                "SELECT days.* FROM days JOIN seasons ON seasons.id = season_id WHERE user_id = ?1 \
                 ORDER BY season_number, day_number"
            ),
            bets: rows!(
                "SELECT bets.* FROM bets JOIN seasons ON seasons.id = season_id WHERE user_id = ?1 \
                 ORDER BY season_number, day_number, bets.id"
            ),
            triggers: rows!(
                "SELECT daily_triggers.* FROM daily_triggers JOIN seasons ON seasons.id = season_id \
                 WHERE user_id = ?1 ORDER BY season_number, day_number, daily_triggers.id"
            ),
            weeks: rows!(
                "SELECT week_results.* FROM week_results JOIN seasons ON seasons.id = season_id \
                 WHERE user_id = ?1 ORDER BY season_number, week_number"
            ),
            simulins: rows!("SELECT * FROM simulins WHERE user_id = ?1 ORDER BY id"),
            flags: rows!("SELECT * FROM flags WHERE user_id = ?1 ORDER BY seq"),
            leaderboard_entries: json_of(&mut moment, ENTRIES_AS_JSON, user_id).await?,
        };
        moment.commit().await?;
        Ok(played)
    }

    /// A user's season in play.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn active_season(&self, user_id: UserId) -> Result<Option<SeasonSummary>, ReadError> {
        let season = sqlx::query_as(
            "SELECT * FROM seasons WHERE user_id = ?1 AND completed_at IS NULL LIMIT 1",
        );
        Ok(season.bind(user_id.to_string()).fetch_optional(&*self.pool()?).await?)
    }

    /// A user's seasons, newest first, a page of them: those with a number below `before`.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot be read.
    pub async fn seasons_of(
        &self,
        user_id: UserId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<SeasonSummary>, ReadError> {
        let seasons = sqlx::query_as(
            "SELECT * FROM seasons WHERE user_id = ?1 AND season_number < ?2 \
             ORDER BY season_number DESC LIMIT ?3",
        );
        let before = before.unwrap_or(u32::MAX);
        let seasons = seasons.bind(user_id.to_string()).bind(before).bind(limit);
        Ok(seasons.fetch_all(&*self.pool()?).await?)
    }

    /// How many seasons there are.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot be counted.
    pub async fn season_counts(&self) -> Result<SeasonCounts, ReadError> {
        let (started, completed): (i64, i64) =
            sqlx::query_as("SELECT count(*), count(final_score) FROM seasons")
                .fetch_one(&*self.pool()?)
                .await?;
        let (started, completed) = (started.unsigned_abs(), completed.unsigned_abs());
        Ok(SeasonCounts { started, completed })
    }

    /// The newest event of a season's stream, from which its events are read back.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn season_head(&self, season_id: SeasonId) -> Result<Option<Seq>, ReadError> {
        let seq: Option<i64> =
            sqlx::query_scalar("SELECT last_seq FROM season_streams WHERE season_id = ?1")
                .bind(season_id.to_string())
                .fetch_optional(&*self.pool()?)
                .await?;
        Ok(seq.and_then(|seq| Seq::new(seq.unsigned_abs()).ok()))
    }

    /// A season's user and the newest event of its stream, in one statement.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn season_stream(
        &self,
        season_id: SeasonId,
    ) -> Result<Option<(UserId, Seq)>, ReadError> {
        let stream: Option<(String, i64)> = sqlx::query_as(
            "SELECT user_id, last_seq FROM seasons JOIN season_streams ON season_id = id \
             WHERE id = ?1",
        )
        .bind(season_id.to_string())
        .fetch_optional(&*self.pool()?)
        .await?;
        Ok(stream.and_then(|(user_id, seq)| {
            Some((user_id.parse().ok()?, Seq::new(seq.unsigned_abs()).ok()?))
        }))
    }

    /// A moment: all that is read in it is of one state of the file. For [`crate::analytics`].
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn moment(&self) -> Result<Transaction<'static, Sqlite>, ReadError> {
        Ok(self.pool()?.begin().await?)
    }
}

async fn of_season<T>(
    moment: &mut Transaction<'_, Sqlite>,
    statement: &'static str,
    season_id: SeasonId,
) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'row> FromRow<'row, sqlx::sqlite::SqliteRow> + Send + Unpin,
{
    sqlx::query_as(statement).bind(season_id.to_string()).fetch_all(&mut **moment).await
}

/// What a statement about a user gives as one JSON text.
async fn json_of(
    moment: &mut Transaction<'_, Sqlite>,
    statement: &'static str,
    user_id: UserId,
) -> Result<serde_json::Value, sqlx::Error> {
    let text: String =
        sqlx::query_scalar(statement).bind(user_id.to_string()).fetch_one(&mut **moment).await?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
