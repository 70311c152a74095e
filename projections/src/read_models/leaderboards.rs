//! `leaderboard_history` keeps every week, quarter and all time; `leaderboard_entries` shows those
//! that the newest completed season fell in, the first of them with their ranks.
//!
//! The work of a batch is bounded by its completions and by the ranks that are stored, not by how
//! many stand on a board; a board that is over is taken down once.

use daybook_schema::{
    LeaderboardEntryId, LedgerIdentity, Period, Score, SeasonId, UnixMicros, UserId, limits,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};

use super::calendar::{day_text, first_day};
use crate::insert::{Map, write};
use crate::projection::ApplyError;
use crate::ranks::Ranks;

/// A season that was played to its end.
pub(super) struct Completion {
    pub(super) identity: LedgerIdentity,
    pub(super) user_id: UserId,
    pub(super) season_id: SeasonId,
    pub(super) score: Score,
    pub(super) recorded_at: UnixMicros,
}

/// A user's place on one board: its period's name and first day, and the user.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
struct Place(Period, String, UserId);

/// The best that a user did on a board.
#[derive(Clone, Serialize, Deserialize)]
struct Best {
    id: LeaderboardEntryId,
    season_id: SeasonId,
    score: u64,
    calculated_at: i64,
}

const LOAD: &str = "SELECT h.period, h.first_day, h.user_id, json_object('id', h.id, \
    'season_id', h.season_id, 'score', h.score, 'calculated_at', h.calculated_at) \
    FROM json_each(?1) AS k JOIN leaderboard_history AS h \
    ON h.period = k.value->>0 AND h.first_day = k.value->>1 AND h.user_id = k.value->>2";

const STORE_HISTORY: &str = "INSERT INTO leaderboard_history (period, first_day, user_id, id, \
    season_id, score, calculated_at) \
    SELECT value->>'$[0][0]', value->>'$[0][1]', value->>'$[0][2]', value->>'$[1].id', \
    value->>'$[1].season_id', value->>'$[1].score', value->>'$[1].calculated_at' \
    FROM json_each(?1) WHERE true \
    ON CONFLICT (period, first_day, user_id) DO UPDATE SET season_id = excluded.season_id, \
    score = excluded.score, calculated_at = excluded.calculated_at";

const STORE_ENTRIES: &str = "INSERT INTO leaderboard_entries (id, user_id, season_id, score, period, \
    calculated_at) \
    SELECT value->>'$[1].id', value->>'$[0][2]', value->>'$[1].season_id', value->>'$[1].score', \
    value->>'$[0][0]', value->>'$[1].calculated_at' FROM json_each(?1) WHERE true \
    ON CONFLICT (id) DO UPDATE SET season_id = excluded.season_id, score = excluded.score, \
    calculated_at = excluded.calculated_at";

const STORE_RANKS: &str = "UPDATE leaderboard_entries SET rank = ranked.value->>1 \
    FROM json_each(?1) AS ranked WHERE leaderboard_entries.id = ranked.value->>0";

/// Puts completions on their boards.
pub(super) async fn apply(
    database: &mut SqliteConnection,
    completions: &[Completion],
) -> Result<(), ApplyError> {
    let Some(newest) = completions.last() else { return Ok(()) };
    let changed = improve(database, completions).await?;
    write(database, STORE_HISTORY, &changed).await?;
    for &period in Period::ALL {
        let board = day_text(first_day(period, newest.recorded_at));
        put_up(database, period, &board).await?;
        let on_board =
            changed.iter().filter(|(Place(of, first, _), _)| *of == period && *first == board);
        let on_board: Vec<&(Place, Best)> = on_board.collect();
        let ranked = first_rows(database, period).await?;
        write(database, STORE_ENTRIES, &on_board).await?;
        rank(database, period, &on_board, &ranked).await?;
    }
    Ok(())
}

/// The bests that the completions make, where they are better than what was there.
async fn improve(
    database: &mut SqliteConnection,
    completions: &[Completion],
) -> Result<Vec<(Place, Best)>, ApplyError> {
    let place = |completion: &Completion, period| {
        let board = first_day(period, completion.recorded_at);
        Place(period, day_text(board), completion.user_id)
    };
    let mut places: Vec<Place> = completions
        .iter()
        .flat_map(|completion| Period::ALL.iter().map(move |&period| place(completion, period)))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut bests = load(database, &places).await?;
    let mut changed: Map<Place, Best> = Map::default();
    for completion in completions {
        for &period in Period::ALL {
            let place = place(completion, period);
            let score = completion.score.get();
            let before = bests.get(&place);
            if before.is_some_and(|before| before.score >= score) {
                continue;
            }
            let board = i32::try_from(first_day(period, completion.recorded_at)).unwrap_or(0);
            let (at, user) = (completion.recorded_at, completion.user_id);
            let new_id = || completion.identity.leaderboard_entry_id(at, period, board, user);
            let best = Best {
                id: before.map_or_else(new_id, |before| before.id),
                season_id: completion.season_id,
                score,
                calculated_at: at.seconds(),
            };
            bests.insert(place.clone(), best.clone());
            changed.insert(place, best);
        }
    }
    let mut changed: Vec<(Place, Best)> = changed.into_iter().collect();
    changed.sort_unstable_by_key(|(place, best)| (best.id, place.0));
    Ok(changed)
}

async fn load(
    database: &mut SqliteConnection,
    places: &[Place],
) -> Result<Map<Place, Best>, ApplyError> {
    let keys = serde_json::to_string(places)?;
    let mut bests = Map::default();
    for row in sqlx::query(LOAD).bind(keys).fetch_all(database).await? {
        let (period, first): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (user, best): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        let place: (Period, UserId) = serde_json::from_value(serde_json::json!([period, user]))?;
        bests.insert(Place(place.0, first, place.1), serde_json::from_str(&best)?);
    }
    Ok(bests)
}

/// Makes a board the one that is shown, if another is.
async fn put_up(
    database: &mut SqliteConnection,
    period: Period,
    board: &str,
) -> Result<(), ApplyError> {
    let shown: Option<String> =
        sqlx::query_scalar("SELECT first_day FROM leaderboard_boards WHERE period = ?1")
            .bind(period.as_str())
            .fetch_optional(&mut *database)
            .await?;
    if shown.as_deref() == Some(board) {
        return Ok(());
    }
    sqlx::query("DELETE FROM leaderboard_entries WHERE period = ?1")
        .bind(period.as_str())
        .execute(&mut *database)
        .await?;
    sqlx::query("INSERT OR REPLACE INTO leaderboard_boards (period, first_day) VALUES (?1, ?2)")
        .bind(period.as_str())
        .bind(board)
        .execute(database)
        .await?;
    Ok(())
}

/// A row that has a rank, or shall have one.
#[derive(Clone, PartialEq)]
struct Ranked {
    id: String,
    score: i64,
    rank: Option<i64>,
}

/// The first rows of a board: by score, and among equals by who came onto it first.
async fn first_rows(
    database: &mut SqliteConnection,
    period: Period,
) -> Result<Vec<Ranked>, ApplyError> {
    let rows = sqlx::query(
        "SELECT id, score, rank FROM leaderboard_entries WHERE period = ?1 \
         ORDER BY score DESC, id LIMIT ?2",
    )
    .bind(period.as_str())
    .bind(i64::try_from(limits::RANKS_STORED_MAX).unwrap_or(i64::MAX))
    .fetch_all(database)
    .await?;
    let ranked = rows.iter().map(|row| {
        Ok(Ranked { id: row.try_get(0)?, score: row.try_get(1)?, rank: row.try_get(2)? })
    });
    ranked.collect()
}

/// Gives the first of a board their ranks, and takes them from those who no longer are among them.
async fn rank(
    database: &mut SqliteConnection,
    period: Period,
    changed: &[&(Place, Best)],
    before: &[Ranked],
) -> Result<(), ApplyError> {
    let reaches = |best: &Best| match before.last() {
        Some(last) if before.len() == limits::RANKS_STORED_MAX => {
            i64::try_from(best.score).unwrap_or(i64::MAX) >= last.score
        }
        _ => true,
    };
    if !changed.iter().any(|(_, best)| reaches(best)) {
        return Ok(());
    }
    let now = first_rows(database, period).await?;
    let mut ranks: Vec<(&str, Option<i64>)> = Vec::new();
    let mut board = Ranks::from_top();
    for row in &now {
        let rank = board.next(row.score);
        if row.rank != Some(rank) {
            ranks.push((&row.id, Some(rank)));
        }
    }
    let stays: std::collections::HashSet<&str> = now.iter().map(|row| row.id.as_str()).collect();
    let gone = before.iter().filter(|row| row.rank.is_some() && !stays.contains(row.id.as_str()));
    ranks.extend(gone.map(|row| (row.id.as_str(), None)));
    write(database, STORE_RANKS, &ranks).await
}
