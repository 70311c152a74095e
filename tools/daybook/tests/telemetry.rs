//! Guards: on a demo the seed's own queries over telemetry give what the ledger gives, and what
//! differs is counted.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected stops"
)]

#[expect(dead_code, reason = "not every test uses all of it")]
mod common;
#[path = "common/serving.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod serving;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use common::{json, run};
use daybook_ledger::Reader;
use daybook_schema::{EventKind, Seq};
use rusqlite::Connection;
use serving::{Serving, UNLIMITED};

const DAY_MS: i64 = 86_400_000;

/// The seed's `getDailyActiveUsers` and `getRetentionRate`, as they stand there.
const SEEDS_DAU: &str = include_str!("../../../schema/sql/seed_daily_active_users.sql");
const SEEDS_RETENTION: &str = include_str!("../../../schema/sql/seed_retention.sql");

fn count(users: &BTreeSet<String>) -> i64 {
    i64::try_from(users.len()).unwrap()
}

/// Users by day, without those who were erased.
fn user_days(data: &Path) -> Vec<(String, BTreeSet<String>)> {
    let reader = Reader::open(data).unwrap();
    let erased: BTreeSet<String> = reader
        .events_of_kinds(&[EventKind::UserErased], Seq::MIN)
        .map(|event| event.unwrap().header.stream.as_user().to_string())
        .collect();
    assert!(!erased.is_empty(), "a demo where somebody leaves for good");
    let database = Connection::open(data.join("game.db")).unwrap();
    let sql = "SELECT day, json_group_array(user_id) FROM user_days GROUP BY day ORDER BY day";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    let of_day = |users: String| -> BTreeSet<String> {
        let users: BTreeSet<String> = serde_json::from_str(&users).unwrap();
        users.difference(&erased).cloned().collect()
    };
    rows.map(|row| row.unwrap()).map(|(day, users)| (day, of_day(users))).collect()
}

#[test]
fn the_operators_tasks_take_nothing_out() {
    let directory = tempfile::tempdir().unwrap();
    let named = directory.path().to_str().unwrap();
    Serving::start(directory.path(), &UNLIMITED).stop();
    let old = "INSERT INTO telemetry_events VALUES ('old', 'error', 1, 's', NULL, '{}', '{}', 1, 1, \
               NULL, NULL, NULL, NULL)";
    let telemetry = || Connection::open(directory.path().join("telemetry.db")).unwrap();
    telemetry().execute(old, []).unwrap();
    let asked = run(&["user", "show", "nobody@farm.example", "--data", named]);
    assert_eq!(asked.status.code(), Some(2));
    let left = "SELECT count(*) FROM telemetry_events WHERE event_id = 'old'";
    assert_eq!(telemetry().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    // The service does: it knows how long is kept.
    let serving = Serving::start(directory.path(), &UNLIMITED);
    while telemetry().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    serving.stop();
}

/// Guards: whatever is wrong with telemetry.db, requests leave nothing behind in the process.
#[tokio::test]
async fn a_file_whose_writes_fail_costs_the_service_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--telemetry-limit", "1000000/1000000", "--telemetry-free-disk", "1"];
    let serving = Serving::start(directory.path(), &[&UNLIMITED[..], &options].concat());
    let telemetry = Connection::open(directory.path().join("telemetry.db")).unwrap();
    let refusing = "CREATE TRIGGER refusing BEFORE INSERT ON telemetry_events \
                    BEGIN SELECT RAISE(ABORT, 'no'); END";
    telemetry.execute_batch(refusing).unwrap();
    let held = || -> usize {
        let process = format!("/proc/{}", serving.child.id());
        let count = |of: &str| std::fs::read_dir(format!("{process}/{of}")).unwrap().count();
        count("fd") + count("task")
    };
    let post = async || {
        let body = serde_json::json!({ "events": [{
            "eventId": daybook_schema::CommandId::random().to_string(), "eventType": "session_end",
            "timestamp": 1, "sessionId": "s", "properties": { "duration_ms": 1, "days_played": 1 },
            "context": { "appVersion": "1", "platform": "web", "screenWidth": 1, "screenHeight": 1,
                         "locale": "en", "timezone": "UTC" } }] });
        let client = reqwest::Client::new();
        let sent = client.post(format!("{}/api/telemetry", serving.base)).json(&body).send();
        sent.await.unwrap().status().as_u16()
    };
    assert_eq!(post().await, 503);
    let before = held();
    for _ in 0..60 {
        assert_eq!(post().await, 503);
    }
    telemetry.execute_batch("DROP TRIGGER refusing; DROP TABLE telemetry_events").unwrap();
    for _ in 0..60 {
        assert_eq!(post().await, 503);
    }
    assert!(held() < before + 30, "{} were held, now {}", before, held());
}

#[test]
fn the_seeds_queries_give_what_the_ledger_gives_and_what_differs_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let named = data.to_str().unwrap();
    let arguments = ["demo", "--players", "40", "--days", "16", "--seed", "5", "--data", named];
    let demo = json(&run(&[&arguments[..], &["--json"]].concat()));
    assert!(demo["telemetry_events"].as_u64().unwrap() > 10_000);
    let days = user_days(&data);
    assert!(days.len() >= 16);
    let telemetry = Connection::open(data.join("telemetry.db")).unwrap();
    for (index, (day, users)) in days.iter().enumerate() {
        let begins = format!("SELECT unixepoch('{day}') * 1000");
        let begins: i64 = telemetry.query_row(&begins, [], |row| row.get(0)).unwrap();
        let ends = begins + DAY_MS - 1;
        let dau: i64 = telemetry.query_row(SEEDS_DAU, [begins, ends], |row| row.get(0)).unwrap();
        assert_eq!(dau, count(users), "{day}");
        for (later, (_, then)) in (0_i64..).zip(&days[index..]) {
            let counts =
                |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            let given = telemetry.query_row(SEEDS_RETENTION, (day, later), counts).unwrap();
            assert_eq!(given, (count(users), count(&(users & then))), "{day} + {later}");
        }
    }
    // They read indexes alone, and of these the part that they need.
    for sql in [SEEDS_DAU, SEEDS_RETENTION] {
        let mut plan = telemetry.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map(["2026-01-05", "1"], |row| row.get::<_, String>(3)).unwrap();
        for step in steps.map(Result::unwrap).filter(|step| step.contains("telemetry_events")) {
            assert!(step.starts_with("SEARCH") && step.contains("COVERING"), "{step}");
        }
    }

    let compared =
        || json(&run(&["analytics", "compare", "--json", "--data", named]))["days"].clone();
    for day in compared().as_array().unwrap() {
        assert_eq!(day["ledgerUsers"], day["telemetryUsers"], "{day}");
        assert_eq!((&day["onlyLedger"], &day["onlyTelemetry"]), (&0.into(), &0.into()));
        assert_eq!(day["ledgerBets"], day["telemetryBets"], "{day}");
    }
    // Who logged in after the visit began was seen all the same.
    telemetry
        .execute(
            "DELETE FROM telemetry_events WHERE event_type = 'session_start' AND user_id = ?1",
            [days[0].1.first().unwrap()],
        )
        .unwrap();
    assert!(compared().as_array().unwrap().iter().all(|day| day["onlyLedger"] == 0));
    let backwards = ["--from", "2026-01-09", "--until", "2026-01-08", "--data", named];
    let backwards = run(&[&["analytics", "compare"][..], &backwards].concat());
    assert_eq!(backwards.status.code(), Some(2));
    // Two clients are blocked, and a visit is forged with a bet.
    let (day, users) = &days[3];
    let blocked: Vec<&String> = users.iter().take(2).collect();
    telemetry
        .execute("DELETE FROM telemetry_events WHERE user_id IN (?1, ?2)", [blocked[0], blocked[1]])
        .unwrap();
    for (id, event_type) in [("a", "session_start"), ("b", "bet_placed")] {
        let forge = "INSERT INTO telemetry_events SELECT ?1, ?2, timestamp, 'x', 'usr_forged', '{}', '{}', \
                     timestamp, timestamp, NULL, NULL, NULL, NULL FROM telemetry_events \
                     WHERE date(timestamp / 1000, 'unixepoch') = ?3 LIMIT 1";
        telemetry.execute(forge, [id, event_type, day]).unwrap();
    }
    let compared = compared();
    let differs = compared.as_array().unwrap().iter().find(|it| it["day"] == **day).unwrap();
    assert_eq!((&differs["onlyLedger"], &differs["onlyTelemetry"]), (&2.into(), &1.into()));
    assert_eq!(differs["telemetryUsers"], users.len() - 1);
    let bets = differs["ledgerBets"].as_i64().unwrap() - differs["telemetryBets"].as_i64().unwrap();
    assert!(bets > 0, "the bets of the blocked clients are missing: {differs}");
    let from = ["analytics", "compare", "--from", day, "--until", day, "--json", "--data", named];
    assert_eq!(json(&run(&from))["days"].as_array().unwrap().len(), 1);
    let text = run(&["analytics", "compare", "--data", named]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("are missing from telemetry"));
    std::fs::remove_file(data.join("telemetry.db")).unwrap();
    let missing = run(&["analytics", "compare", "--data", named]);
    assert_eq!(missing.status.code(), Some(2));

    // A demo's telemetry is as old as its clock, and is served all the same.
    run(&arguments);
    Serving::start(&data, &[&UNLIMITED[..], &["--demo"]].concat()).stop();
    let all = "SELECT count(*) FROM telemetry_events WHERE server_timestamp < 1772000000000";
    let left = Connection::open(data.join("telemetry.db")).unwrap();
    let left: i64 = left.query_row(all, [], |row| row.get(0)).unwrap();
    assert!(left > 10_000, "{left}");

    // The same seed tells the same again.
    let told = || -> String {
        let database = Connection::open(data.join("telemetry.db")).unwrap();
        let all = "SELECT group_concat(event_id || timestamp || properties) FROM \
                   (SELECT * FROM telemetry_events ORDER BY rowid LIMIT 20000)";
        database.query_row(all, [], |row| row.get(0)).unwrap()
    };
    run(&arguments);
    let first = told();
    run(&arguments);
    assert_eq!(told(), first);
}
