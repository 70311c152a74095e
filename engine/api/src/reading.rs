//! Reads: which part of the ledger each stands for. One's own writes are in it.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use daybook_projections::{ReadError, sqlx};
use daybook_schema::{Head, Seq};
use serde::Serialize;

use crate::commands::{Signs, one_of, put_head};
use crate::error::{ApiError, Code};
use crate::guards::PerhapsLoggedIn;
use crate::heads::is_last;
use crate::service::Service;

const AT_LEAST: HeaderName = HeaderName::from_static("x-ledger-at-least");
const STALE: HeaderName = HeaderName::from_static("x-stale");

/// What a read must stand for: what its session was last answered, or what it asks for.
#[derive(Clone, Copy)]
pub(crate) struct AtLeast {
    seq: u64,
    signs: Signs,
}

impl FromRequestParts<Service> for AtLeast {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let signs = Signs::from_request_parts(parts, service).await?;
        let PerhapsLoggedIn(session) = PerhapsLoggedIn::from_request_parts(parts, service).await?;
        let answered = session.map_or(0, |session| session.answered_seq());
        let asked = one_of(&parts.headers, &AT_LEAST)?.map(str::parse::<Seq>).transpose();
        let asked = asked.map_err(|_| {
            let fault = "must be the seq of an event, from 1";
            ApiError::invalid_field("X-Ledger-At-Least", "header", fault)
        })?;
        Ok(Self { seq: asked.map_or(0, Seq::get).max(answered), signs })
    }
}

/// What a read stands for that is begun now.
pub(crate) struct Reading {
    head: Head,
    pub(crate) is_stale: bool,
    signed: Option<String>,
}

impl Reading {
    /// The head that it stands for.
    pub(crate) const fn head(&self) -> Head {
        self.head
    }

    /// The answer, with the head that it stands for.
    pub(crate) fn answer(self, body: impl Serialize) -> Response {
        self.mark(Json(body).into_response())
    }

    /// The same of an answer that is made already.
    pub(crate) fn mark(self, mut response: Response) -> Response {
        put_head(response.headers_mut(), self.head, self.signed);
        if self.is_stale {
            response.headers_mut().insert(STALE, HeaderValue::from_static("true"));
        }
        response
    }
}

/// What could not be read of `game.db`.
pub(crate) fn unread(error: &ReadError) -> ApiError {
    if matches!(error, ReadError::Sqlite(sqlx::Error::PoolTimedOut)) {
        return ApiError::new(Code::Overloaded);
    }
    tracing::error!(%error, "the read models cannot be read");
    ApiError::new(Code::Unavailable)
}

impl Service {
    /// Waits until read models have come to what a read must stand for, a little while at most.
    pub(crate) async fn reading(
        &self,
        at_least: AtLeast,
        projections: &[&'static str],
    ) -> Result<Reading, ApiError> {
        // What is not committed yet is not waited for.
        let (newest, asked) = (self.ledger.head().seq, at_least.seq);
        let wait = self.settings.read_wait;
        let stands_for = self.reads.wait_for(projections, asked.min(newest), wait).await;
        let stands_for = stands_for.map_err(|error| unread(&error))?;
        let head = self.head_at(stands_for.seq.min(newest)).await?;
        let signed = self.signed(at_least.signs, head);
        Ok(Reading { head, is_stale: stands_for.is_stale || asked > newest, signed })
    }

    /// A read of the state itself: it stands for the newest head.
    pub(crate) fn reading_newest(&self, signs: Signs) -> Reading {
        let head = self.ledger.head();
        Reading { head, is_stale: false, signed: self.signed(signs, head) }
    }

    /// The newest head that is no later than a seq.
    pub(crate) async fn head_at(&self, seq: u64) -> Result<Head, ApiError> {
        if let Some(head) = self.heads.at(seq) {
            return Ok(head);
        }
        let found = self.ledger_reads.read(move |reader| {
            let Ok(seq) = Seq::new(seq) else { return Ok(reader.genesis_head()) };
            let stored = reader.event(seq)?;
            if is_last(&stored) {
                return Ok(stored.head());
            }
            let before = seq.get() - u64::from(stored.header.command.place) - 1;
            match Seq::new(before) {
                Ok(before) => reader.event(before).map(|stored| stored.head()),
                Err(_) => Ok(reader.genesis_head()),
            }
        });
        found.await
    }
}
