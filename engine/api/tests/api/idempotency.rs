//! Guards: what is sent again under its key is done once, and gets the first answer: whatever comes
//! between, across restarts, and on other connections at the same time.

use daybook_schema::{CommandId, UnixMicros};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::house::House;
use crate::player::{Player, key};

/// Status and body of an answer: what a repeat gets again.
fn told(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.body.clone())
}

const REPLAYED: &str = "idempotency-replayed";

#[tokio::test]
async fn every_command_is_answered_again_as_the_first_time() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let mut sent = Vec::new();
    let start = ada.start_body().await;
    let named = json!({ "species": "sprig", "name": "Drop" });
    let simulin = ada.post("/api/simulins", named).await.expect(201).body["simulin"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let started = key();
    let answer = ada.send("/api/seasons", &started, &start).await.expect(201);
    let season = format!("/api/seasons/{}", answer.body["season"]["id"].as_str().unwrap());
    let bets =
        json!({ "bets": [{ "potId": "sun", "betType": "call", "amount": 20 }], "expectedDay": 1 });
    for (path, body) in [
        ("/api/seasons".to_owned(), start.clone()),
        (format!("{season}/bets"), bets),
        (format!("{season}/advance"), json!({ "expectedDay": 1 })),
        (format!("{season}/abandon"), json!({})),
        ("/api/simulins".to_owned(), json!({ "species": "dewdrop", "name": "Dew" })),
        (format!("/api/simulins/{simulin}/retire"), json!({})),
    ] {
        let key = if path == "/api/seasons" { started.clone() } else { key() };
        let answer = ada.send(&path, &key, &body).await;
        assert!(answer.status < 300, "{path}: {answer:?}");
        assert_eq!(answer.header(REPLAYED).is_some(), path == "/api/seasons", "{path}");
        let head = answer.header("x-ledger-head").map(str::to_owned);
        sent.push((path, key, body, told(&answer), head));
    }
    for restarts in [false, true] {
        if restarts {
            house.stop().await;
            house.start().await;
            ada.client.base = house.base().to_owned();
        }
        let before = house.ledger().head();
        for (path, key, body, first, head) in &sent {
            let again = ada.send(path, key, body).await;
            assert_eq!(told(&again), *first, "{path}");
            assert_eq!(again.header("x-ledger-head").map(str::to_owned), *head, "{path}");
            assert_eq!(again.header(REPLAYED), Some("true"), "{path}");
        }
        assert_eq!(house.ledger().head(), before, "nothing was done again");
    }
}

/// What is no part of the command keeps its first value; another command is a conflict that tells
/// what was done first.
#[tokio::test]
async fn a_name_keeps_its_first_value_and_another_command_is_a_conflict() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let key = key();
    let adopt = |species: &str, name: &str| json!({ "species": species, "name": name });
    let first = ada.send("/api/simulins", &key, &adopt("sprig", "Drop")).await.expect(201);
    let again = ada.send("/api/simulins", &key, &adopt("sprig", "Other")).await.expect(201);
    assert_eq!(again.body, first.body);
    let listed = ada.get("/api/simulins").await.expect(200).body;
    assert_eq!(listed["simulins"].as_array().unwrap().len(), 1);
    assert_eq!(listed["simulins"][0]["name"], "Drop");
    let conflict = ada.send("/api/simulins", &key, &adopt("ladybot", "Drop")).await;
    let conflict = conflict.expect_error(409, "IDEMPOTENCY_CONFLICT");
    assert_eq!(conflict.body["details"][0]["first"]["kind"], "simulin_adopted");
    // Another user's key is another key.
    let mut eve = Player::register(&house, "eve").await;
    let body = adopt("ladybot", "Eves");
    assert!(eve.send("/api/simulins", &key, &body).await.expect(201).header(REPLAYED).is_none());
    // Account routes ignore it.
    let change = json!({ "displayName": "Ada I" });
    for name in ["Ada I", "Ada II"] {
        let mut change = change.clone();
        change["displayName"] = json!(name);
        let request = ada.client.request("PATCH", "/api/auth/me").json(&change);
        let changed = ada.client.send(request.header("idempotency-key", &key)).await.expect(200);
        assert_eq!(changed.body["user"]["displayName"], name);
    }
}

/// A refusal stays one under its key while it is remembered; what passes with time does not.
#[tokio::test]
async fn refusals_are_answered_again_too() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let bets = format!("{season}/bets");
    let (refused, early) = (key(), key());
    let body = json!({ "potId": "sun", "betType": "call", "amount": 9_000 });
    let first = ada.send(&bets, &refused, &body).await.expect_error(409, "INSUFFICIENT_BALANCE");
    assert!(first.header(REPLAYED).is_none());
    let again = ada.send(&bets, &refused, &body).await;
    assert_eq!((told(&again), again.header(REPLAYED)), (told(&first), Some("true")));
    let advance = format!("{season}/advance");
    let tomorrow = json!({ "expectedDay": 2 });
    ada.send(&advance, &early, &tomorrow).await.expect_error(409, "WRONG_DAY");
    ada.advance(&season, 1).await;
    ada.send(&advance, &early, &tomorrow).await.expect(200);
}

/// An id that is too old to be known is refused, with what a client needs to make a good one.
#[tokio::test]
async fn an_id_from_ahead_is_expired_and_tells_the_time() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let far = UnixMicros::new(jiff::Timestamp::now().as_microsecond()).plus_micros(3_600_000_000);
    let ahead = CommandId::from_parts(far, [7; 10]).to_string();
    let body = json!({ "species": "sprig" });
    let refused = ada.send("/api/simulins", &ahead, &body).await.expect_error(409, "EXPIRED");
    let detail = &refused.body["details"][0];
    let now = detail["serverMillis"].as_i64().unwrap();
    let fresh = UnixMicros::new(detail["newKeyMillis"].as_i64().unwrap() * 1_000);
    assert!((now - jiff::Timestamp::now().as_millisecond()).abs() < 600_000, "{refused:?}");
    let fresh = CommandId::from_parts(fresh, [7; 10]).to_string();
    ada.send("/api/simulins", &fresh, &body).await.expect(201);
}

/// The same command at the same moment on many connections is done once, and all are told the same.
#[tokio::test]
async fn the_same_key_on_many_connections_at_once_is_one_command() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let (key, path) = (key(), format!("{season}/bets"));
    let body = json!({ "potId": "sun", "betType": "call", "amount": 20, "expectedDay": 1 });
    let sent = (0..32).map(|_| {
        let mut connection = Player { client: house.client(), ..ada.clone() };
        connection.client.cookies = ada.client.cookies.clone();
        let (path, key, body) = (path.clone(), key.clone(), body.clone());
        async move { connection.send(&path, &key, &body).await.expect(201) }
    });
    let answers = join_all(sent).await;
    let first_ones = answers.iter().filter(|answer| answer.header(REPLAYED).is_none()).count();
    assert_eq!(first_ones, 1);
    assert!(answers.iter().all(|answer| told(answer) == told(&answers[0])));
    assert_eq!(ada.get(&season).await.body["season"]["coins"], 480);
}

/// Who may adopt no more today gets the first answer again all the same.
#[tokio::test]
async fn adoptions_of_a_day_are_bounded_and_repeats_are_not_counted() {
    let mut settings = crate::house::settings();
    settings.adoptions_per_day_max = 2;
    let mut house = House::with(settings).await;
    let mut ada = Player::register(&house, "ada").await;
    let body = json!({ "species": "sprig" });
    let first = key();
    let simulin = ada.send("/api/simulins", &first, &body).await.expect(201).body;
    ada.send("/api/simulins", &first, &body).await.expect(201);
    let id = simulin["simulin"]["id"].as_str().unwrap();
    ada.post(&format!("/api/simulins/{id}/retire"), json!({})).await.expect(200);
    ada.post("/api/simulins", body.clone()).await.expect(201);
    for restarts in [false, true] {
        if restarts {
            house.stop().await;
            house.start().await;
            ada.client.base = house.base().to_owned();
        }
        let refused = ada.post("/api/simulins", body.clone()).await;
        let refused = refused.expect_error(429, "ADOPTION_LIMIT");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait));
        ada.send("/api/simulins", &key(), &body).await.expect_error(429, "ADOPTION_LIMIT");
        assert_eq!(ada.send("/api/simulins", &first, &body).await.expect(201).body, simulin);
    }
}
