//! Guards: the example of a service does over HTTP what its players need.

#[path = "../../examples/http_service.rs"]
#[expect(dead_code, reason = "the example's own main")]
mod example;

use daybook_schema::{CommandId, UnixMicros, UserId};
use daybook_simulator::SeasonKey;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// Sends a command of a user under a new id.
async fn send(request: RequestBuilder, user_id: UserId, id: CommandId) -> (StatusCode, Value) {
    let request = request.header("x-user", user_id.to_string());
    let answer = request.header("idempotency-key", id.to_string()).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn new_id() -> CommandId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = UnixMicros::new(i64::try_from(now.as_micros()).unwrap());
    let mut random = [0; 10];
    random.copy_from_slice(&UserId::random().as_bytes()[6..]);
    CommandId::from_parts(now, random)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bet_over_http_is_seen_in_the_next_read_and_in_the_feed() {
    let directory = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let path = directory.path().to_owned();
    tokio::spawn(async move {
        example::serve(&path, SeasonKey::new([7; 32]), listener).await.unwrap();
    });
    let (client, user_id) = (Client::new(), UserId::random());
    let mut feed = client.get(format!("{base}/events/1")).send().await.unwrap();
    let (status, registered) = send(client.post(format!("{base}/users")), user_id, new_id()).await;
    assert_eq!(status, StatusCode::OK);
    let published = registered["events"][1]["payload"].as_str().unwrap();
    let published: Value = serde_json::from_str(published).unwrap();
    let seen = published["commitment"].clone();

    // A retry with the same id finds the first season.
    let id = new_id();
    let start = || client.post(format!("{base}/seasons")).json(&seen);
    let (_, mut first) = send(start(), user_id, id).await;
    let (_, again) = send(start(), user_id, id).await;
    // It says that it is the first answer once more.
    first["repeated"] = json!(true);
    assert_eq!(first, again);
    let season_id = first["events"][0]["stream"].as_str().unwrap();
    let bets = format!("{base}/seasons/{season_id}/bets");
    let bet = |amount: u64| {
        let order = json!({ "potId": "sun", "betType": "call", "amount": amount });
        client.post(&bets).json(&order)
    };
    let (status, placed) = send(bet(20), user_id, new_id()).await;
    assert_eq!(status, StatusCode::OK, "{placed}");
    let head = placed["head"].as_str().unwrap();
    let seq: u64 = head.split_once(':').unwrap().0.parse().unwrap();

    let read = client.get(format!("{base}/seasons/{season_id}"));
    let read = read.header("x-ledger-at-least", seq).send().await.unwrap();
    let read: Value = read.json().await.unwrap();
    assert_eq!(read["standsFor"]["isStale"], false, "{read}");
    assert_eq!(read["season"]["bets"][0]["amount"], 20, "{read}");

    // All that applies is told, with codes, values and when to try again.
    let (status, refused) = send(bet(20), user_id, new_id()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let codes: Vec<&str> = refused["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains(&"DUPLICATE_BET"), "{refused}");
    let unknown = client.post(&bets).header("x-user", UserId::random().to_string());
    let unknown = unknown.header("idempotency-key", new_id().to_string());
    let order = json!({ "potId": "sun", "betType": "call", "amount": 20 });
    assert_eq!(unknown.json(&order).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let mut seen = String::new();
    while !seen.contains("bet_placed") {
        seen.push_str(&String::from_utf8_lossy(&feed.chunk().await.unwrap().unwrap()));
    }
    assert!(seen.contains("key_rotated") && seen.contains(season_id));
}
