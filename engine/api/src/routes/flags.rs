//! What was suspicious, for those who look after the players.

use axum::extract::State;
use axum::response::Response;
use daybook_projections::FlagDetails;
use daybook_schema::{Role, Seq, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::pages::cut;
use crate::error::{ApiError, Code};
use crate::guards::LoggedInAs;
use crate::reading::{AtLeast, unread};
use crate::service::Service;
use crate::validation::{RequestBody, ValidQuery};

/// Which flags.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct FlagsAsked {
    /// Those of one user.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>, nullable = false,
             pattern = "^usr_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
    user_id: Option<UserId>,
    /// Those put on record before an event: the `next` of the page before.
    #[serde(default)]
    #[param(value_type = Option<u64>, minimum = 1)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9_007_199_254_740_991_u64, nullable = false)]
    before: Option<Seq>,
    /// At most so many.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[schema(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
}

impl RequestBody for FlagsAsked {}

/// A page of flags.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlagsPage {
    /// The newest first.
    flags: Vec<Flag>,
    /// Where the next page goes on (`before`), if there is one.
    next: Option<i64>,
}

/// Something suspicious that is on record.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flag {
    /// The event that put it there.
    seq: i64,
    /// The season.
    season_id: String,
    /// Whose season it is.
    user_id: String,
    /// The day it concerns.
    day_number: i64,
    /// rapid_bet, coin_manipulation or level_manipulation.
    code: &'static str,
    /// When it was put on record, in seconds since 1970.
    flagged_at: i64,
}

impl From<FlagDetails> for Flag {
    fn from(details: FlagDetails) -> Self {
        let FlagDetails { seq, season_id, user_id, day_number, code, flagged_at } = details;
        let (season_id, user_id) = (season_id.to_string(), user_id.to_string());
        Self { seq, season_id, user_id, day_number, code: code.as_str(), flagged_at }
    }
}

/// What was suspicious, the newest first: for admins and moderators.
#[utoipa::path(get, path = "/api/flags", tag = "moderation", operation_id = "listFlags",
    security(("session" = [])),
    params(FlagsAsked),
    responses(
        (status = 200, description = "A page", body = FlagsPage),
        (status = 403, description = "FORBIDDEN: one is a player", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn list(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    at_least: AtLeast,
    asked: Result<ValidQuery<FlagsAsked>, ApiError>,
) -> Result<Response, ApiError> {
    // Who may do nothing here learns nothing of how it is asked.
    if session.role == Role::Player {
        return Err(ApiError::new(Code::Forbidden));
    }
    let ValidQuery(asked) = asked?;
    let reading = service.reading(at_least, &["seasons"]).await?;
    let limit = asked.limit.unwrap_or(20);
    let rows = service.reads.flags(asked.user_id, asked.before, limit + 1).await;
    let mut rows = rows.map_err(|error| unread(&error))?;
    let next = cut(&mut rows, limit).map(|last| last.seq);
    let flags = rows.into_iter().map(Flag::from).collect();
    Ok(reading.answer(FlagsPage { flags, next }))
}
