//! How far a projection has come: committed together with its rows.

use daybook_schema::{Epoch, EventHash, Head, LedgerId, LedgerIdentity, UnixMicros};
use sqlx::{Row, SqliteConnection};

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
        row.map(|row| Self::read(&row)).transpose()
    }

    fn read(row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
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
