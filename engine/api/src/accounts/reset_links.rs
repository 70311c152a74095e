//! Links to set a new password, each for one use, stored as hashes; and new passwords.

use daybook_projections::sqlx;
use daybook_schema::{SessionEndReason, UserId};

use super::sessions::{Which, end_sessions};
use super::users::set_credentials;
use super::{Accounts, failed, now_seconds, parsed};
use crate::error::{ApiError, Code};
use crate::tokens::TokenHash;

impl Accounts {
    /// Puts a link down; earlier ones of the user are of no use any more.
    pub(crate) async fn add_reset_link(
        &self,
        user_id: UserId,
        token: &TokenHash,
        age_seconds: i64,
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let user_id = user_id.to_string();
        sqlx::query("DELETE FROM reset_links WHERE user_id = ?1")
            .bind(&user_id)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO reset_links (token_hash, user_id, expires_at) VALUES (?1, ?2, ?3)",
        )
        .bind(token.as_str())
        .bind(&user_id)
        .bind(now_seconds() + age_seconds)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await
    }

    /// Whose link it is, if it can be used.
    pub(crate) async fn reset_link(&self, token: &TokenHash) -> Result<Option<UserId>, ApiError> {
        let user_id: Option<String> = sqlx::query_scalar(
            "SELECT user_id FROM reset_links WHERE token_hash = ?1 AND expires_at > ?2 \
             AND user_id NOT IN (SELECT user_id FROM erasures)",
        )
        .bind(token.as_str())
        .bind(now_seconds())
        .fetch_optional(&*self.readers())
        .await
        .map_err(failed)?;
        user_id.map(|user_id| parsed(&user_id)).transpose()
    }

    /// Sets a new password and ends all sessions. With a link it uses the link up.
    ///
    /// # Errors
    /// [`Code::InvalidLink`] where it was used meanwhile.
    pub(crate) async fn set_password(
        &self,
        user_id: UserId,
        password_hash: &str,
        link: Option<&TokenHash>,
    ) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        let id = user_id.to_string();
        let is_here: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM users WHERE id = ?1 AND id NOT IN (SELECT user_id FROM erasures)",
        )
        .bind(&id)
        .fetch_optional(&mut *writing)
        .await
        .map_err(failed)?;
        if is_here.is_none() {
            // He was erased meanwhile.
            return Err(ApiError::new(Code::SessionExpired));
        }
        if let Some(link) = link {
            let used =
                sqlx::query("DELETE FROM reset_links WHERE token_hash = ?1 AND expires_at > ?2")
                    .bind(link.as_str())
                    .bind(now_seconds())
                    .execute(&mut *writing)
                    .await
                    .map_err(failed)?;
            if used.rows_affected() == 0 {
                return Err(ApiError::new(Code::InvalidLink));
            }
        }
        // Whoever had another link had it for the password that was.
        sqlx::query("DELETE FROM reset_links WHERE user_id = ?1")
            .bind(&id)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        set_credentials(&mut writing, &id, password_hash).await?;
        let revoked = SessionEndReason::Revoked;
        let gone = end_sessions(&mut writing, user_id, Which::All, revoked).await?;
        writing.commit().await?;
        Ok(gone)
    }
}
