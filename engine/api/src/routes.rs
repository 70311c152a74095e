//! The routes, and which class of limits each belongs to.

mod analytics;
mod auth;
mod boards;
mod days;
mod documents;
mod fairness;
mod feed;
mod flags;
mod health;
mod in_path;
mod live;
mod me;
mod moderation;
mod own_sessions;
mod pages;
mod schemas;
mod seasons;
mod simulins;
mod statement;
mod telemetry;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, Code};
use crate::guards::{self, Reach};
use crate::openapi;
use crate::rate_limits::Class;
use crate::scopes::Scope;
use crate::service::Service;

/// What the document says of the service as a whole.
#[derive(OpenApi)]
#[openapi(info(
    title = "Daybook",
    description = "An event-sourced game ledger over HTTP: accounts, sessions and play.",
    license(name = "MIT OR Apache-2.0")
))]
struct Whole;

/// Routes that take a password or a link.
fn of_passwords() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::change_password))
        .routes(routes!(auth::reset_password))
        .routes(routes!(me::erase))
        .routes(routes!(me::export))
}

/// The route that makes accounts.
fn of_registering() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(auth::register))
}

/// What is a person's own.
fn of_people() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(auth::log_out))
        .routes(routes!(me::show, me::change))
        .routes(routes!(own_sessions::list, own_sessions::end_all))
        .routes(routes!(own_sessions::end_one))
        .routes(routes!(moderation::lock, moderation::unlock))
        .routes(routes!(flags::list))
}

/// What an analyst asks.
fn of_analytics() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(analytics::dau))
        .routes(routes!(analytics::retention))
        .routes(routes!(analytics::funnel))
        .routes(routes!(analytics::bets))
        .routes(routes!(analytics::sessions))
        .routes(routes!(analytics::coins))
}

/// The ledger's events for other programs.
fn of_events() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(feed::read))
}

/// Routes of the game, but for bets.
fn of_play() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(seasons::list, seasons::start))
        .routes(routes!(seasons::show))
        .routes(routes!(seasons::abandon))
        .routes(routes!(seasons::odds))
        .routes(routes!(days::advance))
        .routes(routes!(days::recall))
        .routes(routes!(days::check))
        .routes(routes!(live::watch))
        .routes(routes!(simulins::list, simulins::adopt))
        .routes(routes!(simulins::choose_path))
        .routes(routes!(simulins::retire))
        .routes(routes!(boards::show))
        .routes(routes!(boards::jackpot))
        .routes(routes!(fairness::head))
        .routes(routes!(fairness::next))
        .routes(routes!(statement::show))
}

/// Bets, each of which takes a token.
fn of_bets() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(days::place_bets))
}

/// What clients tell of themselves.
fn of_telemetry() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(telemetry::receive))
}

/// For whoever watches over the service: no neighbour's requests make these fail.
fn probes() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(health::alive)).routes(routes!(health::ready))
}

/// The routes with their guards' parts: the class of limits, and how far a service token reaches.
fn groups() -> [(OpenApiRouter<Service>, Class, Reach); 8] {
    [
        (of_passwords(), Class::Auth, Reach::Nowhere),
        (of_registering(), Class::Auth, Reach::Registering),
        (of_people(), Class::Api, Reach::Nowhere),
        (of_analytics(), Class::Api, Reach::Of(Scope::Analytics)),
        (of_events(), Class::Api, Reach::Of(Scope::ReadEvents)),
        (of_play(), Class::Api, Reach::ForUser),
        (of_bets(), Class::Bet, Reach::ForUser),
        (of_telemetry(), Class::Telemetry, Reach::Nowhere),
    ]
}

/// The OpenAPI document, made from the routes.
#[must_use]
pub fn document() -> Document {
    let mut whole = Whole::openapi();
    for (routes, class, reach) in groups() {
        whole.merge(openapi::complete(routes.into_openapi(), Some((class, reach))));
    }
    whole.merge(openapi::complete(probes().into_openapi(), None));
    openapi::finish(whole)
}

/// All routes behind their guards.
pub fn router(service: &Service) -> Router {
    let guarded = |routes: Router<Service>, class: Class, reach: Reach| {
        let own_origin = middleware::from_fn_with_state(service.clone(), guards::check_origin);
        let routes = routes
            .route_layer(own_origin)
            .method_not_allowed_fallback(async || ApiError::new(Code::MethodNotAllowed));
        admitted(service, routes, class, reach)
    };
    let probes = Router::from(probes())
        .method_not_allowed_fallback(async || ApiError::new(Code::MethodNotAllowed))
        .layer(CatchPanicLayer::custom(panicked));
    let unknown = Router::new().fallback(async || ApiError::new(Code::NotFound));
    let unknown = admitted(service, unknown, Class::Api, Reach::Public);
    let all = groups().into_iter().fold(Router::new(), |all, (routes, class, reach)| {
        all.merge(guarded(routes.into(), class, reach))
    });
    let all = all
        .merge(guarded(documents::routes(document()), Class::Api, Reach::Public))
        .merge(probes)
        .fallback_service(unknown.with_state(service.clone()));
    answered(service, all)
}

/// Routes of one's own that only read, behind the same guards: ids, limits, time, sessions, and what
/// becomes of a panic.
pub fn guarded(service: &Service, routes: Router<Service>) -> Router {
    answered(service, admitted(service, routes, Class::Api, Reach::Nowhere))
}

/// Routes for which a token of a class is taken. A panic ends one request.
fn admitted(
    service: &Service,
    routes: Router<Service>,
    class: Class,
    reach: Reach,
) -> Router<Service> {
    let admitting = service.clone();
    let routes = routes.layer(CatchPanicLayer::custom(panicked));
    routes.layer(middleware::from_fn(move |request: Request, next: Next| {
        guards::admit(admitting.clone(), (class, reach), request, next)
    }))
}

fn answered(service: &Service, routes: Router<Service>) -> Router {
    routes
        .layer(middleware::from_fn_with_state(service.clone(), guards::outermost))
        .with_state(service.clone())
}

/// Refuses an address and a name that no request may have either.
pub(crate) fn check_profile(email: &str, display_name: &str) -> Result<(), ApiError> {
    let refused = |what: &str, fault: &str| {
        Err(ApiError::new(Code::ValidationError).saying(format!("the {what} {fault}")))
    };
    if let Err(fault) = auth::is_email(email, &()) {
        return refused("address", fault.message());
    }
    if let Err(fault) = auth::is_name(display_name, &()) {
        return refused("name", fault.message());
    }
    if email.chars().count() > 254 || display_name.chars().count() > 64 {
        return refused("address or name", "must have at most 254 and 64 characters");
    }
    Ok(())
}

/// A fault of ours ends one request, and nothing else.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = said.unwrap_or("no text"), "a request panicked");
    ApiError::new(Code::Internal).into_response()
}
