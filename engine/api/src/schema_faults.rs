//! What does not hold to a schema, in words for a person.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use crate::error::Detail;

/// How deep a value may be nested.
const DEPTH_MAX: usize = 16;
/// The largest whole number that JavaScript has exactly.
const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;

/// What is wrong with a value that is nested deeper than it may be.
pub(crate) fn too_deep(value: &Value) -> Option<Detail> {
    let message = || format!("is nested deeper than {DEPTH_MAX}");
    (depth(value) > DEPTH_MAX).then(|| Detail::new("depth", message()))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// One field that does not hold.
pub(crate) fn fault(field: &str, code: &'static str, message: &str) -> Detail {
    Detail::new(code, message).of(field)
}

/// In JSON `5.0` is the whole number 5.
pub(crate) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            let whole = float.filter(|float| float.fract() == 0.0 && float.abs() <= WHOLE_MAX);
            if let Some(whole) = whole.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// What does not hold, in words that repeat nothing of what was sent: it may be a password.
pub(crate) fn explained(error: &ValidationError<'_>, body: &Value) -> Vec<Detail> {
    let place = error.instance_path().to_string();
    let place = place.trim_start_matches('/').replace('/', ".");
    let of = |name: &str| match place.is_empty() {
        true => name.to_owned(),
        false => format!("{place}.{name}"),
    };
    let here = |code: &'static str, message: String| {
        let detail = Detail::new(code, message);
        match place.is_empty() {
            true => vec![detail],
            false => vec![detail.of(place.clone())],
        }
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
        ValidationErrorKind::MinItems { limit } => {
            here("too_short", format!("must have at least {limit} items"))
        }
        ValidationErrorKind::MaxItems { limit } => {
            here("too_long", format!("must have at most {limit} items"))
        }
        ValidationErrorKind::Pattern { pattern } => {
            here("pattern", format!("must match {pattern}"))
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
