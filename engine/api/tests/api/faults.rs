//! Guards: what each kind of request is answered while something is wrong is what the document for
//! operators says, cell by cell.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daybook_api::{Scope, Task};
use daybook_ledger::{Options, Time, TimeSource};
use daybook_schema::UnixMicros;
use reqwest::StatusCode;
use serde_json::json;

use crate::client::{Answer, Client, PASSWORD};
use crate::full_disk::{fill, on_a_small_disk};
use crate::house::{House, Stepping, stepping_options};
use crate::nats_server::NatsServer;
use crate::player::Player;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPERATION.md");
const DIRECTORY: &str = "API_FAULTS_FULL_DISK";
const FEW_FILES: &str = "API_FAULTS_FEW_FILES";
const HOUR_MICROS: i64 = 3_600_000_000;
/// Longer than a command waits.
const BUSY_FOR: Duration = Duration::from_millis(400);

/// A service with a player who bets, and a program that reads the feed.
struct Asking {
    house: House,
    ada: Player,
    season: String,
    token: String,
}

impl Asking {
    async fn new(mut house: House) -> Self {
        house.settings.command_wait = BUSY_FOR / 4;
        house.stop().await;
        house.start().await;
        let mut ada = Player::register(&house, "ada").await;
        let season = ada.start().await;
        ada.get("/api/seasons").await.expect(200);
        let (name, scopes, users) = ("audit".to_owned(), vec![Scope::ReadEvents], Vec::new());
        let task = Task::MakeToken { name, scopes, users, by: "ops".to_owned() };
        let token = house.operate(task).await.token.unwrap();
        Self { house, ada, season, token }
    }

    /// Asks for everything, and tells what each was answered. Before each request something is done.
    async fn ask(&mut self, before: impl Fn(&House)) -> Vec<(&'static str, String)> {
        let mut cells = Vec::new();
        let reader = self.house.client();
        let (mut stranger, mut new) = (self.house.client(), self.house.client());
        // Each has a connection before anything is wrong.
        for client in [&reader, &stranger, &new] {
            client.clone().get("/healthz").await.expect(200);
        }
        let bets = json!({ "potId": "sun", "betType": "call", "amount": 1, "expectedDay": 1 });
        for (row, path) in [
            ("`/healthz`", "/healthz".to_owned()),
            ("`/readyz`", "/readyz".to_owned()),
            ("who is logged in", "/api/auth/me".to_owned()),
            ("odds", format!("{}/odds", self.season)),
            ("a season, seasons, boards", "/api/seasons".to_owned()),
            ("the ledger's head", "/api/head".to_owned()),
        ] {
            before(&self.house);
            cells.push((row, cell(&self.ada.get(&path).await)));
        }
        before(&self.house);
        cells.push(("the feed", self.open_feed(&reader).await));
        before(&self.house);
        let bet = self.ada.post(&format!("{}/bets", self.season), bets).await;
        cells.push(("play: bets, days", cell(&bet)));
        before(&self.house);
        cells.push(("log in", cell(&stranger.log_in("ada@farm.example", PASSWORD).await)));
        before(&self.house);
        cells.push(("register", cell(&new.register("bob@farm.example").await)));
        before(&self.house);
        cells.push(("log out", cell(&self.ada.post("/api/auth/logout", json!({})).await)));
        cells
    }

    async fn open_feed(&self, client: &Client) -> String {
        let request = client.request("GET", "/api/events").bearer_auth(&self.token);
        let answer = request.send().await.unwrap();
        if answer.status() == StatusCode::OK {
            return "200".to_owned();
        }
        let status = answer.status().as_u16();
        let body: serde_json::Value = answer.json().await.unwrap();
        format!("{status} `{}`", body["error"].as_str().unwrap())
    }
}

fn cell(answer: &Answer) -> String {
    match answer.body["error"].as_str() {
        Some(code) => format!("{} `{code}`", answer.status),
        None => answer.status.to_string(),
    }
}

/// Holds what was answered to a column of the document's table.
fn expect_documented(column: &str, found: &[(&'static str, String)]) {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let mut lines = document.lines().skip_while(|line| !line.starts_with("| asked for |"));
    let columns = cells(lines.next().expect("the table"));
    let place = columns.iter().position(|name| name == column).expect(column);
    let table: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    let documented: Vec<_> =
        table.iter().map(|row| (row[0].as_str(), row[place].clone())).collect();
    assert_eq!(found, documented, "{column}");
}

#[tokio::test]
async fn a_busy_engine_is_answered_as_the_document_says() {
    let mut asking = Asking::new(House::playing().await).await;
    let busy = asking.ask(|house| {
        // It is asked, whoever waits for it.
        let asked = house.ledger().query(|_| std::thread::sleep(BUSY_FOR)).unwrap();
        tokio::spawn(asked);
    });
    let busy = busy.await;
    expect_documented("engine busy", &busy);
    asking.house.stop().await;
}

#[tokio::test]
async fn a_locked_ledger_is_answered_as_the_document_says() {
    let mut asking = Asking::new(House::playing().await).await;
    let ledger = rusqlite::Connection::open(asking.house.path("ledger.db")).unwrap();
    ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first command finds the lock and waits for it; then others are refused.
    let mut first = asking.ada.clone();
    let season = asking.season.clone();
    let waiting = tokio::spawn(async move {
        let bet = json!({ "potId": "water", "betType": "call", "amount": 1, "expectedDay": 1 });
        first.post(&format!("{season}/bets"), bet).await.expect(201);
    });
    let is_locked = |house: &House| house.ledger().health().locked_for.map(drop);
    asking.house.until("the lock is found", is_locked).await;
    let locked = asking.ask(|_| {}).await;
    ledger.execute_batch("ROLLBACK").unwrap();
    waiting.await.unwrap();
    expect_documented("`ledger.db` locked", &locked);
    asking.house.stop().await;
}

#[tokio::test]
async fn locked_read_models_are_answered_as_the_document_says() {
    let mut asking = Asking::new(House::playing().await).await;
    let game = rusqlite::Connection::open(asking.house.path("game.db")).unwrap();
    game.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = asking.ask(|_| {}).await;
    game.execute_batch("ROLLBACK").unwrap();
    expect_documented("`game.db` locked", &locked);
    asking.house.stop().await;
}

/// The child: it serves on a small disk of its own, which it fills.
#[tokio::test]
async fn child_on_a_small_disk() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let mut asking = Asking::new(House::opened(&directory, stepping_options()).await).await;
    fill(&directory.join("filler"));
    asking.house.client().get("/readyz").await.expect_error(503, "READ_ONLY");
    let full = asking.ask(|_| {}).await;
    expect_documented("disk full", &full);
    println!("\nAS DOCUMENTED");
}

#[test]
fn a_full_disk_is_answered_as_the_document_says() {
    let size = daybook_schema::limits::DISK_FREE_BYTES_MIN + 64 * 1024 * 1024;
    let printed = on_a_small_disk(size, DIRECTORY, "faults::child_on_a_small_disk");
    assert!(printed.contains("AS DOCUMENTED"), "{printed}");
}

#[tokio::test]
async fn a_bus_that_is_away_changes_nothing_for_players() {
    let mut server = NatsServer::start();
    let mut house = House::playing().await;
    house.nats = Some(server.settings());
    let mut asking = Asking::new(house).await;
    server.kill();
    let away = asking.ask(|_| {}).await;
    expect_documented("NATS away", &away);
    asking.house.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_is_answered_as_the_document_says() {
    let jumped = Arc::new(AtomicI64::new(0));
    let mut house = House::playing().await;
    let by_micros = Arc::clone(&jumped);
    house.options = Arc::new(move |data, keys| {
        let clock = Jumping { stepping: Stepping::now(), by_micros: Arc::clone(&by_micros) };
        Options::new(data, keys).time(Time::Source(Box::new(clock)))
    });
    let mut asking = Asking::new(house).await;
    jumped.store(-2 * HOUR_MICROS, Ordering::Relaxed);
    let back = asking.ask(|_| {}).await;
    expect_documented("clock back", &back);
    asking.house.stop().await;
}

/// A clock that is set while it runs.
struct Jumping {
    stepping: Stepping,
    by_micros: Arc<AtomicI64>,
}

impl TimeSource for Jumping {
    fn wall(&mut self) -> UnixMicros {
        self.stepping.wall().plus_micros(self.by_micros.load(Ordering::Relaxed))
    }

    fn monotonic(&mut self) -> Duration {
        self.stepping.monotonic()
    }
}

/// The child: it may open few files, and takes all that are left.
#[tokio::test]
async fn child_with_few_files() {
    if std::env::var_os(FEW_FILES).is_none() {
        return;
    }
    let mut asking = Asking::new(House::playing().await).await;
    let taken = Mutex::new(Vec::new());
    let full = asking.ask(|_| {
        taken.lock().unwrap().extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
    });
    let full = full.await;
    assert!(!taken.into_inner().unwrap().is_empty());
    expect_documented("too few files", &full);
    println!("\nAS DOCUMENTED");
}

#[test]
fn too_few_files_are_answered_as_the_document_says() {
    let test = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 160 && exec \"$@\"", "sh"])
        .arg(test)
        .args(["--exact", "faults::child_with_few_files", "--nocapture"])
        .env(FEW_FILES, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("AS DOCUMENTED"), "{printed}{failed}");
}
