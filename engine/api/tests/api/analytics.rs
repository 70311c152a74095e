//! Guards: what an analyst asks is answered to admins alone, as the ledger has it.

use daybook_api::Task;
use daybook_schema::Role;
use serde_json::{Value, json};

use crate::client::Client;
use crate::house::House;
use crate::player::Player;
use crate::telemetry::{error, send};

const TABLES: [&str; 6] = ["dau", "retention", "funnel", "bets", "sessions", "coins"];

/// A house where eve registered, and then ada, an admin, played a day.
async fn played() -> (House, Player) {
    let house = House::playing().await;
    Player::register(&house, "eve").await;
    let mut ada = Player::register(&house, "ada").await;
    let user = "ada@farm.example".to_owned();
    house.operate(Task::SetRole { user, role: Role::Admin }).await;
    let season = ada.start().await;
    ada.bet_on_all(&season).await.expect(201);
    ada.advance(&season, 1).await;
    (house, ada)
}

async fn csv(client: &mut Client, path: &str) -> String {
    let request = client.request("GET", path).header("accept", "text/csv");
    let answer = client.send(request).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    answer.body.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_admin_asks_what_the_ledger_knows() {
    let (_house, mut ada) = played().await;
    let client = &mut ada.client;
    let days = client.get("/api/analytics/dau").await.expect(200);
    assert!(days.header("x-ledger-head").is_some());
    let day = &days.body["days"][0];
    let today = jiff::Timestamp::now().strftime("%F").to_string();
    let expected = json!({ "day": today, "dau": 2, "new": 2, "returning": 0, "wau": 2, "mau": 2,
                           "stickiness": 1.0, "partial": true });
    assert_eq!(*day, expected);
    let retention = client.get("/api/analytics/retention").await.expect(200).body;
    assert_eq!(retention["cohorts"][0]["cohortSize"], 2);
    assert_eq!(retention["cohorts"][0]["retained"], json!([null]), "today is not over");
    let funnel = client.get("/api/analytics/funnel").await.expect(200).body;
    let users: Vec<u64> = funnel["steps"].as_array().unwrap().iter().map(of_users).collect();
    assert_eq!(users, [2, 1, 1, 0, 0]);
    let bets = client.get("/api/analytics/bets").await.expect(200).body;
    assert_eq!((&bets["all"]["bets"], &bets["rows"][0]["day"]), (&json!(4), &Value::Null));
    let staked = bets["all"]["staked"].as_u64().unwrap();
    let by_day = client.get("/api/analytics/bets?by=day").await.expect(200).body;
    assert_eq!(by_day["rows"][0]["day"], json!(today));
    let sessions = client.get("/api/analytics/sessions").await.expect(200).body;
    assert_eq!(
        (&sessions["days"][0]["sessions"], &sessions["days"][0]["users"]),
        (&json!(2), &json!(2))
    );
    let coins = client.get("/api/analytics/coins").await.expect(200).body["days"][0].clone();
    assert_eq!((&coins["started"], &coins["staked"]), (&json!(500), &json!(staked)));
    let of = |name: &str| coins[name].as_i64().unwrap();
    let all = (of("mint") + of("balances") + of("escrow")) * 1_000
        + of("houseMillicoins")
        + of("jackpotMillicoins");
    assert_eq!(all, 0, "{coins}");

    let text = csv(client, "/api/analytics/dau").await;
    assert_eq!(
        text,
        format!(
            "day,dau,new,returning,wau,mau,stickiness,partial\n{today},2,2,0,2,2,1.000000,true\n"
        )
    );
    let nothing = csv(client, "/api/analytics/coins?until=2020-01-01").await;
    assert_eq!(nothing.lines().count(), 1, "the names of the columns alone");
}

fn of_users(step: &Value) -> u64 {
    step["users"].as_u64().unwrap()
}

#[tokio::test]
async fn who_may_not_ask_learns_nothing_and_what_makes_no_sense_is_named() {
    let (house, mut ada) = played().await;
    let mut bob = Player::register(&house, "bob").await;
    for table in TABLES {
        let path = format!("/api/analytics/{table}");
        house.client().get(&path).await.expect_error(401, "UNAUTHORIZED");
        for query in ["", "?from=never", "?x=1"] {
            bob.client.get(&format!("{path}{query}")).await.expect_error(403, "FORBIDDEN");
        }
        for (query, field) in [
            ("from=never", "from"),
            ("from=2026-02-30", "from"),
            ("from=2026-02-02&until=2026-02-01", "until"),
            ("by=week", "by"),
            ("source=gossip", "source"),
        ] {
            let answer = ada.client.get(&format!("{path}?{query}")).await;
            let answer = answer.expect_error(400, "VALIDATION_ERROR");
            assert_eq!(answer.faults()[0].0, field, "{table} {query}");
        }
        let is_of_both = ["dau", "retention"].contains(&table);
        let days = "from=2026-01-01&until=2026-01-31";
        let telemetry = ada.client.get(&format!("{path}?source=telemetry&{days}")).await;
        telemetry.expect(if is_of_both { 200 } else { 400 });
    }
    let user = "bob@farm.example".to_owned();
    house.operate(Task::SetRole { user, role: Role::Moderator }).await;
    bob.client.get("/api/analytics/dau").await.expect_error(403, "FORBIDDEN");
}

#[tokio::test]
async fn telemetry_is_asked_by_the_seeds_own_queries_and_a_month_at_a_time() {
    let (_house, mut ada) = played().await;
    send(&mut ada.client, &[error("one")]).await.expect(200);
    let today = jiff::Timestamp::now().strftime("%F").to_string();
    let path = format!("/api/analytics/dau?source=telemetry&from={today}&until={today}");
    let days = ada.client.get(&path).await.expect(200).body;
    assert_eq!(
        days["days"],
        json!([{ "day": today, "dau": 1, "new": null, "returning": null,
        "wau": null, "mau": null, "stickiness": null, "partial": true }])
    );
    for query in ["", "&from=2026-01-01", "&from=2026-01-01&until=2026-02-01"] {
        for table in ["dau", "retention"] {
            let path = format!("/api/analytics/{table}?source=telemetry{query}");
            let answer = ada.client.get(&path).await.expect_error(400, "VALIDATION_ERROR");
            assert_eq!(answer.faults()[0].0, "until");
        }
    }
}

#[tokio::test]
async fn questions_wait_for_each_other_and_nobody_else_waits() {
    let (_house, ada) = played().await;
    let asking = (0..24).map(|index| {
        let mut client = ada.client.clone();
        async move {
            let path = format!("/api/analytics/{}", TABLES[index % TABLES.len()]);
            client.get(&path).await.expect(200);
        }
    });
    futures_util::future::join_all(asking).await;
}
