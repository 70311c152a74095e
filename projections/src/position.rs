//! How far a projection has come: committed together with its rows.

use daybook_ledger::KnownHead;
use daybook_schema::{Epoch, EventHash, Head, LedgerId, LedgerIdentity, UnixMicros};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};

/// The newest event that a projection has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        let row = sqlx::query("SELECT * FROM projection_positions WHERE name = ?1")
            .bind(name)
            .fetch_optional(database)
            .await?;
        row.map(|row| Self::read(&row)).transpose()
    }

    /// What cannot be a position was altered by hand. It may have been the last that told of lost
    /// events, so it is not taken for outdated.
    pub(crate) fn read(row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
        Self::try_read(row).map_err(|error| {
            let name: String = row.try_get("name").unwrap_or_default();
            let reason = format!(
                "the position of `{name}` was altered and tells nothing ({error}); look at the file and move it \
                 away, the tables are made anew then"
            );
            sqlx::Error::Decode(reason.into())
        })
    }

    fn try_read(row: &sqlx::sqlite::SqliteRow) -> Result<Self, sqlx::Error> {
        let text = |column: &str| row.try_get::<String, _>(column);
        let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
        let ledger_id: LedgerId = text("ledger_id")?.parse().map_err(|e| decode(Box::new(e)))?;
        let hash: EventHash = text("hash")?.parse().map_err(|e| decode(Box::new(e)))?;
        let nonce = text("epoch_nonce")?.parse().map_err(|e| decode(Box::new(e)))?;
        let epoch = Epoch { number: row.try_get("epoch_number")?, nonce };
        let seq = row.try_get::<i64, _>("seq")?;
        let seq = u64::try_from(seq).ok().filter(|seq| *seq > 0);
        let seq = seq.ok_or_else(|| decode("its seq is below 1".into()))?;
        Ok(Self {
            head: Head { seq, hash },
            version: row.try_get("version")?,
            identity: Some(LedgerIdentity { ledger_id, epoch }),
            // What earlier versions left has another name for it, and is a witness as well.
            recorded_at: UnixMicros::new(
                row.try_get("recorded_at_micros").or_else(|_| row.try_get("recorded_at"))?,
            ),
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
        let statement = "INSERT OR REPLACE INTO projection_positions (name, version, ledger_id, seq, hash, \
             epoch_number, epoch_nonce, recorded_at_micros) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        match self.row(statement, name) {
            Some(row) => row.execute(database).await.map(drop),
            None => Ok(()),
        }
    }

    /// A statement with the eight columns of a row bound; none before the first event.
    pub(crate) fn row<'q>(
        &self,
        statement: &'static str,
        name: &'q str,
    ) -> Option<sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>> {
        let identity = self.identity?;
        let row = sqlx::query(statement)
            .bind(name)
            .bind(self.version)
            .bind(identity.ledger_id.to_string())
            .bind(self.head.seq.cast_signed())
            .bind(self.head.hash.to_string())
            .bind(identity.epoch.number)
            .bind(identity.epoch.nonce.to_string())
            .bind(self.recorded_at.get());
        Some(row)
    }

    /// The position as a head to hold a ledger to.
    pub(crate) fn known_head(&self, source: String) -> KnownHead {
        let epoch = self.identity.map(|identity| identity.epoch);
        KnownHead { head: self.head, epoch, source }
    }
}

/// The ledger that some other position of a file is of, if it is another than this one.
///
/// # Errors
/// When it cannot be read.
pub(crate) async fn other_ledger(
    database: &mut SqliteConnection,
    ledger_id: LedgerId,
) -> Result<Option<LedgerId>, sqlx::Error> {
    let sql = "SELECT ledger_id FROM projection_positions WHERE ledger_id <> ?1";
    let others: Vec<String> =
        sqlx::query_scalar(sql).bind(ledger_id.to_string()).fetch_all(database).await?;
    Ok(others.iter().find_map(|other| other.parse().ok()))
}
