//! One's own sessions.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use daybook_schema::{SessionEndReason, SessionNumber};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::session_is_over;
use crate::accounts::sessions::Which;
use crate::error::{ApiError, Code, ErrorBody};
use crate::export::ShownSession;
use crate::guards::LoggedInAs;
use crate::service::{Service, in_full};

/// One's sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionsAnswer {
    /// Newest first; at most eight.
    sessions: Vec<ShownSession>,
}

/// One's open sessions, newest first.
#[utoipa::path(get, path = "/api/auth/sessions", tag = "sessions", operation_id = "listSessions",
    security(("session" = [])),
    responses((status = 200, description = "At most eight", body = SessionsAnswer)))]
pub(crate) async fn list(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
) -> Result<Json<SessionsAnswer>, ApiError> {
    let listed = service.accounts.list_sessions(session.user_id).await?;
    let shown = listed.into_iter().map(|listed| ShownSession::of(listed, Some(session.number)));
    Ok(Json(SessionsAnswer { sessions: shown.collect() }))
}

/// Ends all of one's sessions, this one too.
#[utoipa::path(delete, path = "/api/auth/sessions", tag = "sessions", operation_id = "endSessions",
    security(("session" = [])),
    responses((status = 204, description = "All are over")))]
pub(crate) async fn end_all(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    in_full(async move {
        let (user_id, reason) = (session.user_id, SessionEndReason::Revoked);
        service.end_sessions(user_id, Which::All, reason).await?;
        Ok(session_is_over())
    })
    .await
}

/// Ends one of one's sessions.
#[utoipa::path(delete, path = "/api/auth/sessions/{number}", tag = "sessions", operation_id = "endSession",
    security(("session" = [])),
    params(("number" = u32, Path, description = "The session's number", minimum = 1, example = 3)),
    responses(
        (status = 204, description = "It is over"),
        (status = 404, description = "NOT_FOUND: it is not open, or not one's own", body = ErrorBody),
    ))]
pub(crate) async fn end_one(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    number: Result<Path<u32>, axum::extract::rejection::PathRejection>,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    // What is no number of a session is no session.
    let number = number.map_err(|_| Code::NotFound)?.0;
    let number = SessionNumber::new(number).map_err(|_| Code::NotFound)?;
    in_full(async move {
        let (which, reason) = (Which::One(number), SessionEndReason::Revoked);
        match service.end_sessions(session.user_id, which, reason).await? {
            0 => Err(ApiError::new(Code::NotFound)),
            _ if number == session.number => Ok(session_is_over()),
            _ => Ok((StatusCode::NO_CONTENT, HeaderMap::new())),
        }
    })
    .await
}
