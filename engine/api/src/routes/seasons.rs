//! Seasons: to start, to list, to see, to give up; today's odds.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use data_encoding::HEXLOWER;
use daybook_schema::{ClientSeed, Command, Commitment, SimulinId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::in_path::{InPath, SeasonInPath};
use super::pages::cut;
use crate::answers::{Season, SeasonEnd, StartedSeason, WholeSeason};
use crate::commands::{Sending, Signs};
use crate::error::{ApiError, Code, ErrorBody};
use crate::guards::LoggedInAs;
use crate::odds::{Odds, Today};
use crate::reading::{AtLeast, unread};
use crate::service::Service;
use crate::validation::{Nothing, RequestBody, Valid, ValidQuery};

/// A season to start.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Start {
    /// The commitment that the player saw at `/api/fairness/next`.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    commitment: Commitment,
    /// The player's part of the randomness, 32 bytes in hex. Without it the `Idempotency-Key` is.
    #[serde(default)]
    #[schema(pattern = "^[0-9a-f]{64}$", nullable = false)]
    client_seed: Option<String>,
    /// The companion, if one comes along.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false,
             pattern = "^sim_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
    simulin_id: Option<SimulinId>,
}

impl RequestBody for Start {}

impl Start {
    fn client_seed(&self) -> Result<ClientSeed, ApiError> {
        let Some(text) = &self.client_seed else { return Ok(ClientSeed::CommandId) };
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let seed: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let seed = seed.ok_or_else(|| {
            ApiError::invalid_field("clientSeed", "pattern", "must be 64 hex digits")
        })?;
        Ok(ClientSeed::from_seed(&seed))
    }
}

/// Starts a season: with 500 coins, its first day open.
///
/// `clientSeed` or an `Idempotency-Key` is required: it is the player's part of the draws.
#[utoipa::path(post, path = "/api/seasons", tag = "play", operation_id = "startSeason",
    security(("session" = [])),
    request_body = Start,
    responses(
        (status = 201, description = "It is started", body = StartedSeason),
        (status = 404, description = "SIMULIN_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "SEASON_IN_PROGRESS, SEASON_LIMIT, COMMITMENT_CHANGED, SIMULIN_RETIRED", body = ErrorBody),
    ))]
pub(crate) async fn start(
    State(service): State<Service>,
    sending: Sending,
    Valid(start): Valid<Start>,
) -> Result<Response, ApiError> {
    let (user_id, client_seed) = (sending.session.user_id, start.client_seed()?);
    let Start { commitment, simulin_id, .. } = start;
    let command = Command::StartSeason { user_id, commitment, client_seed, simulin_id };
    let applied = service.command(&sending, command, None).await?;
    let body = applied.started_season()?;
    Ok(applied.answer(StatusCode::CREATED, body))
}

/// Which seasons.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct SeasonsAsked {
    /// Those with a smaller number: the `next` of the page before.
    #[serde(default)]
    #[param(minimum = 1)]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, nullable = false)]
    before: Option<u32>,
    /// At most so many.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[schema(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
}

impl RequestBody for SeasonsAsked {}

/// A page of seasons.
#[derive(Serialize, ToSchema)]
pub(crate) struct SeasonsPage {
    /// The newest first.
    seasons: Vec<Season>,
    /// Where the next page goes on (`before`), if there is one.
    next: Option<i64>,
}

/// One's seasons, the newest first.
#[utoipa::path(get, path = "/api/seasons", tag = "play", operation_id = "listSeasons",
    security(("session" = [])),
    params(SeasonsAsked),
    responses((status = 200, description = "A page", body = SeasonsPage)))]
pub(crate) async fn list(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    at_least: AtLeast,
    ValidQuery(asked): ValidQuery<SeasonsAsked>,
) -> Result<Response, ApiError> {
    let reading = service.reading(at_least, &["seasons"]).await?;
    let limit = asked.limit.unwrap_or(20);
    let rows = service.reads.seasons_of(session.user_id, asked.before, limit + 1).await;
    let mut rows = rows.map_err(|error| unread(&error))?;
    let next = cut(&mut rows, limit).map(|last| last.season_number);
    let seasons = rows.into_iter().map(Season::from).collect();
    Ok(reading.answer(SeasonsPage { seasons, next }))
}

/// A season with its days, bets, triggers and weeks.
#[utoipa::path(get, path = "/api/seasons/{id}", tag = "play", operation_id = "showSeason",
    security(("session" = [])),
    params(SeasonInPath),
    responses(
        (status = 200, description = "The season", body = WholeSeason),
        (status = 404, description = "NOT_FOUND: there is none, or it is not one's own", body = ErrorBody),
    ))]
pub(crate) async fn show(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    at_least: AtLeast,
    path: InPath<SeasonInPath>,
) -> Result<Response, ApiError> {
    let season_id = path.season_id()?;
    let reading = service.reading(at_least, &["seasons"]).await?;
    let details = service.reads.season_with_details(season_id).await;
    match details.map_err(|error| unread(&error))? {
        Some(details) if details.season.user_id == session.user_id => {
            Ok(reading.answer(WholeSeason::from(details)))
        }
        // The read models may not have it yet; the ledger does.
        None => {
            let events = service.season_events(session.user_id, season_id).await?;
            let season = WholeSeason::from_ledger(&events, service.epochs());
            Ok(reading.answer(season.ok_or(Code::NotFound)?))
        }
        _ => Err(ApiError::new(Code::NotFound)),
    }
}

/// Gives a season up: what is in escrow comes back, and the season ends without a score.
#[utoipa::path(post, path = "/api/seasons/{id}/abandon", tag = "play", operation_id = "abandonSeason",
    security(("session" = [])),
    params(SeasonInPath),
    request_body = Nothing,
    responses(
        (status = 200, description = "It is over; its secret is revealed", body = SeasonEnd),
        (status = 404, description = "SEASON_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "SEASON_COMPLETE, SEASON_EXPIRED", body = ErrorBody),
    ))]
pub(crate) async fn abandon(
    State(service): State<Service>,
    sending: Sending,
    path: InPath<SeasonInPath>,
    _: Valid<Nothing>,
) -> Result<Response, ApiError> {
    let (user_id, season_id) = (sending.session.user_id, path.season_id()?);
    let command = Command::AbandonSeason { user_id, season_id };
    let applied = service.command(&sending, command, None).await?;
    let body = applied.abandoned()?;
    Ok(applied.answer(StatusCode::OK, body))
}

/// Today's weather, chances and multipliers.
#[utoipa::path(get, path = "/api/seasons/{id}/odds", tag = "play", operation_id = "showOdds",
    security(("session" = [])),
    params(SeasonInPath),
    responses(
        (status = 200, description = "The odds of the day that is open", body = Odds),
        (status = 404, description = "NOT_FOUND: there is none in play, or it is not one's own", body = ErrorBody),
    ))]
pub(crate) async fn odds(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    signs: Signs,
    path: InPath<SeasonInPath>,
) -> Result<Response, ApiError> {
    let (user_id, season_id) = (session.user_id, path.season_id()?);
    let reading = service.reading_newest(signs);
    // The engine waits while it is asked: what is counted is counted here.
    let season = service.ask(move |state| {
        let season = state.seasons.get(&season_id).filter(|season| season.user_id == user_id)?;
        Some((season.ruleset, Today::of(season)))
    });
    let (ruleset, today) = season.await?.ok_or(Code::NotFound)?;
    Ok(reading.answer(Odds::of(season_id, ruleset, today).ok_or(Code::Internal)?))
}
