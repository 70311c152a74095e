//! The OpenAPI document, a page to read it, and the page that a link to a new password leads to.
//! Nothing of them is loaded from elsewhere.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::service::Service;

/// Swagger UI writes styles into its elements.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";
const RESET_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) fn routes(document: OpenApi) -> Router<Service> {
    let page = SwaggerUi::new("/docs").url("/openapi.json", document).config(
        // Nothing is tried before somebody asks for it, and no validator elsewhere is asked.
        Config::default().validator_url("none").try_it_out_enabled(false),
    );
    let documents = Router::<Service>::from(page)
        .layer(map_response(async |response: Response| with_policy(response, PAGE_POLICY)));
    documents
        .route("/reset", get(async || with_policy(Html(RESET_PAGE).into_response(), RESET_POLICY)))
        .route("/reset.js", get(async || of_type(RESET_SCRIPT, "text/javascript; charset=utf-8")))
        .route("/reset.css", get(async || of_type(RESET_STYLE, "text/css; charset=utf-8")))
}

fn with_policy(mut response: Response, policy: &'static str) -> Response {
    let name: HeaderName = header::CONTENT_SECURITY_POLICY;
    response.headers_mut().insert(name, HeaderValue::from_static(policy));
    response
}

fn of_type(text: &'static str, content_type: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

const RESET_PAGE: &str = include_str!("pages/reset.html");
const RESET_SCRIPT: &str = include_str!("pages/reset.js");
const RESET_STYLE: &str = include_str!("pages/reset.css");
