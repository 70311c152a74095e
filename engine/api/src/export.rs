//! All that is held on a user.

use daybook_schema::{SessionNumber, UserId};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::accounts::sessions::ListedSession;
use crate::accounts::users::{Named, User};
use crate::error::{ApiError, Code};
use crate::service::Service;
use crate::tokens::Counted;

/// Seasons that are read at a time.
const SEASONS_PER_PAGE: u32 = 100;

/// All that is held on a user.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// The account.
    user: User,
    /// Whether an operator locked it.
    is_locked: bool,
    /// The open sessions.
    sessions: Vec<ShownSession>,
    /// Failed logins to the address that still count, in seconds since 1970.
    failed_logins: Vec<i64>,
    /// Every season with its days, bets, triggers and weeks, newest first.
    #[schema(value_type = Vec<Object>)]
    seasons: Vec<Value>,
}

/// One of a user's sessions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownSession {
    /// Its number, as the ledger has it.
    #[schema(value_type = u32, example = 3)]
    number: SessionNumber,
    /// In seconds since 1970.
    created_at: i64,
    /// In seconds since 1970.
    expires_at: i64,
    /// The browser that began it, as it says.
    user_agent: Option<String>,
    /// Where it was begun.
    ip_address: Option<String>,
    /// Whether it is the one that asks.
    is_current: bool,
}

impl ShownSession {
    pub(crate) fn of(listed: ListedSession, current: Option<SessionNumber>) -> Self {
        Self {
            is_current: Some(listed.number) == current,
            number: listed.number,
            created_at: listed.created_at,
            expires_at: listed.expires_at,
            user_agent: listed.user_agent,
            ip_address: listed.ip_address,
        }
    }
}

impl Service {
    /// All that is held on a user: in the accounts, and of play in the read models.
    pub(crate) async fn export(&self, user_id: UserId) -> Result<Export, ApiError> {
        let account = self.accounts.find(Named::Id(user_id)).await?.ok_or(Code::NotFound)?;
        let sessions = self.accounts.list_sessions(user_id).await?;
        let key = self.accounts.secret().key_of(Counted::Email(&account.user.email));
        let (failed_logins, _) = self.accounts.failures(&key).await?;
        Ok(Export {
            user: account.user,
            is_locked: account.is_locked,
            sessions: sessions.into_iter().map(|listed| ShownSession::of(listed, None)).collect(),
            failed_logins,
            seasons: self.seasons_of(user_id).await?,
        })
    }

    async fn seasons_of(&self, user_id: UserId) -> Result<Vec<Value>, ApiError> {
        let unread = |error: daybook_projections::ReadError| {
            tracing::error!(%error, "the read models cannot be read");
            ApiError::new(Code::Unavailable)
        };
        let (mut seasons, mut before) = (Vec::new(), None);
        loop {
            let page =
                self.reads.seasons_of(user_id, before, SEASONS_PER_PAGE).await.map_err(unread)?;
            for summary in &page {
                let details = self.reads.season_with_details(summary.id).await.map_err(unread)?;
                seasons.extend(details.and_then(|details| serde_json::to_value(details).ok()));
            }
            let Some(last) = page.last() else { return Ok(seasons) };
            before = u32::try_from(last.season_number).ok();
        }
    }
}
