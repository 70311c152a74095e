//! Erasures: begun here, so that nothing is done in the user's name any more; then the data goes.

use daybook_projections::sqlx;
use daybook_schema::{SessionEndReason, UserId};

use super::attempts::forget_all;
use super::sessions::{Which, end_sessions};
use super::{Accounts, failed, now_seconds};
use crate::error::ApiError;
use crate::tokens::{Kept, TokenHash};

impl Accounts {
    /// Records that a user is to be erased, and ends his sessions. From here on he is not there.
    pub(crate) async fn begin_erasure(&self, user_id: UserId) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query("INSERT OR IGNORE INTO erasures (user_id, requested_at) VALUES (?1, ?2)")
            .bind(user_id.to_string())
            .bind(now_seconds())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        // The ledger ends them with the user.
        let erased = SessionEndReason::Erased;
        let gone = end_sessions(&mut writing, user_id, Which::All, erased).await?;
        writing.commit().await?;
        Ok(gone)
    }

    /// Takes everything out that is a person's: the row, the credentials, sessions, links, names of
    /// simulins, the record of failed logins. What is deleted is overwritten.
    pub(crate) async fn erase_data(&self, user_id: UserId) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let id = user_id.to_string();
        let email: Option<String> = sqlx::query_scalar("SELECT email FROM users WHERE id = ?1")
            .bind(&id)
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed)?;
        let email = self.secret().key_of(Kept::Email(email.as_deref().unwrap_or_default()));
        let owner = self.secret().key_of(Kept::Owner(user_id));
        forget_all(&mut writing, &email, &owner).await?;
        for sql in [
            "DELETE FROM simulin_names WHERE user_id = ?1",
            "DELETE FROM ended_sessions WHERE user_id = ?1",
            "DELETE FROM pauses WHERE user_id = ?1",
            "DELETE FROM token_users WHERE user_id = ?1",
            "DELETE FROM users WHERE id = ?1",
        ] {
            sqlx::query(sql).bind(&id).execute(&mut *writing).await.map_err(failed)?;
        }
        writing.commit().await
    }

    /// The ledger has the erasure.
    pub(crate) async fn confirm_erasure(&self, user_id: UserId) -> Result<(), ApiError> {
        self.run("DELETE FROM erasures WHERE user_id = ?1", &user_id.to_string()).await
    }

    /// Erasures that were begun and may not be at their end.
    pub(crate) async fn erasures(&self) -> Result<Vec<UserId>, ApiError> {
        self.ids("SELECT user_id FROM erasures").await
    }
}
