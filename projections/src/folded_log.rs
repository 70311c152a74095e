//! Folding the write-ahead log of `game.db` into the file, beside the work.
//!
//! SQLite would do it within a commit, while all workers wait. Here most of the log is folded in
//! while they go on; they wait only for what came meanwhile, and then the log begins anew.

use sqlx::SqliteConnection;

use crate::database::{FileError, GameDatabase};

/// The log is folded in when so many of its pages are not in the file: 128 MB of 4 KiB.
const PAGES_DUE: i64 = 32_768;
/// Whoever writes waits for a folding that is under way when the log has so many pages: 512 MB.
const PAGES_MAX: i64 = 4 * PAGES_DUE;

/// Looks at the log after a commit: where it has grown it is folded in beside the work, and where
/// it has grown beyond all measure that is waited for.
pub(crate) async fn keep_short(
    database: &GameDatabase,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    keep_shorter_than(PAGES_DUE, database, connection).await
}

async fn keep_shorter_than(
    due: i64,
    database: &GameDatabase,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let (written, in_file) = run(connection, "NOOP").await?;
    if written - in_file < due {
        return Ok(());
    }
    let Ok(mut held_pages) = database.folding.clone().try_lock_owned() else {
        if written >= PAGES_MAX {
            // Whoever is here holds no lock that the folding needs.
            drop(database.folding.lock().await);
        }
        return Ok(());
    };
    // Where a reader holds the log there is little to do until it has grown again.
    if (*held_pages..*held_pages + due).contains(&written) {
        return Ok(());
    }
    let database = database.clone();
    tokio::spawn(async move {
        match fold(&database).await {
            Ok(pages) => *held_pages = pages,
            Err(FileError::Sqlite(error)) => {
                // Whoever writes next meets it too.
                tracing::debug!(%error, "the log of the read models was not folded in");
            }
            Err(FileError::Lost(_) | FileError::Accounts(_)) => {}
        }
    });
    Ok(())
}

/// Folds the log in; gives what it holds then, or 0 where all of it is in the file.
async fn fold(database: &GameDatabase) -> Result<i64, FileError> {
    let mut connection = database.connect_writer().await?;
    run(&mut connection, "PASSIVE").await?;
    // Reads that are under way are waited for, but not long: workers wait too.
    sqlx::query("PRAGMA busy_timeout = 100").execute(&mut *connection).await?;
    let writing = database.writing.lock().await;
    database.file.check()?;
    // What came meanwhile, while nobody writes: the next commit begins the log anew.
    let (is_held, written, _) = checkpoint(&mut connection, "RESTART").await?;
    drop(writing);
    connection.close().await?;
    Ok(if is_held { written } else { 0 })
}

/// Runs a checkpoint; gives the pages of the log, and how many of them are in the file.
async fn run(connection: &mut SqliteConnection, mode: &str) -> Result<(i64, i64), sqlx::Error> {
    let (_, written, in_file) = checkpoint(connection, mode).await?;
    Ok((written, in_file))
}

/// Tells also whether somebody kept it from its end.
async fn checkpoint(
    connection: &mut SqliteConnection,
    mode: &str,
) -> Result<(bool, i64, i64), sqlx::Error> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;
    use crate::database::DatabaseSettings;

    const DUE: i64 = 64;

    /// Writes pages, and looks after the log as a worker does; gives what it holds in the end.
    async fn write(database: &GameDatabase, pages: i64) -> (i64, i64) {
        let mut connection = database.connect_writer().await.unwrap();
        sqlx::query("INSERT INTO filler VALUES (zeroblob(4096 * ?1))")
            .bind(pages)
            .execute(&mut *connection)
            .await
            .unwrap();
        keep_shorter_than(DUE, database, &mut connection).await.unwrap();
        drop(database.folding.lock().await);
        let holds = run(&mut connection, "NOOP").await.unwrap();
        connection.close().await.unwrap();
        holds
    }

    async fn with_filler(directory: &std::path::Path) -> GameDatabase {
        let path = directory.join("game.db");
        let database = GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
        let mut connection = database.connect_writer().await.unwrap();
        sqlx::query("CREATE TABLE filler (x)").execute(&mut *connection).await.unwrap();
        run(&mut connection, "TRUNCATE").await.unwrap();
        connection.close().await.unwrap();
        database
    }

    #[tokio::test]
    async fn a_log_that_grew_is_folded_in_and_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let database = with_filler(directory.path()).await;
        let (written, in_file) = write(&database, DUE / 2).await;
        assert!(written > in_file, "{in_file} of {written}: little is left as it is");
        let (written, in_file) = write(&database, DUE).await;
        assert!(written > DUE && in_file == written, "{in_file} of {written}");
        let (written, _) = write(&database, 1).await;
        assert!(written < DUE / 2, "{written}: it began anew");
    }

    #[tokio::test]
    async fn where_a_reader_holds_the_log_it_is_tried_again_when_it_has_grown() {
        let directory = tempfile::tempdir().unwrap();
        let database = with_filler(directory.path()).await;
        let mut reader = database.connect_writer().await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SELECT count(*) FROM filler").execute(&mut *reading).await.unwrap();
        let (written, in_file) = write(&database, 2 * DUE).await;
        assert!(in_file < written, "{in_file} of {written}: the reader holds it");
        let tried_at = *database.folding.lock().await;
        assert_eq!(tried_at, written);
        write(&database, 1).await;
        assert_eq!(*database.folding.lock().await, tried_at, "not again so soon");
        let (written, _) = write(&database, DUE).await;
        assert_eq!(*database.folding.lock().await, written);
        reading.rollback().await.unwrap();
        write(&database, DUE).await;
        assert_eq!(*database.folding.lock().await, 0, "nothing holds it any more");
    }
}
