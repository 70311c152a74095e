//! Guards: a season's stream tells what is committed, in order, once, for as long as its session
//! lasts.

use std::time::Duration;

use daybook_schema::Seq;
use serde_json::{Value, json};

use crate::client::Client;
use crate::house::House;
use crate::player::Player;

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    id: Option<u64>,
    event: String,
    data: Value,
}

/// A stream as a browser reads it.
pub struct Listener {
    response: reqwest::Response,
    buffer: String,
}

impl Listener {
    pub async fn open(client: &Client, season: &str, last: Option<u64>) -> Self {
        let request = client.request("GET", &format!("{season}/live"));
        let request = match last {
            Some(last) => request.header("last-event-id", last.to_string()),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-accel-buffering"), "no");
        Self { response, buffer: String::new() }
    }

    /// The next event that has a name; none when the stream is over.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
                };
                if let Some(event) = field("event") {
                    let data = serde_json::from_str(field("data").unwrap()).unwrap();
                    let id = field("id").map(|id| id.parse().unwrap());
                    return Some(Told { id, event: event.to_owned(), data });
                }
            }
            let waited = tokio::time::timeout(Duration::from_secs(30), self.response.chunk()).await;
            let chunk = waited.expect("an event within 30 s").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until(&mut self, event: &str) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            let next = self.next().await.expect("it goes on");
            let is_it = next.event == event;
            told.push(next);
            if is_it {
                return told;
            }
        }
    }

    async fn expect_end(&mut self, reason: &str) {
        let told = self.until("end").await;
        assert_eq!(told.last().unwrap().data, json!({ "reason": reason }));
        assert_eq!(self.next().await, None);
    }
}

#[tokio::test]
async fn a_stream_tells_a_season_in_order_and_goes_on_after_any_event() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let mut listener = Listener::open(&ada.client, &season, None).await;
    let mut told = listener.until("day_opened").await;
    for day in 1..=8 {
        ada.bet_on_all(&season).await.expect(201);
        ada.advance(&season, day).await;
    }
    while told.iter().filter(|it| it.event == "day_opened").count() < 9 {
        told.extend(listener.until("day_opened").await);
    }
    ada.post(&format!("{season}/abandon"), json!({})).await.expect(200);
    told.extend(listener.until("season_abandoned").await);
    listener.expect_end("season_over").await;

    // Every event of the season is there, once, in the ledger's order, and with its seq as id.
    let reader = house.ledger().reader().unwrap();
    let id =
        season.trim_start_matches("/api/seasons/").parse::<daybook_schema::SeasonId>().unwrap();
    let stream: Vec<(u64, String)> = reader
        .events_from(Seq::MIN)
        .map(Result::unwrap)
        .filter(|stored| stored.header.stream == id.into())
        .map(|stored| (stored.header.seq.get(), stored.event.kind().to_string()))
        .collect();
    let seen: Vec<(u64, String)> =
        told.iter().map(|it| (it.id.unwrap(), it.event.clone())).collect();
    assert_eq!(seen, stream);
    let resolved = told.iter().find(|it| it.event == "day_resolved").unwrap();
    assert_eq!(resolved.data["dayNumber"], 1);
    assert!(resolved.data["at"].is_i64() && resolved.data["dayKey"].is_string());
    assert!(told.iter().any(|it| it.event == "week_evaluated"));

    // After any event it goes on with the next.
    let all_but_the_last = &stream[..stream.len() - 1];
    for (place, (seq, _)) in all_but_the_last.iter().enumerate().step_by(7) {
        let mut again = Listener::open(&ada.client, &season, Some(*seq)).await;
        let rest = again.until("season_abandoned").await;
        assert_eq!(rest, told[place + 1..], "after {seq}");
    }
    // Where all was seen there is nothing more to come for.
    let last = stream.last().unwrap().0.to_string();
    let request =
        ada.client.request("GET", &format!("{season}/live")).header("last-event-id", last);
    ada.client.send(request).await.expect(204);
    // What the season never came to is no event of it.
    let mut beyond = Listener::open(&ada.client, &season, Some(u64::MAX)).await;
    assert_eq!(beyond.until("season_abandoned").await, told);
    let request = ada.client.request("GET", &format!("{season}/live"));
    let wrong = ada.client.send(request.header("last-event-id", "x")).await;
    wrong.expect_error(400, "VALIDATION_ERROR");
}

/// Events that come while the past is read are neither lost nor told twice.
#[tokio::test]
async fn a_stream_that_begins_while_others_play_misses_nothing() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let playing = {
        let (mut ada, season) = (ada.clone(), season.clone());
        tokio::spawn(async move {
            for day in 1..=28 {
                ada.bet_on_all(&season).await.expect(201);
                ada.advance(&season, day).await;
            }
        })
    };
    let mut listeners = Vec::new();
    for _ in 0..7 {
        let (client, season) = (ada.client.clone(), season.clone());
        listeners.push(tokio::spawn(async move {
            let mut listener = Listener::open(&client, &season, None).await;
            let told = listener.until("season_completed").await;
            told.into_iter().map(|it| it.id.unwrap()).collect::<Vec<u64>>()
        }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    playing.await.unwrap();
    let mut seen = Vec::new();
    for listener in listeners {
        seen.push(listener.await.unwrap());
    }
    assert!(seen[0].len() > 250 && seen[0].is_sorted());
    assert!(seen.iter().all(|ids| *ids == seen[0]));
}

/// Whatever ends a session ends its streams, and no other's.
#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let log_in = async |house: &House| {
        let mut client = house.client();
        client.log_in("ada@farm.example", crate::client::PASSWORD).await.expect(200);
        client
    };
    let kept = log_in(&house).await;
    let mut kept_listener = Listener::open(&kept, &season, None).await;

    let mut client = log_in(&house).await;
    let mut listener = Listener::open(&client, &season, None).await;
    client.post("/api/auth/logout", json!({})).await.expect(204);
    listener.expect_end("session_over").await;

    let client = log_in(&house).await;
    let mut listener = Listener::open(&client, &season, None).await;
    let sessions = ada.get("/api/auth/sessions").await.expect(200).body;
    let newest = sessions["sessions"][0]["number"].to_string();
    ada.client.delete(&format!("/api/auth/sessions/{newest}")).await.expect(204);
    listener.expect_end("session_over").await;

    kept_listener.until("day_opened").await;
    // Another role ends nothing.
    let user = "ada@farm.example".to_owned();
    let role = daybook_schema::Role::Moderator;
    house.operate(daybook_api::Task::SetRole { user, role }).await;
    ada.advance(&season, 1).await;
    kept_listener.until("day_resolved").await;
    let address = "ada@farm.example".to_owned();
    house.operate(daybook_api::Task::Lock { user: address.clone() }).await;
    kept_listener.expect_end("session_over").await;
    house.operate(daybook_api::Task::Unlock { user: address }).await;

    let client = log_in(&house).await;
    let mut listener = Listener::open(&client, &season, None).await;
    house.stop().await;
    listener.expect_end("stopping").await;
}

/// A session that is over by its time ends its streams then, not at the next sweep.
#[tokio::test]
async fn a_stream_ends_when_its_session_expires() {
    let mut settings = crate::house::settings();
    settings.session_age = Duration::from_secs(3);
    let house = House::with(settings).await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let mut listener = Listener::open(&ada.client, &season, None).await;
    listener.expect_end("session_over").await;
    ada.get(&season).await.expect_error(401, "SESSION_EXPIRED");
}

/// A user has at most eight streams: one more takes the place of the oldest.
#[tokio::test]
async fn a_ninth_stream_takes_the_place_of_the_oldest() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let mut listeners = Vec::new();
    for _ in 0..9 {
        listeners.push(Listener::open(&ada.client, &season, None).await);
    }
    listeners[0].expect_end("replaced").await;
    // What is not there takes nobody's place.
    let unknown = "/api/seasons/ssn_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b/live";
    ada.get(unknown).await.expect_error(404, "NOT_FOUND");
    ada.advance(&season, 1).await;
    for listener in &mut listeners[1..] {
        listener.until("day_resolved").await;
    }
}
