//! Many rows in one statement, so that a batch is a few calls for each table, however many rows it
//! has.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, Row, Sqlite, SqliteConnection, Type};

use crate::projection::ApplyError;

/// A map of a batch's rows.
pub(crate) type Map<K, V> = HashMap<K, V, RandomState>;

/// Rows of one statement at most, a power of two.
const ROWS_PER_STATEMENT: usize = 256;

/// A statement that writes rows: into which columns, a row of placeholders again and again, and what
/// follows.
///
/// Many rows go in by `INSERT OR FAIL`: what a statement wrote before it fails is not undone, as the
/// whole transaction is. So SQLite need not keep each page as it was before the statement. Triggers
/// of a team's own would be held to `OR FAIL` too, whatever they say, so a table with one gets a
/// plain `INSERT`.
pub(crate) struct Insert {
    pub(crate) into: &'static str,
    pub(crate) row: &'static str,
    pub(crate) tail: &'static str,
}

/// A row's values, in the order of its placeholders.
pub(crate) trait BindRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError>;
}

/// Values that were bound.
#[derive(Default)]
pub(crate) struct Values(SqliteArguments);

impl Values {
    pub(crate) fn add<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(
        &mut self,
        value: T,
    ) -> Result<&mut Self, ApplyError> {
        self.0.add(value).map_err(sqlx::Error::Encode)?;
        Ok(self)
    }

    /// As text: ids and names.
    pub(crate) fn text(&mut self, value: impl ToString) -> Result<&mut Self, ApplyError> {
        self.add(value.to_string())
    }

    /// Numbers, which are never beyond what SQLite holds.
    pub(crate) fn number(&mut self, value: u64) -> Result<&mut Self, ApplyError> {
        self.add(value.cast_signed())
    }

    /// As JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<&mut Self, ApplyError> {
        self.add(serde_json::to_string(value)?)
    }
}

/// Writes rows, many with each statement. Statements come in as few sizes as there are powers of
/// two, so that each is prepared once. While SQLite runs one, the values of the next are bound.
pub(crate) async fn insert<R: BindRow>(
    database: &mut SqliteConnection,
    statement: &Insert,
    rows: impl IntoIterator<Item = R>,
) -> Result<(), ApplyError> {
    let rows: Vec<R> = rows.into_iter().collect();
    let mut rest = rows.as_slice();
    // Few rows are not worth the question.
    let verb = match rows.len() < ROWS_PER_STATEMENT || has_triggers(database, statement).await? {
        true => "INSERT INTO ",
        false => "INSERT OR FAIL INTO ",
    };
    let mut next = prepare(verb, statement, &mut rest)?;
    while let Some((sql, values)) = next {
        let execute = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut *database);
        let (executed, prepared) =
            tokio::join!(execute, async { prepare(verb, statement, &mut rest) });
        executed?;
        next = prepared?;
    }
    Ok(())
}

/// Whether the table of a statement has triggers.
async fn has_triggers(
    database: &mut SqliteConnection,
    statement: &Insert,
) -> Result<bool, sqlx::Error> {
    let table = statement.into.split_once(' ').map_or(statement.into, |(table, _)| table);
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema \
        WHERE type = 'trigger' AND lower(tbl_name) = ?1)";
    sqlx::query_scalar(sql).bind(table).fetch_one(database).await
}

/// The statement for the next rows, with their values.
fn prepare<R: BindRow>(
    verb: &str,
    statement: &Insert,
    rest: &mut &[R],
) -> Result<Option<(String, SqliteArguments)>, ApplyError> {
    let Some(power) = rest.len().checked_ilog2() else { return Ok(None) };
    let (rows, after) = rest.split_at(ROWS_PER_STATEMENT.min(1 << power).min(rest.len()));
    *rest = after;
    let mut values = Values::default();
    rows.iter().try_for_each(|row| row.bind(&mut values))?;
    let mut sql = String::with_capacity(512 + rows.len() * (statement.row.len() + 2));
    sql.push_str(verb);
    sql.push_str(statement.into);
    sql.push_str(" VALUES");
    for index in 0..rows.len() {
        sql.push_str(if index == 0 { " " } else { ", " });
        sql.push_str(statement.row);
    }
    sql.push(' ');
    sql.push_str(statement.tail);
    Ok(Some((sql, values.0)))
}

/// Runs a statement over `json_each(?1)`, an array of rows: for few rows, and for other statements
/// than inserts. SQLite takes each row apart once for every column.
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

/// Reads what a working table holds for some keys: a statement over `json_each(?1)`, an array of
/// keys, that selects a key and a JSON text.
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
