//! Locking accounts: moderators lock players, admins lock anybody but themselves.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use daybook_schema::{Role, UserId};

use crate::accounts::sessions::Session;
use crate::accounts::users::Named;
use crate::error::{ApiError, Code, ErrorBody};
use crate::guards::LoggedInAs;
use crate::service::{Service, in_full};
use crate::validation::{Nothing, Valid};

/// The user whose account is meant, if the caller may lock it.
async fn lockable(service: &Service, caller: &Session, id: &str) -> Result<UserId, ApiError> {
    // Who may do nothing here learns nothing of who there is.
    if caller.role == Role::Player {
        return Err(ApiError::new(Code::Forbidden));
    }
    let user_id: UserId = id.parse().map_err(|_| Code::NotFound)?;
    let user = service.accounts.find(Named::Id(user_id)).await?.ok_or(Code::NotFound)?.user;
    let may = match caller.role {
        Role::Admin => user_id != caller.user_id,
        _ => user.role == Role::Player,
    };
    may.then_some(user_id).ok_or_else(|| ApiError::new(Code::Forbidden))
}

/// Locks an account: its sessions end, and nobody logs in to it.
#[utoipa::path(post, path = "/api/users/{id}/lock", tag = "moderation", operation_id = "lockUser",
    security(("session" = [])),
    params(("id" = String, Path, description = "The user", example = "usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b")),
    request_body = Nothing,
    responses(
        (status = 204, description = "The account is locked"),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
    ))]
pub(crate) async fn lock(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    Path(id): Path<String>,
    _: Valid<Nothing>,
) -> Result<StatusCode, ApiError> {
    in_full(async move {
        let user_id = lockable(&service, &session, &id).await?;
        service.lock(user_id, &session.user_id.to_string()).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Lifts the lock of an account.
#[utoipa::path(delete, path = "/api/users/{id}/lock", tag = "moderation", operation_id = "unlockUser",
    security(("session" = [])),
    params(("id" = String, Path, description = "The user", example = "usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b")),
    responses(
        (status = 204, description = "The account is not locked"),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
    ))]
pub(crate) async fn unlock(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    in_full(async move {
        let user_id = lockable(&service, &session, &id).await?;
        service.accounts.set_lock(user_id, None).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
