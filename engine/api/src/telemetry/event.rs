//! An event as it is stored: a row of `telemetry_events`.

use std::net::IpAddr;

use daybook_schema::limits::TELEMETRY_EVENT_BYTES;
use daybook_schema::telemetry::{EventContext, GameTelemetryEvent, Platform};
use daybook_schema::{EventHash, UserId};
use serde_json::Value;
use uuid::{Builder, Uuid};

/// Whatever the service itself makes has ids that begin so, and this session.
pub(super) const SERVERS_ID: &str = "server:";
pub(super) const SERVERS_SESSION: &str = "server";
/// Codes that only the service gives.
pub(super) const ANTI_CHEAT: &str = "ANTI_CHEAT_";
/// The length of a UUID as text.
const UUID_BYTES: usize = 36;
const FLAG_CONTEXT: &str = "daybook v1 api telemetry of a flag";

/// An event of a client's that the process made itself: a bot's.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientEvent {
    /// Its id: the same id is stored once.
    pub event_id: String,
    /// When it was, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The telemetry session.
    pub session_id: String,
    /// Who was logged in.
    pub user_id: Option<UserId>,
    /// What it tells.
    pub event: GameTelemetryEvent,
    /// Where it came from.
    pub context: EventContext,
    /// Its place among its session's.
    pub sequence: i64,
}

/// A row of `telemetry_events`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) event_id: String,
    pub(crate) event_type: &'static str,
    pub(crate) timestamp_ms: i64,
    pub(crate) session_id: String,
    pub(crate) user_id: Option<UserId>,
    /// JSON.
    pub(crate) properties: String,
    /// JSON.
    pub(crate) context: String,
    pub(crate) client_timestamp_ms: i64,
    pub(crate) server_timestamp_ms: i64,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) country: Option<String>,
    pub(crate) sequence: Option<i64>,
    pub(crate) sent_at_ms: Option<i64>,
}

fn properties(event: &GameTelemetryEvent) -> String {
    let whole = serde_json::to_value(event).unwrap_or_default();
    whole.get("properties").map_or_else(|| "{}".to_owned(), Value::to_string)
}

impl Row {
    /// How much it counts of a day's amount: what is large counts as several.
    pub(crate) fn weight(&self) -> u32 {
        // What is longer than two UUIDs stands in the indexes too.
        let ids = self.event_id.len() + self.session_id.len();
        let ids = 2 * ids.saturating_sub(2 * UUID_BYTES);
        let bytes = self.properties.len() + self.context.len() + ids;
        u32::try_from(bytes.div_ceil(TELEMETRY_EVENT_BYTES).max(1)).unwrap_or(u32::MAX)
    }

    /// Bytes that it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        let ids = self.event_id.len() + self.session_id.len();
        256 + self.properties.len() + self.context.len() + ids
    }

    /// What the service tells of itself: no user's, and in no client's session.
    fn of_server(event_id: String, at_ms: i64, now_ms: i64, event: &GameTelemetryEvent) -> Self {
        let context = EventContext {
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: Platform::Server,
            screen_width: 0.into(),
            screen_height: 0.into(),
            locale: "en".to_owned(),
            timezone: "UTC".to_owned(),
            connection_type: None,
        };
        Self {
            event_id,
            event_type: event.name(),
            timestamp_ms: at_ms,
            session_id: SERVERS_SESSION.to_owned(),
            user_id: None,
            properties: properties(event),
            context: serde_json::to_string(&context).unwrap_or_default(),
            client_timestamp_ms: at_ms,
            server_timestamp_ms: now_ms,
            ip: None,
            country: None,
            sequence: None,
            sent_at_ms: None,
        }
    }

    /// A flag of the ledger, as the seed's `error` event.
    pub(crate) fn of_flag(code: &str, event: EventHash, at_ms: i64, now_ms: i64) -> Self {
        let hash = blake3::derive_key(FLAG_CONTEXT, event.as_bytes());
        let (first, _) = hash.split_at(16);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(first);
        let event_id = format!("{SERVERS_ID}{}", Builder::from_custom_bytes(bytes).into_uuid());
        let event = GameTelemetryEvent::Error {
            error_code: format!("{ANTI_CHEAT}{}", code.to_uppercase()).into(),
            message: format!("Suspicious activity: {code}").into(),
            stack: None,
        };
        Self::of_server(event_id, at_ms, now_ms, &event)
    }

    /// Something took longer than it may, rounded to a hundredth of a millisecond.
    pub(crate) fn of_performance(metric: &str, value_ms: f64, now_ms: i64) -> Self {
        let rounded = serde_json::Number::from_f64((value_ms * 100.0).round() / 100.0);
        let event = GameTelemetryEvent::Performance {
            metric: metric.to_owned().into(),
            value: rounded.unwrap_or_else(|| 0.into()),
            unit: "ms".into(),
        };
        Self::of_server(format!("{SERVERS_ID}{}", Uuid::now_v7()), now_ms, now_ms, &event)
    }
}

impl From<ClientEvent> for Row {
    fn from(made: ClientEvent) -> Self {
        let ClientEvent { event_id, timestamp_ms, session_id, user_id, event, context, sequence } =
            made;
        Self {
            event_id,
            event_type: event.name(),
            timestamp_ms,
            session_id,
            user_id,
            properties: properties(&event),
            context: serde_json::to_string(&context).unwrap_or_default(),
            client_timestamp_ms: timestamp_ms,
            server_timestamp_ms: timestamp_ms,
            ip: None,
            country: None,
            sequence: Some(sequence),
            sent_at_ms: Some(timestamp_ms),
        }
    }
}
