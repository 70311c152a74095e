//! The statements over `telemetry_events`. Each that could touch many rows touches a part of them.

use std::collections::BTreeSet;

use daybook_projections::sqlx::sqlite::{SqliteArguments, SqliteRow};
use daybook_projections::sqlx::{
    self, Arguments, AssertSqlSafe, FromRow, Row as _, SqliteConnection, SqlitePool,
};
use daybook_schema::limits::TELEMETRY_ROWS_PER_SWEEP;
use daybook_schema::{LedgerIdentity, UserId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::amounts::{Amounts, DAY_MS, Whose};
use super::event::Row;

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 128;
const COLUMNS: &str = "event_id, event_type, timestamp, session_id, user_id, properties, context, \
    client_timestamp, server_timestamp, ip, country, sequence, sent_at";
const PLACEHOLDERS: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
/// Rows of a user that one step of an erasure takes out.
const ERASED_PER_STEP: u32 = 200;

/// Up to which flag the flags were taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlagsTaken {
    pub(crate) identity: LedgerIdentity,
    pub(crate) seq: i64,
}

/// An event of a user's own, as it is stored: the seed's columns and ours.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnEvent {
    #[serde(skip)]
    rowid: i64,
    event_id: String,
    event_type: String,
    /// In milliseconds since 1970.
    timestamp: i64,
    session_id: String,
    #[schema(value_type = Object)]
    properties: Value,
    #[schema(value_type = Object)]
    context: Value,
    /// In milliseconds since 1970, as the client sent it.
    client_timestamp: i64,
    /// In milliseconds since 1970.
    server_timestamp: i64,
    ip: Option<String>,
    country: Option<String>,
    sequence: Option<i64>,
    /// In milliseconds since 1970, by the client's clock.
    sent_at: Option<i64>,
}

impl FromRow<'_, SqliteRow> for OwnEvent {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let json = |name| {
            let text: String = row.try_get(name)?;
            serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
        };
        Ok(Self {
            rowid: row.try_get("rowid")?,
            event_id: row.try_get("event_id")?,
            event_type: row.try_get("event_type")?,
            timestamp: row.try_get("timestamp")?,
            session_id: row.try_get("session_id")?,
            properties: json("properties")?,
            context: json("context")?,
            client_timestamp: row.try_get("client_timestamp")?,
            server_timestamp: row.try_get("server_timestamp")?,
            ip: row.try_get("ip")?,
            country: row.try_get("country")?,
            sequence: row.try_get("sequence")?,
            sent_at: row.try_get("sent_at")?,
        })
    }
}

impl OwnEvent {
    /// Its place, in the order in which events came.
    pub(crate) const fn place(&self) -> i64 {
        self.rowid
    }
}

/// Stores rows whose ids are not stored yet, and tells how many these are.
pub(super) async fn insert(
    database: &mut SqliteConnection,
    rows: &[Row],
) -> Result<u64, sqlx::Error> {
    let mut stored = 0;
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let mut values = SqliteArguments::default();
        rows.iter().try_for_each(|row| bind(row, &mut values)).map_err(sqlx::Error::Encode)?;
        let mut sql = format!("INSERT INTO telemetry_events ({COLUMNS}) VALUES ");
        for index in 0..rows.len() {
            sql.push_str(if index == 0 { "" } else { ", " });
            sql.push_str(PLACEHOLDERS);
        }
        sql.push_str(" ON CONFLICT (event_id) DO NOTHING");
        let inserted = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut *database).await?;
        stored += inserted.rows_affected();
    }
    Ok(stored)
}

fn bind(row: &Row, values: &mut SqliteArguments) -> Result<(), sqlx::error::BoxDynError> {
    values.add(row.event_id.clone())?;
    values.add(row.event_type)?;
    values.add(row.timestamp_ms)?;
    values.add(row.session_id.clone())?;
    values.add(row.user_id.map(|user_id| user_id.to_string()))?;
    values.add(row.properties.clone())?;
    values.add(row.context.clone())?;
    values.add(row.client_timestamp_ms)?;
    values.add(row.server_timestamp_ms)?;
    values.add(row.ip.map(|ip| ip.to_string()))?;
    values.add(row.country.clone())?;
    values.add(row.sequence)?;
    values.add(row.sent_at_ms)
}

/// Adds to what somebody stored on a day.
pub(super) async fn add_amount(
    database: &mut SqliteConnection,
    whose: Whose,
    day: i64,
    events: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO stored_on_day (whose, day, events) VALUES (?1, ?2, ?3) \
         ON CONFLICT (whose) DO UPDATE SET \
         events = excluded.events + CASE WHEN day = excluded.day THEN events ELSE 0 END, \
         day = excluded.day",
    )
    .bind(whose.to_bytes())
    .bind(day)
    .bind(events)
    .execute(database)
    .await
    .map(drop)
}

/// Reads what was stored on a day.
pub(super) async fn load_amounts(
    database: &mut SqliteConnection,
    amounts: &Amounts,
    day: i64,
) -> Result<(), sqlx::Error> {
    let of_day = sqlx::query_as("SELECT whose, events FROM stored_on_day WHERE day = ?1");
    let rows: Vec<(Vec<u8>, i64)> = of_day.bind(day).fetch_all(database).await?;
    for (whose, events) in rows {
        if let Some(whose) = Whose::from_bytes(&whose) {
            amounts.load(whose, day, u32::try_from(events).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

/// Forgets what was stored on other days.
pub(super) async fn forget_amounts(
    database: &mut SqliteConnection,
    day: i64,
) -> Result<(), sqlx::Error> {
    let forget = sqlx::query("DELETE FROM stored_on_day WHERE day <> ?1").bind(day);
    forget.execute(database).await.map(drop)
}

/// Clears addresses that came before a time; tells how many.
pub(super) async fn clear_addresses(
    database: &mut SqliteConnection,
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    let cleared = sqlx::query(
        "UPDATE telemetry_events SET ip = NULL WHERE rowid IN \
         (SELECT rowid FROM telemetry_events INDEXED BY idx_telemetry_ip \
          WHERE ip IS NOT NULL AND server_timestamp < ?1 ORDER BY server_timestamp LIMIT ?2)",
    );
    let cleared = cleared.bind(before_ms).bind(TELEMETRY_ROWS_PER_SWEEP).execute(database).await?;
    Ok(cleared.rows_affected())
}

/// Takes the oldest events out that came before a time; tells how many.
pub(super) async fn take_out(
    database: &mut SqliteConnection,
    before_ms: i64,
) -> Result<u64, sqlx::Error> {
    let gone = sqlx::query(
        "DELETE FROM telemetry_events WHERE rowid IN \
         (SELECT rowid FROM telemetry_events INDEXED BY idx_telemetry_stored \
          WHERE server_timestamp < ?1 ORDER BY server_timestamp LIMIT ?2)",
    );
    let gone = gone.bind(before_ms).bind(TELEMETRY_ROWS_PER_SWEEP).execute(database).await?;
    Ok(gone.rows_affected())
}

/// The end of the UTC day on which the oldest event came.
pub(super) async fn oldest_days_end_ms(
    database: &mut SqliteConnection,
) -> Result<Option<i64>, sqlx::Error> {
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT min(server_timestamp) FROM telemetry_events")
            .fetch_one(database)
            .await?;
    Ok(oldest.map(|ms| (ms.div_euclid(DAY_MS) + 1) * DAY_MS))
}

/// Bytes of the file that are in use.
pub(super) async fn used_bytes(database: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let (pages, free, page_bytes): (i64, i64, i64) = sqlx::query_as(
        "SELECT page_count, freelist_count, page_size \
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(database)
    .await?;
    Ok((pages - free).max(0).unsigned_abs() * page_bytes.unsigned_abs())
}

/// Takes some of a user's events out, the newest first, and before them those without user of their
/// telemetry sessions, where no other user used these. Gives these sessions, the newest first; none
/// where no event of hers was left.
pub(super) async fn erase_some(
    database: &mut SqliteConnection,
    user_id: UserId,
) -> Result<Option<Vec<String>>, sqlx::Error> {
    let id = user_id.to_string();
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT rowid, session_id FROM telemetry_events WHERE user_id = ?1 \
         ORDER BY rowid DESC LIMIT ?2",
    )
    .bind(&id)
    .bind(ERASED_PER_STEP)
    .fetch_all(&mut *database)
    .await?;
    if rows.is_empty() {
        let amount = sqlx::query("DELETE FROM stored_on_day WHERE whose = ?1");
        amount.bind(Whose::User(user_id).to_bytes()).execute(database).await?;
        return Ok(None);
    }
    let (rowids, mut sessions): (Vec<i64>, Vec<String>) = rows.into_iter().unzip();
    let mut seen = BTreeSet::new();
    sessions.retain(|session| seen.insert(session.clone()));
    // By the index on session and user: two searches each, however many events a session has.
    let own: Vec<String> = sqlx::query_scalar(
        "SELECT session.value FROM json_each(?2) AS session \
         WHERE NOT EXISTS (SELECT 1 FROM telemetry_events AS other \
                           WHERE other.session_id = session.value AND other.user_id < ?1) \
         AND NOT EXISTS (SELECT 1 FROM telemetry_events AS other \
                         WHERE other.session_id = session.value AND other.user_id > ?1) \
         ORDER BY session.key",
    )
    .bind(&id)
    .bind(serde_json::to_string(&sessions).unwrap_or_default())
    .fetch_all(&mut *database)
    .await?;
    let without_user = sqlx::query(
        "DELETE FROM telemetry_events WHERE rowid IN \
         (SELECT own.rowid FROM json_each(?1) AS session CROSS JOIN telemetry_events AS own \
          INDEXED BY idx_telemetry_session \
          ON own.session_id = session.value AND own.user_id IS NULL LIMIT ?2)",
    )
    .bind(serde_json::to_string(&own).unwrap_or_default())
    .bind(TELEMETRY_ROWS_PER_SWEEP)
    .execute(&mut *database)
    .await?;
    // Only when all of these are gone hers go, by which they are found.
    if without_user.rows_affected() < u64::from(TELEMETRY_ROWS_PER_SWEEP) {
        let hers = "DELETE FROM telemetry_events WHERE rowid IN (SELECT value FROM json_each(?1))";
        let rowids = serde_json::to_string(&rowids).unwrap_or_default();
        sqlx::query(hers).bind(rowids).execute(database).await?;
    }
    Ok(Some(own))
}

/// Notes up to which flag the flags were taken over.
pub(super) async fn note_flags_taken(
    database: &mut SqliteConnection,
    taken: FlagsTaken,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR REPLACE INTO flags_taken (id, ledger_id, epoch, seq) VALUES (1, ?1, ?2, ?3)",
    )
    .bind(taken.identity.ledger_id.to_string())
    .bind(taken.identity.epoch.number)
    .bind(taken.seq)
    .execute(database)
    .await
    .map(drop)
}

/// Up to which flag of a ledger's epoch the flags were taken over.
pub(super) async fn flags_taken(
    readers: &SqlitePool,
    identity: LedgerIdentity,
) -> Result<i64, sqlx::Error> {
    let seq: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM flags_taken WHERE ledger_id = ?1 AND epoch = ?2")
            .bind(identity.ledger_id.to_string())
            .bind(identity.epoch.number)
            .fetch_optional(readers)
            .await?;
    Ok(seq.unwrap_or(0))
}

/// A page of a user's own events, the newest first: those before a place.
pub(super) async fn own_events(
    readers: &SqlitePool,
    user_id: UserId,
    before: i64,
    limit: u32,
) -> Result<Vec<OwnEvent>, sqlx::Error> {
    sqlx::query_as(
        "SELECT rowid, * FROM telemetry_events WHERE user_id = ?1 AND rowid < ?2 \
         ORDER BY rowid DESC LIMIT ?3",
    )
    .bind(user_id.to_string())
    .bind(before)
    .bind(limit)
    .fetch_all(readers)
    .await
}
