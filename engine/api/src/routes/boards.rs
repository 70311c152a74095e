//! What all players share: the boards, and the jackpot.

use axum::extract::State;
use axum::response::Response;
use daybook_projections::{BoardCursor, LeaderboardRow};
use daybook_schema::{Period, SeasonId, UnixMicros, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::in_path::{BoardInPath, InPath};
use super::pages::{cut, first_second_of};
use crate::accounts::users::Shown;
use crate::commands::Signs;
use crate::error::{ApiError, ErrorBody};
use crate::guards::LoggedInAs;
use crate::reading::{AtLeast, unread};
use crate::service::Service;
use crate::validation::{RequestBody, ValidQuery};

/// Which part of a board.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct BoardAsked {
    /// A UTC day of the period, such as 2026-11-30; today without it.
    #[serde(default)]
    #[param(format = "date")]
    #[schema(pattern = "^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}$", nullable = false)]
    day: Option<String>,
    /// The `next` of the page before.
    #[serde(default)]
    #[schema(
        pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}~[0-9]{1,16}~ldb_[0-9a-f-]{36}$",
        nullable = false
    )]
    after: Option<String>,
    /// At most so many rows.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[schema(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
}

impl RequestBody for BoardAsked {}

impl BoardAsked {
    /// A page goes on with the board of the page before, also where its time ended meanwhile.
    fn at(&self) -> Result<UnixMicros, ApiError> {
        let day = match self.after.as_ref().and_then(|after| after.split_once('~')) {
            Some((first_day, _)) => first_second_of(first_day, "after"),
            None => match &self.day {
                Some(day) => first_second_of(day, "day"),
                None => return Ok(UnixMicros::new(jiff::Timestamp::now().as_microsecond())),
            },
        };
        day.map(UnixMicros::from_seconds)
    }

    fn after(&self) -> Option<BoardCursor> {
        let (_, cursor) = self.after.as_ref()?.split_once('~')?;
        let (score, id) = cursor.split_once('~')?;
        Some(BoardCursor { score: score.parse().ok()?, id: id.to_owned() })
    }
}

/// A page of a board.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BoardPage {
    /// The board.
    #[schema(value_type = String)]
    period: Period,
    /// The period's first UTC day.
    first_day: String,
    /// The rows, best first. Equal scores share a rank: 1, 1, 3.
    rows: Vec<BoardRow>,
    /// One's own row, wherever it stands.
    own: Option<BoardRow>,
    /// Where the next page goes on (`after`), if there is one.
    next: Option<String>,
}

/// A row of a board: a user's best season of the period.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BoardRow {
    /// The row.
    id: String,
    /// The rank.
    rank: i64,
    /// The user.
    #[schema(value_type = String)]
    user_id: UserId,
    /// What the user is called.
    display_name: String,
    /// The user's picture.
    avatar_url: Option<String>,
    /// The season.
    #[schema(value_type = String)]
    season_id: SeasonId,
    /// Its final score.
    score: i64,
    /// When it was completed, in seconds since 1970.
    calculated_at: i64,
}

/// The board of a period: ranked, paged, with one's own rank.
#[utoipa::path(get, path = "/api/leaderboards/{period}", tag = "boards", operation_id = "showLeaderboard",
    security(("session" = [])),
    params(BoardInPath, BoardAsked),
    responses(
        (status = 200, description = "A page", body = BoardPage),
        (status = 404, description = "NOT_FOUND: there is no such board", body = ErrorBody),
    ))]
pub(crate) async fn show(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    at_least: AtLeast,
    path: InPath<BoardInPath>,
    ValidQuery(asked): ValidQuery<BoardAsked>,
) -> Result<Response, ApiError> {
    let (period, at, after) = (path.period()?, asked.at()?, asked.after());
    let limit = asked.limit.unwrap_or(20);
    let reading = service.reading(at_least, &["seasons"]).await?;
    let reads = &service.reads;
    let caller = Some(session.user_id);
    let board = reads.leaderboard(period, at, after.as_ref(), limit + 1, caller).await;
    let mut board = board.map_err(|error| unread(&error))?;
    let first_day = &board.first_day;
    let next = cut(&mut board.rows, limit);
    let next = next.map(|last| format!("{first_day}~{}~{}", last.score, last.id));
    let users: Vec<UserId> = board.rows.iter().chain(&board.own).map(|row| row.user_id).collect();
    let names = service.accounts.shown_names(&users).await?;
    let named = |row: LeaderboardRow| {
        let named = names.get(&row.user_id).cloned();
        // Whoever was erased has none.
        let Shown { display_name, avatar_url } = named.unwrap_or_else(Shown::nobody);
        let LeaderboardRow { rank, id, user_id, season_id, score, calculated_at } = row;
        BoardRow { id, rank, user_id, display_name, avatar_url, season_id, score, calculated_at }
    };
    let rows = board.rows.into_iter().map(named).collect();
    let (first_day, own) = (board.first_day, board.own.map(named));
    Ok(reading.answer(BoardPage { period, first_day, rows, own, next }))
}

/// What is in the jackpot.
#[derive(Serialize, ToSchema)]
pub(crate) struct Jackpot {
    /// In whole coins.
    coins: u64,
}

/// What is in the jackpot, in whole coins. It needs no session.
#[utoipa::path(get, path = "/api/jackpot", tag = "boards", operation_id = "showJackpot",
    responses((status = 200, description = "The jackpot", body = Jackpot)))]
pub(crate) async fn jackpot(
    State(service): State<Service>,
    signs: Signs,
) -> Result<Response, ApiError> {
    let reading = service.reading_newest(signs);
    let coins = service.ask(|state| state.accounts.jackpot_coins()).await?;
    Ok(reading.answer(Jackpot { coins: coins.get() }))
}
