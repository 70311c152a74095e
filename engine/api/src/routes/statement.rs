//! The statement: each movement of a player's coins.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use daybook_projections::{Movement, MovementsAsked};
use daybook_schema::{BetId, SeasonId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::pages::first_second_of;
use crate::error::{ApiError, Code};
use crate::guards::LoggedInAs;
use crate::headers::wants_csv;
use crate::reading::{AtLeast, unread};
use crate::service::Service;
use crate::validation::{RequestBody, ValidQuery};

/// Which movements.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatementAsked {
    /// The first UTC day, such as 2026-11-01.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    from: Option<String>,
    /// The last UTC day, itself included.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    to: Option<String>,
    /// The `next` of the page before.
    #[serde(default)]
    #[schema(pattern = "^[0-9]{1,9}~[0-9]{1,9}$", nullable = false)]
    after: Option<String>,
    /// At most so many movements.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    #[schema(minimum = 1, maximum = 1_000, nullable = false)]
    limit: Option<u32>,
}

impl RequestBody for StatementAsked {}

const DAY_SECONDS: i64 = 86_400;

impl StatementAsked {
    fn movements(&self) -> Result<MovementsAsked, ApiError> {
        let from = self.from.as_ref().map(|day| first_second_of(day, "from")).transpose()?;
        let to = self.to.as_ref().map(|day| first_second_of(day, "to")).transpose()?;
        // An empty answer would read as a player who moved nothing.
        if from.zip(to).is_some_and(|(from, to)| to < from) {
            return Err(ApiError::invalid_field("to", "value", "must not be before from"));
        }
        let after = self.after.as_ref().and_then(|after| {
            let (season, place) = after.split_once('~')?;
            Some((season.parse().ok()?, place.parse().ok()?))
        });
        Ok(MovementsAsked {
            after: after.unwrap_or((0, 0)),
            from: from.unwrap_or(i64::MIN),
            until: to.map_or(i64::MAX, |first| first.saturating_add(DAY_SECONDS)),
            limit: usize::try_from(self.limit.unwrap_or(100)).unwrap_or(100),
        })
    }
}

/// A page of the statement.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatementPage {
    /// The movements, oldest first.
    movements: Vec<StatementRow>,
    /// Where the next page goes on (`after`), if there may be one.
    next: Option<String>,
}

/// A movement of coins.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatementRow {
    /// Its id: the season's number and the movement's place in it.
    #[schema(example = "1~7")]
    id: String,
    /// When, in seconds since 1970.
    moved_at: i64,
    /// start, stipend, bet, payout, stake_returned, jackpot, or end (the balance goes back).
    reason: String,
    /// How many coins came; below zero, went.
    amount: i64,
    /// The balance before it.
    balance_before: i64,
    /// The balance after it.
    balance_after: i64,
    /// The season.
    #[schema(value_type = String)]
    season_id: SeasonId,
    /// The day of the season.
    day_number: i64,
    /// The bet that it is of, if it is of one.
    #[schema(value_type = Option<String>)]
    bet_id: Option<BetId>,
}

impl From<Movement> for StatementRow {
    fn from(movement: Movement) -> Self {
        Self {
            id: format!("{}~{}", movement.season_number, movement.place),
            moved_at: movement.moved_at,
            reason: movement.kind,
            amount: movement.amount,
            balance_before: movement.balance_after - movement.amount,
            balance_after: movement.balance_after,
            season_id: movement.season_id,
            day_number: movement.day_number,
            bet_id: movement.bet_id,
        }
    }
}

/// A movement as a line of CSV, in the order of its columns.
#[derive(Serialize)]
struct CsvRow<'a> {
    id: &'a str,
    time: String,
    reason: &'a str,
    amount: i64,
    balance_before: i64,
    balance_after: i64,
    season_id: String,
    day_number: i64,
    bet_id: Option<String>,
}

impl StatementRow {
    fn csv(&self) -> CsvRow<'_> {
        CsvRow {
            id: &self.id,
            time: jiff::Timestamp::from_second(self.moved_at).unwrap_or_default().to_string(),
            reason: &self.reason,
            amount: self.amount,
            balance_before: self.balance_before,
            balance_after: self.balance_after,
            season_id: self.season_id.to_string(),
            day_number: self.day_number,
            bet_id: self.bet_id.map(|bet_id| bet_id.to_string()),
        }
    }
}

const COLUMNS: [&str; 9] = [
    "id",
    "time",
    "reason",
    "amount",
    "balance_before",
    "balance_after",
    "season_id",
    "day_number",
    "bet_id",
];

/// Movements as CSV, with a line of names also where there are none.
fn csv_of(movements: &[StatementRow]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    movements.iter().try_for_each(|movement| writer.serialize(movement.csv()))?;
    Ok(writer.into_inner().map_err(|error| error.into_error())?)
}

/// Each movement of one's coins: bets, payouts, stipends, the jackpot. JSON, or CSV with
/// `Accept: text/csv`; then `Link` has the next page.
#[utoipa::path(get, path = "/api/auth/me/statement", tag = "accounts", operation_id = "showStatement",
    security(("session" = [])),
    params(StatementAsked),
    responses((status = 200, description = "A page", content(
        (StatementPage = "application/json"), (String = "text/csv"),
    ))))]
pub(crate) async fn show(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    at_least: AtLeast,
    headers: HeaderMap,
    ValidQuery(asked): ValidQuery<StatementAsked>,
) -> Result<Response, ApiError> {
    let movements = asked.movements()?;
    let reading = service.reading(at_least, &["seasons"]).await?;
    let page = service.reads.movements_of(session.user_id, movements).await;
    let page = page.map_err(|error| unread(&error))?;
    let next = page.next.map(|(season, place)| format!("{season}~{place}"));
    let link = next.as_ref().and_then(|next| HeaderValue::try_from(asked.link(next)).ok());
    let movements: Vec<StatementRow> = page.movements.into_iter().map(StatementRow::from).collect();
    let mut response = match wants_csv(&headers) {
        true => {
            let text = csv_of(&movements).map_err(|error| {
                tracing::error!(%error, "a statement cannot be written as CSV");
                ApiError::new(Code::Internal)
            })?;
            reading
                .mark(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response())
        }
        false => reading.answer(StatementPage { movements, next }),
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

impl StatementAsked {
    /// Where the next page is.
    fn link(&self, next: &str) -> String {
        let given = [("from", &self.from), ("to", &self.to)];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}&")));
        let limit = self.limit.map_or(String::new(), |limit| format!("limit={limit}&"));
        let query: String = given.chain([limit]).collect();
        format!("</api/auth/me/statement?{query}after={next}>; rel=\"next\"")
    }
}
