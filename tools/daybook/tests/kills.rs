//! Guards: a service that is killed at any moment leaves no account and no session in the ledger or
//! in accounts.db alone, revives none, and loses no bet.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

#[path = "../../../engine/api/tests/api/client.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod client;
#[expect(dead_code, reason = "not every test uses all of it")]
mod common;
#[path = "common/serving.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod serving;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, PASSWORD};
use common::run;
use daybook_ledger::replay;
use serde_json::{Value, json};
use serving::{Serving, UNLIMITED};

const KILLS: u64 = 12;
const AT_ONCE: u64 = 6;

/// What was answered, and what is under way.
#[derive(Default)]
struct Record {
    /// Tokens that are open.
    open: BTreeSet<String>,
    /// Tokens whose end was answered.
    ended: BTreeSet<String>,
    /// Addresses that were erased.
    erased: BTreeSet<String>,
    /// Addresses of whole accounts.
    registered: BTreeSet<String>,
    number: u64,
}

impl Record {
    fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// One person registers, logs in, logs out and may be erased, until the service is gone. A token
/// that something is done to is neither open nor ended until it is answered.
async fn live(base: String, record: Arc<Mutex<Record>>) {
    loop {
        let number = record.lock().unwrap().number();
        let email = format!("user{number}@farm.example");
        let mut first = Client::new(&base);
        let body = json!({ "email": email, "password": PASSWORD, "displayName": "U" });
        let Some(token) = act(&mut first, "/api/auth/register", body).await else { return };
        {
            let mut record = record.lock().unwrap();
            record.registered.insert(email.clone());
            record.open.insert(token.clone());
        }
        let mut second = Client::new(&base);
        let body = json!({ "email": email, "password": PASSWORD });
        let Some(other) = act(&mut second, "/api/auth/login", body).await else { return };
        record.lock().unwrap().open.insert(other.clone());
        record.lock().unwrap().open.remove(&other);
        if act(&mut second, "/api/auth/logout", json!({})).await.is_none() {
            return;
        }
        record.lock().unwrap().ended.insert(other);
        if number.is_multiple_of(3) {
            {
                let mut record = record.lock().unwrap();
                record.open.remove(&token);
                record.registered.remove(&email);
            }
            let body = json!({ "password": PASSWORD });
            if act(&mut first, "/api/auth/me/erase", body).await.is_none() {
                return;
            }
            let mut record = record.lock().unwrap();
            record.ended.insert(token);
            record.erased.insert(email);
        }
    }
}

/// Sends a request, and gives the session's token then, if it was answered well.
async fn act(client: &mut Client, path: &str, body: serde_json::Value) -> Option<String> {
    let response = client.request("POST", path).json(&body).send().await.ok()?;
    assert!(response.status().is_success(), "{path}: {response:?}");
    let cookies = response.headers().get_all("set-cookie").iter();
    let session = cookies.filter_map(|cookie| cookie.to_str().ok()?.strip_prefix("session="));
    let token =
        session.filter_map(|rest| rest.split(';').next()).next().unwrap_or_default().to_owned();
    client.cookies.insert("session".to_owned(), token.clone());
    Some(token)
}

/// Ledger and accounts say the same.
fn expect_agreement(data: &Path) {
    let state = replay(data, None, |_, _| {}).unwrap().state;
    let database = rusqlite::Connection::open(data.join("accounts.db")).unwrap();
    let rows = |sql: &str| -> BTreeSet<(String, u32)> {
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let alive = state.users.ordered_where(|user| !user.erased).into_iter();
    let users: BTreeSet<(String, u32)> =
        alive.clone().map(|(user_id, _)| (user_id.to_string(), 0)).collect();
    assert_eq!(users, rows("SELECT id, 0 FROM users"), "accounts");
    let sessions: BTreeSet<(String, u32)> = alive
        .flat_map(|(user_id, user)| {
            user.open_sessions.iter().map(move |number| (user_id.to_string(), number.get()))
        })
        .collect();
    assert_eq!(sessions, rows("SELECT user_id, session_number FROM session_numbers"), "sessions");
    assert!(rows("SELECT user_id, 0 FROM pending_users").is_empty());
    assert!(rows("SELECT user_id, 0 FROM erasures").is_empty());
}

async fn expect_record(base: &str, record: &Record) {
    let status = async |token: &String| {
        let mut client = Client::new(base);
        client.cookies.insert("session".to_owned(), token.clone());
        loop {
            let answer = client.get("/api/auth/me").await;
            // So many sessions are looked up for one client, and no more: it waits as it is told.
            let Some(wait) = answer.header("retry-after") else { return answer.status };
            tokio::time::sleep(Duration::from_secs(wait.parse().unwrap())).await;
        }
    };
    for token in &record.open {
        assert_eq!(status(token).await, 200, "a session that was answered is lost");
    }
    for token in &record.ended {
        assert_eq!(status(token).await, 401, "a session that was ended is open again");
    }
    for (emails, expected) in [(&record.registered, 200), (&record.erased, 401)] {
        for email in emails.iter().rev().take(20) {
            let mut client = Client::new(base);
            let answer = client.log_in(email, PASSWORD).await;
            assert_eq!(answer.status, expected, "{email}");
            if answer.status == 200 {
                client.post("/api/auth/logout", json!({})).await.expect(204);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_leave_nothing_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let more =
        [&UNLIMITED[..], &["--failed-logins", "1000", "--failed-logins-per-client", "10000"]]
            .concat();
    let record = Arc::new(Mutex::new(Record::default()));
    let kills = std::env::var("DAYBOOK_LONG").map_or(KILLS, |text| text.parse().unwrap());
    for kill in 0..kills {
        let serving = Serving::start(data, &more);
        expect_agreement(data);
        if kill % 4 == 0 {
            let known = std::mem::take(&mut *record.lock().unwrap());
            expect_record(&serving.base, &known).await;
            *record.lock().unwrap() = known;
        }
        let people: Vec<_> = (0..AT_ONCE)
            .map(|_| tokio::spawn(live(serving.base.clone(), Arc::clone(&record))))
            .collect();
        tokio::time::sleep(Duration::from_millis(40 + 37 * (kill % 11))).await;
        serving.kill();
        for person in people {
            person.await.unwrap();
        }
    }
    let serving = Serving::start(data, &more);
    expect_agreement(data);
    let record = std::mem::take(&mut *record.lock().unwrap());
    expect_record(&serving.base, &record).await;
    assert_eq!(serving.stop().0.code(), Some(0));
    println!(
        "{} kills, {} accounts begun, {} sessions answered",
        kills,
        record.number,
        record.open.len() + record.ended.len()
    );
    let report =
        common::json(&run(&["verify", "--full", "--json", "--data", data.to_str().unwrap()]));
    assert_eq!(report["verdict"], "intact");
}

/// A player who bets on each pot of each day, and lets the day end.
struct Farmer {
    client: Client,
    season: String,
    day: u8,
    pots_left: Vec<&'static str>,
    /// What was sent and not answered: it is sent again under its key.
    under_way: Option<Sent>,
    /// Bets that were answered, by season.
    placed: Vec<(String, usize)>,
}

struct Sent {
    path: String,
    key: String,
    body: Value,
}

const POTS: [&str; 4] = ["water", "sun", "pest", "growth"];

impl Farmer {
    async fn register(base: &str, number: u64) -> Self {
        let mut client = Client::new(base);
        client.register(&format!("farmer{number}@farm.example")).await.expect(201);
        let (season, pots_left) = (String::new(), Vec::new());
        Self { client, season, day: 1, pots_left, under_way: None, placed: Vec::new() }
    }

    /// What comes next; none where the service is gone.
    async fn next(&mut self) -> Option<Sent> {
        let key = daybook_schema::CommandId::random().to_string();
        if self.season.is_empty() || self.day > 28 {
            let next = self.client.request("GET", "/api/fairness/next").send().await.ok()?;
            let next: Value = next.json().await.ok()?;
            let body = json!({ "commitment": next["commitment"] });
            return Some(Sent { path: "/api/seasons".to_owned(), key, body });
        }
        let (season, day) = (&self.season, self.day);
        Some(match self.pots_left.last() {
            Some(pot) => {
                let body =
                    json!({ "potId": pot, "betType": "fold", "amount": 0, "expectedDay": day });
                Sent { path: format!("/api/seasons/{season}/bets"), key, body }
            }
            None => {
                let body = json!({ "expectedDay": day });
                Sent { path: format!("/api/seasons/{season}/advance"), key, body }
            }
        })
    }

    /// A command was answered.
    fn done(&mut self, sent: &Sent, answer: &Value) {
        if sent.path == "/api/seasons" {
            self.season = answer["season"]["id"].as_str().unwrap().to_owned();
            (self.day, self.pots_left) = (1, POTS.to_vec());
            self.placed.push((self.season.clone(), 0));
        } else if sent.path.ends_with("/bets") {
            self.pots_left.pop();
            self.placed.last_mut().unwrap().1 += 1;
        } else {
            self.day += 1;
            self.pots_left = POTS.to_vec();
        }
    }

    /// Plays until the service is gone.
    async fn play(mut self) -> Self {
        loop {
            let sent = match self.under_way.take() {
                Some(sent) => sent,
                None => match self.next().await {
                    Some(sent) => sent,
                    None => return self,
                },
            };
            let request = self.client.request("POST", &sent.path).json(&sent.body);
            let answered = async {
                let answer = request.header("idempotency-key", &sent.key).send().await.ok()?;
                let status = answer.status().as_u16();
                Some((status, answer.json::<Value>().await.ok()?))
            };
            match answered.await {
                Some((200 | 201, answer)) => self.done(&sent, &answer),
                Some((409, answer)) if answer["error"] == "RAPID_BET" => {
                    self.under_way = Some(sent);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // It is starting, or about to end: certainly not applied now.
                Some((503, _)) | None => {
                    self.under_way = Some(sent);
                    return self;
                }
                Some((status, answer)) => panic!("{}: {status} {answer}", sent.path),
            }
        }
    }

    /// All bets that were answered are there.
    async fn expect_bets(&mut self) {
        for (season, placed) in self.placed.iter().rev().take(2) {
            let shown = self.client.get(&format!("/api/seasons/{season}")).await.expect(200).body;
            let there = shown["bets"].as_array().unwrap().len();
            // One more may have been placed and not answered.
            assert!((*placed..=placed + 1).contains(&there), "{there} of {placed}");
        }
    }
}

/// No bet that was answered is lost, and none is placed twice, however often the service is killed
/// while it is played.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_no_bet_and_place_none_twice() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let more =
        [&UNLIMITED[..], &["--bet-limit", "1000000/1000000", "--read-wait", "20000"]].concat();
    let kills = std::env::var("DAYBOOK_LONG").map_or(KILLS, |text| text.parse().unwrap());
    let mut farmers: Vec<Farmer> = Vec::new();
    for kill in 0..=kills {
        let serving = Serving::start(data, &more);
        for number in farmers.len()..16 {
            farmers.push(Farmer::register(&serving.base, number as u64).await);
        }
        for farmer in &mut farmers {
            farmer.client.base.clone_from(&serving.base);
            farmer.expect_bets().await;
        }
        if kill == kills {
            assert_eq!(serving.stop().0.code(), Some(0));
            break;
        }
        let playing: Vec<_> = farmers.drain(..).map(|farmer| tokio::spawn(farmer.play())).collect();
        tokio::time::sleep(Duration::from_millis(60 + 41 * (kill % 9))).await;
        serving.kill();
        for farmer in playing {
            farmers.push(farmer.await.unwrap());
        }
    }
    let answered: usize = farmers.iter().flat_map(|farmer| &farmer.placed).map(|it| it.1).sum();
    let open = farmers.iter().filter(|farmer| {
        farmer.under_way.as_ref().is_some_and(|sent| sent.path.ends_with("/bets"))
    });
    let reader = daybook_ledger::Reader::open(data).unwrap();
    let kinds = [daybook_schema::EventKind::BetPlaced];
    let placed = reader.events_of_kinds(&kinds, daybook_schema::Seq::MIN).count();
    assert!((answered..=answered + open.count()).contains(&placed), "{placed} of {answered}");
    println!("{kills} kills, {answered} bets answered, {placed} placed");
    let report =
        common::json(&run(&["verify", "--full", "--json", "--data", data.to_str().unwrap()]));
    assert_eq!(report["verdict"], "intact");
}

/// Sends telemetry until the service is gone; gives the ids that were answered.
async fn tell(base: String) -> Vec<String> {
    let (client, mut answered) = (reqwest::Client::new(), Vec::new());
    loop {
        let ids: Vec<String> =
            (0..10).map(|_| daybook_schema::CommandId::random().to_string()).collect();
        let event = |id: &String| {
            json!({
                "eventId": id, "eventType": "session_start", "timestamp": 1, "sessionId": "one",
                "properties": {}, "context": { "appVersion": "1", "platform": "web",
                "screenWidth": 1, "screenHeight": 1, "locale": "en", "timezone": "UTC" } })
        };
        let body = json!({ "events": ids.iter().map(event).collect::<Vec<Value>>() });
        let sent = client.post(format!("{base}/api/telemetry")).json(&body).send().await;
        match sent {
            Ok(answer) if answer.status() == 200 => answered.extend(ids),
            _ => return answered,
        }
    }
}

/// Guards: telemetry that was answered is stored, whenever the service is killed.
#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_no_telemetry_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let limits = [
        "--telemetry-limit",
        "1000000/1000000",
        "--telemetry-per-client",
        "1000000",
        "--telemetry-free-disk",
        "1",
    ];
    let options = [&UNLIMITED[..], &limits].concat();
    let mut answered = Vec::new();
    for kill in 0..4 {
        let serving = Serving::start(directory.path(), &options);
        let telling: Vec<_> = (0..6).map(|_| tokio::spawn(tell(serving.base.clone()))).collect();
        tokio::time::sleep(Duration::from_millis(300 + kill * 70)).await;
        serving.kill();
        for told in telling {
            answered.extend(told.await.unwrap());
        }
    }
    let serving = Serving::start(directory.path(), &options);
    serving.stop();
    let path = directory.path().join("telemetry.db");
    let database = rusqlite::Connection::open(path).unwrap();
    let mut ids = database.prepare("SELECT event_id FROM telemetry_events").unwrap();
    let stored: BTreeSet<String> =
        ids.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(answered.len() > 200, "{} events were answered", answered.len());
    assert!(answered.iter().all(|id| stored.contains(id)));
}
