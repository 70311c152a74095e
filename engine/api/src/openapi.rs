//! What the OpenAPI document says of every route: the refusals that guards give, with examples,
//! and the headers of every answer.

use serde_json::{Value, json};
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, Required, Response};

use crate::error::{ApiError, Code};
use crate::guards::Reach;
use crate::rate_limits::Class;
use crate::scopes::Scope;

/// Adds to each route what its guards answer.
pub(crate) fn complete(mut document: OpenApi, guards: Option<(Class, Reach)>) -> OpenApi {
    for item in document.paths.paths.values_mut() {
        for (changes, operation) in operations(item) {
            complete_operation(operation, changes, guards);
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

/// Commands of players: each takes an id, and answers with the head that it stands for.
const COMMANDS: [&str; 7] = [
    "startSeason",
    "placeBets",
    "advanceDay",
    "abandonSeason",
    "adoptSimulin",
    "chooseSimulinPath",
    "retireSimulin",
];
/// Reads of the read models.
const READS: [&str; 6] =
    ["listSeasons", "showSeason", "listSimulins", "showLeaderboard", "showStatement", "listFlags"];
/// Reads of the newest state.
const NEWEST: [&str; 6] =
    ["showHead", "showJackpot", "nextCommitment", "showOdds", "recallDay", "checkDay"];

/// Headers that operations of play take, and those that they answer with.
fn complete_headers(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    let is_of = |ids: &[&str]| ids.contains(&id.as_str());
    let (is_command, is_read) = (is_of(&COMMANDS), is_of(&READS));
    if !is_command && !is_read && !is_of(&NEWEST) {
        return;
    }
    let mut takes = |name: &str, kind: Type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(SchemaType::Type(kind)).build();
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema));
        operation.parameters.get_or_insert_default().push(RefOr::T(parameter.build()));
    };
    if is_command {
        let key =
            "The command's own id, a UUIDv7: every retry has the same, and gets the same answer";
        takes("Idempotency-Key", Type::String, key);
    }
    if is_read {
        let at_least = "The seq of an event that the answer must stand for";
        takes("X-Ledger-At-Least", Type::Integer, at_least);
    }
    takes("X-Sign-Head", Type::String, "1: the head is signed too");
    let well =
        operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
    for (_, response) in well {
        let RefOr::T(response) = response else { continue };
        let mut says = |name: &str, description: &str| {
            response.headers.insert(name.to_owned(), text_header(description));
        };
        says("X-Ledger-Head", "The head that the answer stands for, as SEQ:HASH");
        says("X-Ledger-Head-Signed", "The same as a signed note in base64, where it was asked for");
        if is_command {
            says("Idempotency-Replayed", "true: it is the first answer once more");
        }
        if is_read {
            says("X-Stale", "true: the read models have not come to what was asked for");
        }
    }
}

/// How a service token reaches an operation.
fn complete_token(operation: &mut Operation, reach: Reach) {
    let scope = match reach {
        Reach::Nowhere | Reach::Public => return,
        Reach::Registering | Reach::ForUser => Scope::Play,
        Reach::Of(scope) => scope,
    };
    let by_token = SecurityRequirement::new("serviceToken", [scope.as_str()]);
    match &mut operation.security {
        Some(ways) => ways.push(by_token),
        None => return,
    }
    if reach == Reach::ForUser {
        let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build();
        let parameter = ParameterBuilder::new()
            .name("X-On-Behalf-Of")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("With a service token: the id of the user for whom this is"))
            .schema(Some(schema));
        operation.parameters.get_or_insert_default().push(RefOr::T(parameter.build()));
    }
}

fn text_header(description: &str) -> RefOr<Header> {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build();
    let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
    RefOr::T(header.build())
}

fn complete_operation(operation: &mut Operation, changes: bool, guards: Option<(Class, Reach)>) {
    let class = guards.map(|(class, _)| class);
    if let Some((_, reach)) = guards {
        complete_token(operation, reach);
    }
    complete_headers(operation);
    let has_body = operation.request_body.is_some();
    let has_parameters = operation.parameters.as_ref().is_some_and(|given| {
        let is_in_path = |it: &RefOr<Parameter>| matches!(it, RefOr::T(it) if matches!(it.parameter_in, ParameterIn::Path));
        given.iter().any(|parameter| !is_in_path(parameter))
    });
    let has_session = operation.security.is_some();
    let is_of = |code: Code| match code {
        Code::ValidationError => has_body || has_parameters,
        Code::ContentTooLarge => has_body,
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
        Class::Token => "token",
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
        Code::Unavailable => "OVERLOADED, READ_ONLY, PAUSED or UNAVAILABLE: try again later",
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
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "Of another backend: `daybook user token` makes it. It plays for the user that `X-On-Behalf-Of` names.",
    ));
    components.add_security_scheme("serviceToken", SecurityScheme::Http(bearer.build()));
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    document
}
