//! A season's days: bets, the day's end, a day as it was, and a client's claim about one.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use daybook_schema::commands::{BetOrder, BetOrders};
use daybook_schema::{Coins, Command, DayNumber, PerPot, Pot, SeasonId, SuspicionCode, limits};
use daybook_simulator::Rejection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::in_path::{DayInPath, InPath, SeasonInPath};
use super::schemas;
use crate::answers::{Advanced, PlacedBets};
use crate::commands::{NotApplied, Sending, Signs};
use crate::error::{ApiError, Detail, ErrorBody};
use crate::guards::{Admitted, LoggedInAs};
use crate::recall::{Recall, Recalled};
use crate::service::{Service, in_full};
use crate::suspicions::Suspicion;
use crate::validation::{RequestBody, Valid, checked, fault};
use daybook_ledger::SubmitError;

/// A bet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct BetOnPot {
    /// The pot.
    #[schema(schema_with = schemas::pots)]
    pot_id: Pot,
    /// How.
    #[schema(schema_with = schemas::bet_types)]
    bet_type: daybook_schema::BetType,
    /// The stake, in whole coins.
    #[schema(value_type = u64, minimum = 0, maximum = 10_000, example = 20)]
    amount: Coins,
}

impl BetOnPot {
    const fn order(&self) -> BetOrder {
        BetOrder { pot_id: self.pot_id, bet_type: self.bet_type, amount: self.amount }
    }
}

/// One bet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct OneBet {
    /// The season once more; it is the path's.
    #[serde(default)]
    #[schema(nullable = false)]
    season_id: Option<String>,
    /// The day that it is meant for: a late copy never bets on the next one.
    #[serde(default)]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 28, nullable = false)]
    expected_day: Option<DayNumber>,
    /// The pot.
    #[schema(schema_with = schemas::pots)]
    pot_id: Pot,
    /// How.
    #[schema(schema_with = schemas::bet_types)]
    bet_type: daybook_schema::BetType,
    /// The stake, in whole coins.
    #[schema(value_type = u64, minimum = 0, maximum = 10_000, example = 20)]
    amount: Coins,
}

impl RequestBody for OneBet {}

/// Several bets: all are placed, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SeveralBets {
    /// The season once more; it is the path's.
    #[serde(default)]
    #[schema(nullable = false)]
    season_id: Option<String>,
    /// The day that they are meant for: a late copy never bets on the next one.
    #[serde(default)]
    #[schema(value_type = Option<u8>, minimum = 1, maximum = 28, nullable = false)]
    expected_day: Option<DayNumber>,
    /// One to four, in the order in which the balance falls.
    #[schema(min_items = 1, max_items = 4)]
    bets: Vec<BetOnPot>,
}

impl RequestBody for SeveralBets {}

/// One bet, or up to four.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Bets {
    /// Up to four.
    Several(SeveralBets),
    /// One.
    One(OneBet),
}

impl RequestBody for Bets {
    fn check(value: Value) -> Result<Self, ApiError> {
        // Told by the form that is meant, so that each field can be named.
        match value.get("bets") {
            Some(_) => checked(value).map(Self::Several),
            None => checked(value).map(Self::One),
        }
    }
}

impl Bets {
    fn orders(&self) -> Result<BetOrders, ApiError> {
        match self {
            Self::One(OneBet { pot_id, bet_type, amount, .. }) => Ok(BetOrders::single(BetOrder {
                pot_id: *pot_id,
                bet_type: *bet_type,
                amount: *amount,
            })),
            Self::Several(several) => {
                let orders: Vec<BetOrder> = several.bets.iter().map(BetOnPot::order).collect();
                let orders = BetOrders::new(&orders);
                orders.map_err(|error| ApiError::invalid_field("bets", "shape", error.to_string()))
            }
        }
    }

    const fn season_id(&self) -> Option<&String> {
        match self {
            Self::One(OneBet { season_id, .. }) | Self::Several(SeveralBets { season_id, .. }) => {
                season_id.as_ref()
            }
        }
    }

    const fn expected_day(&self) -> Option<DayNumber> {
        match self {
            Self::One(OneBet { expected_day, .. })
            | Self::Several(SeveralBets { expected_day, .. }) => *expected_day,
        }
    }
}

/// Refuses a body whose season is another than the path's.
fn check_season(given: Option<&String>, season_id: SeasonId) -> Result<(), ApiError> {
    match given {
        Some(given) if *given != season_id.to_string() => Err(ApiError::invalid(vec![fault(
            "seasonId",
            "value",
            "must be the season of the path",
        )])),
        _ => Ok(()),
    }
}

/// Places a bet, or up to four: all or none. Each takes a token of the class `bet`.
#[utoipa::path(post, path = "/api/seasons/{id}/bets", tag = "play", operation_id = "placeBets",
    security(("session" = [])),
    params(SeasonInPath),
    request_body = Bets,
    responses(
        (status = 201, description = "They are placed; the stakes left the balance", body = PlacedBets),
        (status = 404, description = "SEASON_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "DUPLICATE_BET, INSUFFICIENT_BALANCE, AMOUNT_NOT_ALLOWED, RAPID_BET, WRONG_DAY, NOT_IN_ACTION_PHASE (the season is over), SEASON_EXPIRED", body = ErrorBody),
    ))]
pub(crate) async fn place_bets(
    State(service): State<Service>,
    sending: Sending,
    Extension(admitted): Extension<Admitted>,
    path: InPath<SeasonInPath>,
    Valid(bets): Valid<Bets>,
) -> Result<Response, ApiError> {
    let (user_id, season_id) = (sending.session.user_id, path.season_id()?);
    check_season(bets.season_id(), season_id)?;
    let orders = bets.orders()?;
    // The first was taken when the request came.
    let more = orders.iter().count() - 1;
    let remaining = admitted.take_more(&service, more)?;
    let mut response = in_full(async move {
        let command = Command::PlaceBets { user_id, season_id, bets: orders };
        let applied = match service.command(&sending, command, bets.expected_day()).await {
            Err(error) => {
                let suspicion = Suspicion {
                    user_id,
                    season_id,
                    day_number: bets.expected_day(),
                    code: SuspicionCode::RapidBet,
                };
                if is_rapid(&error) {
                    service.suspicions.raise(suspicion);
                }
                return Err(error.into());
            }
            Ok(applied) => applied,
        };
        let body = applied.placed_bets()?;
        Ok(applied.answer(StatusCode::CREATED, body))
    })
    .await
    .unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(remaining);
    Ok(response)
}

/// Whether a bet came sooner than a person's.
fn is_rapid(error: &NotApplied) -> bool {
    let NotApplied::Submitted(SubmitError::Rejected { rejections, .. }) = error else {
        return false;
    };
    rejections.iter().any(|rejection| matches!(rejection, Rejection::RapidBet { .. }))
}

/// A day to end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Advance {
    /// The season once more; it is the path's.
    #[serde(default)]
    #[schema(nullable = false)]
    season_id: Option<String>,
    /// The day that the player takes to be the current one.
    #[schema(value_type = u8, minimum = 1, maximum = 28, example = 1)]
    expected_day: DayNumber,
}

impl RequestBody for Advance {}

/// Lets the day resolve, and opens the next. The answer has the day's revealed key.
#[utoipa::path(post, path = "/api/seasons/{id}/advance", tag = "play", operation_id = "advanceDay",
    security(("session" = [])),
    params(SeasonInPath),
    request_body = Advance,
    responses(
        (status = 200, description = "The resolved day, and the next one", body = Advanced),
        (status = 404, description = "SEASON_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "WRONG_DAY, SEASON_COMPLETE, SEASON_EXPIRED", body = ErrorBody),
    ))]
pub(crate) async fn advance(
    State(service): State<Service>,
    sending: Sending,
    path: InPath<SeasonInPath>,
    Valid(advance): Valid<Advance>,
) -> Result<Response, ApiError> {
    let (user_id, season_id) = (sending.session.user_id, path.season_id()?);
    check_season(advance.season_id.as_ref(), season_id)?;
    let expected_day = advance.expected_day;
    let command = Command::AdvanceDay { user_id, season_id, expected_day };
    let applied = service.command(&sending, command, None).await?;
    let body = applied.advanced()?;
    Ok(applied.answer(StatusCode::OK, body))
}

/// A resolved day as it was: stakes, draws and the key that they came from, payouts, funds.
#[utoipa::path(get, path = "/api/seasons/{id}/days/{day}", tag = "play", operation_id = "recallDay",
    security(("session" = [])),
    params(DayInPath),
    responses(
        (status = 200, description = "The day", body = Recall),
        (status = 404, description = "NOT_FOUND: no such season of one's own, or it ended before the day did", body = ErrorBody),
        (status = 409, description = "DAY_NOT_RESOLVED", body = ErrorBody),
    ))]
pub(crate) async fn recall(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    signs: Signs,
    path: InPath<DayInPath>,
) -> Result<Response, ApiError> {
    let (season_id, day_number) = (path.season_id()?, path.day_number()?);
    let reading = service.reading_newest(signs);
    let recalled = service.recall(session.user_id, season_id, day_number).await?;
    Ok(reading.answer(recalled.recall))
}

/// What a client takes a resolved day to have been.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Claim {
    /// The season once more; it is the path's.
    #[serde(default)]
    #[schema(nullable = false)]
    season_id: Option<String>,
    /// The pots' levels.
    pot_levels: ClaimedLevels,
    /// The coins that the day earned.
    #[schema(minimum = 0)]
    coins_earned: f64,
}

/// Levels that a client claims.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimedLevels {
    /// Of water.
    water: f64,
    /// Of sun.
    sun: f64,
    /// Of pest.
    pest: f64,
    /// Of growth.
    growth: f64,
}

impl RequestBody for Claim {}

/// What a check found.
#[derive(Serialize, ToSchema)]
pub(crate) struct Checked {
    /// Whether nothing differs.
    valid: bool,
    /// Each difference in a sentence.
    errors: Vec<String>,
    /// The same by field, with `claimed` and `actual`.
    details: Vec<Detail>,
}

/// Levels may differ by 0.01: a client may count with floats, and they are not exact.
const LEVEL_TOLERANCE: f64 = 0.01 + 1e-9;

impl Claim {
    const fn level(&self, pot: Pot) -> f64 {
        let ClaimedLevels { water, sun, pest, growth } = self.pot_levels;
        match pot {
            Pot::Water => water,
            Pot::Sun => sun,
            Pot::Pest => pest,
            Pot::Growth => growth,
        }
    }

    /// What differs, and what that raises.
    fn differences(&self, actual: &Recalled) -> Vec<(SuspicionCode, Detail)> {
        let levels: &PerPot<_> = &actual.pot_levels;
        let mut found: Vec<(SuspicionCode, Detail)> = levels
            .iter()
            .map(|(pot, level)| (pot, self.level(pot), f64::from(level.get())))
            .filter(|(_, claimed, actual)| (claimed - actual).abs() > LEVEL_TOLERANCE)
            .map(|(pot, claimed, actual)| {
                let message = format!("Pot level mismatch for {pot}");
                let detail = Detail::new("LEVEL_MISMATCH", message).of(format!("potLevels.{pot}"));
                (SuspicionCode::LevelManipulation, detail.comparing(claimed, actual))
            })
            .collect();
        // Coins are whole and far below 2^53.
        let most = u32::try_from(actual.coins_max).map_or(f64::MAX, f64::from);
        if self.coins_earned > most {
            let detail = Detail::new("COINS_EXCEEDED", "Coin total exceeds maximum possible");
            let detail = detail.of("coinsEarned").comparing(self.coins_earned, most);
            found.push((SuspicionCode::CoinManipulation, detail));
        }
        found
    }
}

/// Compares a claim about a resolved day with what it was. What differs is listed and, while the
/// season is in play, flagged.
#[utoipa::path(post, path = "/api/seasons/{id}/days/{day}/check", tag = "play", operation_id = "checkDay",
    security(("session" = [])),
    params(DayInPath),
    request_body = Claim,
    responses(
        (status = 200, description = "What differs", body = Checked),
        (status = 404, description = "NOT_FOUND: no such season of one's own, or it ended before the day did", body = ErrorBody),
        (status = 409, description = "DAY_NOT_RESOLVED: before it is, a claim would be an oracle", body = ErrorBody),
    ))]
pub(crate) async fn check(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    signs: Signs,
    path: InPath<DayInPath>,
    Valid(claim): Valid<Claim>,
) -> Result<Response, ApiError> {
    let (season_id, day_number) = (path.season_id()?, path.day_number()?);
    check_season(claim.season_id.as_ref(), season_id)?;
    let (user_id, reading) = (session.user_id, service.reading_newest(signs));
    let actual = service.recall(user_id, season_id, day_number).await?;
    let differences = claim.differences(&actual);
    for (code, _) in differences.iter().filter(|_| !actual.is_over) {
        let (day_number, code) = (Some(day_number), *code);
        service.suspicions.raise(Suspicion { user_id, season_id, day_number, code });
    }
    let details: Vec<Detail> = differences.into_iter().map(|(_, detail)| detail).collect();
    let errors = details.iter().map(|detail| detail.message.clone()).collect();
    Ok(reading.answer(Checked { valid: details.is_empty(), errors, details }))
}

const _: () = assert!(limits::POTS == 4, "the schema of bets says four");
