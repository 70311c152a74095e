//! All that is held on a user.

use daybook_projections::Played;
use daybook_schema::limits::TELEMETRY_ROWS_PER_EXPORT;
use daybook_schema::{SessionNumber, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::pauses::Pause;
use crate::accounts::sessions::ListedSession;
use crate::accounts::users::{Named, User};
use crate::error::{ApiError, Code};
use crate::service::Service;
use crate::telemetry::OwnEvent;
use crate::tokens::Kept;

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
    /// When play was paused for this user alone, by whom and why.
    pauses: Vec<Pause>,
    /// Service tokens that may play for the user.
    service_tokens: Vec<String>,
    /// Failed logins to the address that still count, in seconds since 1970.
    failed_logins: Vec<i64>,
    /// What was played: seasons with their days, bets, triggers and weeks; companions; what was
    /// flagged; places on boards.
    #[schema(value_type = Object)]
    play: Played,
    /// What clients told of themselves in the user's name, the newest first.
    telemetry: Vec<OwnEvent>,
    /// Where the next page of telemetry goes on (`telemetryBefore`), if there is one.
    telemetry_next: Option<i64>,
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
    /// All that is held on a user: in the accounts, of play in the read models, and a page of
    /// telemetry.
    pub(crate) async fn export(
        &self,
        user_id: UserId,
        current: Option<SessionNumber>,
        telemetry_before: Option<i64>,
    ) -> Result<Export, ApiError> {
        let account = self.accounts.find(Named::Id(user_id)).await?.ok_or(Code::SessionExpired)?;
        let sessions = self.accounts.list_sessions(user_id).await?;
        let key = self.accounts.secret().key_of(Kept::Email(&account.user.email));
        let (failed_logins, _) = self.accounts.failures(&key).await?;
        let pauses = self.accounts.pauses_of(user_id).await?;
        let service_tokens = self.accounts.tokens_for(user_id).await?;
        let play = self.reads.all_of(user_id).await.map_err(|error| {
            tracing::error!(%error, "the read models cannot be read");
            ApiError::new(Code::Unavailable)
        })?;
        let before = telemetry_before.unwrap_or(i64::MAX);
        let telemetry =
            self.telemetry.own_events(user_id, before, TELEMETRY_ROWS_PER_EXPORT).await?;
        let is_full = u32::try_from(telemetry.len()) == Ok(TELEMETRY_ROWS_PER_EXPORT);
        let telemetry_next = telemetry.last().filter(|_| is_full).map(OwnEvent::place);
        Ok(Export {
            telemetry,
            telemetry_next,
            user: account.user,
            is_locked: account.locked_by.is_some(),
            sessions: sessions
                .into_iter()
                .map(|listed| ShownSession::of(listed, current))
                .collect(),
            pauses,
            service_tokens,
            failed_logins,
            play,
        })
    }
}
