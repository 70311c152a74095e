//! Guards: a service that is killed at any moment leaves no account and no session in the ledger or
//! in accounts.db alone, and revives none.
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
use serde_json::json;
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
    let alive = state.users.iter().filter(|(_, user)| !user.erased);
    let users: BTreeSet<(String, u32)> =
        alive.clone().map(|(user_id, _)| (user_id.to_string(), 0)).collect();
    assert_eq!(users, rows("SELECT id, 0 FROM users"), "accounts");
    let sessions: BTreeSet<(String, u32)> = alive
        .flat_map(|(user_id, user)| {
            user.open_sessions.iter().map(|number| (user_id.to_string(), number.get()))
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
