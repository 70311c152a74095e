//! What every request passes before a route sees it: an id, limits of size and time, the client's
//! address, the session, the rate limit, the origin.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use daybook_schema::{Role, UserId};
use tracing::Instrument;
use uuid::Uuid;

use crate::body_wait::BodyWait;
use crate::caller::Caller;
use crate::client::{Client, Neighbourhood};
use crate::error::{ApiError, Code};
use crate::headers::mark;
use crate::open_session::OpenSession;
use crate::rate_limits::{Allowed, Class, Whose};
use crate::scopes::Scope;
use crate::service::Service;
use crate::service_token::ServiceToken;
use crate::tokens::{Carried, bearer_of, device_of, session_of};

const URI_BYTES_MAX: usize = 2_048;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// The user for whom another backend plays.
const ON_BEHALF_OF: HeaderName = HeaderName::from_static("x-on-behalf-of");

/// What a request has of a session.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    None,
    /// It carries what no session has, or has no more.
    Expired,
    Open(Arc<OpenSession>),
    /// Another backend asks, for itself.
    Token(Arc<ServiceToken>),
}

/// How far a service token reaches at a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nowhere: it is a person's own.
    Nowhere,
    /// As far as everybody.
    Public,
    /// To make accounts, for which it may play then.
    Registering,
    /// For a user that is bound to it.
    ForUser,
    /// Where its scope allows it.
    Of(Scope),
}

/// As what a request was let in: it may take more tokens of the same bucket.
#[derive(Clone, Copy)]
pub(crate) struct Admitted {
    class: Class,
    whose: Whose,
    remaining: u32,
}

/// How many tokens are left, where a route took more.
#[derive(Clone, Copy)]
pub(crate) struct Remaining(u32);

impl Admitted {
    /// Takes tokens beside the first.
    ///
    /// # Errors
    /// [`Code::RateLimited`] where there are not so many.
    pub(crate) fn take_more(self, service: &Service, more: usize) -> Result<Remaining, ApiError> {
        let more = u32::try_from(more).ok().and_then(NonZeroU32::new);
        let Some(more) = more else { return Ok(Remaining(self.remaining)) };
        match service.rate_limits.take(self.class, self.whose, more) {
            Allowed::Yes { remaining } => Ok(Remaining(remaining)),
            // Whoever comes again needs the first token once more.
            refused @ Allowed::NotBefore { .. } => {
                let all = more.saturating_add(1);
                let wait = match service.rate_limits.take(self.class, self.whose, all) {
                    Allowed::Yes { .. } => refused,
                    longer @ Allowed::NotBefore { .. } => longer,
                };
                let Allowed::NotBefore { seconds } = wait else {
                    return Err(Code::Internal.into());
                };
                Err(ApiError::new(Code::RateLimited).retry_after(seconds))
            }
        }
    }
}

/// The session of a request that needs one.
pub(crate) struct LoggedInAs(pub(crate) Arc<OpenSession>);

impl FromRequestParts<Service> for LoggedInAs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, ApiError> {
        match parts.extensions.get::<Standing>() {
            Some(Standing::Open(session)) => Ok(Self(Arc::clone(session))),
            Some(Standing::Expired) => Err(ApiError::new(Code::SessionExpired)),
            Some(Standing::Token(_)) => Err(ApiError::invalid_field(
                ON_BEHALF_OF.as_str(),
                "required",
                "must name the user for whom this is, such as usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b",
            )),
            Some(Standing::None) | None => Err(ApiError::new(Code::Unauthorized)),
        }
    }
}

/// The session of a request, if it has one.
pub(crate) struct PerhapsLoggedIn(pub(crate) Option<Arc<OpenSession>>);

impl FromRequestParts<Service> for PerhapsLoggedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, ApiError> {
        Ok(Self(match parts.extensions.get::<Standing>() {
            Some(Standing::Open(session)) => Some(Arc::clone(session)),
            _ => None,
        }))
    }
}

/// The service token of a request that comes for itself, if it has one.
pub(crate) struct PerhapsToken(pub(crate) Option<Arc<ServiceToken>>);

impl FromRequestParts<Service> for PerhapsToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, ApiError> {
        Ok(Self(match parts.extensions.get::<Standing>() {
            Some(Standing::Token(token)) => Some(Arc::clone(token)),
            _ => None,
        }))
    }
}

/// Whoever may ask the analyst's questions: an admin, or a token with the scope.
pub(crate) struct Analyst;

impl FromRequestParts<Service> for Analyst {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        // Its scope was looked at.
        if let Some(Standing::Token(_)) = parts.extensions.get::<Standing>() {
            return Ok(Self);
        }
        let LoggedInAs(session) = LoggedInAs::from_request_parts(parts, service).await?;
        match session.role {
            Role::Admin => Ok(Self),
            Role::Player | Role::Moderator => Err(ApiError::new(Code::Forbidden)),
        }
    }
}

impl FromRequestParts<Service> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Self {
            client: client_of(&parts.extensions, &parts.headers, service)?,
            device: device_of(&parts.headers).map(str::to_owned),
            user_agent: text(header::USER_AGENT).map(str::to_owned),
        })
    }
}

fn client_of(
    extensions: &axum::http::Extensions,
    headers: &HeaderMap,
    service: &Service,
) -> Result<Client, ApiError> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().ok_or(Code::Internal)?;
    Ok(Client::of(peer.0.ip(), headers, &service.settings.trusted_proxies))
}

/// A request that has no answer yet: where its client hangs up, it is in the log all the same.
struct Unanswered {
    line: Option<(tracing::Span, Method, Option<String>)>,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((span, method, route)) = self.line.take() {
            let route = route.as_deref().unwrap_or("none");
            tracing::info!(target: "access", parent: &span, %method, route, "hung up");
        }
    }
}

/// The outermost guard: an id, the log, and what every answer carries.
pub(crate) async fn outermost(
    State(service): State<Service>,
    mut request: Request,
    next: Next,
) -> Response {
    let (id, started) = (Uuid::now_v7().to_string(), Instant::now());
    let span = tracing::info_span!("request", id);
    let method = request.method().clone();
    let body_wait = BodyWait::default();
    request.extensions_mut().insert(body_wait.clone());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut unanswered = Unanswered { line: Some((span.clone(), method.clone(), route.clone())) };
    let mut response = next.run(request).instrument(span.clone()).await;
    unanswered.line = None;
    if response.status().as_u16() == Code::Internal.status() {
        let message = format!("Something went wrong here; the log has more under {id}");
        let remaining = response.headers_mut().remove(REMAINING);
        response = ApiError::new(Code::Internal).saying(message).into_response();
        response.headers_mut().extend(remaining.map(|remaining| (REMAINING, remaining)));
    }
    let status = response.status().as_u16();
    // How long a stream lasts says nothing of how long an answer took; nor does a slow upload.
    if !is_stream(&response) {
        let taken = started.elapsed().saturating_sub(body_wait.total());
        service.api_response.record(taken.as_secs_f64() * 1_000.0);
    }
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    // The route, not the path: ids of people stay out of the log.
    let route = route.as_deref().unwrap_or("none");
    service.requests.count(&method, route, status);
    // A flood that is turned away does not fill the log.
    if status == Code::RateLimited.status() {
        tracing::debug!(target: "access", parent: &span, %method, route, status, micros, "answered");
    } else {
        tracing::info!(target: "access", parent: &span, %method, route, status, micros, "answered");
    }
    let headers = response.headers_mut();
    mark(headers, service.settings.public_url.is_https(), service.is_demo);
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn is_stream(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().starts_with(b"text/event-stream"))
}

/// Who asks, and whether there is a token left of the route's class.
pub(crate) async fn admit(
    service: Service,
    (class, reach): (Class, Reach),
    mut request: Request,
    next: Next,
) -> Response {
    let admitted = match bearer_of(request.headers()) {
        Carried::None => admitted(&service, class, &mut request).await,
        carried => admitted_by_token(&service, (class, reach), &mut request, carried).await,
    };
    let (remaining, refused) = match admitted {
        Ok(remaining) => (remaining, None),
        Err((remaining, error)) => (remaining, Some(error)),
    };
    let mut response = match refused {
        None => in_time(&service, request, next).await,
        Some(error) => error.into_response(),
    };
    let remaining = response.extensions().get().map_or(remaining, |Remaining(left)| *left);
    response.headers_mut().insert(REMAINING, HeaderValue::from(remaining));
    response
}

/// What is answered within the time that a request may take, if its URL is no longer than it may be.
async fn in_time(service: &Service, request: Request, next: Next) -> Response {
    if request.uri().path_and_query().is_some_and(|uri| uri.as_str().len() > URI_BYTES_MAX) {
        return ApiError::new(Code::UriTooLong).into_response();
    }
    let timeout = service.settings.connections.request_timeout;
    let answered = tokio::time::timeout(timeout, next.run(request)).await;
    answered.unwrap_or_else(|_| ApiError::new(Code::RequestTimeout).into_response())
}

/// Takes one token of a class.
fn take(service: &Service, class: Class, whose: Whose) -> Result<u32, (u32, ApiError)> {
    match service.rate_limits.take(class, whose, NonZeroU32::MIN) {
        Allowed::Yes { remaining } => Ok(remaining),
        Allowed::NotBefore { seconds } => {
            Err((0, ApiError::new(Code::RateLimited).retry_after(seconds)))
        }
    }
}

/// How many tokens are left. A user is counted by himself. Before a session is looked up that is not
/// at hand, its client is counted in a class of its own, so that wrong tokens cost whoever sends
/// them.
async fn admitted(
    service: &Service,
    class: Class,
    request: &mut Request,
) -> Result<u32, (u32, ApiError)> {
    let refused = |error| (0, error);
    let client = client_of(request.extensions(), request.headers(), service).map_err(refused)?;
    let client = Whose::Client(Neighbourhood::of(client.address));
    let standing = match session_of(request.headers()) {
        Carried::None => Standing::None,
        Carried::Unusable => Standing::Expired,
        Carried::Token(token) => match service.session_at_hand(&token) {
            Some(session) => Standing::Open(session),
            None => {
                take(service, Class::LookUp, client)?;
                let found = service.find_session(&token).await.map_err(refused)?;
                found.map_or(Standing::Expired, Standing::Open)
            }
        },
    };
    let whose = match &standing {
        Standing::Open(session) => Whose::User(session.user_id),
        _ => client,
    };
    let remaining = take(service, class, whose)?;
    if request.headers().contains_key(ON_BEHALF_OF) {
        let needs = "needs a service token: Authorization: Bearer …";
        return Err((remaining, ApiError::invalid_field(ON_BEHALF_OF.as_str(), "header", needs)));
    }
    request.extensions_mut().insert(standing);
    request.extensions_mut().insert(Admitted { class, whose, remaining });
    Ok(remaining)
}

/// The same where another backend asks: its token is counted, and the user for whom it plays too.
async fn admitted_by_token(
    service: &Service,
    (class, reach): (Class, Reach),
    request: &mut Request,
    carried: Carried,
) -> Result<u32, (u32, ApiError)> {
    let refused = |error| (0, error);
    let client = client_of(request.extensions(), request.headers(), service).map_err(refused)?;
    let client = Whose::Client(Neighbourhood::of(client.address));
    if session_of(request.headers()) != Carried::None {
        let remaining = take(service, class, client)?;
        let both = "must not come with a session cookie: say who you are once";
        return Err((remaining, ApiError::invalid_field("Authorization", "header", both)));
    }
    let token = match &carried {
        Carried::Token(hash) => match service.token_at_hand(hash) {
            Some(token) => Some(token),
            None => {
                // One that was good is looked up again whenever something changed: that is no guess.
                if !service.service_tokens.contains_key(hash) {
                    take(service, Class::LookUp, client)?;
                }
                service.find_token(hash).await.map_err(refused)?
            }
        },
        _ => None,
    };
    let Some(token) = token else {
        let remaining = take(service, class, client)?;
        let unknown = ApiError::new(Code::Unauthorized);
        return Err((
            remaining,
            unknown.saying("There is no such service token, or it is revoked"),
        ));
    };
    let whose = Whose::User(token.counted_as());
    let mut admitted = Admitted { class: Class::Token, whose, remaining: 0 };
    admitted.remaining = take(service, Class::Token, whose)?;
    let standing = standing_of(service, token, reach, request.headers()).await;
    let standing = standing.map_err(|error| (admitted.remaining, error))?;
    if let Standing::Open(session) = &standing {
        let whose = Whose::User(session.user_id);
        let of_user = take(service, class, whose)?;
        // What a request takes more is the user's.
        admitted = Admitted { class, whose, remaining: of_user.min(admitted.remaining) };
    }
    let remaining = admitted.remaining;
    request.extensions_mut().insert(standing);
    request.extensions_mut().insert(admitted);
    Ok(remaining)
}

/// As what another backend stands at a route.
async fn standing_of(
    service: &Service,
    token: Arc<ServiceToken>,
    reach: Reach,
    headers: &HeaderMap,
) -> Result<Standing, ApiError> {
    let scope = match reach {
        Reach::Nowhere => {
            let own = "This is a person's own: no service token reaches it";
            return Err(ApiError::new(Code::Forbidden).saying(own));
        }
        Reach::Public => return Ok(Standing::None),
        Reach::Registering | Reach::ForUser => Scope::Play,
        Reach::Of(scope) => scope,
    };
    token.require(scope)?;
    let named = match one(headers, ON_BEHALF_OF.as_str()) {
        One::None => return Ok(Standing::Token(token)),
        One::Is(text) => text.parse::<UserId>().ok(),
        One::Unusable => None,
    };
    let fault = |fault| ApiError::invalid_field(ON_BEHALF_OF.as_str(), "header", fault);
    if reach != Reach::ForUser {
        return Err(fault("has no meaning here: this is not done for a user"));
    }
    let user_id = named.ok_or_else(|| fault("must be the id of a user, once"))?;
    Ok(Standing::Open(service.session_for(&token, user_id).await?))
}

/// What changes something comes from our own pages, or from no browser; and it is JSON, which no
/// form of another site can send.
pub(crate) async fn check_origin(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    has_own_origin(&service, &request)?;
    Ok(next.run(request).await)
}

fn has_own_origin(service: &Service, request: &Request) -> Result<(), ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let headers = request.headers();
    let is_own = match (one(headers, "sec-fetch-site"), one(headers, "origin")) {
        (One::None, One::None) => true,
        (One::Is(site), _) => site == "same-origin",
        (One::None, One::Is(origin)) => origin == service.settings.public_url.as_str(),
        _ => false,
    };
    if !is_own {
        return Err(ApiError::new(Code::CrossSite));
    }
    // A DELETE has no body here, and browsers ask before they send one to another site.
    if *request.method() == Method::DELETE {
        return Ok(());
    }
    let content_type = match one(headers, header::CONTENT_TYPE.as_str()) {
        One::Is(text) => text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase(),
        _ => String::new(),
    };
    match content_type == "application/json" {
        true => Ok(()),
        false => Err(ApiError::new(Code::UnsupportedMediaType)),
    }
}

/// A header that may be there once.
enum One<'a> {
    None,
    Is(&'a str),
    Unusable,
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> One<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => One::None,
        (Some(value), None) => value.to_str().map_or(One::Unusable, One::Is),
        _ => One::Unusable,
    }
}
