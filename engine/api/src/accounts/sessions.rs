//! Sessions as they are stored: by the hash of a token, with the session's number in the ledger.

use daybook_projections::sqlx;
use daybook_schema::{Role, SessionEndReason, SessionNumber, UserId};

use super::{Accounts, Writing, failed, now_seconds, parsed};
use crate::error::{ApiError, Code};
use crate::tokens::TokenHash;

/// Sessions that are swept at a time.
pub(crate) const SWEPT_MAX: usize = 1_000;
/// Ends that the ledger is told at a time.
pub(crate) const ENDED_AT_ONCE_MAX: usize = 1_000;

/// A session that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: TokenHash,
    pub(crate) user_id: UserId,
    pub(crate) number: SessionNumber,
    pub(crate) role: Role,
    /// In seconds since 1970.
    pub(crate) expires_at: i64,
}

/// One of a user's sessions, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSession {
    pub(crate) number: SessionNumber,
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) user_agent: Option<String>,
    pub(crate) ip_address: Option<String>,
}

type ListedRow = (i64, i64, i64, Option<String>, Option<String>);

/// A session that the ledger has begun.
#[derive(Clone)]
pub(crate) struct NewSession {
    pub(crate) id: TokenHash,
    pub(crate) user_id: UserId,
    pub(crate) number: SessionNumber,
    /// Those that it took the place of.
    pub(crate) replaced: Vec<SessionNumber>,
    /// The hash of the password that was shown: if it is another by now, there is no session.
    pub(crate) password_hash: String,
    pub(crate) expires_at: i64,
    pub(crate) user_agent: Option<String>,
    pub(crate) ip_address: String,
}

/// Which of a user's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    One(SessionNumber),
    All,
}

/// A session that is over, whose end the ledger may not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedSession {
    pub(crate) user_id: UserId,
    pub(crate) number: SessionNumber,
    pub(crate) reason: SessionEndReason,
}

pub(crate) fn number(stored: i64) -> Result<SessionNumber, ApiError> {
    let number = u32::try_from(stored).ok().and_then(|number| SessionNumber::new(number).ok());
    number.ok_or_else(|| {
        tracing::error!(stored, "accounts.db holds what is no session's number");
        ApiError::new(Code::Internal)
    })
}

impl Accounts {
    /// The open session that a token's hash stands for.
    pub(crate) async fn find_session(&self, id: &TokenHash) -> Result<Option<Session>, ApiError> {
        let row: Option<(String, i64, String, i64)> = sqlx::query_as(
            "SELECT sessions.user_id, session_number, role, expires_at FROM sessions \
             JOIN session_numbers ON session_numbers.session_id = sessions.id \
             JOIN users ON users.id = sessions.user_id \
             WHERE sessions.id = ?1 AND expires_at > ?2 \
             AND users.id NOT IN (SELECT user_id FROM locked_users) \
             AND users.id NOT IN (SELECT user_id FROM erasures)",
        )
        .bind(id.as_str())
        .bind(now_seconds())
        .fetch_optional(&*self.readers())
        .await
        .map_err(failed)?;
        let Some((user_id, stored, role, expires_at)) = row else { return Ok(None) };
        Ok(Some(Session {
            id: id.clone(),
            user_id: parsed(&user_id)?,
            number: number(stored)?,
            role: parsed(&role)?,
            expires_at,
        }))
    }

    /// Puts down a session that the ledger has begun, and takes those out that it ended for it. It
    /// is refused where the user was locked or erased meanwhile. Tells which are gone.
    pub(crate) async fn add_session(&self, new: &NewSession) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        let (user_id, now) = (new.user_id.to_string(), now_seconds());
        let replaced: Vec<u32> = new.replaced.iter().map(|number| number.get()).collect();
        let replaced = serde_json::to_string(&replaced).unwrap_or_default();
        let gone: Vec<String> = sqlx::query_scalar(
            "DELETE FROM sessions WHERE id IN (SELECT session_id FROM session_numbers \
             WHERE user_id = ?1 AND session_number IN (SELECT value FROM json_each(?2))) RETURNING id",
        )
        .bind(&user_id)
        .bind(replaced)
        .fetch_all(&mut *writing)
        .await
        .map_err(failed)?;
        let added = sqlx::query(
            "INSERT INTO sessions (id, user_id, expires_at, created_at, user_agent, ip_address) \
             SELECT ?1, id, ?3, ?4, ?5, ?6 FROM users WHERE id = ?2 \
             AND id NOT IN (SELECT user_id FROM locked_users) \
             AND id NOT IN (SELECT user_id FROM erasures) \
             AND id IN (SELECT user_id FROM credentials WHERE password_hash = ?7)",
        )
        .bind(new.id.as_str())
        .bind(&user_id)
        .bind(new.expires_at)
        .bind(now)
        .bind(&new.user_agent)
        .bind(&new.ip_address)
        .bind(&new.password_hash)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        if added.rows_affected() == 0 {
            return Err(ApiError::new(Code::InvalidCredentials));
        }
        sqlx::query(
            "INSERT INTO session_numbers (user_id, session_number, session_id) VALUES (?1, ?2, ?3)",
        )
        .bind(&user_id)
        .bind(new.number.get())
        .bind(new.id.as_str())
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        sqlx::query("UPDATE users SET last_login_at = ?2 WHERE id = ?1")
            .bind(&user_id)
            .bind(now)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await?;
        Ok(gone.into_iter().map(TokenHash::from_stored).collect())
    }

    /// A session that the ledger has begun came to nothing: those that it took the place of are over
    /// all the same, and its own end waits for the ledger.
    pub(crate) async fn drop_new_session(
        &self,
        new: &NewSession,
    ) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        let user_id = new.user_id.to_string();
        let mut gone = Vec::new();
        for number in &new.replaced {
            let deleted: Vec<String> = sqlx::query_scalar(
                "DELETE FROM sessions WHERE id IN (SELECT session_id FROM session_numbers \
                 WHERE user_id = ?1 AND session_number = ?2) RETURNING id",
            )
            .bind(&user_id)
            .bind(number.get())
            .fetch_all(&mut *writing)
            .await
            .map_err(failed)?;
            gone.extend(deleted.into_iter().map(TokenHash::from_stored));
        }
        sqlx::query("INSERT OR IGNORE INTO ended_sessions (user_id, session_number, reason) VALUES (?1, ?2, ?3)")
            .bind(&user_id)
            .bind(new.number.get())
            .bind(SessionEndReason::Revoked.as_str())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await?;
        Ok(gone)
    }

    /// Ends sessions of a user, and tells which tokens are gone. Their ends wait for the ledger.
    pub(crate) async fn end_sessions(
        &self,
        user_id: UserId,
        which: Which,
        reason: SessionEndReason,
    ) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        let gone = end_sessions(&mut writing, user_id, which, reason).await?;
        writing.commit().await?;
        Ok(gone)
    }

    /// Ends sessions whose time is over, and tells which tokens are gone.
    pub(crate) async fn sweep_sessions(&self) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        let over = "SELECT id FROM sessions WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2";
        let reason = SessionEndReason::Expired.as_str();
        let ended = format!(
            "INSERT OR IGNORE INTO ended_sessions (user_id, session_number, reason) \
             SELECT user_id, session_number, '{reason}' FROM session_numbers WHERE session_id IN ({over})"
        );
        let gone = format!("DELETE FROM sessions WHERE id IN ({over}) RETURNING id");
        let now = now_seconds();
        sqlx::query(sqlx::AssertSqlSafe(ended))
            .bind(now)
            .bind(i64::try_from(SWEPT_MAX).unwrap_or(i64::MAX))
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        let gone: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(gone))
            .bind(now)
            .bind(i64::try_from(SWEPT_MAX).unwrap_or(i64::MAX))
            .fetch_all(&mut *writing)
            .await
            .map_err(failed)?;
        if !gone.is_empty() {
            writing.commit().await?;
        }
        Ok(gone.into_iter().map(TokenHash::from_stored).collect())
    }

    /// A user's open sessions, newest first.
    pub(crate) async fn list_sessions(
        &self,
        user_id: UserId,
    ) -> Result<Vec<ListedSession>, ApiError> {
        let rows: Vec<ListedRow> = sqlx::query_as(
            "SELECT session_number, created_at, expires_at, user_agent, ip_address FROM sessions \
             JOIN session_numbers ON session_numbers.session_id = sessions.id \
             WHERE sessions.user_id = ?1 AND expires_at > ?2 ORDER BY session_number DESC",
        )
        .bind(user_id.to_string())
        .bind(now_seconds())
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)?;
        let listed = |(stored, created_at, expires_at, user_agent, ip_address)| {
            Ok(ListedSession {
                number: number(stored)?,
                created_at,
                expires_at,
                user_agent,
                ip_address,
            })
        };
        rows.into_iter().map(listed).collect()
    }

    /// The tokens of a user's open sessions.
    pub(crate) async fn tokens_of(&self, user_id: UserId) -> Result<Vec<TokenHash>, ApiError> {
        let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM sessions WHERE user_id = ?1")
            .bind(user_id.to_string())
            .fetch_all(&*self.readers())
            .await
            .map_err(failed)?;
        Ok(ids.into_iter().map(TokenHash::from_stored).collect())
    }

    /// Ends that the ledger may not have yet.
    pub(crate) async fn ended_sessions(&self) -> Result<Vec<EndedSession>, ApiError> {
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as("SELECT user_id, session_number, reason FROM ended_sessions LIMIT ?1")
                .bind(i64::try_from(ENDED_AT_ONCE_MAX).unwrap_or(i64::MAX))
                .fetch_all(&*self.readers())
                .await
                .map_err(failed)?;
        let ended = |(user_id, stored, reason): (String, i64, String)| {
            Ok(EndedSession {
                user_id: parsed(&user_id)?,
                number: number(stored)?,
                reason: parsed(&reason)?,
            })
        };
        rows.into_iter().map(ended).collect()
    }

    /// The ledger has these ends.
    pub(crate) async fn confirm_ended(&self, ended: &[EndedSession]) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        for session in ended {
            sqlx::query("DELETE FROM ended_sessions WHERE user_id = ?1 AND session_number = ?2")
                .bind(session.user_id.to_string())
                .bind(session.number.get())
                .execute(&mut *writing)
                .await
                .map_err(failed)?;
        }
        writing.commit().await
    }

    /// Every open session there is: user and number.
    pub(crate) async fn all_sessions(&self) -> Result<Vec<(UserId, SessionNumber)>, ApiError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT user_id, session_number FROM session_numbers")
                .fetch_all(&*self.readers())
                .await
                .map_err(failed)?;
        rows.into_iter().map(|(user, stored)| Ok((parsed(&user)?, number(stored)?))).collect()
    }

    /// Takes sessions out that the ledger has ended, or never began.
    pub(crate) async fn drop_sessions(
        &self,
        sessions: &[(UserId, SessionNumber)],
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        for (user_id, number) in sessions {
            sqlx::query(
                "DELETE FROM sessions WHERE id IN (SELECT session_id FROM session_numbers \
                 WHERE user_id = ?1 AND session_number = ?2)",
            )
            .bind(user_id.to_string())
            .bind(number.get())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        }
        // Sessions that were made without a number are none that the ledger knows.
        sqlx::query(
            "DELETE FROM sessions WHERE id NOT IN (SELECT session_id FROM session_numbers)",
        )
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await
    }
}

/// Ends sessions of a user within a transaction, and tells which tokens are gone.
pub(crate) async fn end_sessions(
    writing: &mut Writing,
    user_id: UserId,
    which: Which,
    reason: SessionEndReason,
) -> Result<Vec<TokenHash>, ApiError> {
    // No session has the number 0.
    let (one, user_id) = match which {
        Which::One(number) => (number.get(), user_id.to_string()),
        Which::All => (0, user_id.to_string()),
    };
    sqlx::query(
        "INSERT OR IGNORE INTO ended_sessions (user_id, session_number, reason) \
         SELECT user_id, session_number, ?3 FROM session_numbers \
         WHERE user_id = ?1 AND ?2 IN (0, session_number)",
    )
    .bind(&user_id)
    .bind(one)
    .bind(reason.as_str())
    .execute(&mut **writing)
    .await
    .map_err(failed)?;
    let gone: Vec<String> = sqlx::query_scalar(
        "DELETE FROM sessions WHERE id IN (SELECT session_id FROM session_numbers \
         WHERE user_id = ?1 AND ?2 IN (0, session_number)) RETURNING id",
    )
    .bind(&user_id)
    .bind(one)
    .fetch_all(&mut **writing)
    .await
    .map_err(failed)?;
    Ok(gone.into_iter().map(TokenHash::from_stored).collect())
}
