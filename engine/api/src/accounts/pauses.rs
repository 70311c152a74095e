//! Pauses of play, on record: of all, or of one user.

use daybook_projections::sqlx;
use daybook_schema::UserId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Accounts, failed, now_seconds, parsed};
use crate::error::{ApiError, Code};

/// A pause as it stands on record. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Whose play it was; that of all without it.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// What players are told.
    pub reason: String,
    /// When it began.
    pub paused_at: i64,
    /// Who began it.
    pub paused_by: String,
    /// When it ended.
    pub resumed_at: Option<i64>,
    /// Who ended it.
    pub resumed_by: Option<String>,
}

type Row = (Option<String>, String, i64, String, Option<i64>, Option<String>);

impl Accounts {
    /// Pauses that go on.
    pub(crate) async fn open_pauses(&self) -> Result<Vec<Pause>, ApiError> {
        self.pauses("WHERE resumed_at IS NULL ORDER BY number", 0).await
    }

    /// Pauses that go on, or ended after a time.
    pub(crate) async fn pauses_since(&self, time: i64) -> Result<Vec<Pause>, ApiError> {
        self.pauses("WHERE resumed_at IS NULL OR resumed_at > ?1 ORDER BY number", time).await
    }

    /// All pauses of a user's play.
    pub(crate) async fn pauses_of(&self, user_id: UserId) -> Result<Vec<Pause>, ApiError> {
        let mut all = self.pauses("WHERE user_id IS NOT NULL ORDER BY number", 0).await?;
        all.retain(|pause| pause.user_id == Some(user_id));
        Ok(all)
    }

    async fn pauses(&self, which: &'static str, time: i64) -> Result<Vec<Pause>, ApiError> {
        let sql = format!(
            "SELECT user_id, reason, paused_at, paused_by, resumed_at, resumed_by FROM pauses {which}"
        );
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(time)
            .fetch_all(&*self.readers())
            .await
            .map_err(failed)?;
        let pause = |(user_id, reason, paused_at, paused_by, resumed_at, resumed_by): Row| {
            let user_id = user_id.as_deref().map(parsed).transpose()?;
            Ok(Pause { user_id, reason, paused_at, paused_by, resumed_at, resumed_by })
        };
        rows.into_iter().map(pause).collect()
    }

    /// Puts a pause on record; one that goes on is ended by it, so that its reason stays on record
    /// too.
    pub(crate) async fn pause(
        &self,
        user_id: Option<UserId>,
        reason: &str,
        by: &str,
    ) -> Result<Pause, ApiError> {
        let now = now_seconds();
        let mut writing = self.begin().await?;
        let id = user_id.map(|user_id| user_id.to_string());
        sqlx::query(END)
            .bind(now)
            .bind(by)
            .bind(&id)
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO pauses (user_id, reason, paused_at, paused_by) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(&id)
        .bind(reason)
        .bind(now)
        .bind(by)
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        writing.commit().await?;
        let (reason, paused_by) = (reason.to_owned(), by.to_owned());
        Ok(Pause { user_id, reason, paused_at: now, paused_by, resumed_at: None, resumed_by: None })
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is none.
    pub(crate) async fn resume(&self, user_id: Option<UserId>, by: &str) -> Result<(), ApiError> {
        let mut writing = self.begin().await?;
        let ended = sqlx::query(END)
            .bind(now_seconds())
            .bind(by)
            .bind(user_id.map(|user_id| user_id.to_string()))
            .execute(&mut *writing)
            .await
            .map_err(failed)?;
        if ended.rows_affected() == 0 {
            return Err(ApiError::new(Code::NotFound).saying("play is not paused"));
        }
        writing.commit().await
    }
}

const END: &str = "UPDATE pauses SET resumed_at = ?1, resumed_by = ?2 \
                   WHERE resumed_at IS NULL AND user_id IS ?3";
