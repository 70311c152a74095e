//! The catalogue as JSON Schema: for the OpenAPI document, and to hold events to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use daybook_schema::telemetry::{CATALOGUE, EventShape, Platform, PropertyKind};
use jsonschema::Validator;
use serde_json::{Value, json};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The largest time that JavaScript has, in milliseconds.
const TIME_MS_MAX: f64 = 8.64e15;
/// The largest whole number that JavaScript has exactly.
const WHOLE_MAX: u64 = 9_007_199_254_740_991;

const CONTEXT: &str = "EventContext";

/// An event of a client's, for the document: one of the catalogue's.
pub(crate) enum TelemetryEvent {}

/// The name that an event's schema has in the document: `session_start` has `SessionStartEvent`.
fn component(shape: &EventShape) -> String {
    let words = shape.name.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.chain(["Event".to_owned()]).collect()
}

fn property(kind: PropertyKind) -> Value {
    match kind {
        // In characters here; bytes are counted beside.
        PropertyKind::Text { bytes_max } => json!({ "type": "string", "maxLength": bytes_max }),
        PropertyKind::Number => json!({ "type": "number" }),
        PropertyKind::Flag => json!({ "type": "boolean" }),
        PropertyKind::OneOf(names) => json!({ "type": "string", "enum": names }),
    }
}

fn properties(shape: &EventShape) -> Value {
    let all = shape.properties.iter();
    let named: serde_json::Map<String, Value> =
        all.clone().map(|it| (it.name.to_owned(), property(it.kind))).collect();
    let required: Vec<&str> = all.filter(|it| it.is_required).map(|it| it.name).collect();
    let mut schema = json!({
        "type": "object", "properties": named, "additionalProperties": false,
    });
    if let Some(schema) = schema.as_object_mut().filter(|_| !required.is_empty()) {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn context() -> Value {
    let text = json!({ "type": "string", "maxLength": 256 });
    let pixels = json!({ "type": "number", "minimum": 0, "maximum": WHOLE_MAX });
    json!({
        "type": "object",
        "description": "Where an event came from.",
        "properties": {
            "appVersion": text,
            "platform": { "type": "string", "enum": Platform::OF_CLIENTS },
            "screenWidth": pixels,
            "screenHeight": pixels,
            "locale": text,
            "timezone": text,
            "connectionType": text,
        },
        "required": ["appVersion", "platform", "screenWidth", "screenHeight", "locale", "timezone"],
        "additionalProperties": false,
    })
}

/// An event of a type, with the context's schema where it is asked for.
fn event(shape: &EventShape, context: &Value) -> Value {
    let id = json!({
        "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[!-~]+$",
    });
    let time = json!({ "type": "number", "minimum": -TIME_MS_MAX, "maximum": TIME_MS_MAX });
    json!({
        "type": "object",
        "description": shape.description.trim(),
        "properties": {
            "eventId": id,
            "eventType": { "type": "string", "enum": [shape.name] },
            "timestamp": time,
            "sessionId": id,
            "userId": { "type": "string", "maxLength": 256,
                        "description": "Not read: who is logged in counts." },
            "properties": properties(shape),
            "context": context,
            "sequence": { "type": "integer", "minimum": 0, "maximum": WHOLE_MAX,
                          "description": "Its place among its session's events." },
            "sentAt": { "type": "number", "minimum": -TIME_MS_MAX, "maximum": TIME_MS_MAX,
                        "description": "When it was sent, by the client's clock." },
        },
        "required": ["eventId", "eventType", "timestamp", "sessionId", "properties", "context"],
        "additionalProperties": false,
    })
}

fn as_schema(value: Value) -> RefOr<Schema> {
    #[expect(clippy::expect_used, reason = "the document is made of these by a test")]
    RefOr::T(serde_json::from_value(value).expect("a schema"))
}

impl PartialSchema for TelemetryEvent {
    fn schema() -> RefOr<Schema> {
        let each = CATALOGUE.iter().map(component);
        let each: Vec<Value> = each.map(|name| json!(Ref::from_schema_name(name))).collect();
        as_schema(json!({ "oneOf": each, "description": "An event of the catalogue." }))
    }
}

impl ToSchema for TelemetryEvent {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("TelemetryEvent")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let in_document = json!(Ref::from_schema_name(CONTEXT));
        schemas.push((CONTEXT.to_owned(), as_schema(context())));
        let each = CATALOGUE.iter();
        schemas.extend(each.map(|it| (component(it), as_schema(event(it, &in_document)))));
    }
}

/// What holds events of a type to its schema.
pub(super) fn validator(event_type: &str) -> Option<&'static (EventShape, Validator)> {
    static COMPILED: OnceLock<BTreeMap<&'static str, (EventShape, Validator)>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let each = CATALOGUE.iter().filter_map(|shape| {
            let compiled = jsonschema::draft202012::new(&event(shape, &context()));
            let compiled = compiled.inspect_err(|error| {
                tracing::error!(%error, "the schema of an event cannot be compiled");
            });
            Some((shape.name, (*shape, compiled.ok()?)))
        });
        each.collect()
    });
    compiled.get(event_type)
}
