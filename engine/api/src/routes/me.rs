//! One's own account: to see, to change, to take away, to erase.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{UserAnswer, is_https, is_name, session_is_over};
use crate::accounts::users::{Named, ProfileChange};
use crate::caller::Caller;
use crate::error::{ApiError, Code, Detail, ErrorBody};
use crate::export::Export;
use crate::guards::LoggedInAs;
use crate::passwords::Password;
use crate::service::{Service, in_full};
use crate::validation::{RequestBody, Valid, fault, reported};

/// Who is logged in.
#[utoipa::path(get, path = "/api/auth/me", tag = "accounts", operation_id = "me",
    security(("session" = [])),
    responses((status = 200, description = "The user", body = UserAnswer)))]
pub(crate) async fn show(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
) -> Result<Json<UserAnswer>, ApiError> {
    let account = service.accounts.find(Named::Id(session.user_id)).await?;
    Ok(Json(UserAnswer { user: account.ok_or(Code::SessionExpired)?.user }))
}

/// What is to change: what is left out stays.
#[derive(Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Change {
    /// What others see.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, example = "Ada of the farm", nullable = false)]
    #[garde(inner(custom(is_name)))]
    display_name: Option<String>,
    /// A picture, by https; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 2048, example = "https://farm.example/ada.png")]
    #[garde(inner(inner(custom(is_https))))]
    avatar_url: Option<Option<String>>,
}

/// A field that is there, null or not.
fn given<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(source).map(Some)
}

impl RequestBody for Change {
    fn faults(&self) -> Vec<Detail> {
        let mut faults = reported(self.validate());
        if self.display_name.is_none() && self.avatar_url.is_none() {
            let nothing = "or `avatarUrl` must be given: nothing is to change";
            faults.push(fault("displayName", "required", nothing));
        }
        faults
    }
}

/// Changes one's name or picture.
#[utoipa::path(patch, path = "/api/auth/me", tag = "accounts", operation_id = "changeMe",
    security(("session" = [])),
    request_body = Change,
    responses((status = 200, description = "The user as he is now", body = UserAnswer)))]
pub(crate) async fn change(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    Valid(change): Valid<Change>,
) -> Result<Json<UserAnswer>, ApiError> {
    in_full(async move {
        let change = ProfileChange {
            display_name: change.display_name.map(|name| name.trim().to_owned()),
            avatar_url: change.avatar_url,
        };
        let user = service.accounts.change_profile(session.user_id, &change).await?;
        Ok(Json(UserAnswer { user }))
    })
    .await
}

/// One's password, to show that it is oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Confirmation {
    /// The password.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "a pail of cold water")]
    password: Password,
}

impl RequestBody for Confirmation {}

/// Erases the account for ever: the season in play ends, and all personal data goes. What was
/// played stays in the ledger, under an id that leads to nobody.
#[utoipa::path(post, path = "/api/auth/me/erase", tag = "accounts", operation_id = "eraseMe",
    security(("session" = [])),
    request_body = Confirmation,
    responses(
        (status = 204, description = "The account is erased"),
        (status = 423, description = "LOCKED_OUT: too many passwords were wrong", body = ErrorBody),
    ))]
pub(crate) async fn erase(
    State(service): State<Service>,
    caller: Caller,
    LoggedInAs(session): LoggedInAs,
    Valid(confirmation): Valid<Confirmation>,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    in_full(async move {
        let user_id = session.user_id;
        service.check_own_password(user_id, &confirmation.password, &caller).await?;
        service.erase(user_id).await?;
        Ok(session_is_over())
    })
    .await
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ExportAsked {
    /// The password.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "a pail of cold water")]
    password: Password,
    /// The `telemetryNext` of the answer before: older telemetry.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64, nullable = false)]
    telemetry_before: Option<i64>,
}

impl RequestBody for ExportAsked {}

/// All that is held on oneself; of telemetry the newest 10,000 events, and older ones page by page.
#[utoipa::path(post, path = "/api/auth/me/export", tag = "accounts", operation_id = "exportMe",
    security(("session" = [])),
    request_body = ExportAsked,
    responses(
        (status = 200, description = "All that is held", body = Export),
        (status = 423, description = "LOCKED_OUT: too many passwords were wrong", body = ErrorBody),
    ))]
pub(crate) async fn export(
    State(service): State<Service>,
    caller: Caller,
    LoggedInAs(session): LoggedInAs,
    Valid(asked): Valid<ExportAsked>,
) -> Result<Json<Export>, ApiError> {
    in_full(async move {
        let account = service.check_own_password(session.user_id, &asked.password, &caller).await?;
        let (user_id, current) = (account.user.id, Some(session.number));
        service.export(user_id, current, asked.telemetry_before).await.map(Json)
    })
    .await
}
