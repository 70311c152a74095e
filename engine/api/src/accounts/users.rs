//! People: the seed's columns, their credentials, and what keeps them out.

use std::collections::HashMap;

use daybook_projections::sqlx::{self, SqliteConnection};
use daybook_schema::{Role, SessionEndReason, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::service_tokens::bind_if_there;
use super::sessions::{Which, end_sessions};
use super::{Accounts, Writing, failed, now_seconds, parsed};
use crate::error::{ApiError, Code};
use crate::tokens::TokenHash;

/// A user: the seed's columns, and nothing of credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Its id, `usr_` and a UUID.
    #[schema(value_type = String, example = "usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b")]
    pub id: UserId,
    /// The address, in lower case.
    #[schema(example = "ada@farm.example")]
    pub email: String,
    /// What others see.
    #[schema(example = "Ada")]
    pub display_name: String,
    /// A picture, by https.
    pub avatar_url: Option<String>,
    /// What the user may do.
    #[schema(value_type = String, example = "player")]
    pub role: Role,
    /// In seconds since 1970.
    pub created_at: i64,
    /// In seconds since 1970.
    pub last_login_at: Option<i64>,
}

/// Who locked an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockedBy {
    /// The operator, or an admin.
    Operator,
    /// A moderator.
    Moderator,
}

impl LockedBy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Moderator => "moderator",
        }
    }
}

/// A user with what logging in needs.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) user: User,
    /// None where an operator has set none yet.
    pub(crate) password_hash: Option<String>,
    pub(crate) locked_by: Option<LockedBy>,
}

/// What a user may change of himself: what is given is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProfileChange {
    pub(crate) display_name: Option<String>,
    /// `Some(None)` takes the picture away.
    pub(crate) avatar_url: Option<Option<String>>,
}

/// A user that is about to be.
#[derive(Clone)]
pub(crate) struct NewUser {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) avatar_url: Option<String>,
    pub(crate) role: Role,
    pub(crate) password_hash: String,
    /// The service token that registers the user, and may play for it from then on.
    pub(crate) by_token: Option<String>,
}

type Row = (
    String,
    String,
    String,
    Option<String>,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
);

const COLUMNS: &str = "users.id, email, display_name, avatar_url, role, created_at, last_login_at, \
    password_hash, locked_by FROM users \
    LEFT JOIN credentials ON credentials.user_id = users.id \
    LEFT JOIN locked_users ON locked_users.user_id = users.id";

/// An address as it is stored and compared: without blanks around it, in lower case.
pub(crate) fn normalized_email(email: &str) -> String {
    email.trim().to_lowercase()
}

fn account(row: Row) -> Result<Account, ApiError> {
    let (id, email, display_name, avatar_url, role, created_at, last_login_at, hash, locked_by) =
        row;
    let user = User {
        id: parsed(&id)?,
        email,
        display_name,
        avatar_url,
        role: parsed(&role)?,
        created_at,
        last_login_at,
    };
    let locked_by = locked_by.map(|by| match by == LockedBy::Moderator.as_str() {
        true => LockedBy::Moderator,
        false => LockedBy::Operator,
    });
    Ok(Account { user, password_hash: hash, locked_by })
}

/// How a user is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<'a> {
    Id(UserId),
    /// By the address as it is stored.
    Email(&'a str),
}

async fn find(
    connection: &mut SqliteConnection,
    named: Named<'_>,
) -> Result<Option<Account>, ApiError> {
    let (column, value) = match named {
        Named::Id(user_id) => ("users.id", user_id.to_string()),
        Named::Email(email) => ("email", email.to_owned()),
    };
    // What is not whole yet, or being erased, is not there.
    let sql = format!(
        "SELECT {COLUMNS} WHERE {column} = ?1 \
         AND users.id NOT IN (SELECT user_id FROM pending_users) \
         AND users.id NOT IN (SELECT user_id FROM erasures)"
    );
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(value)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.map(account).transpose()
}

/// What others see of a user.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) display_name: String,
    pub(crate) avatar_url: Option<String>,
}

impl Shown {
    /// What is seen of who was erased.
    pub(crate) fn nobody() -> Self {
        Self { display_name: "player".to_owned(), avatar_url: None }
    }
}

impl Accounts {
    /// A user who can log in.
    pub(crate) async fn find(&self, named: Named<'_>) -> Result<Option<Account>, ApiError> {
        let mut connection = self.readers().acquire().await.map_err(failed)?;
        find(&mut connection, named).await
    }

    /// Puts a user down whom the ledger does not know yet.
    ///
    /// # Errors
    /// [`Code::EmailTaken`]; [`Code::NotFound`] where the token that registers is revoked.
    pub(crate) async fn add_pending(&self, new: &NewUser) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let taken: Option<i64> = sqlx::query_scalar("SELECT 1 FROM users WHERE email = ?1")
            .bind(&new.email)
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed)?;
        if taken.is_some() {
            return Err(ApiError::new(Code::EmailTaken));
        }
        let (id, now) = (new.id.to_string(), now_seconds());
        sqlx::query(
            "INSERT INTO users (id, email, display_name, avatar_url, role, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(&id)
        .bind(&new.email)
        .bind(&new.display_name)
        .bind(&new.avatar_url)
        .bind(new.role.as_str())
        .bind(now)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        set_credentials(&mut writing, &id, &new.password_hash).await?;
        sqlx::query("INSERT INTO pending_users (user_id) VALUES (?1)")
            .bind(&id)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        // At once: an account that is half made is the token's too.
        if let Some(token) = &new.by_token {
            bind_if_there(&mut writing, token, &[new.id]).await?;
        }
        writing.commit().await
    }

    /// The ledger knows the user.
    pub(crate) async fn confirm_user(&self, user_id: UserId) -> Result<(), ApiError> {
        self.run("DELETE FROM pending_users WHERE user_id = ?1", &user_id.to_string()).await
    }

    /// The ledger certainly does not: it is as if there had been none.
    pub(crate) async fn drop_pending(&self, user_id: UserId) -> Result<(), ApiError> {
        let sql = "DELETE FROM users WHERE id = ?1 AND id IN (SELECT user_id FROM pending_users)";
        self.run(sql, &user_id.to_string()).await
    }

    /// Users whom the ledger is not known to know, and who were put down before a time.
    pub(crate) async fn pending_users(&self, before: i64) -> Result<Vec<UserId>, ApiError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT user_id FROM pending_users JOIN users ON users.id = user_id WHERE created_at < ?1",
        )
        .bind(before)
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)?;
        ids.iter().map(|id| parsed(id)).collect()
    }

    /// Those of some users who are here.
    pub(crate) async fn among(&self, users: &[UserId]) -> Result<Vec<UserId>, ApiError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM users WHERE id IN (SELECT value FROM json_each(?1))",
        )
        .bind(serde_json::to_string(users).unwrap_or_default())
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)?;
        ids.iter().map(|id| parsed(id)).collect()
    }

    /// All users there are.
    pub(crate) async fn all_users(&self) -> Result<Vec<UserId>, ApiError> {
        self.ids("SELECT id FROM users").await
    }

    pub(crate) async fn ids(&self, sql: &'static str) -> Result<Vec<UserId>, ApiError> {
        let ids: Vec<String> =
            sqlx::query_scalar(sql).fetch_all(&*self.readers()).await.map_err(failed)?;
        ids.iter().map(|id| parsed(id)).collect()
    }

    /// One statement about one id, in a transaction of its own.
    pub(crate) async fn run(&self, sql: &'static str, id: &str) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query(sql).bind(id).execute(&mut *writing).await.map_err(failed)?;
        writing.commit().await
    }

    /// What others see of users.
    pub(crate) async fn shown_names(
        &self,
        users: &[UserId],
    ) -> Result<HashMap<UserId, Shown>, ApiError> {
        let ids: Vec<String> = users.iter().map(ToString::to_string).collect();
        let rows: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT id, display_name, avatar_url FROM users \
             WHERE id IN (SELECT value FROM json_each(?1)) \
             AND id NOT IN (SELECT user_id FROM erasures)",
        )
        .bind(serde_json::Value::from(ids).to_string())
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)?;
        let shown = |(id, display_name, avatar_url): (String, String, Option<String>)| {
            Ok((parsed(&id)?, Shown { display_name, avatar_url }))
        };
        rows.into_iter().map(shown).collect()
    }

    /// Changes what others see of a user, and tells the user as he is then.
    pub(crate) async fn change_profile(
        &self,
        user_id: UserId,
        change: &ProfileChange,
    ) -> Result<User, ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query(
            "UPDATE users SET display_name = coalesce(?2, display_name), \
             avatar_url = CASE WHEN ?3 THEN ?4 ELSE avatar_url END WHERE id = ?1",
        )
        .bind(user_id.to_string())
        .bind(&change.display_name)
        .bind(change.avatar_url.is_some())
        .bind(change.avatar_url.clone().flatten())
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        let changed = find(&mut writing, Named::Id(user_id)).await?;
        writing.commit().await?;
        Ok(changed.ok_or(Code::SessionExpired)?.user)
    }

    /// Sets a role.
    pub(crate) async fn set_role(&self, user_id: UserId, role: Role) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query("UPDATE users SET role = ?2 WHERE id = ?1")
            .bind(user_id.to_string())
            .bind(role.as_str())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await
    }

    /// Locks an account and ends its sessions; tells which tokens are gone.
    pub(crate) async fn lock(
        &self,
        user_id: UserId,
        locked_by: LockedBy,
    ) -> Result<Vec<TokenHash>, ApiError> {
        let mut writing = self.begin().await?;
        // What an operator locked a moderator does not take over.
        sqlx::query("INSERT OR IGNORE INTO locked_users (user_id, locked_at, locked_by) VALUES (?1, ?2, ?3)")
            .bind(user_id.to_string())
            .bind(now_seconds())
            .bind(locked_by.as_str())
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        let locked = SessionEndReason::Locked;
        let gone = end_sessions(&mut writing, user_id, Which::All, locked).await?;
        writing.commit().await?;
        Ok(gone)
    }

    /// Lifts the lock of an account.
    pub(crate) async fn unlock(&self, user_id: UserId) -> Result<(), ApiError> {
        self.run("DELETE FROM locked_users WHERE user_id = ?1", &user_id.to_string()).await
    }

    /// Stores a hash that was made anew of the same password, if it is still the password.
    pub(crate) async fn refresh_hash(
        &self,
        user_id: UserId,
        old: &str,
        fresh: &str,
    ) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        sqlx::query(
            "UPDATE credentials SET password_hash = ?3 WHERE user_id = ?1 AND password_hash = ?2",
        )
        .bind(user_id.to_string())
        .bind(old)
        .bind(fresh)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await
    }
}

/// Stores a password's hash.
pub(crate) async fn set_credentials(
    writing: &mut Writing,
    user_id: &str,
    password_hash: &str,
) -> Result<(), ApiError> {
    sqlx::query("INSERT OR REPLACE INTO credentials (user_id, password_hash, changed_at) VALUES (?1, ?2, ?3)")
        .bind(user_id)
        .bind(password_hash)
        .bind(now_seconds())
        .execute(&mut **writing)
        .await
        .map(drop)
        .map_err(failed)
}
