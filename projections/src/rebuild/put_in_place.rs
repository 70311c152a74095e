//! The new tables go over into the live file, in one transaction.

use daybook_schema::Head;
use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqliteConnection};

use super::error::RebuildError;
use super::growing_tables::GrowingTables;
use crate::database::{GameDatabase, WriterConnection};
use crate::feed::FeedError;
use crate::position::{Position, other_ledger};
use crate::read_models::users;
use crate::sqlite::path_in_sql;

/// What became of new tables.
pub(super) enum Placed {
    /// They are live, in the file of this connection.
    InPlace(WriterConnection),
    /// The live ones have come further, up to here.
    Further(Position),
    /// The live ones have another shape now.
    Reshaped,
}

impl GrowingTables {
    /// Puts the new tables in the place of the live ones, unless these have come further meanwhile.
    /// A head that is known to be lost is no further.
    pub(super) async fn put_in_place(
        &mut self,
        database: &GameDatabase,
        lost: Option<Head>,
    ) -> Result<Placed, RebuildError> {
        let writing = database.writing.lock().await;
        let mut live = database.connect_writer().await?;
        // Checked at the end instead, table by table: with foreign keys on, emptying a table would
        // look for children of every row.
        sqlx::query("PRAGMA foreign_keys = OFF").execute(&mut *live).await?;
        // Indexes are sorted by both cores.
        sqlx::query("PRAGMA threads = 2").execute(&mut *live).await?;
        sqlx::query("ATTACH DATABASE ?1 AS beside")
            .bind(path_in_sql(&self.path))
            .execute(&mut *live)
            .await?;
        database.file.check()?;
        let mut transaction = live.begin_with("BEGIN IMMEDIATE").await?;
        let name = self.name();
        let position = Position::load(&mut transaction, name).await?;
        if let Some(live) = position
            && live.head.seq > self.position.head.seq
            && lost != Some(live.head)
        {
            transaction.rollback().await?;
            return Ok(Placed::Further(live));
        }
        if let Some(identity) = self.position.identity
            && let Some(holds) = other_ledger(&mut transaction, identity.ledger_id).await?
        {
            let (name, given) = (name.to_owned(), identity.ledger_id);
            return Err(FeedError::AnotherLedger { name, holds, given }.into());
        }
        // A migration may have come between.
        if !self.has_shape_of(&mut transaction).await? {
            transaction.rollback().await?;
            return Ok(Placed::Reshaped);
        }
        for table in self.projection.shared_tables() {
            let columns = columns_of(&mut transaction, table).await?;
            let sql = format!(
                "INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM beside.{table}"
            );
            transaction.execute(AssertSqlSafe(sql)).await?;
        }
        for table in self.projection.tables() {
            replace(&mut transaction, table).await?;
        }
        if self.projection.shared_tables().contains(&users::TABLE) {
            users::put_in_place(&mut transaction, self.position.recorded_at).await?;
        }
        for statement in self.projection.after_rebuild() {
            transaction.execute(*statement).await?;
        }
        for table in self.projection.tables() {
            let sql = format!("PRAGMA foreign_key_check({table})");
            let orphans = transaction.fetch_all(AssertSqlSafe(sql)).await?;
            if !orphans.is_empty() {
                return Err(RebuildError::Orphans { table, count: orphans.len() });
            }
        }
        self.position.store(&mut transaction, name).await?;
        // Whoever has read the old tables by now writes nothing of it: the schema's version is
        // another one, though the position may be the same.
        transaction.execute("CREATE TABLE daybook_rebuilt (x)").await?;
        transaction.execute("DROP TABLE daybook_rebuilt").await?;
        sqlx::query("DELETE FROM projection_states WHERE name = ?1")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        database.file.check()?;
        database.file.say_applied(name, &self.position);
        drop(writing);
        Ok(Placed::InPlace(live))
    }
}

/// Empties a table and fills it from the new one; its indexes are built at the end.
async fn replace(live: &mut SqliteConnection, table: &str) -> Result<(), sqlx::Error> {
    let indexes = sqlx::query(
        "SELECT name, sql FROM main.sqlite_schema \
         WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL",
    )
    .bind(table)
    .fetch_all(&mut *live)
    .await?;
    for index in &indexes {
        let name: String = index.try_get(0)?;
        let name = name.replace('"', "\"\"");
        live.execute(AssertSqlSafe(format!("DROP INDEX main.\"{name}\""))).await?;
    }
    let columns = columns_of(live, table).await?;
    live.execute(AssertSqlSafe(format!("DELETE FROM main.{table}"))).await?;
    let statement = if is_plain(live, table).await? {
        // Exactly this form is copied row by row as it lies there, nothing taken apart. The
        // transaction is rolled back as a whole, so that no page needs to be kept for the statement
        // alone.
        format!("INSERT OR ROLLBACK INTO main.{table} SELECT * FROM beside.{table}")
    } else {
        format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM beside.{table}")
    };
    live.execute(AssertSqlSafe(statement)).await?;
    for index in &indexes {
        let sql: String = index.try_get(1)?;
        live.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}

/// The stored columns of a table, generated ones left out.
async fn columns_of(live: &mut SqliteConnection, table: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT group_concat('\"' || name || '\"', ', ') FROM pragma_table_xinfo(?1) WHERE hidden = 0",
    )
    .bind(table.to_owned())
    .fetch_one(live)
    .await
}

/// Whether a table has neither generated columns nor a team's triggers: what a trigger does about
/// conflicts would be overruled by the statement that it runs for.
async fn is_plain(live: &mut SqliteConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE hidden > 1) \
         AND NOT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1)",
    )
    .bind(table.to_owned())
    .fetch_one(live)
    .await
}
