//! The demo's leaderboard and retention table, from `game.db`.

use anyhow::Result;
use daybook_bots::STARTS_AT;
use daybook_projections::analytics::{Cohort, DaysAsked, active_days, retention};
use daybook_projections::{GameDatabase, Reads};
use daybook_schema::Period;
use serde::Serialize;

const LEADERBOARD_ROWS: u32 = 10;
/// Days after the first at which retention is shown.
const RETENTION_DAYS: [usize; 6] = [1, 3, 7, 14, 21, 27];
const COHORTS_SHOWN: usize = 10;

/// A row of the leaderboard; equal scores share a rank.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaderboardRow {
    pub(crate) rank: i64,
    pub(crate) user_id: String,
    pub(crate) score: i64,
    pub(crate) season_id: String,
}

/// The players first active on one UTC day, and how many of them came back.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetentionRow {
    pub(crate) cohort_day: String,
    pub(crate) cohort_size: u64,
    pub(crate) retained: Vec<RetainedCell>,
}

/// How many of a cohort came back n days later; none where the play ended before.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetainedCell {
    pub(crate) day_n: usize,
    pub(crate) players: Option<u64>,
}

/// What the read models tell of a demo.
pub(crate) struct Summary {
    pub(crate) seasons_started: u64,
    pub(crate) seasons_completed: u64,
    pub(crate) leaderboard: Vec<LeaderboardRow>,
    pub(crate) retention: Vec<RetentionRow>,
}

impl Summary {
    pub(crate) async fn read(database: &GameDatabase) -> Result<Self> {
        let reads = Reads::new(database);
        let board =
            reads.leaderboard(Period::AllTime, STARTS_AT, None, LEADERBOARD_ROWS, None).await?;
        let leaderboard = board.rows.into_iter().map(|row| LeaderboardRow {
            rank: row.rank,
            user_id: row.user_id.to_string(),
            score: row.score,
            season_id: row.season_id.to_string(),
        });
        let counts = reads.season_counts().await?;
        let mut moment = reads.moment().await?;
        let cohorts = retention(&mut moment, DaysAsked::ALL).await?.cohorts;
        let days = active_days(&mut moment, DaysAsked::ALL).await?.days;
        moment.commit().await?;
        reads.close().await;
        // The clock runs on after the play: nobody could come back then.
        let last_played = days.iter().rposition(|day| day.dau > 0).unwrap_or_default();
        let cohorts = cohorts.iter().enumerate().filter(|(_, cohort)| cohort.cohort_size > 0);
        let retention = cohorts
            .take(COHORTS_SHOWN)
            .map(|(first, cohort)| shown(cohort, last_played.saturating_sub(first)));
        Ok(Self {
            seasons_started: counts.started,
            seasons_completed: counts.completed,
            leaderboard: leaderboard.collect(),
            retention: retention.collect(),
        })
    }
}

/// A cohort that had so many days to come back on.
fn shown(cohort: &Cohort, days: usize) -> RetentionRow {
    let retained = RETENTION_DAYS.iter().map(|&day_n| {
        let players = cohort.retained.get(day_n).copied().flatten().filter(|_| day_n <= days);
        RetainedCell { day_n, players }
    });
    RetentionRow {
        cohort_day: cohort.cohort_day.clone(),
        cohort_size: cohort.cohort_size,
        retained: retained.collect(),
    }
}
