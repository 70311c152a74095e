//! The ledger's events for other programs.

use std::convert::Infallible;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use daybook_schema::{EventKind, Head, Seq};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::commands::one_of;
use crate::error::{ApiError, Code, ErrorBody};
use crate::feed::{Feed, From};
use crate::guards::PerhapsToken;
use crate::service::Service;
use crate::validation::{RequestBody, ValidQuery};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Which events, and from where on.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsAsked {
    /// The first event's seq; or `SEQ:HASH`, an event that was read before, to go on after it.
    #[serde(default)]
    #[schema(pattern = "^[0-9]{1,19}(:[0-9a-f]{64})?$", nullable = false)]
    from: Option<String>,
    /// Kinds of events, with commas between; all without it.
    #[serde(default)]
    #[schema(pattern = "^[a-z_]{1,40}(,[a-z_]{1,40}){0,63}$", nullable = false)]
    kind: Option<String>,
}

impl RequestBody for EventsAsked {}

/// An event of the feed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it stands in the document")]
pub(crate) struct FeedEvent {
    /// Seq and hash, `SEQ:HASH`: go on after it with `Last-Event-ID` or `from`.
    id: String,
    /// The event as `daybook tail` prints it, as JSON.
    data: String,
}

/// A place to go on after, or with.
fn place(text: &str, field: &str) -> Result<From, ApiError> {
    let fault = || {
        let fault = "must be a seq, or SEQ:HASH of an event that was read before";
        ApiError::invalid_field(field, "value", fault)
    };
    if text.contains(':') {
        return Head::from_str(text).map(From::After).map_err(|_| fault());
    }
    let seq = text.parse::<u64>().ok().and_then(|seq| Seq::new(seq).ok());
    seq.map(From::Seq).ok_or_else(fault)
}

/// The seq that `Last-Event-ID` names was read; the next one is told.
fn after(read: From) -> Result<From, ApiError> {
    match read {
        From::Seq(seq) => {
            let next = Seq::new(seq.get().saturating_add(1));
            next.map(From::Seq).map_err(|_| ApiError::new(Code::HeadUnknown))
        }
        known @ From::After(_) => Ok(known),
    }
}

/// The ledger's events, from any on: those that there are, then those that come, as server-sent
/// events. For programs of analysts and auditors, with a service token.
///
/// Nothing is left out and nothing told twice. Each event has `SEQ:HASH` for its id: whoever comes
/// again with it, as browsers do by `Last-Event-ID`, goes on right after it, and is refused if the
/// ledger does not have it. Where kinds are left out, an id without data tells how far it has come.
/// `end` is the last event where the token is revoked or the service stops.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "readEvents",
    security(("serviceToken" = ["read-events"])),
    params(
        EventsAsked,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the newest event that was read"),
    ),
    responses(
        (status = 200, description = "Events, for as long as the reader likes", content_type = "text/event-stream", body = FeedEvent),
        (status = 403, description = "FORBIDDEN: the token lacks the scope", body = ErrorBody),
        (status = 409, description = "HEAD_UNKNOWN: the ledger does not have what was read before", body = ErrorBody),
    ))]
pub(crate) async fn read(
    State(service): State<Service>,
    PerhapsToken(token): PerhapsToken,
    ValidQuery(asked): ValidQuery<EventsAsked>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let token = token.ok_or(Code::Unauthorized)?;
    let from = match one_of(&headers, &LAST_EVENT_ID)? {
        Some(last) => after(place(last, "Last-Event-ID")?)?,
        None => {
            asked.from.as_deref().map_or(Ok(From::Seq(Seq::MIN)), |from| place(from, "from"))?
        }
    };
    let kinds = asked.kind.iter().flat_map(|kinds| kinds.split(','));
    let kinds = kinds.map(|kind| {
        let unknown = format!("`{kind}` is no kind of event");
        EventKind::from_str(kind).map_err(|_| ApiError::invalid_field("kind", "value", unknown))
    });
    let kinds = kinds.collect::<Result<Vec<EventKind>, ApiError>>()?;
    let feed = Feed::begin(&service, &token, from, kinds).await?;
    let events = futures_util::stream::unfold(feed, async |mut feed| {
        Some((Ok::<_, Infallible>(feed.next().await?), feed))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}
