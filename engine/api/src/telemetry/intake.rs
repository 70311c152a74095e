//! Events as clients send them, each held to the catalogue for itself: one bad event loses no
//! other.

use daybook_schema::UserId;
use daybook_schema::limits::{
    TELEMETRY_AGE_MS_MAX, TELEMETRY_AHEAD_MS_MAX, TELEMETRY_EVENTS_PER_REQUEST_MAX,
    TELEMETRY_TEXT_BYTES_MAX,
};
use daybook_schema::telemetry::{CATALOGUE, EventShape, PropertyKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::event::{ANTI_CHEAT, Row, SERVERS_ID, SERVERS_SESSION};
use super::schemas::validator;
use crate::client::Client;
use crate::error::{ApiError, Detail};
use crate::schema_faults::{explained, too_deep, whole_numbers};

/// What was sent, each event as it stands there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field; the event as a whole where it is empty.
    pub(crate) field: String,
    /// What is wrong, for a person.
    pub(crate) message: String,
}

/// Who sent events, and when they came.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) user_id: Option<UserId>,
    pub(crate) client: &'a Client,
    pub(crate) now_ms: i64,
}

/// An event's own part, when it holds to the catalogue.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    event_id: String,
    timestamp: f64,
    session_id: String,
    properties: Map<String, Value>,
    context: Map<String, Value>,
    sequence: Option<i64>,
    sent_at: Option<f64>,
}

fn fault(field: &str, message: impl Into<String>) -> Fault {
    Fault { field: field.to_owned(), message: message.into() }
}

/// The events of a body, each as a row or with what is wrong with it.
///
/// # Errors
/// [`Code::ValidationError`](crate::error::Code) where it is no batch of 1 to 100 events.
pub(crate) fn read(body: &[u8], sender: Sender<'_>) -> Result<Vec<Result<Row, Fault>>, ApiError> {
    let batch: Batch<'_> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = match error.classify() {
            serde_json::error::Category::Data => {
                "is not {\"events\": [...]} with nothing beside".to_owned()
            }
            _ => format!("is not JSON, at line {line} column {column}"),
        };
        invalid(vec![Detail::new("json", message)])
    })?;
    match batch.events.len() {
        1..=TELEMETRY_EVENTS_PER_REQUEST_MAX => {}
        0 => return Err(invalid(vec![Detail::new("too_short", "must not be empty").of("events")])),
        _ => {
            let message = format!("must have at most {TELEMETRY_EVENTS_PER_REQUEST_MAX} items");
            return Err(invalid(vec![Detail::new("too_long", message).of("events")]));
        }
    }
    Ok(batch.events.iter().map(|event| read_one(event.get(), sender)).collect())
}

/// A batch that is refused whole.
pub(crate) fn invalid(details: Vec<Detail>) -> ApiError {
    ApiError::invalid(details).saying("Invalid batch")
}

fn read_one(text: &str, sender: Sender<'_>) -> Result<Row, Fault> {
    let mut value: Value = serde_json::from_str(text)
        .map_err(|_| fault("", "is not JSON that can be read: a number or a nesting is too large, or a text is no text"))?;
    // A text that JSON's reader takes for more JSON may be deeper than a text can be.
    if let Some(detail) = too_deep(&value) {
        return Err(fault("", detail.message));
    }
    whole_numbers(&mut value);
    let Some(event) = value.as_object_mut() else { return Err(fault("", "must be object")) };
    let shape = match event.get("eventType").map(Value::as_str) {
        None => return Err(fault("eventType", "is missing")),
        Some(named) => named.and_then(validator),
    };
    let Some((shape, validator)) = shape else {
        let names: Vec<&str> = CATALOGUE.iter().map(|shape| shape.name).collect();
        return Err(fault("eventType", format!("must be one of {}", names.join(", "))));
    };
    shorten_referrer(event);
    if let Some(error) = validator.iter_errors(&value).next() {
        let detail = explained(&error, &value).into_iter().next();
        return Err(detail.map_or_else(
            || fault("", "does not hold to the schema"),
            |detail| fault(&detail.field.unwrap_or_default(), detail.message),
        ));
    }
    let sent: Sent = serde_json::from_value(value).map_err(|error| {
        tracing::error!(%error, "an event's schema and type differ");
        fault("", "does not hold to the schema")
    })?;
    sent.check(shape)?;
    Ok(sent.into_row(shape, sender))
}

/// What a page was reached from, without what may be private in it.
fn shorten_referrer(event: &mut Map<String, Value>) {
    let referrer = event.get_mut("properties").and_then(|it| it.get_mut("referrer"));
    if let Some(Value::String(referrer)) = referrer {
        let end = referrer.find(['?', '#']).unwrap_or(referrer.len());
        referrer.truncate(end);
    }
}

/// A client's time as whole milliseconds.
fn whole_ms(ms: f64) -> i64 {
    // The schema holds it to what JavaScript has.
    ms.floor() as i64
}

impl Sent {
    /// What a schema cannot say: bytes, and what is the service's own.
    fn check(&self, shape: &EventShape) -> Result<(), Fault> {
        if self.event_id.starts_with(SERVERS_ID) {
            return Err(fault("eventId", format!("must not begin with {SERVERS_ID}")));
        }
        if self.session_id == SERVERS_SESSION {
            return Err(fault("sessionId", format!("must not be {SERVERS_SESSION}")));
        }
        for property in shape.properties {
            let PropertyKind::Text { bytes_max } = property.kind else { continue };
            let text = self.properties.get(property.name).and_then(Value::as_str);
            if text.is_some_and(|text| text.len() > bytes_max) {
                let field = format!("properties.{}", property.name);
                return Err(fault(&field, format!("must have at most {bytes_max} bytes")));
            }
        }
        let is_long = |value: &Value| {
            value.as_str().is_some_and(|text| text.len() > TELEMETRY_TEXT_BYTES_MAX)
        };
        if let Some((name, _)) = self.context.iter().find(|(_, value)| is_long(value)) {
            let message = format!("must have at most {TELEMETRY_TEXT_BYTES_MAX} bytes");
            return Err(fault(&format!("context.{name}"), message));
        }
        let code = self.properties.get("error_code").and_then(Value::as_str).unwrap_or_default();
        // What cannot be seen does not hide it.
        let seen = code.chars().filter(|it| it.is_ascii_alphanumeric() || *it == '_');
        let start: String = seen.take(ANTI_CHEAT.len()).collect();
        if start.eq_ignore_ascii_case(ANTI_CHEAT) {
            let message = format!("must not begin with {ANTI_CHEAT}: the service alone says that");
            return Err(fault("properties.error_code", message));
        }
        Ok(())
    }

    fn into_row(self, shape: &EventShape, sender: Sender<'_>) -> Row {
        let Sender { user_id, client, now_ms } = sender;
        let sent_ms = whole_ms(self.timestamp);
        let is_likely =
            (now_ms - TELEMETRY_AGE_MS_MAX..=now_ms + TELEMETRY_AHEAD_MS_MAX).contains(&sent_ms);
        Row {
            event_id: self.event_id,
            event_type: shape.name,
            timestamp_ms: if is_likely { sent_ms } else { now_ms },
            session_id: self.session_id,
            user_id,
            properties: Value::Object(self.properties).to_string(),
            context: Value::Object(self.context).to_string(),
            client_timestamp_ms: sent_ms,
            server_timestamp_ms: now_ms,
            ip: Some(client.address),
            country: client.country.clone(),
            sequence: self.sequence,
            sent_at_ms: self.sent_at.map(whole_ms),
        }
    }
}
