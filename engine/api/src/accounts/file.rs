//! The file itself: what SQLite's errors mean for it, and how it is saved when it is lost.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use daybook_ledger::UnfinishedFile;
use daybook_projections::path_in_sql;
use daybook_projections::sqlx::{self, SqliteConnection};

use crate::private_file::make_private;

/// SQLite's primary result codes: another has the lock; a write or sync failed; damage.
pub(super) const BUSY: u32 = 5;
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const NOT_A_DATABASE: u32 = 26;

/// Saves what a connection sees beside the file; tells where. The connection is never closed.
pub(super) async fn rescue(path: &Path, mut connection: ManuallyDrop<SqliteConnection>) -> String {
    let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".rescued-{at}"));
    let rescue = PathBuf::from(name);
    let saved = async {
        let file = UnfinishedFile::begin(&rescue)?;
        make_private(file.path())?;
        sqlx::query("VACUUM INTO ?1")
            .bind(path_in_sql(file.path()))
            .execute(&mut *connection)
            .await
            .map_err(std::io::Error::other)?;
        file.finish()
    };
    match saved.await {
        Ok(()) => format!("all accounts that this process saw are in `{}`", rescue.display()),
        Err(error) => format!("`{}` could not be written: {error}", rescue.display()),
    }
}

pub(super) async fn set_busy_timeout(
    connection: &mut SqliteConnection,
    ms: u32,
) -> Result<(), sqlx::Error> {
    let set = format!("PRAGMA busy_timeout = {ms}");
    sqlx::query(sqlx::AssertSqlSafe(set)).execute(connection).await.map(drop)
}

pub(super) fn result_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Whether the file, or what is known of it, is of no use any more.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    let is_database = matches!(error, sqlx::Error::Database(_));
    !is_database || matches!(result_code(error), Some(IO_ERROR | CORRUPT | NOT_A_DATABASE))
}
