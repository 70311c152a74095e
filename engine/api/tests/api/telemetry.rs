//! Guards: good events are stored and bad ones named, each once, in the name of who is logged in;
//! one client cannot fill what all share; and play goes on whatever becomes of telemetry.

use std::time::Duration;

use daybook_api::TelemetrySettings;
use daybook_schema::telemetry::{CATALOGUE, PropertyKind};
use serde_json::{Value, json};

use crate::client::{Answer, Client, PASSWORD};
use crate::house::{House, settings};
use crate::player::{Player, key};

const DAY_MS: i64 = 86_400_000;

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// An event that holds.
pub fn event(event_type: &str, properties: Value) -> Value {
    json!({
        "eventId": key(), "eventType": event_type, "timestamp": now_ms(),
        "sessionId": "4f3c", "properties": properties,
        "context": { "appVersion": "1.2.3", "platform": "web", "screenWidth": 1920,
                     "screenHeight": 1080, "locale": "en-GB", "timezone": "Europe/Berlin" },
    })
}

pub fn error(message: &str) -> Value {
    event("error", json!({ "error_code": "E1", "message": message }))
}

pub async fn send(client: &mut Client, events: &[Value]) -> Answer {
    client.post("/api/telemetry", json!({ "events": events })).await
}

/// A column of all rows of clients, in the order in which they came.
pub fn column<T: rusqlite::types::FromSql>(house: &House, column: &str) -> Vec<T> {
    let database = house.telemetry_db();
    let sql = format!(
        "SELECT {column} FROM telemetry_events WHERE session_id <> 'server' ORDER BY rowid"
    );
    let mut statement = database.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A value that a property may have.
fn sample(kind: PropertyKind) -> Value {
    match kind {
        PropertyKind::Text { .. } => json!("a text"),
        PropertyKind::Number => json!(2.5),
        PropertyKind::Flag => json!(true),
        PropertyKind::OneOf(names) => json!(names[0]),
    }
}

#[tokio::test]
async fn every_event_of_the_catalogue_is_stored_as_it_was_sent() {
    let house = House::new().await;
    let mut events = Vec::new();
    for shape in CATALOGUE {
        let all = shape.properties.iter();
        let whole: Value = all.clone().map(|it| (it.name, sample(it.kind))).collect();
        let least = all.filter(|it| it.is_required).map(|it| (it.name, sample(it.kind)));
        events.extend([event(shape.name, whole), event(shape.name, least.collect())]);
    }
    let answer = send(&mut house.client(), &events).await.expect(200);
    assert_eq!(answer.body, json!({ "accepted": 28, "refused": [] }));
    let stored: Vec<String> = column(&house, "properties");
    let stored: Vec<Value> =
        stored.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let sent: Vec<Value> = events.iter().map(|event| event["properties"].clone()).collect();
    assert_eq!(stored, sent);
    // What is required is, and nothing else is taken.
    for shape in CATALOGUE {
        for property in shape.properties {
            let others = shape.properties.iter().filter(|other| other.name != property.name);
            let lacking: Value = others.map(|it| (it.name, sample(it.kind))).collect();
            let status = if property.is_required { 400 } else { 200 };
            send(&mut house.client(), &[event(shape.name, lacking)]).await.expect(status);
        }
        let whole = shape.properties.iter().map(|it| (it.name, sample(it.kind)));
        let more: Value = whole.chain([("more", json!(1))]).collect();
        let refused = send(&mut house.client(), &[event(shape.name, more)]).await;
        let field = &refused.expect_error(400, "VALIDATION_ERROR").body["details"][0]["field"];
        assert_eq!(field, "events.0.properties.more");
    }
}

#[tokio::test]
async fn the_user_comes_from_the_session_and_the_rest_is_noted_beside() {
    let house = House::new().await;
    let mut ada = Player::register(&house, "ada").await;
    let mut started = event("session_start", json!({ "referrer": "https://a.example/b?c=d#e" }));
    started["userId"] = json!("usr_somebody_else");
    started["sequence"] = json!(9_007_199_254_740_991.0);
    started["sentAt"] = json!(1_700_000_000_000.5);
    send(&mut ada.client, &[started.clone()]).await.expect(200);
    send(&mut house.client(), &[event("session_start", json!({}))]).await.expect(200);
    let users: Vec<Option<String>> = column(&house, "user_id");
    assert_eq!(users, [Some(ada.user_id.clone()), None]);
    let text = |name: &str| -> Vec<String> { column(&house, name) };
    let referrer = json!({ "referrer": "https://a.example/b" });
    assert_eq!(serde_json::from_str::<Value>(&text("properties")[0]).unwrap(), referrer);
    assert_eq!(text("context")[0], started["context"].to_string());
    assert_eq!(text("ip"), ["127.0.0.1", "127.0.0.1"]);
    let number = |name: &str| -> Vec<Option<i64>> { column(&house, name) };
    assert_eq!(number("sequence"), [Some(9_007_199_254_740_991), None]);
    assert_eq!(number("sent_at"), [Some(1_700_000_000_000), None]);

    // A client's time counts if it is likely; what it sent is noted in every case.
    let now = now_ms();
    let hour = 3_600_000;
    let sent = [now - 7 * DAY_MS + hour, now - 8 * DAY_MS, now + 240_000, now + hour, 0, -1];
    let events = sent.map(|timestamp| {
        let mut event = error("when");
        event["timestamp"] = json!(timestamp);
        event
    });
    send(&mut house.client(), &events).await.expect(200);
    let times: Vec<i64> = column(&house, "timestamp");
    let likely = |index: usize| times[index + 2] == sent[index];
    assert_eq!([0, 1, 2, 3, 4, 5].map(likely), [true, false, true, false, false, false]);
    let is_now = |time: i64| (now..now + 60_000).contains(&time);
    assert!([3, 5, 6, 7].into_iter().all(|index| is_now(times[index])), "{times:?}");
    let noted: Vec<i64> = column(&house, "client_timestamp");
    assert_eq!(noted[2..], sent);
}

#[tokio::test]
async fn an_event_counts_once_however_often_it_comes() {
    let mut house = House::new().await;
    let events: Vec<Value> = (0..10).map(|number| error(&number.to_string())).collect();
    let accepted = |answer: Answer| answer.expect(200).body["accepted"].clone();
    assert_eq!(accepted(send(&mut house.client(), &events).await), 10);
    assert_eq!(accepted(send(&mut house.client(), &events[..3]).await), 3);
    let twice = [events[0].clone(), events[0].clone(), error("new")];
    assert_eq!(accepted(send(&mut house.client(), &twice).await), 3);
    // By many at once, and after a start.
    let sending = (0..20).map(|_| {
        let (mut client, events) = (house.client(), events.clone());
        async move { send(&mut client, &events).await.expect(200) }
    });
    futures_util::future::join_all(sending).await;
    house.stop().await;
    house.start().await;
    send(&mut house.client(), &events).await.expect(200);
    let ids: Vec<String> = column(&house, "event_id");
    assert_eq!(ids.len(), 11);
}

/// A body, and what is answered: a status and, where it is refused, the code and the first field.
struct Hostile(&'static str, String, u16, &'static str, &'static str);

fn batch(event: &Value) -> String {
    json!({ "events": [event] }).to_string()
}

fn with(place: &str, value: Value) -> Value {
    let mut event = error("message");
    *event.pointer_mut(place).unwrap() = value;
    event
}

fn hostile() -> Vec<Hostile> {
    let bad =
        |what, event: Value, field| Hostile(what, batch(&event), 400, "VALIDATION_ERROR", field);
    let bare =
        |what, body: &str, field| Hostile(what, body.to_owned(), 400, "VALIDATION_ERROR", field);
    let mut without_context = error("m");
    without_context.as_object_mut().unwrap().remove("context");
    let mut more = error("m");
    more["serverTimestamp"] = json!(1);
    let many: Vec<Value> = (0..101).map(|_| error("m")).collect();
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let deep = format!("{{\"events\":[{{\"properties\":{deep}}}]}}");
    // As JSON's reader hands over what it has not read yet.
    let nested = "[".repeat(100) + &"]".repeat(100);
    let within_text =
        json!({ "events": [{ "$serde_json::private::RawValue": nested }] }).to_string();
    let surrogate = batch(&error("@")).replace('@', "\\ud800");
    let huge = batch(&error("m")).replace("1920", "1e400");
    let anti_cheat = json!({ "error_code": "\u{200b}anti_cheat_RAPID_BET", "message": "m" });
    vec![
        bare("no JSON", "{\"events\": [", ""),
        bare("no object", "[]", ""),
        bare("no events", "{}", ""),
        bare("events that are no list", "{\"events\": {}}", ""),
        bare("an empty list", "{\"events\": []}", "events"),
        bare("more beside the events", "{\"events\": [1], \"userId\": \"x\"}", ""),
        bare("101 events", &json!({ "events": many }).to_string(), "events"),
        bare("an event that is a number", "{\"events\": [1]}", "events.0"),
        bare("a deep nesting", &deep, "events.0"),
        bare("a nesting within a text", &within_text, "events.0"),
        bare("half a surrogate pair", &surrogate, "events.0"),
        bare("a number beyond all", &huge, "events.0"),
        bare(
            "an endless text",
            &format!("{{\"events\":[\"{}\"]}}", "x".repeat(50_000)),
            "events.0",
        ),
        bad("an unknown type", with("/eventType", json!("bet_won")), "events.0.eventType"),
        bad("a type that is no text", with("/eventType", json!(["error"])), "events.0.eventType"),
        bad("no context", without_context, "events.0.context"),
        bad("a field of the server's", more, "events.0.serverTimestamp"),
        bad(
            "the server's platform",
            with("/context/platform", json!("server")),
            "events.0.context.platform",
        ),
        bad("the server's session", with("/sessionId", json!("server")), "events.0.sessionId"),
        bad("a server's id", with("/eventId", json!("server:1")), "events.0.eventId"),
        bad("an empty id", with("/eventId", json!("")), "events.0.eventId"),
        bad("an id with a line's end", with("/eventId", json!("a\nb")), "events.0.eventId"),
        bad("a server's code", with("/properties", anti_cheat), "events.0.properties.error_code"),
        bad("a long message", error(&"ä".repeat(513)), "events.0.properties.message"),
        bad(
            "a long locale",
            with("/context/locale", json!("é".repeat(200))),
            "events.0.context.locale",
        ),
        bad("a time that is no number", with("/timestamp", json!("now")), "events.0.timestamp"),
        bad("a time beyond all", with("/timestamp", json!(1e300)), "events.0.timestamp"),
        bad(
            "a number as a text",
            event("bet_placed", json!({ "pot_id": "sun", "bet_type": "call", "amount": "5" })),
            "events.0.properties.amount",
        ),
        bad(
            "an open set's wrong type",
            event("bet_resolved", json!({ "pot_id": "sun", "won": "yes", "payout": 1 })),
            "events.0.properties.won",
        ),
        bad(
            "an unknown action",
            event("tutorial_step", json!({ "step_id": "1", "action": "done" })),
            "events.0.properties.action",
        ),
        Hostile("a body of 64 KiB and one", " ".repeat(65_537), 413, "CONTENT_TOO_LARGE", ""),
    ]
}

#[tokio::test]
async fn every_hostile_batch_has_its_answer_and_stores_nothing() {
    let house = House::new().await;
    for Hostile(what, body, status, code, field) in hostile() {
        let mut client = house.client();
        let request = client.request("POST", "/api/telemetry");
        let request = request.header("content-type", "application/json").body(body);
        let answer = client.send(request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(answer.body["error"], code, "{what}");
        if status == 400 {
            assert_eq!(answer.body["message"], "Invalid batch", "{what}");
            let named = answer.body["details"][0]["field"].as_str().unwrap_or_default();
            assert_eq!(named, field, "{what}: {answer:?}");
        }
    }
    // Another site's, a form's, and another method.
    let body = batch(&error("m"));
    for (header, value, status) in [
        ("origin", "https://evil.example", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("content-type", "text/plain", 415),
    ] {
        let mut client = house.client();
        let mut request = client.request("POST", "/api/telemetry").body(body.clone());
        if header != "content-type" {
            request = request.header("content-type", "application/json");
        }
        client.send(request.header(header, value)).await.expect(status);
    }
    house.client().get("/api/telemetry").await.expect(405);
    let all: i64 = house
        .telemetry_db()
        .query_row("SELECT count(*) FROM telemetry_events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(all, 0);
    // One good event among bad ones is stored, and these are named.
    let one_good = format!(
        "{{\"events\": [1, {}, {{\"eventType\": \"error\", \"eventId\": \"\\ud800\"}}, {}]}}",
        error("good"),
        with("/properties/message", json!(5)),
    );
    let mut client = house.client();
    let request = client.request("POST", "/api/telemetry").body(one_good);
    let answer = client.send(request.header("content-type", "application/json")).await.expect(200);
    assert_eq!(answer.body["accepted"], 1);
    let refused = answer.body["refused"].as_array().unwrap();
    let named: Vec<_> = refused.iter().map(|it| (&it["index"], &it["field"])).collect();
    let expected =
        [(json!(0), json!("")), (json!(2), json!("")), (json!(3), json!("properties.message"))];
    assert_eq!(named, expected.iter().map(|(index, field)| (index, field)).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_client_stores_so_much_a_day_and_others_have_their_own() {
    let telemetry = TelemetrySettings {
        events_per_user_day_max: 200,
        events_per_client_day_max: 20,
        ..TelemetrySettings::default()
    };
    let mut house = House::with(daybook_api::Settings { telemetry, ..settings() }).await;
    let of = |count: usize| (0..count).map(|_| error("m")).collect::<Vec<Value>>();
    let mut stranger = house.client();
    let first = of(15);
    send(&mut stranger, &first).await.expect(200);
    // What is known already does not count again, nor does what was refused.
    send(&mut stranger, &first[..5]).await.expect(200);
    send(&mut stranger, &of(6)).await.expect_error(429, "TELEMETRY_LIMIT");
    send(&mut stranger, &of(5)).await.expect(200);
    let refused = send(&mut stranger, &of(1)).await.expect_error(429, "TELEMETRY_LIMIT");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "until the UTC day is over: {wait}");
    let mut neighbour = Client::from_address(house.base(), "127.0.0.2");
    send(&mut neighbour, &of(20)).await.expect(200);

    let mut ada = Player::register(&house, "ada").await;
    send(&mut ada.client, &of(100)).await.expect(200);
    // What is large counts as several.
    let stack = json!({ "error_code": "E", "message": "m", "stack": "x".repeat(8_000) });
    let large: Vec<Value> = (0..5).map(|_| event("error", stack.clone())).collect();
    send(&mut ada.client, &large).await.expect(200);
    send(&mut ada.client, &of(61)).await.expect_error(429, "TELEMETRY_LIMIT");
    // A start does not give it back.
    house.stop().await;
    house.start().await;
    ada.client.base = house.base().to_owned();
    send(&mut ada.client, &of(61)).await.expect_error(429, "TELEMETRY_LIMIT");
    send(&mut ada.client, &of(60)).await.expect(200);
    send(&mut house.client(), &of(1)).await.expect_error(429, "TELEMETRY_LIMIT");
    // And it holds nobody up who plays.
    ada.start().await;
}

#[tokio::test]
async fn while_telemetry_cannot_be_written_it_is_refused_and_play_goes_on() {
    let mut house = House::playing().await;
    house.settings.telemetry.events_per_client_day_max = 1_000_000;
    house.stop().await;
    house.start().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let locker = house.telemetry_db();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stack = json!({ "error_code": "E", "message": "m", "stack": "x".repeat(8_000) });
    // More than may wait: 16 MiB.
    let sending = (0..400).map(|_| {
        let (mut client, stack) = (house.client(), stack.clone());
        async move {
            let events: Vec<Value> = (0..7).map(|_| event("error", stack.clone())).collect();
            send(&mut client, &events).await
        }
    });
    let playing = async {
        for day in 1..=5 {
            ada.bet_on_all(&season).await.expect(201);
            ada.advance(&season, day).await;
        }
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(sending), playing);
    let of = |code: &str| answers.iter().filter(|answer| answer.body["error"] == code).count();
    assert!(
        answers.iter().all(|answer| answer.status == 503 && answer.header("retry-after").is_some())
    );
    assert!(of("OVERLOADED") > 50 && of("UNAVAILABLE") > 50);
    let counts = house.telemetry().counts();
    assert_eq!(counts.refused_overloaded, 7 * of("OVERLOADED") as u64);
    assert_eq!(counts.refused_unavailable, 7 * of("UNAVAILABLE") as u64);
    locker.execute_batch("ROLLBACK").unwrap();
    send(&mut house.client(), &[error("after")]).await.expect(200);
    assert_eq!(column::<String>(&house, "event_id").len(), 1);
}

#[tokio::test]
async fn what_took_too_long_becomes_an_event_of_the_services() {
    let house = House::new().await;
    let monitor = house.monitor();
    monitor.record("db_query", 1_234.567_8);
    monitor.record("db_query", 1_000.0);
    monitor.record("telemetry_write", 5_000.0);
    let row = house
        .until("the event", |house| {
            let sql = "SELECT properties, user_id, session_id, event_type, json_extract(context, '$.platform') \
                       FROM telemetry_events WHERE json_extract(properties, '$.metric') = 'db_query'";
            let columns = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?, row.get::<_, String>(4)?))
            };
            house.telemetry_db().query_row(sql, [], columns).ok()
        })
        .await;
    let (properties, user_id, session_id, event_type, platform) = row;
    let expected = json!({ "metric": "db_query", "value": 1_234.57, "unit": "ms" });
    assert_eq!(serde_json::from_str::<Value>(&properties).unwrap(), expected);
    assert_eq!((user_id, session_id.as_str()), (None, "server"));
    assert_eq!((event_type.as_str(), platform.as_str()), ("performance", "server"));
    // All that is built in is measured; the writer's own times make no event.
    let mut ada = Player::register(&house, "ada").await;
    ada.start().await;
    send(&mut ada.client, &[error("m")]).await.expect(200);
    for metric in ["api_response", "db_query", "decide", "commit", "telemetry_write"] {
        assert!(monitor.stats(metric).is_some(), "{metric}");
    }
    house.until("a projection", |_| house.monitor().stats("project")).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let told = "SELECT count(*) FROM telemetry_events WHERE json_extract(properties, '$.metric') = 'telemetry_write'";
    let told: i64 = house.telemetry_db().query_row(told, [], |row| row.get(0)).unwrap();
    assert_eq!(told, 0);
}

#[tokio::test]
async fn a_user_takes_her_telemetry_away_page_by_page_and_has_it_erased() {
    let house = House::new().await;
    let (mut ada, mut eve) =
        (Player::register(&house, "ada").await, Player::register(&house, "eve").await);
    let of = |session: &str, message: &str| {
        let mut event = error(message);
        event["sessionId"] = json!(session);
        event
    };
    let mut stranger = house.client();
    // Before she logged in; in a session that another used too; and somebody else's.
    send(&mut stranger, &[of("adas", "before"), of("shared", "both"), of("other", "stays")])
        .await
        .expect(200);
    send(&mut ada.client, &[of("adas", "one"), of("shared", "two"), of("adas", "three")])
        .await
        .expect(200);
    send(&mut eve.client, &[of("shared", "eves")]).await.expect(200);
    let asked = json!({ "password": PASSWORD });
    let export = ada.client.post("/api/auth/me/export", asked.clone()).await.expect(200).body;
    let messages = |export: &Value| -> Vec<Value> {
        let events = export["telemetry"].as_array().unwrap().iter();
        events.map(|event| event["properties"]["message"].clone()).collect()
    };
    assert_eq!(messages(&export), ["three", "two", "one"]);
    assert_eq!(export["telemetryNext"], Value::Null);
    let first = &export["telemetry"][0];
    assert_eq!((&first["eventType"], &first["sessionId"]), (&json!("error"), &json!("adas")));
    // A lot of it: pages, and an erasure in parts.
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) \
                INSERT INTO telemetry_events SELECT 'id' || i, 'error', 1, 's' || (i % 900), ?1, '{\"message\": 1}', \
                '{}', 1, 1, NULL, NULL, NULL, NULL FROM n";
    house.telemetry_db().execute(fill, [&ada.user_id]).unwrap();
    let export = ada.client.post("/api/auth/me/export", asked.clone()).await.expect(200).body;
    assert_eq!(messages(&export).len(), 10_000);
    let next = json!({ "password": PASSWORD, "telemetryBefore": export["telemetryNext"] });
    let rest = ada.client.post("/api/auth/me/export", next).await.expect(200).body;
    assert_eq!(messages(&rest).len(), 2_003);
    let task = daybook_api::Task::Export { user: ada.user_id.clone(), telemetry_before: None };
    assert!(house.operate(task).await.export.unwrap()["telemetryNext"].is_i64());

    ada.client.post("/api/auth/me/erase", asked).await.expect(204);
    house
        .until("the rest of it", |house| {
            let left: Vec<String> = column(house, "properties ->> 'message'");
            (left == ["both", "stays", "eves"]).then_some(())
        })
        .await;
    assert_eq!(column::<Option<String>>(&house, "user_id").iter().flatten().count(), 1);
    let counted = "SELECT count(*) FROM stored_on_day WHERE hex(whose) LIKE ?1";
    let whose =
        format!("00{}%", ada.user_id.trim_start_matches("usr_").replace('-', "").to_uppercase());
    let counted: i64 = house.telemetry_db().query_row(counted, [whose], |row| row.get(0)).unwrap();
    assert_eq!(counted, 0, "how much she stored is no secret of hers, but her id is");
    // What her page sends when it is left is not stored, and what others send is. Her newest
    // telemetry session is that of the last row that was filled in.
    let late = [of("s300", "late"), of("shared", "late too"), of("other", "later")];
    send(&mut house.client(), &late).await.expect(200);
    let left: Vec<String> = column(&house, "properties ->> 'message'");
    assert_eq!(left, ["both", "stays", "eves", "late too", "later"]);
}

#[tokio::test]
async fn what_comes_late_in_her_few_sessions_is_thrown_away_however_much_she_told() {
    let house = House::new().await;
    let mut ada = Player::register(&house, "ada").await;
    let of = |session: &str| {
        let mut event = error("m");
        event["sessionId"] = json!(session);
        event
    };
    // By turns in two sessions, and in one long ago.
    send(&mut ada.client, &[of("first")]).await.expect(200);
    for _ in 0..10 {
        let by_turns: Vec<Value> =
            (0..40).map(|index| of(if index % 2 == 0 { "one" } else { "other" })).collect();
        send(&mut ada.client, &by_turns).await.expect(200);
    }
    ada.client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    let is_gone = |house: &House| column::<String>(house, "event_id").is_empty().then_some(());
    house.until("it is gone", is_gone).await;
    send(&mut house.client(), &[of("first"), of("one"), of("other"), of("new")]).await.expect(200);
    assert_eq!(column::<String>(&house, "session_id"), ["new"]);
}

#[tokio::test]
async fn an_erasure_waits_for_no_telemetry_that_cannot_be_written() {
    let house = House::new().await;
    let mut ada = Player::register(&house, "ada").await;
    send(&mut ada.client, &[error("hers")]).await.expect(200);
    let locker = house.telemetry_db();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    ada.client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    assert_eq!(column::<String>(&house, "event_id").len(), 1);
    // Nor do the other files keep anything of hers because of it.
    let logs_are_clear = |house: &House| {
        let is_clear = |name: &str| {
            let bytes = std::fs::read(house.path(name)).unwrap_or_default();
            !bytes.windows(16).any(|bytes| bytes == b"ada@farm.example")
        };
        ["accounts.db", "accounts.db-wal", "game.db", "game.db-wal"]
            .iter()
            .all(|name| is_clear(name))
            .then_some(())
    };
    house.until("the logs are clear", logs_are_clear).await;
    locker.execute_batch("ROLLBACK").unwrap();
    let is_gone = |house: &House| column::<String>(house, "event_id").is_empty().then_some(());
    house.until("it is gone once it can be", is_gone).await;
}

#[tokio::test]
async fn a_slow_upload_is_the_clients_time_and_not_the_services() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let house = House::new().await;
    let body = json!({ "events": [error("m")] }).to_string();
    let (first, rest) = body.split_at(20);
    let address = house.base().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /api/telemetry HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let stats = house.monitor().stats("api_response").unwrap();
    assert!(stats.max < 3_000.0, "{stats:?}");
}
