//! For whoever watches over the service.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, Code, ErrorBody};
use crate::service::Service;

/// How the service fares.
#[derive(Serialize, ToSchema)]
pub(crate) struct Fares {
    /// `ok`, or `starting` before the ledger is recovered.
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", operation_id = "alive",
    responses((status = 200, description = "It lives", body = Fares)))]
pub(crate) async fn alive() -> Json<Fares> {
    Json(Fares { status: "ok" })
}

/// Whether the service takes what changes something: not before the ledger is recovered, and not
/// while it is read-only.
#[utoipa::path(get, path = "/readyz", tag = "operation", operation_id = "ready",
    responses((status = 200, description = "It does", body = Fares),
        (status = 503, description = "UNAVAILABLE or READ_ONLY", body = ErrorBody)))]
pub(crate) async fn ready(State(service): State<Service>) -> Result<Json<Fares>, ApiError> {
    let health = service.ledger.health();
    if health.stopped.is_some() || health.locked_for.is_some() || service.accounts.is_lost() {
        return Err(ApiError::new(Code::Unavailable));
    }
    if health.read_only_free_bytes.is_some() {
        return Err(ApiError::new(Code::ReadOnly));
    }
    Ok(Json(Fares { status: "ok" }))
}
