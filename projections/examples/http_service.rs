//! A game's HTTP service on the libraries, as small as it can be: it shows what a service needs of
//! them.
//!
//! `cargo run -p daybook-projections --example http_service -- DATA_DIR` makes a ledger there and
//! serves it on a port that it prints. It has no accounts and no limits: `X-User` says who one is,
//! and `Idempotency-Key` holds the command's id, a UUIDv7.

use std::future::IntoFuture;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::extract::{Path as InPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use daybook_ledger::{Ledger, NewLedger, Options, Submission, SubmitError};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, Reads, Workers, all_projections,
};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{Command, Commitment, SeasonId, Seq};
use daybook_simulator::{Keyring, RejectionClass, SeasonKey};
use futures_util::stream;
use serde_json::{Value, json};

type Refusal = (StatusCode, Json<Value>);
type Answer = Result<Json<Value>, Refusal>;

/// A ledger, and what is read of it.
#[derive(Clone)]
struct Service {
    ledger: Ledger,
    reads: Reads,
}

/// A refusal: the class gives the status, code and values the body.
fn refused(error: SubmitError) -> Refusal {
    let (class, details) = match &error {
        SubmitError::Rejected { rejections, .. } => (rejections.first().class(), json!(rejections)),
        SubmitError::Conflict { .. } | SubmitError::Expired { .. } => {
            (RejectionClass::Rule, json!([]))
        }
        _ => (RejectionClass::Unavailable, json!([])),
    };
    let status = match class {
        RejectionClass::NotFound => StatusCode::NOT_FOUND,
        RejectionClass::Incomplete => StatusCode::BAD_REQUEST,
        RejectionClass::Rule => StatusCode::CONFLICT,
        RejectionClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({ "error": error.code(), "message": error.to_string(), "details": details });
    (status, Json(body))
}

fn failed(error: impl ToString) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "message": error.to_string() })))
}

fn header<T: FromStr<Err: ToString>>(headers: &HeaderMap, name: &str) -> Result<T, Refusal> {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.parse().map_err(|error: T::Err| {
        (StatusCode::BAD_REQUEST, Json(json!({ "message": error.to_string() })))
    })
}

impl Service {
    /// Submits a command, which waits 200 ms for its turn at most.
    async fn submit(&self, headers: &HeaderMap, command: Command) -> Answer {
        let deadline = Instant::now() + Duration::from_millis(200);
        let id = header(headers, "idempotency-key")?;
        let submission = Submission::new(command).with_id(id).before(deadline);
        let accepted = self.ledger.submit(submission).map_err(refused)?.await.map_err(refused)?;
        Ok(Json(json!(accepted)))
    }
}

async fn register(State(service): State<Service>, headers: HeaderMap) -> Answer {
    let user_id = header(&headers, "x-user")?;
    service.submit(&headers, Command::RegisterUser { user_id }).await
}

/// Starts a season with the commitment that the player saw: a retry is the same command, and finds
/// the first.
async fn start(
    State(service): State<Service>,
    headers: HeaderMap,
    Json(commitment): Json<Commitment>,
) -> Answer {
    let (user_id, client_seed) = (header(&headers, "x-user")?, ClientSeed::CommandId);
    let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id: None };
    service.submit(&headers, start).await
}

async fn bet(
    State(service): State<Service>,
    InPath(season_id): InPath<SeasonId>,
    headers: HeaderMap,
    Json(order): Json<BetOrder>,
) -> Answer {
    let (user_id, bets) = (header(&headers, "x-user")?, BetOrders::single(order));
    service.submit(&headers, Command::PlaceBets { user_id, season_id, bets }).await
}

/// A season as `game.db` has it, not before `X-Ledger-At-Least`: one's own bet is in it.
async fn season(
    State(Service { reads, .. }): State<Service>,
    InPath(season_id): InPath<SeasonId>,
    headers: HeaderMap,
) -> Answer {
    let (at_least, wait) = (header(&headers, "x-ledger-at-least")?, Duration::from_millis(500));
    let stands_for = reads.wait_for(&["seasons"], at_least, wait).await.map_err(failed)?;
    let season = reads.season_with_details(season_id).await.map_err(failed)?;
    Ok(Json(json!({ "season": season, "standsFor": stands_for })))
}

/// All events from a seq on, those that come included.
async fn events(
    State(service): State<Service>,
    InPath(from): InPath<Seq>,
) -> Result<impl IntoResponse, Refusal> {
    let subscription = service.ledger.subscribe(from).map_err(failed)?;
    Ok(Sse::new(stream::unfold(subscription, async |mut subscription| {
        let cut = subscription.next().await.ok().flatten()?;
        Some((Event::default().json_data(&*cut), subscription))
    })))
}

/// Serves a ledger until the engine stops or Ctrl-C.
pub async fn serve(
    data_dir: &Path,
    key: SeasonKey,
    listener: tokio::net::TcpListener,
) -> Result<()> {
    let key_id = key.key_id();
    let options = Options::new(data_dir, Keyring::new([key])).create(NewLedger::random());
    let ledger = Ledger::open(options)?;
    if ledger.head().seq == 0 {
        let rotate = Command::RotateKey { key_id, compromised: false };
        ledger.submit(Submission::new(rotate))?.await?;
    }
    let path = data_dir.join("game.db");
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await?;
    let workers = Workers::start(&database, &all_projections(), &FeedSource::ledger(&ledger));
    let service = Service { ledger: ledger.clone(), reads: Reads::new(&database) };
    let router = Router::new()
        .route("/users", post(register))
        .route("/seasons", post(start))
        .route("/seasons/{id}", get(season))
        .route("/seasons/{id}/bets", post(bet))
        .route("/events/{from}", get(events))
        .with_state(service);
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served?,
        why = ledger.stopped() => eprintln!("{why}"),
    }
    workers.stop().await;
    ledger.close().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let data_dir = std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("DATA_DIR"))?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    // A real service keeps its keys: `daybook_ledger::keys`.
    serve(Path::new(&data_dir), SeasonKey::new([7; 32]), listener).await
}
