//! What the OpenAPI document says of every route: the refusals that guards give, with examples,
//! and the headers of every answer.

use serde_json::{Value, json};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, Response};

use crate::error::{ApiError, Code};
use crate::rate_limits::Class;

/// Adds to each route what its guards answer.
pub(crate) fn complete(mut document: OpenApi, class: Option<Class>) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for (changes, operation) in operations(item) {
            complete_operation(operation, changes, class);
        }
    }
    document
}

/// The operations of a path, and whether each changes something.
fn operations(item: &mut PathItem) -> Vec<(bool, &mut Operation)> {
    let PathItem { get, post, patch, delete, .. } = item;
    let all = [(false, get), (true, post), (true, patch), (true, delete)];
    all.into_iter().filter_map(|(changes, it)| Some((changes, it.as_mut()?))).collect()
}

fn complete_operation(operation: &mut Operation, changes: bool, class: Option<Class>) {
    let has_body = operation.request_body.is_some();
    let has_session = operation.security.is_some();
    let is_of = |code: Code| match code {
        Code::ValidationError | Code::ContentTooLarge => has_body,
        Code::Unauthorized => has_session,
        Code::CrossSite => changes,
        Code::UnsupportedMediaType => has_body,
        Code::RequestTimeout | Code::UriTooLong | Code::RateLimited => class.is_some(),
        Code::Internal | Code::Unavailable => true,
        _ => false,
    };
    let responses = &mut operation.responses.responses;
    for code in Code::ALL.iter().copied().filter(|code| is_of(*code)) {
        responses.entry(code.status().to_string()).or_insert_with(|| {
            RefOr::T(ResponseBuilder::new().description(described(code)).build())
        });
    }
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response {
            complete_response(status, response, class.is_some());
        }
    }
    let Some(class) = class else { return };
    let description = operation.description.get_or_insert_default();
    let class = match class {
        Class::Api => "api",
        Class::Auth => "auth",
        Class::Telemetry => "telemetry",
        Class::Bet => "bet",
        Class::LookUp => "look-up",
    };
    if !description.is_empty() {
        description.push_str("\n\n");
    }
    description.push_str(&format!("Limited in the class `{class}`."));
}

/// What a status that guards give means.
fn described(code: Code) -> String {
    match code {
        Code::Unauthorized => {
            "UNAUTHORIZED: there is no session; SESSION_EXPIRED: it is over; INVALID_CREDENTIALS: the password is wrong"
        }
        Code::CrossSite => "CROSS_SITE: another site made a browser send it; FORBIDDEN: the role does not allow it",
        Code::RateLimited => "RATE_LIMITED: too many requests; REGISTRATION_LIMIT",
        Code::Unavailable => "OVERLOADED, READ_ONLY or UNAVAILABLE: try again later",
        Code::ValidationError => "VALIDATION_ERROR: every bad field is named",
        other => return format!("{}: {}", other.as_str(), other.message()),
    }
    .to_owned()
}

/// The answer's headers and, of a refusal, its body with an example.
fn complete_response(status: &str, response: &mut Response, is_limited: bool) {
    let header = |kind: Type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(SchemaType::Type(kind)).build();
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
        RefOr::T(header.build())
    };
    let text = |description: &str| header(Type::String, description);
    let number = |description: &str| header(Type::Integer, description);
    response.headers.insert("X-Request-Id".to_owned(), text("The id that the log has"));
    if is_limited {
        let remaining = "Requests that may come at once now";
        response.headers.insert("X-RateLimit-Remaining".to_owned(), number(remaining));
    }
    if matches!(status, "423" | "429" | "503") {
        response.headers.insert("Retry-After".to_owned(), number("Seconds to wait, at least 1"));
    }
    let first = response.description.split([':', ',', ' ']).next().unwrap_or_default().to_owned();
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == first);
    let of_status = Code::ALL.iter().copied().find(|code| code.status().to_string() == status);
    if let Some(code) = code.or(of_status) {
        let content = ContentBuilder::new()
            .schema(Some(RefOr::<utoipa::openapi::Schema>::Ref(Ref::from_schema_name("ErrorBody"))))
            .example(Some(example(code)))
            .build();
        response.content.insert("application/json".to_owned(), RefOr::T(content));
    }
}

fn example(code: Code) -> Value {
    let error = match code {
        Code::ValidationError => ApiError::invalid_field("email", "required", "is missing"),
        other => ApiError::new(other),
    };
    json!(error.body())
}

/// Adds what the document says once.
pub(crate) fn finish(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let cookie = ApiKeyValue::with_description(
        "session",
        "The cookie that logging in sets. Browsers and curl send it to http://localhost too.",
    );
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    document
}
