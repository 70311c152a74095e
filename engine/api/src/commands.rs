//! Commands of players: how they are sent, and what every answer to one carries.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use daybook_ledger::{Accepted, Submission, SubmitError};
use daybook_schema::{Command, CommandId, DayNumber, Head, LedgerIdentity};
use serde::Serialize;

use crate::error::{ApiError, Code};
use crate::guards::LoggedInAs;
use crate::headers::REPLAYED;
use crate::open_session::OpenSession;
use crate::service::Service;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGN: HeaderName = HeaderName::from_static("x-sign-head");
const HEAD: HeaderName = HeaderName::from_static("x-ledger-head");
const SIGNED_HEAD: HeaderName = HeaderName::from_static("x-ledger-head-signed");

/// Whether a request asks for a signature of the head that it is answered with.
#[derive(Clone, Copy)]
pub(crate) struct Signs(pub(crate) bool);

impl FromRequestParts<Service> for Signs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, ApiError> {
        match one_of(&parts.headers, &SIGN)? {
            None => Ok(Self(false)),
            Some("1") => Ok(Self(true)),
            Some(_) => Err(ApiError::invalid_field("X-Sign-Head", "header", "must be 1")),
        }
    }
}

/// A header that may be there once.
pub(crate) fn one_of<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let refused =
        || ApiError::invalid_field(name.as_str(), "header", "must be there once, as text");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| refused()),
        _ => Err(refused()),
    }
}

/// Who sends a command, and how.
#[derive(Clone)]
pub(crate) struct Sending {
    pub(crate) session: Arc<OpenSession>,
    /// The client's own id of the command: sent again, it gets the same answer.
    pub(crate) key: Option<CommandId>,
    signs: Signs,
}

impl FromRequestParts<Service> for Sending {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let LoggedInAs(session) = LoggedInAs::from_request_parts(parts, service).await?;
        service.require_play(session.user_id)?;
        let signs = Signs::from_request_parts(parts, service).await?;
        let key = one_of(&parts.headers, &KEY)?.map(str::parse::<CommandId>).transpose();
        let key = key.map_err(|_| {
            let fault = "must be a UUIDv7 in lower case, the same for every retry of one command";
            ApiError::invalid_field("Idempotency-Key", "header", fault)
        })?;
        Ok(Self { session, key, signs })
    }
}

/// A command that was not applied.
#[derive(Debug)]
pub(crate) enum NotApplied {
    /// What the engine says.
    Submitted(SubmitError),
    /// It was not handed over: play is paused, or the session is over.
    NotAllowed(ApiError),
}

impl From<NotApplied> for ApiError {
    fn from(why: NotApplied) -> Self {
        match why {
            NotApplied::Submitted(error) => error.into(),
            NotApplied::NotAllowed(error) => error,
        }
    }
}

impl From<SubmitError> for NotApplied {
    fn from(error: SubmitError) -> Self {
        Self::Submitted(error)
    }
}

impl From<ApiError> for NotApplied {
    fn from(error: ApiError) -> Self {
        Self::NotAllowed(error)
    }
}

/// A command that was applied.
pub(crate) struct Applied {
    pub(crate) accepted: Accepted,
    /// What the ids in its events derive from.
    pub(crate) identity: LedgerIdentity,
    signed: Option<String>,
}

impl Applied {
    /// When, in seconds since 1970.
    pub(crate) const fn at(&self) -> i64 {
        self.accepted.recorded_at.seconds()
    }

    /// The answer: what is in it comes from the command's events alone.
    pub(crate) fn answer(self, status: StatusCode, body: impl Serialize) -> Response {
        let mut response = (status, Json(body)).into_response();
        put_head(response.headers_mut(), self.accepted.head, self.signed);
        if self.accepted.repeated {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Says which head an answer stands for.
pub(crate) fn put_head(headers: &mut HeaderMap, head: Head, signed: Option<String>) {
    if let Ok(value) = HeaderValue::try_from(head.to_string()) {
        headers.insert(HEAD, value);
    }
    if let Some(value) = signed.and_then(|signed| HeaderValue::try_from(signed).ok()) {
        headers.insert(SIGNED_HEAD, value);
    }
}

impl Service {
    /// Hands a player's command to the engine, which has so long to come to it. Bets may be meant
    /// for a day. Once it is handed over it is decided, also where the client hangs up.
    ///
    /// # Errors
    /// [`NotApplied`]: what the rules say, or why it was certainly not applied.
    pub(crate) async fn command(
        &self,
        sending: &Sending,
        command: Command,
        day: Option<DayNumber>,
    ) -> Result<Applied, NotApplied> {
        let deadline = Instant::now() + self.settings.command_wait;
        let submission = Submission::new(command).before(deadline);
        let submission = match day {
            Some(day) => submission.on_day(day),
            None => submission,
        };
        self.command_by(sending, submission).await
    }

    /// The first answer to a command that was applied before; nothing is applied now.
    pub(crate) async fn command_again(
        &self,
        sending: &Sending,
        command: Command,
    ) -> Result<Applied, NotApplied> {
        // Who is late gets what a repeat gets, and nothing else.
        let past = Instant::now().checked_sub(std::time::Duration::from_nanos(1));
        let past = past.ok_or(SubmitError::TooLate)?;
        self.command_by(sending, Submission::new(command).before(past)).await
    }

    async fn command_by(
        &self,
        sending: &Sending,
        submission: Submission,
    ) -> Result<Applied, NotApplied> {
        let submission = match sending.key {
            Some(key) => submission.with_id(key),
            None => submission,
        };
        // The body may have come long after the head, for which this was asked first.
        if !self.goes_on(&sending.session).await? {
            return Err(ApiError::new(Code::SessionExpired).into());
        }
        self.require_play(sending.session.user_id)?;
        let answered = self.ledger.submit(submission)?.await;
        // A refusal stands for all that it looked at.
        let stands_for = match &answered {
            Ok(accepted) => accepted.head.seq,
            Err(_) => self.ledger.head().seq,
        };
        sending.session.answered(stands_for);
        // It may have been brought to hand anew meanwhile.
        if let Some(at_hand) = self.open_sessions.get(&sending.session.id) {
            at_hand.answered(stands_for);
        }
        let accepted = answered?;
        let identity = self.epochs().identity_at(accepted.first_seq);
        let signed = self.signed(sending.signs, accepted.head);
        Ok(Applied { accepted, identity, signed })
    }

    /// A head with its signature, where one is asked for.
    pub(crate) fn signed(&self, signs: Signs, head: Head) -> Option<String> {
        signs.0.then(|| self.epochs().sign(&self.signer, head))
    }
}

/// A command's event that is always among its events; without it the answer is a fault of ours.
pub(crate) fn missing() -> ApiError {
    tracing::error!("a command's events lack what its answer is made of");
    ApiError::new(Code::Internal)
}
