//! Checkpoints: folding the write-ahead log into the database.

use rusqlite::Connection;

/// Pages of the write-ahead log, and how many of them are in the database already.
pub(crate) struct LogPages {
    pub(crate) written: u64,
    pub(crate) checkpointed: u64,
}

/// Runs a checkpoint; tells whether readers kept it from its end, and what the log holds then.
pub(crate) fn run(connection: &Connection, mode: &str) -> rusqlite::Result<(bool, LogPages)> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    statement.query_row([], |row| {
        let [busy, written, checkpointed]: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        let pages = |count: i64| u64::try_from(count).unwrap_or(0);
        let log = LogPages { written: pages(written), checkpointed: pages(checkpointed) };
        Ok((busy != 0, log))
    })
}

/// What the log holds, without a checkpoint.
pub(crate) fn pages(connection: &Connection) -> rusqlite::Result<LogPages> {
    run(connection, "NOOP").map(|(_, pages)| pages)
}

/// Folds the whole write-ahead log into the database and empties it; readers may keep it from that,
/// which harms nothing.
pub(crate) fn fold_in_whole(connection: &Connection) -> rusqlite::Result<()> {
    run(connection, "TRUNCATE").map(|_| ())
}
