//! What an analyst asks: activity, retention, the funnel, bets, sessions, coins. For admins.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use daybook_projections::ReadError;
use daybook_projections::analytics::{
    self, ActiveDays, BetReturns, BetsBy, Coins, DaysAsked, Funnel, Retention, Sessions, Table,
};
use daybook_projections::sqlx::{self, SqliteConnection};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, Code};
use crate::guards::Analyst;
use crate::headers::wants_csv;
use crate::reading::{AtLeast, unread};
use crate::service::Service;
use crate::validation::{RequestBody, ValidQuery};

/// Telemetry is asked day by day, and each cohort for each day: so many UTC days at a time.
const TELEMETRY_DAYS_MAX: i64 = 31;

/// Which days.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TableAsked {
    /// The first UTC day, such as 2026-11-01; the first of the ledger without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    from: Option<String>,
    /// The last UTC day, itself included; the newest without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    until: Option<String>,
}

/// Which days, and of which source.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TableOfSourceAsked {
    /// The first UTC day, such as 2026-11-01; the first of the ledger without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    from: Option<String>,
    /// The last UTC day, itself included; the newest without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    until: Option<String>,
    /// What the ledger has, or what clients told: then at most 31 days at a time.
    #[serde(default)]
    #[param(inline)]
    source: Source,
}

/// Which days, and how rows are summed.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BetsAsked {
    /// The first UTC day, such as 2026-11-01; the first of the ledger without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    from: Option<String>,
    /// The last UTC day, itself included; the newest without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    until: Option<String>,
    /// A row for each pot, type and weather, or one for each of these on each day.
    #[serde(default)]
    #[param(inline)]
    by: By,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The ledger's read models.
    #[default]
    Ledger,
    /// What clients told, by the seed's own SQL.
    Telemetry,
}

/// How rows are summed.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// By pot, type and weather.
    #[default]
    Cell,
    /// By these and the day.
    Day,
}

impl RequestBody for TableAsked {}
impl RequestBody for TableOfSourceAsked {}
impl RequestBody for BetsAsked {}

/// The days between two texts, if both are days and in order.
fn days(from: Option<&String>, until: Option<&String>) -> Result<DaysAsked, ApiError> {
    let day = |text: Option<&String>, field, other: Date| {
        let fault = "must be a day such as 2026-11-30";
        let parsed = text.map_or(Ok(other), |text| text.parse());
        parsed.map_err(|_| ApiError::invalid_field(field, "value", fault))
    };
    let from = day(from, "from", DaysAsked::ALL.from)?;
    let until = day(until, "until", DaysAsked::ALL.until)?;
    // An empty answer would read as a time in which nothing happened.
    if until < from {
        return Err(ApiError::invalid_field("until", "value", "must not be before from"));
    }
    Ok(DaysAsked { from, until })
}

/// Days of telemetry: both ends are given, and not too far apart.
fn days_of_telemetry(asked: &TableOfSourceAsked) -> Result<DaysAsked, ApiError> {
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let is_short = asked.from.is_some() && asked.until.is_some() && {
        let apart = days.until.duration_since(days.from).as_hours() / 24;
        apart < TELEMETRY_DAYS_MAX
    };
    match is_short {
        true => Ok(days),
        false => Err(ApiError::invalid_field(
            "until",
            "value",
            "with source=telemetry, from and until must be given, at most 31 days",
        )),
    }
}

fn failed(error: sqlx::Error) -> ApiError {
    unread(&ReadError::from(error))
}

/// Asks the read models, once those who asked before have their answers.
async fn of_ledger<T: Serialize>(
    service: &Service,
    at_least: AtLeast,
    form: Form,
    read: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    table: fn(&T) -> Table,
) -> Result<Response, ApiError> {
    let turn = service.analysts_turn().await?;
    let reading = service.reading(at_least, &["analytics", "seasons"]).await?;
    let mut moment = service.reads.moment().await.map_err(|error| unread(&error))?;
    let answer = read(&mut moment).await.map_err(failed)?;
    drop((moment, turn));
    Ok(reading.mark(form.of(&answer, table)?))
}

/// Asks telemetry.
async fn of_telemetry<T: Serialize>(
    service: &Service,
    form: Form,
    read: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    table: fn(&T) -> Table,
) -> Result<Response, ApiError> {
    let turn = service.analysts_turn().await?;
    let mut telemetry = service.telemetry.reader().await?;
    let answer = read(&mut telemetry).await.map_err(failed)?;
    drop((telemetry, turn));
    form.of(&answer, table)
}

/// JSON, or CSV of the first table.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Json,
    Csv,
}

impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(if wants_csv(&parts.headers) { Self::Csv } else { Self::Json })
    }
}

impl Form {
    fn of<T: Serialize>(self, answer: &T, table: fn(&T) -> Table) -> Result<Response, ApiError> {
        let mut response = match self {
            Self::Json => Json(answer).into_response(),
            Self::Csv => {
                let text = table(answer).to_csv().map_err(|error| {
                    tracing::error!(%error, "a table cannot be written as CSV");
                    ApiError::new(Code::Internal)
                })?;
                ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
            }
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(response)
    }
}

/// Users who were active, by UTC day. CSV with `Accept: text/csv`. For admins.
#[utoipa::path(get, path = "/api/analytics/dau", tag = "analytics", operation_id = "showActiveDays",
    security(("session" = [])),
    params(TableOfSourceAsked),
    responses(
        (status = 200, description = "The days; of telemetry with `dau` alone", content(
            (ActiveDays = "application/json"), (String = "text/csv"))),
        (status = 403, description = "FORBIDDEN: one is no admin", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn dau(
    State(service): State<Service>,
    _: Analyst,
    at_least: AtLeast,
    form: Form,
    asked: Result<ValidQuery<TableOfSourceAsked>, ApiError>,
) -> Result<Response, ApiError> {
    let ValidQuery(asked) = asked?;
    if asked.source == Source::Telemetry {
        let days = days_of_telemetry(&asked)?;
        let read = async |telemetry: &mut _| analytics::telemetry_days(telemetry, days).await;
        return of_telemetry(&service, form, read, ActiveDays::table).await;
    }
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let read = async |moment: &mut _| analytics::active_days(moment, days).await;
    of_ledger(&service, at_least, form, read, ActiveDays::table).await
}

/// Users who came back n days after their first. CSV, a cell a line, with `Accept: text/csv`. For
/// admins.
#[utoipa::path(get, path = "/api/analytics/retention", tag = "analytics", operation_id = "showRetention",
    security(("session" = [])),
    params(TableOfSourceAsked),
    responses(
        (status = 200, description = "The cohorts", content(
            (Retention = "application/json"), (String = "text/csv"))),
        (status = 403, description = "FORBIDDEN: one is no admin", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn retention(
    State(service): State<Service>,
    _: Analyst,
    at_least: AtLeast,
    form: Form,
    asked: Result<ValidQuery<TableOfSourceAsked>, ApiError>,
) -> Result<Response, ApiError> {
    let ValidQuery(asked) = asked?;
    if asked.source == Source::Telemetry {
        let days = days_of_telemetry(&asked)?;
        let read = async |telemetry: &mut _| analytics::telemetry_retention(telemetry, days).await;
        return of_telemetry(&service, form, read, Retention::table).await;
    }
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let read = async |moment: &mut _| analytics::retention(moment, days).await;
    of_ledger(&service, at_least, form, read, Retention::table).await
}

/// How far new users came, and where seasons were given up. CSV of the steps with
/// `Accept: text/csv`. For admins.
#[utoipa::path(get, path = "/api/analytics/funnel", tag = "analytics", operation_id = "showFunnel",
    security(("session" = [])),
    params(TableAsked),
    responses(
        (status = 200, description = "The steps", content(
            (Funnel = "application/json"), (String = "text/csv"))),
        (status = 403, description = "FORBIDDEN: one is no admin", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn funnel(
    State(service): State<Service>,
    _: Analyst,
    at_least: AtLeast,
    form: Form,
    asked: Result<ValidQuery<TableAsked>, ApiError>,
) -> Result<Response, ApiError> {
    let ValidQuery(asked) = asked?;
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let read = async |moment: &mut _| analytics::funnel(moment, days).await;
    of_ledger(&service, at_least, form, read, Funnel::table).await
}

/// What bets gave back, beside what the rules give for these stakes. CSV of the rows with
/// `Accept: text/csv`. For admins.
#[utoipa::path(get, path = "/api/analytics/bets", tag = "analytics", operation_id = "showBetReturns",
    security(("session" = [])),
    params(BetsAsked),
    responses(
        (status = 200, description = "The rows", content(
            (BetReturns = "application/json"), (String = "text/csv"))),
        (status = 403, description = "FORBIDDEN: one is no admin", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn bets(
    State(service): State<Service>,
    _: Analyst,
    at_least: AtLeast,
    form: Form,
    asked: Result<ValidQuery<BetsAsked>, ApiError>,
) -> Result<Response, ApiError> {
    let ValidQuery(asked) = asked?;
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let by = match asked.by {
        By::Cell => BetsBy::Cell,
        By::Day => BetsBy::DayAndCell,
    };
    let read = async |moment: &mut _| analytics::bets(moment, days, by).await;
    of_ledger(&service, at_least, form, read, BetReturns::table).await
}

/// Play sessions by UTC day. CSV with `Accept: text/csv`. For admins.
#[utoipa::path(get, path = "/api/analytics/sessions", tag = "analytics", operation_id = "showPlaySessions",
    security(("session" = [])),
    params(TableAsked),
    responses(
        (status = 200, description = "The days", content(
            (Sessions = "application/json"), (String = "text/csv"))),
        (status = 403, description = "FORBIDDEN: one is no admin", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn sessions(
    State(service): State<Service>,
    _: Analyst,
    at_least: AtLeast,
    form: Form,
    asked: Result<ValidQuery<TableAsked>, ApiError>,
) -> Result<Response, ApiError> {
    let ValidQuery(asked) = asked?;
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let read = async |moment: &mut _| analytics::sessions(moment, days).await;
    of_ledger(&service, at_least, form, read, Sessions::table).await
}

/// Coins that moved between the accounts, by UTC day. CSV with `Accept: text/csv`. For admins.
#[utoipa::path(get, path = "/api/analytics/coins", tag = "analytics", operation_id = "showCoins",
    security(("session" = [])),
    params(TableAsked),
    responses(
        (status = 200, description = "The days", content(
            (Coins = "application/json"), (String = "text/csv"))),
        (status = 403, description = "FORBIDDEN: one is no admin", body = crate::error::ErrorBody),
    ))]
pub(crate) async fn coins(
    State(service): State<Service>,
    _: Analyst,
    at_least: AtLeast,
    form: Form,
    asked: Result<ValidQuery<TableAsked>, ApiError>,
) -> Result<Response, ApiError> {
    let ValidQuery(asked) = asked?;
    let days = days(asked.from.as_ref(), asked.until.as_ref())?;
    let read = async |moment: &mut _| analytics::coins(moment, days).await;
    of_ledger(&service, at_least, form, read, Coins::table).await
}
