//! Locking accounts: moderators lock players, admins lock anybody but themselves.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use daybook_schema::{Role, UserId};

use crate::accounts::sessions::Session;
use crate::accounts::users::{Account, LockedBy, Named};
use crate::error::{ApiError, Code, ErrorBody};
use crate::guards::LoggedInAs;
use crate::service::{Service, in_full};
use crate::validation::{Nothing, Valid};

/// The user whose account is meant, if the caller may lock it.
async fn lockable(service: &Service, caller: &Session, id: InPath) -> Result<Account, ApiError> {
    // Who may do nothing here learns nothing of who there is.
    if caller.role == Role::Player {
        return Err(ApiError::new(Code::Forbidden));
    }
    // What is no user's id names no user.
    let user_id: UserId = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or(Code::NotFound)?;
    let account = service.accounts.find(Named::Id(user_id)).await?.ok_or(Code::NotFound)?;
    let may = match caller.role {
        Role::Admin => user_id != caller.user_id,
        _ => account.user.role == Role::Player,
    };
    may.then_some(account).ok_or_else(|| ApiError::new(Code::Forbidden))
}

/// The user's id in the path, whatever bytes stand there.
type InPath = Result<Path<String>, PathRejection>;

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
    id: InPath,
    _: Valid<Nothing>,
) -> Result<StatusCode, ApiError> {
    in_full(async move {
        let account = lockable(&service, &session, id).await?;
        let locked_by = match session.role {
            Role::Admin => LockedBy::Operator,
            _ => LockedBy::Moderator,
        };
        service.lock(account.user.id, locked_by).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Lifts the lock of an account; a moderator lifts what moderators locked.
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
    id: InPath,
) -> Result<StatusCode, ApiError> {
    in_full(async move {
        let account = lockable(&service, &session, id).await?;
        // What an admin or the operator locked they alone open.
        if session.role != Role::Admin && account.locked_by == Some(LockedBy::Operator) {
            return Err(ApiError::new(Code::Forbidden));
        }
        service.accounts.unlock(account.user.id).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
