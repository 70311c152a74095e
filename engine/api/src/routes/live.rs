//! Server-sent events of a season.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use utoipa::ToSchema;

use super::in_path::{InPath, SeasonInPath};
use crate::commands::one_of;
use crate::error::{ApiError, Code, ErrorBody};
use crate::guards::LoggedInAs;
use crate::live_stream::Stream;
use crate::service::Service;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// A connection on which nothing moves is given up by whoever stands between.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// An event of a stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it stands in the document")]
pub(crate) struct Told {
    /// Its seq in the ledger; `end` and what opens a stream have none.
    #[schema(nullable = false)]
    id: Option<String>,
    /// Its kind, or `end`.
    #[schema(nullable = false)]
    event: Option<String>,
    /// Its fields, as JSON.
    #[schema(nullable = false)]
    data: Option<String>,
}

/// What happens in a season, as it is committed: server-sent events.
///
/// Each event's `id` is its seq in the ledger, its name the kind, its data the fields that `tail`
/// shows with `seasonId` and `at` (seconds since 1970). `Last-Event-ID` goes on after an event. The
/// last event is `end` with a `reason`: `season_over`, `session_over`, `replaced` (a ninth stream of
/// the user was opened) or `stopping`. Where there is nothing more to tell the answer is 204.
#[utoipa::path(get, path = "/api/seasons/{id}/live", tag = "play", operation_id = "watchSeason",
    security(("session" = [])),
    params(
        SeasonInPath,
        ("Last-Event-ID" = Option<u64>, Header, description = "The newest event that was seen"),
    ),
    responses(
        (status = 200, description = "Events, for as long as session and season last", content_type = "text/event-stream", body = Told),
        (status = 204, description = "The season is over, and all of it was seen"),
        (status = 404, description = "NOT_FOUND: there is none, or it is not one's own", body = ErrorBody),
    ))]
pub(crate) async fn watch(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    path: InPath<SeasonInPath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let season_id = path.season_id()?;
    let after = one_of(&headers, &LAST_EVENT_ID)?.map(str::parse::<u64>).transpose();
    let after = after.map_err(|_| {
        ApiError::invalid_field("Last-Event-ID", "header", "must be the id of an event")
    })?;
    let stream = Stream::begin(&service, &session, season_id, after.unwrap_or(0)).await?;
    let Some(stream) = stream else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    // The session may have ended while the past was read.
    if !service.goes_on(&session).await? {
        return Err(ApiError::new(Code::SessionExpired));
    }
    let events = futures_util::stream::unfold(stream, async |mut stream| {
        Some((Ok::<_, Infallible>(stream.next().await?), stream))
    });
    let alive = KeepAlive::new().interval(COMMENT_EVERY).text("alive");
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}
