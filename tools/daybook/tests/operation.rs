//! Guards: what an operator does to a running service and reads of it, by the command.
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

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use client::Client;
use common::{json, run};
use serde_json::Value;
use serving::{Serving, UNLIMITED};

fn done(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    json(&output)
}

fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Bots play, and every head that they were answered is in the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_play_and_the_ledger_is_held_to_what_they_were_answered() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (data, sessions) = (data.to_str().unwrap(), directory.path().join("bots.jsonl"));
    let sessions = sessions.to_str().unwrap();
    let serving = Serving::start(data.as_ref(), &UNLIMITED);
    assert!(refused(&["load", "--sessions", sessions]).contains("`daybook user bots` makes it"));
    let made = run(&["user", "bots", "60", "--sessions", sessions, "--data", data]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let lines = std::fs::read_to_string(sessions).unwrap();
    assert_eq!(lines.lines().count(), 60);
    // A file that is there is not written over: it may be the last to have sessions.
    assert!(
        refused(&["user", "bots", "1", "--sessions", sessions, "--data", data])
            .contains("cannot be written")
    );
    let base = serving.base.clone();
    let load = |more: &[&str]| {
        let usual = [
            "load",
            "--url",
            &base,
            "--sessions",
            sessions,
            "--rate",
            "60",
            "--seconds",
            "3",
            "--json",
        ];
        done(&[&usual[..], more].concat())
    };
    let report = load(&["--ledger", data]);
    assert_eq!(report["heads_lost"], 0);
    assert_eq!(report["refused"], serde_json::json!([]), "{report}");
    assert!(report["answered"].as_u64().unwrap() >= 60, "{report}");
    let status = run(&["load", "--url", "http://127.0.0.1:1", "--sessions", sessions]);
    assert_eq!(status.status.code(), Some(2));
    // Bots are nobody's: no password opens one.
    let bot: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let mut client = Client::new(&serving.base);
    let email = format!("bot+{}@bots.invalid", bot["userId"].as_str().unwrap());
    client.log_in(&email, "a pail of cold water").await.expect(400);
    assert_eq!(serving.stop().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_printed_and_scraped() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.to_str().unwrap();
    assert!(refused(&["stats", "--data", data]).contains("no service runs in"));
    // A port that is free now.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // One that is named and taken is no reason to go on without it.
    let taken = refused(&[
        "serve",
        "--data",
        data,
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        &address,
    ]);
    assert!(taken.contains("name another address with --metrics-listen"), "{taken}");
    drop(listener);
    let more = [&UNLIMITED[..], &["--metrics-listen", &address]].concat();
    let serving = Serving::start(data.as_ref(), &more);
    let mut ada = Client::new(&serving.base);
    ada.register("ada@farm.example").await.expect(201);
    ada.get("/api/no/such/route").await.expect(404);
    let stats = done(&["stats", "--json", "--data", data]);
    let head = ada.get("/api/head").await.expect(200);
    let head = head.header("x-ledger-head").unwrap();
    assert_eq!(stats["ledger"]["head"], head);
    assert_eq!(
        (&stats["people"]["accounts"], &stats["people"]["sessions"]),
        (&1.into(), &1.into())
    );
    let count = |stats: &Value, route: &str, status: u16| {
        let requests = stats["requests"].as_array().unwrap().iter();
        let mut of_route = requests.filter(|it| it["route"] == route && it["status"] == status);
        of_route.next().map(|it| it["count"].as_u64().unwrap())
    };
    assert_eq!(count(&stats, "/api/auth/register", 201), Some(1));
    assert_eq!(count(&stats, "none", 404), Some(1), "a path that a client makes up is no label");
    let metrics = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
    assert!(metrics.status().is_success());
    let metrics = metrics.text().await.unwrap();
    let events = metrics.lines().find_map(|line| line.strip_prefix("daybook_events_total "));
    assert_eq!(events, head.split(':').next());
    assert!(metrics.ends_with("# EOF\n") && !metrics.contains("usr_"));
    // It has nothing else.
    for path in ["/", "/api/head", "/healthz"] {
        let other = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        assert_eq!(other.status().as_u16(), 404, "{path}");
    }
    // Whoever holds connections there holds nobody else's, and not for long.
    let mut held: Vec<_> = (0..40).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut held {
        // One too many is closed at once.
        drop(stream.write_all(b"GET /met"));
    }
    let mut last = held.pop().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(!matches!(last.read(&mut [0; 64]), Ok(1..)), "it is closed unanswered");
    ada.get("/healthz").await.expect(200);
    drop(held);
    // Many users at once are named, or told of.
    let users = directory.path().join("users");
    let many: Vec<String> =
        (0..60_000).map(|_| daybook_schema::UserId::random().to_string()).collect();
    std::fs::write(&users, many.join("\n")).unwrap();
    let users = users.to_str().unwrap();
    let scope = ["--scope", "play", "--users", users, "--data", data];
    let unknown = refused(&[&["user", "token", "many"], &scope[..]].concat());
    assert!(unknown.contains(&format!("there is no user `{}`", many[0])), "{unknown}");
    // Pauses show.
    let paused = done(&["pause", "--reason", "moving", "--json", "--data", data]);
    assert_eq!((&paused["id"], &paused["pause"]["reason"]), (&"all".into(), &"moving".into()));
    assert_eq!(done(&["stats", "--json", "--data", data])["isPaused"], true);
    done(&["resume", "--json", "--data", data]);
    assert!(refused(&["resume", "--data", data]).contains("play is not paused"));
    // A token is printed once, and listed without itself.
    let made =
        done(&["user", "token", "audit", "--scope", "read-events", "--json", "--data", data]);
    let token = made["token"].as_str().unwrap();
    let listed = done(&["user", "tokens", "--json", "--data", data]);
    assert_eq!(listed["tokens"][0]["name"], "audit");
    assert!(!listed.to_string().contains(token));
    // One that is hung is told of.
    serving::signal(&serving.child, "STOP");
    let hung = refused(&["stats", "--data", data]);
    serving::signal(&serving.child, "CONT");
    assert!(hung.contains("the running service does not answer"), "{hung}");
    assert_eq!(serving.stop().0.code(), Some(0));
    // Without a service the command does it itself.
    done(&["user", "revoke-token", "audit", "--json", "--data", data]);
    assert!(
        done(&["user", "tokens", "--json", "--data", data])["tokens"][0]["revokedAt"].is_number()
    );
}
