//! How far what clients told agrees with what the ledger has: a blocked client is missing, forged
//! events are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use daybook_projections::sqlx::{self, SqliteConnection};
use daybook_projections::{Look, look};
use daybook_schema::UserId;
use serde::Serialize;

/// Which UTC days are compared, and who is left out.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// The first day, such as `2026-01-05`.
    pub from: &'a str,
    /// The last day.
    pub until: &'a str,
    /// Users who were erased: of them the ledger still has the play.
    pub erased: &'a [UserId],
}

/// A UTC day as the ledger and as telemetry have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComparedDay {
    /// Such as `2026-01-05`.
    pub day: String,
    /// Users who were active by the ledger.
    pub ledger_users: usize,
    /// Users with an event.
    pub telemetry_users: usize,
    /// Users of the ledger alone: their clients were blocked, or what they sent was lost.
    pub only_ledger: usize,
    /// Users of telemetry alone: they did not play, or it was forged.
    pub only_telemetry: usize,
    /// Bets by the ledger.
    pub ledger_bets: i64,
    /// `bet_placed` events of users.
    pub telemetry_bets: i64,
}

/// Compares two files, day by day; a day that neither has is left out.
///
/// # Errors
/// What SQLite says.
pub async fn compare(
    game_db: &Path,
    telemetry_db: &Path,
    compared: Compared<'_>,
) -> Result<Vec<ComparedDay>, sqlx::Error> {
    let erased: Vec<String> = compared.erased.iter().map(ToString::to_string).collect();
    let erased = serde_json::to_string(&erased).unwrap_or_default();
    let (mut game, mut telemetry) = (look(game_db).await?, look(telemetry_db).await?);
    let of = async |looked: &mut Look, sql: &'static str| {
        by_day(&mut looked.connection, sql, &compared, &erased).await
    };
    let ledger_days = of(
        &mut game,
        "SELECT day, count(*) FROM user_days WHERE day BETWEEN ?1 AND ?2 \
         AND user_id NOT IN (SELECT value FROM json_each(?3)) GROUP BY day",
    )
    .await?;
    let ledger_bets = of(
        &mut game,
        "SELECT date(placed_at, 'unixepoch') AS day, count(*) FROM bets \
         JOIN seasons ON seasons.id = season_id \
         WHERE user_id NOT IN (SELECT value FROM json_each(?3)) \
         GROUP BY day HAVING day BETWEEN ?1 AND ?2",
    )
    .await?;
    let telemetry_days = of(
        &mut telemetry,
        "SELECT date(timestamp / 1000, 'unixepoch') AS day, count(*) FROM telemetry_events \
         WHERE user_id IS NOT NULL AND user_id NOT IN (SELECT value FROM json_each(?3)) \
         GROUP BY day HAVING day BETWEEN ?1 AND ?2",
    )
    .await?;
    let telemetry_bets = of(
        &mut telemetry,
        "SELECT date(timestamp / 1000, 'unixepoch') AS day, count(*) \
         FROM telemetry_events WHERE event_type = 'bet_placed' AND user_id IS NOT NULL \
         AND user_id NOT IN (SELECT value FROM json_each(?3)) \
         GROUP BY day HAVING day BETWEEN ?1 AND ?2",
    )
    .await?;
    let all = [&ledger_days, &ledger_bets, &telemetry_days, &telemetry_bets];
    let days: BTreeSet<&String> = all.into_iter().flat_map(BTreeMap::keys).collect();
    let number =
        |counts: &BTreeMap<String, i64>, day: &String| counts.get(day).copied().unwrap_or_default();
    let mut rows = Vec::with_capacity(days.len());
    for day in days {
        let ledger = users(&mut game.connection, OF_LEDGER, day, &erased).await?;
        let told = users(&mut telemetry.connection, OF_TELEMETRY, day, &erased).await?;
        rows.push(ComparedDay {
            day: day.clone(),
            ledger_users: ledger.len(),
            telemetry_users: told.len(),
            only_ledger: ledger.difference(&told).count(),
            only_telemetry: told.difference(&ledger).count(),
            ledger_bets: number(&ledger_bets, day),
            telemetry_bets: number(&telemetry_bets, day),
        });
    }
    Ok(rows)
}

const OF_LEDGER: &str = "SELECT user_id FROM user_days WHERE day = ?1 \
    AND user_id NOT IN (SELECT value FROM json_each(?2))";
/// As the seed counts who was active.
const OF_TELEMETRY: &str = "SELECT DISTINCT user_id FROM telemetry_events \
    WHERE timestamp >= unixepoch(?1) * 1000 AND timestamp < (unixepoch(?1) + 86400) * 1000 \
    AND user_id IS NOT NULL AND user_id NOT IN (SELECT value FROM json_each(?2))";

async fn users(
    database: &mut SqliteConnection,
    sql: &'static str,
    day: &str,
    erased: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let users: Vec<String> =
        sqlx::query_scalar(sql).bind(day).bind(erased).fetch_all(database).await?;
    Ok(users.into_iter().collect())
}

async fn by_day(
    database: &mut SqliteConnection,
    sql: &'static str,
    compared: &Compared<'_>,
    erased: &str,
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(sql)
        .bind(compared.from)
        .bind(compared.until)
        .bind(erased)
        .fetch_all(database)
        .await?;
    Ok(rows.into_iter().collect())
}
