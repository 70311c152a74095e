//! Accounts that were put back from a backup: nobody is logged in any more.

use daybook_projections::sqlx;
use daybook_schema::{SessionEndReason, UserId};

use super::{Accounts, failed};
use crate::error::ApiError;

impl Accounts {
    /// Ends all sessions, links and service tokens, for who had one may not be who has it now; the next start tells
    /// the ledger. Gives those users up who are not here although the ledger has them. Tells how
    /// many.
    ///
    /// # Errors
    /// [`ApiError`] when the file cannot be written.
    pub async fn settle_restored(&self, in_ledger: &[UserId]) -> Result<usize, ApiError> {
        let mut writing = self.begin().await?;
        let reason = SessionEndReason::Revoked.as_str();
        sqlx::query(
            "INSERT OR IGNORE INTO ended_sessions (user_id, session_number, reason) \
             SELECT user_id, session_number, ?1 FROM session_numbers",
        )
        .bind(reason)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        for sql in [
            "DELETE FROM sessions",
            "DELETE FROM reset_links",
            "UPDATE service_tokens SET revoked_at = unixepoch(), revoked_by = 'restore' \
             WHERE revoked_at IS NULL",
        ] {
            sqlx::query(sql).execute(&mut *writing).await.map_err(failed)?;
        }
        let given_up = sqlx::query(
            "INSERT OR IGNORE INTO given_up_users SELECT value FROM json_each(?1) \
             WHERE value NOT IN (SELECT id FROM users UNION SELECT user_id FROM erasures)",
        )
        .bind(serde_json::to_string(in_ledger).unwrap_or_default())
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await?;
        Ok(usize::try_from(given_up.rows_affected()).unwrap_or(0))
    }
}
