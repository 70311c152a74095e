//! How far a projection has come: committed together with its rows.

use std::path::Path;

use daybook_ledger::{KnownHead, KnownLedger};
use daybook_schema::{Epoch, EventHash, Head, LedgerId, LedgerIdentity, UnixMicros};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use crate::database::{connect_options, look_options};
use crate::migrations::{MigrationError, refuse_foreign};

/// The newest event that a projection has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The event; seq 0 before the first.
    pub head: Head,
    /// The version of the projection that applied it.
    pub version: u32,
    /// The ledger and its epoch; none before the first event.
    pub identity: Option<LedgerIdentity>,
    /// When the event was recorded.
    pub recorded_at: UnixMicros,
}

impl Position {
    /// Before the first event.
    #[must_use]
    pub const fn start(version: u32) -> Self {
        let head = Head { seq: 0, hash: EventHash::new([0; 32]) };
        Self { head, version, identity: None, recorded_at: UnixMicros::new(0) }
    }

    /// A projection's position as committed, if it has one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn load(
        database: &mut SqliteConnection,
        name: &str,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT version, ledger_id, seq, hash, epoch_number, epoch_nonce, recorded_at \
             FROM projection_positions WHERE name = ?1",
        )
        .bind(name)
        .fetch_optional(database)
        .await?;
        Ok(row.map(|row| Self::read(&row)))
    }

    /// What cannot be one was altered by hand: the rows are then taken for outdated, and made anew.
    fn read(row: &sqlx::sqlite::SqliteRow) -> Self {
        Self::try_read(row).unwrap_or(Self::start(OUTDATED))
    }

    fn try_read(row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
        let text = |column: &str| row.try_get::<String, _>(column);
        let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
        let ledger_id: LedgerId = text("ledger_id")?.parse().map_err(|e| decode(Box::new(e)))?;
        let hash: EventHash = text("hash")?.parse().map_err(|e| decode(Box::new(e)))?;
        let nonce = text("epoch_nonce")?.parse().map_err(|e| decode(Box::new(e)))?;
        let epoch = Epoch { number: row.try_get("epoch_number")?, nonce };
        Ok(Self {
            head: Head { seq: row.try_get::<i64, _>("seq")?.unsigned_abs(), hash },
            version: row.try_get("version")?,
            identity: Some(LedgerIdentity { ledger_id, epoch }),
            recorded_at: UnixMicros::new(row.try_get("recorded_at")?),
        })
    }

    /// Writes it in the place of the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn store(
        &self,
        database: &mut SqliteConnection,
        name: &str,
    ) -> Result<(), sqlx::Error> {
        let Some(identity) = self.identity else { return Ok(()) };
        sqlx::query(
            "INSERT OR REPLACE INTO projection_positions (name, version, ledger_id, seq, hash, epoch_number, \
             epoch_nonce, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(name)
        .bind(self.version)
        .bind(identity.ledger_id.to_string())
        .bind(self.head.seq.cast_signed())
        .bind(self.head.hash.to_string())
        .bind(identity.epoch.number)
        .bind(identity.epoch.nonce.to_string())
        .bind(self.recorded_at.get())
        .execute(database)
        .await?;
        Ok(())
    }
}

/// The heads that the read models in a `game.db` stand for, as far as they are of this ledger: a ledger that
/// lacks one of them has lost events. None where there is no such file.
///
/// # Errors
/// When the file cannot be read, or holds something else: its silence would say that nothing was lost.
pub async fn known_heads(
    path: &Path,
    ledger_id: LedgerId,
) -> Result<Vec<KnownHead>, MigrationError> {
    let mut heads = Vec::new();
    let Some(positions) = all_of(path).await? else { return Ok(heads) };
    for (name, position) in positions {
        if position.identity.is_some_and(|identity| identity.ledger_id == ledger_id)
            && position.version != OUTDATED
        {
            let source = format!("the position of `{name}` in {}", path.display());
            heads.push(KnownHead { head: position.head, source });
        }
    }
    Ok(heads)
}

/// The ledgers that the read models in a `game.db` are of: where such a ledger is gone, none is made in its
/// place unasked. None where there is no such file, and none where nothing was applied yet.
///
/// # Errors
/// As [`known_heads`].
pub async fn known_ledgers(path: &Path) -> Result<Vec<KnownLedger>, MigrationError> {
    let mut ledgers = Vec::new();
    let Some(positions) = all_of(path).await? else { return Ok(ledgers) };
    for (name, position) in positions {
        if let Some(LedgerIdentity { ledger_id, .. }) = position.identity {
            let source = format!("the position of `{name}` in `{}`", path.display());
            ledgers.push(KnownLedger { ledger_id, source });
        }
    }
    Ok(ledgers)
}

/// After a loss was accepted: read models that stand for events which the ledger no longer has are taken for
/// outdated, so that they hold nobody up and the next worker makes them anew.
///
/// # Errors
/// When the file cannot be written.
pub async fn outdate_lost(path: &Path, has: impl Fn(Head) -> bool) -> Result<(), sqlx::Error> {
    if !path.exists() {
        return Ok(());
    }
    let mut database = connect_options(path).connect().await?;
    for (name, position) in all(&mut database).await? {
        if !has(position.head) {
            sqlx::query("UPDATE projection_positions SET version = ?2 WHERE name = ?1")
                .bind(name)
                .bind(OUTDATED)
                .execute(&mut database)
                .await?;
        }
    }
    database.close().await
}

/// No projection has this version.
const OUTDATED: u32 = 0;

/// All positions of a file of read models; none where there is no file.
async fn all_of(path: &Path) -> Result<Option<Vec<(String, Position)>>, MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    if !path.exists() {
        return Ok(None);
    }
    // It may be another's: nothing is written to it, and no log folded in.
    let mut database = look_options(path).read_only(true).connect().await.map_err(failed)?;
    refuse_foreign(&mut database, path).await?;
    let positions = all(&mut database).await.map_err(failed)?;
    database.close().await.map_err(failed)?;
    Ok(Some(positions))
}

async fn all(database: &mut SqliteConnection) -> Result<Vec<(String, Position)>, sqlx::Error> {
    let is_there: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE name = 'projection_positions'")
            .fetch_optional(&mut *database)
            .await?;
    if is_there.is_none() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("SELECT * FROM projection_positions").fetch_all(database).await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, Position::read(row)))).collect()
}
