//! Tokens of other backends, as they are stored: by hashes, with scopes and with the users for whom
//! each may play.

use daybook_projections::sqlx;
use daybook_schema::{Role, UserId};
use serde::{Deserialize, Serialize};

use super::{Accounts, Writing, failed, now_seconds, parsed};
use crate::error::{ApiError, Code};
use crate::scopes::Scope;
use crate::tokens::TokenHash;

/// A token as it is listed; the token itself is nowhere. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedToken {
    /// What the operator called it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// For how many users it may play.
    pub users: u64,
    /// When it was made.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
}

type ListedRow = (String, String, i64, i64, String, Option<i64>, Option<String>);

fn scopes_of(stored: &str) -> Result<Vec<Scope>, ApiError> {
    stored.split(' ').map(parsed).collect()
}

impl Accounts {
    /// Stores a new token with the users for whom it may play, all or nothing.
    ///
    /// # Errors
    /// [`Code::ValidationError`] where there is one of that name.
    pub(crate) async fn add_service_token(
        &self,
        name: &str,
        token: &TokenHash,
        (scopes, users): (&[Scope], &[UserId]),
        by: &str,
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let added = sqlx::query(
            "INSERT OR IGNORE INTO service_tokens (name, token_hash, scopes, created_at, created_by) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(name)
        .bind(token.as_str())
        .bind(scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "))
        .bind(now_seconds())
        .bind(by)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        if added.rows_affected() == 0 {
            let taken =
                format!("there is a token `{name}`; names of revoked ones are not used again");
            return Err(ApiError::new(Code::ValidationError).saying(taken));
        }
        bind(&mut writing, name, users).await?;
        writing.commit().await
    }

    /// Lets a token play for users.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is no such token, or it is revoked.
    pub(crate) async fn bind_token(&self, name: &str, users: &[UserId]) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let scopes = bind_if_there(&mut writing, name, users).await?;
        if !scopes.contains(&Scope::Play) {
            return Err(plays_for_nobody());
        }
        writing.commit().await
    }

    /// Revokes a token, and tells its hash.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is no such token, or it is revoked.
    pub(crate) async fn revoke_token(&self, name: &str, by: &str) -> Result<TokenHash, ApiError> {
        let mut writing = self.begin().await?;
        let revoked: Option<String> = sqlx::query_scalar(
            "UPDATE service_tokens SET revoked_at = ?2, revoked_by = ?3 \
             WHERE name = ?1 AND revoked_at IS NULL RETURNING token_hash",
        )
        .bind(name)
        .bind(now_seconds())
        .bind(by)
        .fetch_optional(&mut *writing)
        .await
        .map_err(failed)?;
        let revoked = revoked.ok_or_else(|| unknown(name))?;
        writing.commit().await?;
        Ok(TokenHash::from_stored(revoked))
    }

    /// All tokens, revoked ones too.
    pub(crate) async fn list_tokens(&self) -> Result<Vec<ListedToken>, ApiError> {
        let rows: Vec<ListedRow> = sqlx::query_as(
            "SELECT name, scopes, (SELECT count(*) FROM token_users WHERE token_name = name), \
             created_at, created_by, revoked_at, revoked_by FROM service_tokens ORDER BY name",
        )
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)?;
        let listed =
            |(name, scopes, users, created_at, created_by, revoked_at, revoked_by): ListedRow| {
                let scopes = scopes_of(&scopes)?;
                let users = users.unsigned_abs();
                Ok(ListedToken {
                    name,
                    scopes,
                    users,
                    created_at,
                    created_by,
                    revoked_at,
                    revoked_by,
                })
            };
        rows.into_iter().map(listed).collect()
    }

    /// The names of tokens that may play for a user.
    pub(crate) async fn tokens_for(&self, user_id: UserId) -> Result<Vec<String>, ApiError> {
        sqlx::query_scalar(
            "SELECT token_name FROM token_users JOIN service_tokens ON name = token_name \
             WHERE user_id = ?1 AND revoked_at IS NULL ORDER BY token_name",
        )
        .bind(user_id.to_string())
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)
    }

    /// The name and the scopes of a token, unless it is revoked.
    pub(crate) async fn find_token(
        &self,
        token: &TokenHash,
    ) -> Result<Option<(String, Vec<Scope>)>, ApiError> {
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT name, scopes FROM service_tokens WHERE token_hash = ?1 AND revoked_at IS NULL",
        )
        .bind(token.as_str())
        .fetch_optional(&*self.readers())
        .await
        .map_err(failed)?;
        row.map(|(name, scopes)| Ok((name, scopes_of(&scopes)?))).transpose()
    }

    /// The role of a user for whom a token may play; none where it may not. Whoever is locked or is
    /// being erased is not there.
    pub(crate) async fn bound_user(
        &self,
        name: &str,
        user_id: UserId,
    ) -> Result<Option<Role>, ApiError> {
        let role: Option<String> = sqlx::query_scalar(
            "SELECT role FROM token_users JOIN users ON users.id = user_id \
             WHERE token_name = ?1 AND user_id = ?2 \
             AND user_id NOT IN (SELECT user_id FROM locked_users) \
             AND user_id NOT IN (SELECT user_id FROM erasures) \
             AND user_id NOT IN (SELECT user_id FROM pending_users)",
        )
        .bind(name)
        .bind(user_id.to_string())
        .fetch_optional(&*self.readers())
        .await
        .map_err(failed)?;
        role.as_deref().map(parsed).transpose()
    }
}

fn unknown(name: &str) -> ApiError {
    ApiError::new(Code::NotFound).saying(format!("there is no token `{name}` that is not revoked"))
}

/// A token without the scope for it cannot play for users.
pub(crate) fn plays_for_nobody() -> ApiError {
    ApiError::new(Code::ValidationError)
        .saying("a token plays for users with the scope play alone".to_owned())
}

/// Binds users to a token that is there, and tells its scopes.
pub(crate) async fn bind_if_there(
    writing: &mut Writing,
    name: &str,
    users: &[UserId],
) -> Result<Vec<Scope>, ApiError> {
    let scopes: Option<String> = sqlx::query_scalar(
        "SELECT scopes FROM service_tokens WHERE name = ?1 AND revoked_at IS NULL",
    )
    .bind(name)
    .fetch_optional(&mut **writing)
    .await
    .map_err(failed)?;
    let scopes = scopes.ok_or_else(|| unknown(name))?;
    bind(writing, name, users).await?;
    scopes_of(&scopes)
}

async fn bind(writing: &mut Writing, name: &str, users: &[UserId]) -> Result<(), ApiError> {
    sqlx::query("INSERT OR IGNORE INTO token_users SELECT ?1, value FROM json_each(?2)")
        .bind(name)
        .bind(serde_json::to_string(users).unwrap_or_default())
        .execute(&mut **writing)
        .await
        .map_err(failed)?;
    Ok(())
}
