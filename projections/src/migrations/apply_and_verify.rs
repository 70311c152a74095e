//! Applying one migration or taking it back, and what must hold afterwards: else it is rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sqlx::migrate::Migrate;
use sqlx::{ConnectOptions, Connection, Executor, Row, Sqlite, SqliteConnection, Transaction};

use super::error::MigrationError;
use super::files::{Numbered, TABLE, trusted};

/// Which way a migration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Applies a migration or takes it back, and commits if everything holds that must; else all is
/// rolled back.
pub(super) async fn apply_verified(
    mut transaction: Transaction<'_, Sqlite>,
    numbered: &Numbered,
    direction: Direction,
    path: &Path,
) -> Result<(), MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    let before = RowCounts::take(&mut transaction).await.map_err(failed)?;
    let done = match direction {
        Direction::Up => transaction.apply(TABLE, &numbered.up).await,
        Direction::Down => transaction.revert(TABLE, &numbered.down).await,
    };
    done.map_err(|source| MigrationError::Failed { path: path.to_owned(), source })?;
    let mut findings = structure(&mut transaction).await.map_err(failed)?;
    let after = RowCounts::take(&mut transaction).await.map_err(failed)?;
    findings.extend(before.differences(&after, numbered, direction));
    if direction == Direction::Up {
        findings.extend(own(&mut transaction, numbered).await.map_err(failed)?);
    }
    if let Some(finding) = findings.into_iter().next() {
        transaction.rollback().await.map_err(failed)?;
        return Err(MigrationError::Verification { number: numbered.number, finding });
    }
    transaction.commit().await.map_err(failed)
}

/// How many rows each table has.
pub(super) struct RowCounts(BTreeMap<String, i64>);

impl RowCounts {
    pub(super) async fn take(database: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> ?1",
        )
        .bind(TABLE)
        .fetch_all(&mut *database)
        .await?;
        let mut counts = BTreeMap::new();
        for table in tables {
            let quoted = table.replace('"', "\"\"");
            let count = trusted(&format!("SELECT count(*) FROM \"{quoted}\""));
            let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut *database).await?;
            counts.insert(table, rows);
        }
        Ok(Self(counts))
    }

    /// The tables whose rows became others in number, or that went with their rows, and nobody
    /// announced it. On the way down tables go.
    pub(super) fn differences(
        &self,
        after: &Self,
        numbered: &Numbered,
        direction: Direction,
    ) -> Vec<String> {
        let announced = numbered.changes_rows_of();
        let kept = self.0.iter().filter(|(table, _)| !announced.contains(&table.as_str()));
        let changed = kept.filter_map(|(table, before)| match after.0.get(table) {
            Some(after) if before == after => None,
            Some(after) => Some(format!("`{table}` had {before} rows and has {after}")),
            None if *before == 0 || direction == Direction::Down => None,
            None => Some(format!("`{table}` is gone with its {before} rows")),
        });
        changed.collect()
    }
}

/// What does not hold of foreign keys and of SQLite's own structure.
pub(super) async fn structure(database: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let mut findings = Vec::new();
    let orphans = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *database).await?;
    if let Some(first) = orphans.first() {
        let (table, parent): (String, String) = (first.try_get(0)?, first.try_get(2)?);
        let count = orphans.len();
        findings
            .push(format!("{count} rows refer to nothing, the first from `{table}` to `{parent}`"));
    }
    let problems: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_all(database).await?;
    findings.extend(problems.into_iter().filter(|problem| problem != "ok"));
    Ok(findings)
}

/// What a migration's own check finds: each row that it returns.
pub(super) async fn own(
    database: &mut SqliteConnection,
    numbered: &Numbered,
) -> Result<Vec<String>, sqlx::Error> {
    let Some(check) = &numbered.check else { return Ok(Vec::new()) };
    // It looks: what it wrote would be committed after everything else was checked.
    database.execute("PRAGMA query_only = ON").await?;
    let rows = database.fetch_all(trusted(check)).await?;
    database.execute("PRAGMA query_only = OFF").await?;
    let findings = rows.iter().map(|row| {
        let text: Option<String> = row.try_get_unchecked(0)?;
        Ok(format!("{}: {}", numbered.name, text.unwrap_or_else(|| "NULL".to_owned())))
    });
    findings.collect()
}

/// What differs between a file's tables and indexes and those that its migrations make. Tables that
/// no migration makes are somebody's own.
pub(super) async fn drift(
    database: &mut SqliteConnection,
    applied: &[&Numbered],
) -> Result<Vec<String>, sqlx::Error> {
    let mut template = template(applied).await?;
    let expected = objects(&mut template).await?;
    template.close().await?;
    let found = objects(database).await?;
    let findings = expected.iter().filter_map(|((kind, name), sql)| {
        match found.get(&(kind.clone(), name.clone())) {
            None => Some(format!("the {kind} `{name}` is missing")),
            Some(found) if found != sql => {
                Some(format!("the {kind} `{name}` is not what it should be"))
            }
            Some(_) => None,
        }
    });
    Ok(findings.collect())
}

/// A table or an index that migrations make and that a file lacks.
pub(super) async fn missing(
    database: &mut SqliteConnection,
    applied: &[&Numbered],
) -> Result<Option<String>, sqlx::Error> {
    let mut template = template(applied).await?;
    let expected = objects(&mut template).await?;
    template.close().await?;
    let found = objects(database).await?;
    let missing = expected.into_keys().find(|object| !found.contains_key(object));
    Ok(missing.map(|(kind, name)| format!("the {kind} `{name}` is missing")))
}

/// An empty database as migrations make it.
async fn template(applied: &[&Numbered]) -> Result<SqliteConnection, sqlx::Error> {
    let mut template = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await?;
    for numbered in applied {
        template.execute(trusted(numbered.up.sql.as_str())).await?;
    }
    Ok(template)
}

/// The tables that migrations make.
pub(super) async fn tables_of(applied: &[&Numbered]) -> Result<BTreeSet<String>, sqlx::Error> {
    let mut template = template(applied).await?;
    let tables = tables(&mut template).await?;
    template.close().await?;
    Ok(tables)
}

/// The tables of a file, SQLite's own left out.
pub(super) async fn tables(
    database: &mut SqliteConnection,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(database)
    .await?;
    Ok(names.into_iter().collect())
}

type Objects = BTreeMap<(String, String), String>;

async fn objects(database: &mut SqliteConnection) -> Result<Objects, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(database)
    .await?;
    let objects = rows.iter().map(|row| {
        let sql: String = row.try_get(2)?;
        // However it is laid out and quoted.
        let plain: String = sql
            .chars()
            .filter(|letter| !letter.is_whitespace() && !"\"`".contains(*letter))
            .collect();
        Ok(((row.try_get(0)?, row.try_get(1)?), plain))
    });
    objects.collect()
}
