//! Bodies of requests: every bad field is named at once. First the shape by the schema that the
//! OpenAPI document shows, then the values.

use std::any::TypeId;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequest, Request};
use axum::http::header;
use dashmap::DashMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, Code, Detail};
use crate::service::Service;

/// The largest body that these routes take.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024;
const DEPTH_MAX: usize = 16;
const DETAILS_MAX: usize = 20;

/// What a request's body may be.
pub(crate) trait RequestBody: DeserializeOwned + ToSchema + Send + 'static {
    /// Whether no body at all means an empty object.
    const MAY_BE_ABSENT: bool = false;

    /// What is wrong with the values of a body that has the right shape.
    fn faults(&self) -> Vec<Detail>;
}

/// Nothing: the route says all. It is sent as JSON all the same, which no form of another site can.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl RequestBody for Nothing {
    const MAY_BE_ABSENT: bool = true;

    fn faults(&self) -> Vec<Detail> {
        Vec::new()
    }
}

/// A body that holds.
pub(crate) struct Valid<T>(pub(crate) T);

/// One field that does not hold.
pub(crate) fn fault(field: &str, code: &'static str, message: &str) -> Detail {
    Detail {
        field: Some(field.to_owned()),
        code: Some(Cow::Borrowed(code)),
        message: message.to_owned(),
    }
}

/// What garde says of a value.
pub(crate) fn reported(report: Result<(), garde::Report>) -> Vec<Detail> {
    let Err(report) = report else { return Vec::new() };
    let detail = |(path, error): &(garde::Path, garde::Error)| Detail {
        field: Some(camel(&path.to_string())),
        code: Some(Cow::Borrowed("value")),
        message: error.message().to_owned(),
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
        let body = read_body(request).await?;
        let body = match body.is_empty() && T::MAY_BE_ABSENT {
            true => b"{}".to_vec(),
            false => body,
        };
        let value: Value = serde_json::from_slice(&body).map_err(|error| {
            let place = (error.line(), error.column());
            let message = format!("is not JSON, at line {} column {}", place.0, place.1);
            ApiError::invalid(vec![Detail { field: None, code: Some("json".into()), message }])
        })?;
        if depth(&value) > DEPTH_MAX {
            let message = format!("is nested deeper than {DEPTH_MAX}");
            return Err(ApiError::invalid(vec![Detail {
                field: None,
                code: Some("depth".into()),
                message,
            }]));
        }
        let faults: Vec<Detail> = validator::<T>()?
            .iter_errors(&value)
            .flat_map(|error| explained(&error, &value))
            .collect();
        let parsed = serde_json::from_value::<T>(value);
        let (faults, parsed) = match parsed {
            Ok(parsed) if faults.is_empty() => (parsed.faults(), Some(parsed)),
            // What the schema lets through and the type does not is told by the type.
            Err(error) if faults.is_empty() => {
                tracing::error!(%error, "a body's schema and type differ");
                return Err(ApiError::new(Code::ValidationError));
            }
            _ => (faults, None),
        };
        match parsed {
            Some(parsed) if faults.is_empty() => Ok(Self(parsed)),
            _ => Err(ApiError::invalid(faults.into_iter().take(DETAILS_MAX).collect())),
        }
    }
}

async fn read_body(request: Request) -> Result<Vec<u8>, ApiError> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(ApiError::new(Code::ContentTooLarge));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    match body {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(Code::ContentTooLarge)),
        Err(_) => Err(ApiError::invalid(vec![Detail {
            field: None,
            code: Some("body".into()),
            message: "did not come whole".to_owned(),
        }])),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The schema of a body, compiled once.
fn validator<T: RequestBody>() -> Result<Arc<Validator>, ApiError> {
    static COMPILED: OnceLock<DashMap<TypeId, Arc<Validator>>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(DashMap::new);
    if let Some(known) = compiled.get(&TypeId::of::<T>()) {
        return Ok(Arc::clone(&known));
    }
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "a body's schema cannot be compiled");
        ApiError::new(Code::Internal)
    };
    let schema = serde_json::to_value(T::schema()).map_err(|error| failed(&error))?;
    let validator = jsonschema::draft202012::new(&schema).map_err(|error| failed(&error))?;
    let validator = Arc::new(validator);
    compiled.insert(TypeId::of::<T>(), Arc::clone(&validator));
    Ok(validator)
}

/// What does not hold, in words that repeat nothing of what was sent: it may be a password.
fn explained(error: &ValidationError<'_>, body: &Value) -> Vec<Detail> {
    let place = error.instance_path().to_string();
    let place = place.trim_start_matches('/').replace('/', ".");
    let of = |name: &str| match place.is_empty() {
        true => name.to_owned(),
        false => format!("{place}.{name}"),
    };
    let here = |code: &'static str, message: String| {
        let field = (!place.is_empty()).then(|| place.clone());
        vec![Detail { field, code: Some(Cow::Borrowed(code)), message }]
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![fault(&of(name), "required", "is missing")]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| {
                let shown: String = name.chars().take(80).collect();
                unknown(&of(&shown))
            })
            .collect(),
        // Where there are no fields at all each is one too many, and it is not said which.
        ValidationErrorKind::FalseSchema => {
            let names = body.as_object().into_iter().flat_map(|fields| fields.keys());
            names.map(|name| unknown(&name.chars().take(80).collect::<String>())).collect()
        }
        ValidationErrorKind::Type { kind } => here("type", format!("must be {}", types(kind))),
        ValidationErrorKind::MinLength { limit } => {
            here("too_short", format!("must have at least {limit} characters"))
        }
        ValidationErrorKind::MaxLength { limit } => {
            here("too_long", format!("must have at most {limit} characters"))
        }
        ValidationErrorKind::Minimum { limit } => {
            here("too_small", format!("must be at least {limit}"))
        }
        ValidationErrorKind::Maximum { limit } => {
            here("too_large", format!("must be at most {limit}"))
        }
        ValidationErrorKind::Enum { options } => {
            here("unknown_value", format!("must be one of {options}"))
        }
        other => here("shape", format!("does not hold to `{}` of the schema", other.keyword())),
    }
}

fn unknown(field: &str) -> Detail {
    fault(field, "unknown", "is not a field of this request")
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(several) => {
            several.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or ")
        }
    }
}
