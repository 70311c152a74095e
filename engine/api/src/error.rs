//! What a request is answered that is refused: the only file that chooses a status.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use daybook_ledger::SubmitError;
use daybook_schema::UnixMicros;
use daybook_simulator::{Rejection, RejectionClass, Rejections};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::headers::REPLAYED;

macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident $status:literal $code:literal $message:literal,)+) => {
        /// Why a request was refused. Codes are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$meta])* $name,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As clients see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The status that it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// What is shown to a person.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)+ }
            }
        }
    };
}

codes! {
    /// The request is not what the route takes; `details` names every bad field.
    ValidationError 400 "VALIDATION_ERROR" "The request is not valid",
    /// The link was used, is too old, or never was.
    InvalidLink 400 "INVALID_LINK" "The link is used up or too old; ask for a new one",
    /// There is no session.
    Unauthorized 401 "UNAUTHORIZED" "Unauthorized",
    /// The session is over.
    SessionExpired 401 "SESSION_EXPIRED" "Session expired",
    /// The address or the password is wrong.
    InvalidCredentials 401 "INVALID_CREDENTIALS" "Invalid credentials",
    /// The account was locked by an operator; said only to who has its password.
    AccountLocked 403 "ACCOUNT_LOCKED" "This account was locked; ask the operator",
    /// The user's role does not allow it.
    Forbidden 403 "FORBIDDEN" "Your role does not allow this",
    /// Another site made the browser send it.
    CrossSite 403 "CROSS_SITE" "The request comes from another site",
    /// There is nothing there, or it is not the caller's.
    NotFound 404 "NOT_FOUND" "There is nothing here",
    /// The route takes other methods.
    MethodNotAllowed 405 "METHOD_NOT_ALLOWED" "This route does not take this method",
    /// The request did not come whole in time.
    RequestTimeout 408 "REQUEST_TIMEOUT" "The request took too long",
    /// The day that is asked about is still to come, or under way.
    DayNotResolved 409 "DAY_NOT_RESOLVED" "The day is not resolved yet",
    /// The `Idempotency-Key` was used for another command.
    IdempotencyConflict 409 "IDEMPOTENCY_CONFLICT" "This key was used for another command",
    /// The `Idempotency-Key` is too old to be known, or too far ahead: nothing was done now.
    Expired 409 "EXPIRED" "This key is too old or too far ahead; nothing was done now",
    /// The ledger does not have the event that a reader goes on after: it lost events, or is another.
    HeadUnknown 409 "HEAD_UNKNOWN" "The ledger does not have this event: it lost events, or is another",
    /// Another account has the address.
    EmailTaken 409 "EMAIL_TAKEN" "There is an account with this address",
    /// The body is too large.
    ContentTooLarge 413 "CONTENT_TOO_LARGE" "The body is too large",
    /// The URL is too long.
    UriTooLong 414 "URI_TOO_LONG" "The URL is too long",
    /// The body is not said to be JSON.
    UnsupportedMediaType 415 "UNSUPPORTED_MEDIA_TYPE" "Content-Type must be application/json",
    /// Too many logins failed.
    LockedOut 423 "LOCKED_OUT" "Account temporarily locked",
    /// Too many requests.
    RateLimited 429 "RATE_LIMITED" "Rate limit exceeded",
    /// Too many registrations from one address.
    RegistrationLimit 429 "REGISTRATION_LIMIT" "Too many registrations from here today",
    /// Too many adoptions of one user.
    AdoptionLimit 429 "ADOPTION_LIMIT" "Too many adoptions today",
    /// Too much telemetry of one user, or of one address without a session.
    TelemetryLimit 429 "TELEMETRY_LIMIT" "Too much telemetry from here today",
    /// A fault of the service's; the log has more under the id.
    Internal 500 "INTERNAL" "Something went wrong here",
    /// More is asked than can be done.
    Overloaded 503 "OVERLOADED" "Too much is being asked; try again",
    /// The disk is full: reading goes on.
    ReadOnly 503 "READ_ONLY" "Nothing can be changed for now",
    /// The operator paused play: reading goes on.
    Paused 503 "PAUSED" "Play is paused",
    /// The service cannot do it now.
    Unavailable 503 "UNAVAILABLE" "The service is not available; try again",
}

/// What is wrong with one part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Detail {
    /// The field, such as `email` or `bets.0.amount`; none where it is the request as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What kind of fault it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// What is wrong, for a person.
    pub message: String,
    /// The values of it, by their names.
    #[serde(flatten)]
    #[schema(ignore)]
    pub values: serde_json::Map<String, Value>,
}

impl Detail {
    /// A part that is wrong, without a field of the body.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let (code, values) = (Some(Cow::Borrowed(code)), serde_json::Map::new());
        Self { field: None, code, message: message.into(), values }
    }

    /// The same of a field.
    pub(crate) fn of(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// With what a client claimed, and what it was.
    pub(crate) fn comparing(self, claimed: f64, actual: f64) -> Self {
        self.with(json!({ "claimed": claimed, "actual": actual }))
    }

    /// With values: the fields of a JSON object.
    fn with(mut self, values: Value) -> Self {
        if let Value::Object(values) = values {
            self.values = values;
        }
        self
    }
}

/// A refusal, as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The code.
    #[schema(value_type = String)]
    pub error: Cow<'static, str>,
    /// What is wrong, for a person.
    #[schema(value_type = String)]
    pub message: Cow<'static, str>,
    /// Every part that is wrong.
    pub details: Vec<Detail>,
}

/// A refusal, as a program reads it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct ErrorText {
    /// The code.
    pub error: String,
    /// What is wrong, for a person.
    pub message: String,
}

/// A request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: u16,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    details: Vec<Detail>,
    retry_after_seconds: Option<u64>,
    /// Whether it was refused before under the same `Idempotency-Key`.
    is_repeated: bool,
}

/// How long who was refused for load should wait.
const RETRY_AFTER_SECONDS: u64 = 1;

impl ApiError {
    /// A refusal with nothing but its code.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self {
            status: code.status(),
            code: Cow::Borrowed(code.as_str()),
            message: Cow::Borrowed(code.message()),
            details: Vec::new(),
            retry_after_seconds: (code.status() == 503).then_some(RETRY_AFTER_SECONDS),
            is_repeated: false,
        }
    }

    /// A request that is not valid.
    #[must_use]
    pub fn invalid(details: Vec<Detail>) -> Self {
        Self { details, ..Self::new(Code::ValidationError) }
    }

    /// One field of it is not.
    #[must_use]
    pub fn invalid_field(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::invalid(vec![Detail::new(code, message).of(field)])
    }

    /// With what to say instead of the code's own sentence.
    #[must_use]
    pub fn saying(self, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// To be tried again after so many seconds, at least one.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds.max(1)), ..self }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (error, message) = (self.code.clone(), self.message.clone());
        ErrorBody { error, message, details: self.details.clone() }
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match &error {
            SubmitError::Rejected { rejections, repeated } => refused(rejections, *repeated),
            SubmitError::Conflict { first } => {
                let values = first.map_or(Value::Null, |first| json!({ "first": first }));
                let code = Code::IdempotencyConflict;
                let detail = Detail::new(code.as_str(), error.to_string()).with(values);
                Self { details: vec![detail], ..Self::new(code) }
            }
            SubmitError::Expired { server_time, floor, new_id_time } => {
                let values = json!({
                    "serverMillis": server_time.millis(),
                    "floorMillis": floor.map(UnixMicros::millis),
                    "newKeyMillis": new_id_time.millis(),
                });
                let detail = Detail::new(Code::Expired.as_str(), error.to_string()).with(values);
                Self { details: vec![detail], ..Self::new(Code::Expired) }
            }
            SubmitError::Overloaded | SubmitError::TooLate => Self::new(Code::Overloaded),
            SubmitError::ReadOnly { .. } => Self::new(Code::ReadOnly),
            SubmitError::Locked { .. } | SubmitError::Unavailable(_) => {
                Self::new(Code::Unavailable)
            }
            // These are faults of ours: their words go to the log.
            SubmitError::Panicked { .. }
            | SubmitError::Undecided { .. }
            | SubmitError::AnswerUnreadable { .. } => {
                tracing::error!(%error, "a command could not be decided");
                Self::new(Code::Internal)
            }
        }
    }
}

/// What the rules refuse: every rule that stands against it is told, with its values.
fn refused(rejections: &Rejections, is_repeated: bool) -> ApiError {
    let detail = |rejection: &Rejection| {
        let mut values = serde_json::to_value(rejection).unwrap_or_default();
        if let Some(values) = values.as_object_mut() {
            values.remove("code");
        }
        Detail::new(rejection.code(), rejection.to_string()).with(values)
    };
    let first = rejections.first();
    let status = status_of(first.class());
    // It helps to come again where time alone stands against all of it.
    let passes_at = rejections.iter().filter_map(Rejection::retry_at).max();
    let passes_at = passes_at.filter(|_| rejections.are_passing());
    let wait = passes_at.map(|at| {
        let millis = at.millis().saturating_sub(jiff::Timestamp::now().as_millisecond());
        u64::try_from(millis).unwrap_or(0).div_ceil(1_000).max(1)
    });
    ApiError {
        status,
        code: Cow::Borrowed(first.code()),
        message: Cow::Owned(first.to_string()),
        details: rejections.iter().map(detail).collect(),
        retry_after_seconds: wait.or((status == 503).then_some(RETRY_AFTER_SECONDS)),
        is_repeated,
    }
}

const fn status_of(class: RejectionClass) -> u16 {
    match class {
        RejectionClass::NotFound => 404,
        RejectionClass::Incomplete => 400,
        RejectionClass::Rule => 409,
        RejectionClass::Unavailable => 503,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.is_repeated {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: codes are never shared.
    #[test]
    fn codes_are_unique() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert!(Code::ALL[..index].iter().all(|other| other.as_str() != code.as_str()));
        }
    }
}
