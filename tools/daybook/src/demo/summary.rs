//! The demo's leaderboard and retention table, from `game.db`.

use std::collections::BTreeMap;

use anyhow::Result;
use daybook_bots::STARTS_AT;
use daybook_projections::{CohortRow, GameDatabase, Reads};
use daybook_schema::Period;
use serde::Serialize;

const LEADERBOARD_ROWS: u32 = 10;
/// Days after the first at which retention is shown.
const RETENTION_DAYS: [i64; 6] = [1, 3, 7, 14, 21, 27];
const COHORTS_SHOWN: usize = 10;
/// Every UTC day there is.
const FIRST_DAY: &str = "0000-01-01";
const LAST_DAY: &str = "9999-12-31";

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
    pub(crate) cohort_size: i64,
    pub(crate) retained: Vec<RetainedCell>,
}

/// How many of a cohort came back n days later; none where the play ended before.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetainedCell {
    pub(crate) day_n: i64,
    pub(crate) players: Option<i64>,
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
        let days_played = reads.daily_active_users(FIRST_DAY, LAST_DAY).await?;
        let cohorts = reads.retention(FIRST_DAY, LAST_DAY).await?;
        reads.close().await;
        let last_day = days_played.last().map(|(day, _)| day.clone()).unwrap_or_default();
        Ok(Self {
            seasons_started: counts.started,
            seasons_completed: counts.completed,
            leaderboard: leaderboard.collect(),
            retention: retention(&cohorts, &last_day),
        })
    }
}

fn retention(cohorts: &[CohortRow], last_day: &str) -> Vec<RetentionRow> {
    let mut rows: BTreeMap<&str, Vec<&CohortRow>> = BTreeMap::new();
    for row in cohorts {
        rows.entry(&row.cohort_day).or_default().push(row);
    }
    let later = |day: &str, days: i64| -> Option<String> {
        let first: jiff::civil::Date = day.parse().ok()?;
        Some(first.checked_add(jiff::Span::new().days(days)).ok()?.to_string())
    };
    let rows = rows.into_iter().take(COHORTS_SHOWN).map(|(cohort_day, rows)| RetentionRow {
        cohort_day: cohort_day.to_owned(),
        cohort_size: rows.first().map_or(0, |row| row.cohort_size),
        retained: RETENTION_DAYS
            .iter()
            .map(|&day_n| {
                let players =
                    rows.iter().find(|row| row.day_n == day_n).map_or(0, |row| row.retained);
                let was_played = later(cohort_day, day_n).is_some_and(|day| *day <= *last_day);
                RetainedCell { day_n, players: was_played.then_some(players) }
            })
            .collect(),
    });
    rows.collect()
}
