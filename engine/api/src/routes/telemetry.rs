//! What clients tell of themselves.

use axum::Json;
use axum::extract::{Request, State};
use daybook_schema::limits::TELEMETRY_REQUEST_BYTES_MAX;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::client::Neighbourhood;
use crate::error::{ApiError, Detail, ErrorBody};
use crate::guards::PerhapsLoggedIn;
use crate::service::Service;
use crate::telemetry::{self, Fault, Sender, TelemetryEvent, Whose};
use crate::validation::read_body;

/// Bad events of which a refusal tells.
const FAULTS_SHOWN_MAX: usize = 20;

/// Events to store.
#[derive(ToSchema)]
#[expect(dead_code, reason = "each event is read for itself; this is for the document")]
pub(crate) struct TelemetryBatch {
    /// In the order in which they were.
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<TelemetryEvent>,
}

/// What became of events.
#[derive(Serialize, ToSchema)]
pub(crate) struct Received {
    /// Events that are stored now, or were before.
    accepted: usize,
    /// Events that were refused.
    refused: Vec<Refused>,
}

/// An event that was refused.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refused {
    /// Its place in the batch, from 0.
    index: usize,
    /// The field, such as `properties.amount`; empty where it is the event as a whole.
    field: String,
    /// What is wrong, for a person.
    message: String,
}

/// Stores 1 to 100 events. Good ones are stored although others are bad.
///
/// An event with an `eventId` that is stored already counts once. The user comes from the session,
/// not from the body. `timestamp` counts if it is at most 7 days old and 5 minutes ahead. A body
/// has 64 KiB at most; a message 1 KiB, a stack 8 KiB, any other text 256 bytes.
#[utoipa::path(post, path = "/api/telemetry", tag = "telemetry", operation_id = "sendTelemetry",
    request_body = TelemetryBatch,
    responses(
        (status = 200, description = "They are stored", body = Received),
        (status = 400, description = "VALIDATION_ERROR: it is no batch, or no event of it is good", body = ErrorBody),
        (status = 429, description = "RATE_LIMITED: too many requests; TELEMETRY_LIMIT: too many events today", body = ErrorBody),
    ))]
pub(crate) async fn receive(
    State(service): State<Service>,
    caller: Caller,
    PerhapsLoggedIn(session): PerhapsLoggedIn,
    request: Request,
) -> Result<Json<Received>, ApiError> {
    let body = read_body(request, TELEMETRY_REQUEST_BYTES_MAX).await?;
    let now_ms = telemetry::now_ms();
    let user_id = session.map(|session| session.user_id);
    let sender = Sender { user_id, client: &caller.client, now_ms };
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for (index, read) in telemetry::read(&body, sender)?.into_iter().enumerate() {
        match read {
            Ok(row) => rows.push(row),
            Err(Fault { field, message }) => refused.push(Refused { index, field, message }),
        }
    }
    if rows.is_empty() {
        return Err(telemetry::invalid(
            refused.into_iter().take(FAULTS_SHOWN_MAX).map(detail).collect(),
        ));
    }
    let whose = match user_id {
        Some(user_id) => Whose::User(user_id),
        None => Whose::Client(Neighbourhood::of(caller.client.address)),
    };
    let accepted = rows.len();
    let charge = service.telemetry.charge(whose, now_ms, &rows)?;
    service.telemetry.store(rows, charge).await?;
    Ok(Json(Received { accepted, refused }))
}

fn detail(refused: Refused) -> Detail {
    let Refused { index, field, message } = refused;
    let event = format!("events.{index}");
    Detail::new("event", message).of(match field.is_empty() {
        true => event,
        false => format!("{event}.{field}"),
    })
}
