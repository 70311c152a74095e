//! What is kept small, and which ledger these people play in.

use daybook_projections::sqlx;
use daybook_schema::{LedgerId, LedgerIdentity, UserId};
use serde::{Deserialize, Serialize};

use super::{Accounts, failed, now_seconds, parsed};
use crate::error::ApiError;

/// Changes that are kept whatever became of them since: read models are rarely further behind.
const CHANGES_KEPT: i64 = 100_000;
/// Changes that one sweep looks at.
const CHANGES_SWEPT_MAX: i64 = 10_000;

/// The ledger that people played in when they were served last.
pub(crate) struct Served {
    pub(crate) ledger_id: LedgerId,
    pub(crate) epoch_number: u32,
    /// The epoch's 16 bytes; none where an earlier version served them.
    pub(crate) nonce: Option<String>,
}

/// Accounts and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeopleFigures {
    /// Accounts.
    pub accounts: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Service tokens that are not revoked.
    pub service_tokens: u64,
}

impl Accounts {
    /// The ledger that these people play in, and its epoch then, if any served them yet.
    pub(crate) async fn served_ledger(&self) -> Result<Option<Served>, ApiError> {
        let row: Option<(String, i64, Option<String>)> =
            sqlx::query_as("SELECT ledger_id, epoch, nonce FROM served_ledger")
                .fetch_optional(&*self.readers())
                .await
                .map_err(failed)?;
        let Some((ledger_id, epoch, nonce)) = row else { return Ok(None) };
        let epoch_number = u32::try_from(epoch).unwrap_or(0);
        Ok(Some(Served { ledger_id: parsed(&ledger_id)?, epoch_number, nonce }))
    }

    /// How many accounts, sessions and service tokens there are.
    pub(crate) async fn figures(&self) -> Result<PeopleFigures, ApiError> {
        let (accounts, sessions, service_tokens): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM sessions), \
             (SELECT count(*) FROM service_tokens WHERE revoked_at IS NULL)",
        )
        .fetch_one(&*self.readers())
        .await
        .map_err(failed)?;
        let [accounts, sessions, service_tokens] =
            [accounts, sessions, service_tokens].map(i64::unsigned_abs);
        Ok(PeopleFigures { accounts, sessions, service_tokens })
    }

    /// Puts down which ledger they play in.
    pub(crate) async fn set_served_ledger(&self, served: LedgerIdentity) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query(
            "INSERT OR REPLACE INTO served_ledger (id, ledger_id, epoch, nonce) VALUES (1, ?1, ?2, ?3)",
        )
        .bind(served.ledger_id.to_string())
        .bind(served.epoch.number)
        .bind(served.epoch.nonce.to_string())
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await
    }

    /// How many users are known here: with an account, being erased, or given up.
    pub(crate) async fn known_count(&self) -> Result<usize, ApiError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM given_up_users) \
             + (SELECT count(*) FROM erasures WHERE user_id NOT IN (SELECT id FROM users)) \
             - (SELECT count(*) FROM pending_users)",
        )
        .fetch_one(&*self.readers())
        .await
        .map_err(failed)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Those who are known here.
    pub(crate) async fn known_users(&self) -> Result<Vec<UserId>, ApiError> {
        self.ids(
            "SELECT id FROM users UNION SELECT user_id FROM given_up_users \
             UNION SELECT user_id FROM erasures",
        )
        .await
    }

    /// Gives the accounts of users up whom the ledger has.
    pub(crate) async fn give_up_users(&self, users: &[UserId]) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query("INSERT OR IGNORE INTO given_up_users SELECT value FROM json_each(?1)")
            .bind(serde_json::to_string(users).unwrap_or_default())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await
    }

    /// Takes out links whose time is over.
    pub(crate) async fn sweep_links(&self) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query("DELETE FROM reset_links WHERE expires_at <= ?1")
            .bind(now_seconds())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await
    }

    /// Takes out changes that say no more than later ones, a part at a time, and tells where the
    /// next part begins. Read models that were not filled for so long are filled anew.
    pub(crate) async fn sweep_changes(&self, from: i64) -> Result<i64, ApiError> {
        let mut writing = self.begin().await?;
        let newest: i64 = sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM changes")
            .fetch_one(&mut *writing)
            .await
            .map_err(failed)?;
        let until = (from + CHANGES_SWEPT_MAX).min(newest - CHANGES_KEPT);
        if until <= from {
            return Ok(0);
        }
        sqlx::query(
            "DELETE FROM changes WHERE number IN (SELECT number FROM changes AS old \
             WHERE number > ?1 AND number <= ?2 AND (EXISTS \
             (SELECT 1 FROM changes AS newer WHERE newer.kind = old.kind AND newer.id = old.id \
             AND newer.number > old.number) \
             OR kind = 'session' AND id NOT IN (SELECT id FROM sessions)))",
        )
        .bind(from)
        .bind(until)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        sqlx::query(
            "INSERT INTO swept_changes (id, number) VALUES (1, ?1) \
             ON CONFLICT DO UPDATE SET number = max(number, excluded.number)",
        )
        .bind(until)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await?;
        Ok(until)
    }
}
