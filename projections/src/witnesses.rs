//! What read models tell of the ledger: the heads that they stand for, and what an operator says of
//! them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use daybook_ledger::{KnownHead, KnownLedger};
use daybook_schema::{Head, LedgerId, LedgerIdentity};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};

use crate::migrations::{MigrationError, refuse_foreign};
use crate::position::Position;
use crate::sqlite::{Look, connect_options, look};
use crate::sqlite::{has_orphaned_log, real};
use crate::{game_file, rebuild};

/// The heads that the read models in a `game.db` stand for: a ledger that lacks one of them has
/// lost events, unless that was accepted. What was set aside and the copies before migrations tell
/// too, also where the file is gone. Those that were forgotten do not count.
///
/// # Errors
/// When the file cannot be read, holds something else, or is of another ledger: its silence would
/// say that nothing was lost.
pub async fn known_heads(
    path: &Path,
    ledger_id: LedgerId,
) -> Result<Vec<KnownHead>, MigrationError> {
    let path = &real(path);
    let mut heads = Vec::new();
    for Witness { name, file, position } in witnesses(path).await? {
        let Some(identity) = position.identity else { continue };
        if identity.ledger_id != ledger_id && file != *path {
            // What a damaged file was mixed with.
            continue;
        }
        if identity.ledger_id != ledger_id {
            return Err(MigrationError::AnotherLedger {
                path: file,
                holds: identity.ledger_id,
                given: ledger_id,
            });
        }
        let source = format!("the position of `{name}` in {}", file.display());
        heads.push(position.known_head(source));
    }
    Ok(heads)
}

/// The positions of a `game.db` that an operator took for wrong, as they were forgotten.
///
/// # Errors
/// As [`known_heads`].
pub async fn disputed_heads(path: &Path) -> Result<Vec<KnownHead>, MigrationError> {
    let path = &real(path);
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    let Some(mut looked) = look_at(path).await? else { return Ok(Vec::new()) };
    let disputed = table_of(&mut looked.connection, "disputed_positions").await.map_err(failed)?;
    let heads = disputed.into_iter().map(|(name, position)| {
        position.known_head(format!("a forgotten position of `{name}` in {}", path.display()))
    });
    Ok(heads.collect())
}

/// The ledgers that the read models in a `game.db` are of: where such a ledger is gone, none is
/// made in its place unasked. None where nothing was applied yet.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub async fn known_ledgers(path: &Path) -> Result<Vec<KnownLedger>, MigrationError> {
    let path = &real(path);
    let mut ledgers = Vec::new();
    for Witness { name, file, position } in witnesses(path).await? {
        if let Some(LedgerIdentity { ledger_id, .. }) = position.identity {
            let source = format!("the position of `{name}` in `{}`", file.display());
            ledgers.push(KnownLedger { ledger_id, source });
        }
    }
    Ok(ledgers)
}

/// Gives a file over to another ledger: what it holds of this one goes on under another name,
/// whole, and the next worker makes the tables anew. Tells that name; none where nothing is of that
/// ledger.
///
/// # Errors
/// When the file cannot be read or renamed.
pub async fn give_over(
    path: &Path,
    ledger_id: LedgerId,
) -> Result<Option<PathBuf>, MigrationError> {
    let path = &real(path);
    let is_of_it = |witness: &Witness| {
        witness.position.identity.is_some_and(|identity| identity.ledger_id == ledger_id)
    };
    let mut meant = witnesses(path).await?;
    // What stands for two ledgers is a witness of both.
    let other = meant.iter().find_map(|witness| {
        let identity = witness.position.identity.filter(|known| known.ledger_id != ledger_id)?;
        (witness.file == *path).then_some(identity.ledger_id)
    });
    meant.retain(is_of_it);
    if let Some(holds) = other.filter(|_| !meant.is_empty()) {
        let path = path.to_owned();
        return Err(MigrationError::AnotherLedger { path, holds, given: ledger_id });
    }
    if !meant.iter().any(|witness| witness.file == *path) {
        return Ok(None);
    }
    let left = rebuild::files(path);
    for file in left.iter().filter(|file| meant.iter().any(|witness| witness.file == **file)) {
        game_file::set_aside(file, game_file::GIVEN_OVER, game_file::WHOLE)?;
    }
    game_file::set_aside(path, game_file::GIVEN_OVER, game_file::WHOLE).map(Some)
}

/// Takes positions at a head for wrong, the ledger being right without it: they are kept as
/// disputed, and the rows that stood for them are made anew by the next worker. Tells how many.
///
/// # Errors
/// When the file cannot be written.
pub async fn forget(
    path: &Path,
    head: Head,
    ledger_id: Option<LedgerId>,
) -> Result<usize, MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    let path = &real(path);
    let mut meant = witnesses(path).await?;
    meant.retain(|witness| witness.position.head == head);
    if let Some(ledger_id) = ledger_id
        && let Some(holds) = meant.iter().find_map(|witness| {
            let identity = witness.position.identity.filter(|known| known.ledger_id != ledger_id);
            identity.map(|identity| identity.ledger_id)
        })
    {
        let path = path.to_owned();
        return Err(MigrationError::AnotherLedger { path, holds, given: ledger_id });
    }
    let mut database = connect_options(path).connect().await.map_err(failed)?;
    let mut transaction = database.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for Witness { name, position, .. } in &meant {
        let statement = "INSERT OR REPLACE INTO disputed_positions (name, version, ledger_id, seq, hash, \
             epoch_number, epoch_nonce, recorded_at_micros, forgotten_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, unixepoch())";
        let Some(row) = position.row(statement, name) else { continue };
        row.execute(&mut *transaction).await.map_err(failed)?;
        sqlx::query("DELETE FROM projection_positions WHERE name = ?1 AND hash = ?2")
            .bind(name)
            .bind(position.head.hash.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    database.close().await.map_err(failed)?;
    // What a rebuild left of that past would be gone on with.
    let left = rebuild::files(path);
    for Witness { file, .. } in meant.iter().filter(|witness| left.contains(&witness.file)) {
        rebuild::remove_files(file)
            .map_err(|source| MigrationError::Io { path: file.clone(), source })?;
    }
    // A projection's position may lie in several files.
    let names: BTreeSet<&str> = meant.iter().map(|witness| witness.name.as_str()).collect();
    Ok(names.len())
}

/// A position and the file that it lies in.
struct Witness {
    name: String,
    file: PathBuf,
    position: Position,
}

/// All positions of a file of read models, of what rebuilds left beside it, of what was set aside
/// and of the copies that were taken before migrations; also where the file itself is gone. Those
/// that were forgotten are left out.
async fn witnesses(path: &Path) -> Result<Vec<Witness>, MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    let (mut witnesses, mut disputed) = (Vec::new(), Vec::new());
    if let Some(looked) = look_at(path).await? {
        let found = witnesses_in(looked, path).await.map_err(failed)?;
        (witnesses, disputed) = found;
    }
    for file in game_file::damaged(path).into_iter().chain(backups(path)) {
        let found = match look(&file).await {
            // Nothing was ever in it, or it was emptied: it tells nothing.
            Ok(_) if std::fs::metadata(&file).is_ok_and(|found| found.len() == 0) => {
                Err(sqlx::Error::Io(std::io::Error::other("it is empty")))
            }
            Ok(looked) => witnesses_in(looked, &file).await,
            Err(error) => Err(error),
        };
        match found {
            Ok((positions, forgotten)) => {
                witnesses.extend(positions);
                disputed.extend(forgotten);
            }
            Err(_) if game_file::is_told_by_its_word(&file) => {}
            Err(source) => return Err(MigrationError::Unread { path: file, source }),
        }
    }
    for file in rebuild::files(path) {
        // One that a worker is removing is no witness.
        if let Ok(looked) = look(&file).await {
            witnesses.extend(witnesses_in(looked, &file).await.unwrap_or_default().0);
        }
    }
    for (name, position, file) in game_file::said_positions(path) {
        let is_told = |witness: &Witness| witness.position.head == position.head;
        if !witnesses.iter().any(is_told) {
            witnesses.push(Witness { name, file, position });
        }
    }
    // A position that was forgotten and is there again has its head from the ledger.
    witnesses.retain(|witness| witness.file == path || !disputed.contains(&witness.position.head));
    Ok(witnesses)
}

/// The copies that were taken before migrations.
fn backups(path: &Path) -> Vec<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new(".")).join("backups");
    let mut found = game_file::beside(&directory.join("game"), "-");
    found.retain(|path| {
        let name = path.to_string_lossy();
        // An unfinished copy tells nothing: what it is of was not touched yet.
        let endings = ["-wal", "-shm", ".new", ".new-journal"];
        !endings.iter().any(|ending| name.ends_with(ending))
    });
    found
}

/// The positions in a file, and the heads that were forgotten in it.
async fn witnesses_in(
    mut looked: Look,
    file: &Path,
) -> Result<(Vec<Witness>, Vec<Head>), sqlx::Error> {
    let positions = table_of(&mut looked.connection, "projection_positions").await?;
    let disputed = table_of(&mut looked.connection, "disputed_positions").await?;
    let witness = |(name, position)| Witness { name, file: file.to_owned(), position };
    let heads = disputed.into_iter().map(|(_, position)| position.head);
    Ok((positions.into_iter().map(witness).collect(), heads.collect()))
}

/// Opens a file to look at it, if it is there; refuses another's.
async fn look_at(path: &Path) -> Result<Option<Look>, MigrationError> {
    let is_there = path.symlink_metadata().is_ok() || has_orphaned_log(path);
    if !is_there {
        return Ok(None);
    }
    let mut looked = look(path).await.map_err(|source| MigrationError::of_file(path, source))?;
    match refuse_foreign(&mut looked.connection, path).await {
        // It is ours, and what is left of it tells.
        Ok(()) | Err(MigrationError::Dropped { .. }) => Ok(Some(looked)),
        Err(error) => Err(error),
    }
}

/// The positions in a table, if the file has it.
async fn table_of(
    database: &mut SqliteConnection,
    table: &'static str,
) -> Result<Vec<(String, Position)>, sqlx::Error> {
    let is_there: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")
            .bind(table)
            .fetch_optional(&mut *database)
            .await?;
    if is_there.is_none() {
        return Ok(Vec::new());
    }
    let sql = AssertSqlSafe(format!("SELECT * FROM {table}"));
    let rows = sqlx::query(sql).fetch_all(database).await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, Position::read(row)?))).collect()
}
