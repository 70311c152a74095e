//! Holds a projection to what a worker relies on: that cuts, repeats and a rebuild leave the same
//! rows.
//!
//! For tests of projections, ours and a team's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daybook_schema::{Block, Head, LedgerIdentity};
use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef};

use crate::database::{DatabaseSettings, GameDatabase};
use crate::feed::{Feed, FeedError, Past, Tail};
use crate::projection::Projection;
use crate::rebuild::rebuild;
use crate::worker::{Step, Worker};

/// The rows of tables, as text and in order.
pub type Rows = BTreeMap<String, Vec<String>>;

/// What did not hold.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads all rows of some tables.
///
/// # Errors
/// When they cannot be read.
pub async fn rows_of(path: &Path, tables: &[&str]) -> Result<Rows, Failure> {
    let url = format!("sqlite://{}", path.display());
    let mut database = SqliteConnection::connect(&url).await?;
    let mut all = Rows::new();
    for table in tables {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM \"{table}\"")));
        let rows = rows.fetch_all(&mut database).await?;
        let texts: Result<Vec<String>, sqlx::Error> = rows.iter().map(row_text).collect();
        let mut texts = texts?;
        texts.sort_unstable();
        all.insert((*table).to_owned(), texts);
    }
    database.close().await?;
    Ok(all)
}

fn row_text(row: &sqlx::sqlite::SqliteRow) -> Result<String, sqlx::Error> {
    let mut text = String::new();
    for column in row.columns() {
        let value = row.try_get_raw(column.ordinal())?;
        let kind = value.type_info().name().to_owned();
        let shown = match kind.as_str() {
            _ if value.is_null() => "NULL".to_owned(),
            "REAL" => format!("{:?}", row.try_get_unchecked::<f64, _>(column.ordinal())?),
            "INTEGER" | "BOOLEAN" => row.try_get_unchecked::<i64, _>(column.ordinal())?.to_string(),
            "BLOB" => format!("{:x?}", row.try_get_unchecked::<Vec<u8>, _>(column.ordinal())?),
            _ => format!("{:?}", row.try_get_unchecked::<String, _>(column.ordinal())?),
        };
        text.push_str(&format!("{}={shown} ", column.name()));
    }
    Ok(text)
}

/// A feed that cuts the ledger's events into blocks of sizes that come around again and again.
pub struct CutFeed {
    tail: Tail,
    sizes: Vec<usize>,
    asked: usize,
    held: Option<Block>,
}

impl CutFeed {
    /// Cuts the ledger of a data directory.
    #[must_use]
    pub fn new(data_dir: &Path, sizes: &[usize]) -> Self {
        Self { tail: Tail::new(data_dir), sizes: sizes.to_vec(), asked: 0, held: None }
    }
}

impl Feed for CutFeed {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(async move {
            let size = self.sizes.get(self.asked % self.sizes.len().max(1)).copied().unwrap_or(1);
            self.asked += 1;
            let held = self.held.take().and_then(|held| held.after(after));
            let block = match held.filter(|held| !held.events.is_empty()) {
                Some(held) => Some(held),
                None => self.tail.next(after, timeout).await?,
            };
            Ok(block.map(|mut block| {
                let (ledger_id, previous) = (block.ledger_id, block.previous);
                let rest = block.events.split_off(size.clamp(1, block.events.len().max(1)));
                let given = Block { ledger_id, previous, events: block.events };
                self.held = Some(Block { ledger_id, previous: given.last(), events: rest });
                given
            }))
        })
    }

    fn past(
        &mut self,
        head: Head,
        identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        self.tail.past(head, identity)
    }
}

/// Applies a ledger to a new `game.db` in a directory, cut into blocks of these sizes.
///
/// # Errors
/// [`Failure`] when an event cannot be applied.
pub async fn apply_cut(
    projection: &Arc<dyn Projection>,
    data_dir: &Path,
    sizes: &[usize],
    game_db: &Path,
) -> Result<Rows, Failure> {
    let database = GameDatabase::open(game_db, DatabaseSettings::default()).await?;
    let feed = Box::new(CutFeed::new(data_dir, sizes));
    let mut worker = Worker::new(Arc::clone(projection), feed, &database);
    if worker.catch_up().await? == Step::Stopped {
        return Err(format!("`{}` stopped at an event", projection.name()).into());
    }
    rows_of(game_db, projection.tables()).await
}

/// Holds a projection to exactly-once: one event at a time, in blocks of any size, begun again with
/// a new worker every few blocks, and rebuilt, the ledger of a data directory must leave the same
/// rows.
///
/// # Errors
/// [`Failure`] with the first table that differs.
pub async fn check(projection: Arc<dyn Projection>, data_dir: &Path) -> Result<Rows, Failure> {
    let directory = tempfile_dir()?;
    let expected =
        apply_cut(&projection, data_dir, &[usize::MAX], &directory.join("whole.db")).await?;
    let single = apply_cut(&projection, data_dir, &[1], &directory.join("single.db")).await?;
    same("one event at a time", &expected, &single)?;
    let sizes = [3, 1, 17, 2, 64];
    let cut = apply_cut(&projection, data_dir, &sizes, &directory.join("cut.db")).await?;
    same("blocks of many sizes", &expected, &cut)?;

    let path = directory.join("begun_again.db");
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await?;
    loop {
        let feed = Box::new(CutFeed::new(data_dir, &[7, 30]));
        let mut worker = Worker::new(Arc::clone(&projection), feed, &database);
        if worker.step(Duration::ZERO).await? == Step::Idle {
            break;
        }
        worker.step(Duration::ZERO).await?;
    }
    same("a worker begun again and again", &expected, &rows_of(&path, projection.tables()).await?)?;
    let tables = projection.tables();
    rebuild(&database, &[projection], &mut Tail::new(data_dir)).await?;
    same("a rebuild", &expected, &rows_of(&path, tables).await?)?;
    std::fs::remove_dir_all(&directory)?;
    Ok(expected)
}

/// Tells the first difference between rows.
///
/// # Errors
/// [`Failure`] when there is one.
pub fn same(what: &str, expected: &Rows, found: &Rows) -> Result<(), Failure> {
    for (table, expected) in expected {
        let found = found.get(table).map_or(&[][..], Vec::as_slice);
        let missing = expected.iter().find(|row| found.binary_search(row).is_err());
        let foreign = found.iter().find(|row| expected.binary_search(row).is_err());
        if missing.is_some() || foreign.is_some() || expected.len() != found.len() {
            let (expected_rows, found_rows) = (expected.len(), found.len());
            return Err(format!(
                "{what}: `{table}` has {found_rows} rows, expected {expected_rows}; expected {missing:?}, \
                 found {foreign:?}"
            )
            .into());
        }
    }
    Ok(())
}

fn tempfile_dir() -> std::io::Result<std::path::PathBuf> {
    let directory = std::env::temp_dir().join(format!("daybook-test-kit-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
