//! Many rows in one statement: they go in as one JSON array and SQLite takes it apart, so that a batch is
//! one call for each table, however many rows it has.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{Row, SqliteConnection};

use crate::projection::ApplyError;

/// A map of a batch's rows.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// Runs a statement over `json_each(?1)`, an array of rows.
pub(crate) async fn write<T: Serialize>(
    database: &mut SqliteConnection,
    statement: &'static str,
    rows: &[T],
) -> Result<(), ApplyError> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = serde_json::to_string(rows)?;
    sqlx::query(statement).bind(rows).execute(database).await?;
    Ok(())
}

/// Reads what a working table holds for some keys: a statement over `json_each(?1)`, an array of keys, that
/// selects a key and a JSON text.
pub(crate) async fn load<K, V>(
    database: &mut SqliteConnection,
    statement: &'static str,
    keys: &[K],
) -> Result<Map<K, V>, ApplyError>
where
    K: Serialize + DeserializeOwned + Eq + Hash,
    V: DeserializeOwned,
{
    let mut found = Map::default();
    if keys.is_empty() {
        return Ok(found);
    }
    let keys = serde_json::to_string(keys)?;
    for row in sqlx::query(statement).bind(keys).fetch_all(database).await? {
        let key: String = row.try_get(0)?;
        let value: String = row.try_get(1)?;
        let key = serde_json::from_value(serde_json::Value::String(key))?;
        found.insert(key, serde_json::from_str(&value)?);
    }
    Ok(found)
}
