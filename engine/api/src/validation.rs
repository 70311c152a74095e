//! Bodies of requests: every bad field is named at once. First the shape by the schema that the
//! OpenAPI document shows, then the values.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use dashmap::DashMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jsonschema::Validator;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::body_wait::BodyWait;
use crate::error::{ApiError, Code, Detail};
pub(crate) use crate::schema_faults::fault;
use crate::schema_faults::{explained, too_deep, whole_numbers};
use crate::service::Service;

/// The largest body that these routes take.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;
const DETAILS_MAX: usize = 20;

/// What a request's body may be.
pub(crate) trait RequestBody: DeserializeOwned + ToSchema + Send + 'static {
    /// Whether no body at all means an empty object.
    const MAY_BE_ABSENT: bool = false;

    /// What is wrong with the values of a body that has the right shape.
    fn faults(&self) -> Vec<Detail> {
        Vec::new()
    }

    /// Holds a value to this type.
    ///
    /// # Errors
    /// [`Code::ValidationError`] with every bad field.
    fn check(value: Value) -> Result<Self, ApiError> {
        checked(value)
    }
}

/// Nothing: the route says all. It is sent as JSON all the same, which no form of another site can.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl RequestBody for Nothing {
    const MAY_BE_ABSENT: bool = true;
}

/// A body that holds.
pub(crate) struct Valid<T>(pub(crate) T);

/// What garde says of a value.
pub(crate) fn reported(report: Result<(), garde::Report>) -> Vec<Detail> {
    let Err(report) = report else { return Vec::new() };
    let detail = |(path, error): &(garde::Path, garde::Error)| {
        Detail::new("value", error.message()).of(camel(&path.to_string()))
    };
    report.iter().map(detail).collect()
}

/// A field of ours by its name in JSON.
fn camel(name: &str) -> String {
    let mut upper = false;
    let mut named = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '_' => upper = true,
            other if upper => {
                named.extend(other.to_uppercase());
                upper = false;
            }
            other => named.push(other),
        }
    }
    named
}

impl<T: RequestBody> FromRequest<Service> for Valid<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Service) -> Result<Self, ApiError> {
        let body = read_body(request, BODY_BYTES_MAX).await?;
        let body = match body.is_empty() && T::MAY_BE_ABSENT {
            true => b"{}".to_vec(),
            false => body,
        };
        let value: Value = serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let message = format!("is not JSON, at line {line} column {column}");
            ApiError::invalid(vec![Detail::new("json", message)])
        })?;
        if let Some(detail) = too_deep(&value) {
            return Err(ApiError::invalid(vec![detail]));
        }
        T::check(value).map(Self)
    }
}

/// Holds a value to a type: first to its schema, then to the rules of its values.
///
/// # Errors
/// [`Code::ValidationError`] with every bad field.
pub(crate) fn checked<T: RequestBody>(mut value: Value) -> Result<T, ApiError> {
    let invalid = |faults: Vec<Detail>| {
        Err(ApiError::invalid(faults.into_iter().take(DETAILS_MAX).collect()))
    };
    whole_numbers(&mut value);
    let compiled = compiled::<T>()?;
    let errors = &compiled.validator;
    let faults: Vec<Detail> =
        errors.iter_errors(&value).flat_map(|error| explained(&error, &value)).collect();
    if !faults.is_empty() {
        return invalid(faults);
    }
    // What the schema lets through and the type does not is told by the type.
    let parsed = serde_json::from_value::<T>(value).map_err(|error| {
        tracing::error!(%error, "a body's schema and type differ");
        ApiError::new(Code::ValidationError)
    })?;
    match parsed.faults() {
        faults if faults.is_empty() => Ok(parsed),
        faults => invalid(faults),
    }
}

/// A query that holds: its fields are told apart as those of a body.
pub(crate) struct ValidQuery<T>(pub(crate) T);

impl<T: RequestBody> FromRequestParts<Service> for ValidQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = pairs
            .map_err(|_| ApiError::invalid(vec![Detail::new("query", "the query is not text")]))?;
        let compiled = compiled::<T>()?;
        let mut fields = serde_json::Map::new();
        for (name, text) in pairs {
            // In a query a number is a text of digits, where a number is asked for.
            let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
            let number = number.filter(|_| !compiled.texts.contains(&name));
            let value = number.map_or(Value::String(text), Value::from);
            let shown: String = name.chars().take(80).collect();
            if fields.insert(name, value).is_some() {
                return Err(ApiError::invalid_field(&shown, "twice", "is given twice"));
            }
        }
        checked(Value::Object(fields)).map(Self)
    }
}

/// A request's whole body, if it has so many bytes at most.
///
/// # Errors
/// [`Code::ContentTooLarge`] where it has more.
pub(crate) async fn read_body(request: Request, bytes_max: usize) -> Result<Vec<u8>, ApiError> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(ApiError::new(Code::ContentTooLarge));
    }
    let waiting = request.extensions().get::<BodyWait>().cloned().map(BodyWait::begin);
    let body = Limited::new(request.into_body(), bytes_max).collect().await;
    drop(waiting);
    match body {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(Code::ContentTooLarge)),
        Err(_) => Err(ApiError::invalid(vec![Detail::new("body", "did not come whole")])),
    }
}

/// The schema of a body.
struct Compiled {
    validator: Validator,
    /// The fields that are texts.
    texts: BTreeSet<String>,
}

/// The schema of a body, compiled once.
fn compiled<T: RequestBody>() -> Result<Arc<Compiled>, ApiError> {
    static COMPILED: OnceLock<DashMap<TypeId, Arc<Compiled>>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(DashMap::new);
    if let Some(known) = compiled.get(&TypeId::of::<T>()) {
        return Ok(Arc::clone(&known));
    }
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a body's schema cannot be compiled");
        ApiError::new(Code::Internal)
    };
    let mut schema = serde_json::to_value(T::schema()).map_err(|error| failed(&error))?;
    // What it refers to stands where the document has it.
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let parts: BTreeMap<String, _> = parts.into_iter().collect();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("components".to_owned(), json!({ "schemas": parts }));
    }
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let is_text = |field: &Value| field.get("type").is_some_and(|kind| kind == "string");
    let texts = properties.filter(|(_, field)| is_text(field)).map(|(name, _)| name.clone());
    let texts = texts.collect();
    let validator = jsonschema::draft202012::new(&schema).map_err(|error| failed(&error))?;
    let of_type = Arc::new(Compiled { validator, texts });
    compiled.insert(TypeId::of::<T>(), Arc::clone(&of_type));
    Ok(of_type)
}

/// What is not seen, or turns the letters after it round. U+200D joins emoji, and is seen by that.
pub(crate) fn is_unseen(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{200e}'
        | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}')
}
