//! Guards: while play is paused nothing is played, everything is read, nobody's season expires, and
//! who did it stays on record.

use std::sync::Arc;
use std::time::Duration;

use daybook_api::Task;
use daybook_ledger::{Ledger, NewLedger, Options, Time, keys};
use daybook_schema::{Event, UserId};
use daybook_simulator::State;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{House, MakeOptions, Stepping};
use crate::player::{Player, key};

const REASON: &str = "Back at 18:00 UTC";

fn pause(user: Option<&str>) -> Task {
    let (user, reason) = (user.map(str::to_owned), REASON.to_owned());
    Task::Pause { user, reason, by: "ops".to_owned() }
}

fn resume(user: Option<&str>) -> Task {
    Task::Resume { user: user.map(str::to_owned), by: "ops".to_owned() }
}

/// Each of a player's commands is refused with the reason, and nothing of it is applied.
async fn expect_paused(house: &House, player: &mut Player, season: &str) {
    let head = house.ledger().head();
    let bets = json!({ "potId": "sun", "betType": "call", "amount": 1 });
    for (path, body) in [
        (format!("{season}/bets"), bets),
        (format!("{season}/advance"), json!({ "expectedDay": 1 })),
        (format!("{season}/abandon"), json!({})),
        ("/api/simulins".to_owned(), json!({ "species": "sprout" })),
    ] {
        let refused = player.send(&path, &key(), &body).await.expect_error(503, "PAUSED");
        assert_eq!(refused.body["message"], REASON, "{path}");
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(house.ledger().head(), head);
}

#[tokio::test]
async fn while_play_is_paused_all_is_read_and_nothing_played() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let answer = house.operate(pause(None)).await;
    assert_eq!((answer.id.as_str(), answer.pause.unwrap().paused_by.as_str()), ("all", "ops"));
    expect_paused(&house, &mut ada, &season).await;
    for path in [&season, &format!("{season}/odds"), "/api/seasons", "/api/auth/me/statement"] {
        ada.get(path).await.expect(200);
    }
    // Who is new may come, and waits as the others do.
    let mut bob = Player::register(&house, "bob").await;
    bob.get("/api/fairness/next").await.expect(200);
    // It is kept over a restart.
    house.stop().await;
    house.start().await;
    let mut ada = Player {
        client: crate::client::Client { cookies: ada.client.cookies, ..house.client() },
        ..ada
    };
    expect_paused(&house, &mut ada, &season).await;
    house.operate(resume(None)).await;
    ada.bet_on_all(&season).await.expect(201);
    ada.advance(&season, 1).await;
    let again = house.service().operate(resume(None)).await.map(|_| ());
    assert_eq!(again.unwrap_err().status(), 404, "there is nothing to resume");
    // Who did it and when.
    let record: Vec<(String, String, String)> = house
        .accounts_db()
        .prepare("SELECT reason, paused_by, resumed_by FROM pauses")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(record, [(REASON.to_owned(), "ops".to_owned(), "ops".to_owned())]);
    house.stop().await;
}

/// Who plays once so many seasons have expired.
async fn playing_when_expired(house: &House, count: usize) -> Vec<UserId> {
    let is_expired = |event: &Event| matches!(event, Event::SeasonExpired(_));
    let look = |house: &House| {
        let expired = house.events().iter().filter(|event| is_expired(event)).count();
        (expired == count).then_some(())
    };
    house.until("seasons expire", look).await;
    let playing = |state: &State| {
        state.seasons_where(|_| true).into_iter().map(|(user_id, _)| user_id).collect()
    };
    house.ledger().query(playing).unwrap().await.unwrap()
}

#[tokio::test]
async fn nothing_idle_expires_for_a_day_after_a_pause() {
    const DAY: i64 = 86_400;
    let directory = tempfile::tempdir().unwrap();
    let long_ago = Stepping::now().began.plus_micros(-31 * DAY * 1_000_000);
    let from_then: MakeOptions = Arc::new(move |data, keys| {
        Options::new(data, keys).time(Time::Source(Box::new(Stepping::from(long_ago))))
    });
    keys::init(&directory.path().join("keys"), &keys::random_season_key().unwrap()).unwrap();
    let its_keys = keys::load(&directory.path().join("keys")).unwrap();
    let created = NewLedger { created_at: Some(long_ago), ..NewLedger::random() };
    let options = from_then(directory.path(), its_keys.season_keys).create(created);
    Ledger::open(options.newest_head(its_keys.newest_head)).unwrap().close().await.unwrap();
    let mut house = House::opened(directory.path(), from_then).await;
    let (mut ada, mut bob) =
        (Player::register(&house, "ada").await, Player::register(&house, "bob").await);
    ada.start().await;
    bob.start().await;
    house.operate(pause(Some("ada@farm.example"))).await;
    house.operate(resume(Some("ada@farm.example"))).await;
    house.stop().await;
    // A month later: whoever comes first sees that the service has run for hours.
    house.settings.expires_after = Duration::ZERO;
    house.options = Arc::new(|data, keys| {
        let clock = Stepping { step: Duration::from_secs(7_200), ..Stepping::now() };
        Options::new(data, keys).time(Time::Source(Box::new(clock)))
    });
    house.start().await;
    assert_eq!(playing_when_expired(&house, 1).await, [ada.user_id.parse().unwrap()]);
    house.stop().await;
    let ended = format!("UPDATE pauses SET resumed_at = resumed_at - {}", DAY + 60);
    house.accounts_db().execute_batch(&ended).unwrap();
    house.start().await;
    assert_eq!(playing_when_expired(&house, 2).await, []);
    house.stop().await;
}

#[tokio::test]
async fn a_pause_of_one_user_is_that_users_alone() {
    let mut house = House::playing().await;
    let (mut ada, mut bob) =
        (Player::register(&house, "ada").await, Player::register(&house, "bob").await);
    let (hers, his) = (ada.start().await, bob.start().await);
    house.operate(pause(Some("ada@farm.example"))).await;
    expect_paused(&house, &mut ada, &hers).await;
    bob.bet_on_all(&his).await.expect(201);
    // A second pause takes the place of the first, which stays on record.
    house.operate(pause(Some(&ada.user_id))).await;
    // That of all is another.
    house.operate(pause(None)).await;
    house.operate(resume(None)).await;
    expect_paused(&house, &mut ada, &hers).await;
    house.operate(resume(Some(&ada.user_id))).await;
    ada.bet_on_all(&hers).await.expect(201);
    let count: i64 = house
        .accounts_db()
        .query_row("SELECT count(*) FROM pauses WHERE resumed_at IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 3);
    for reason in ["", " ", "two\nlines", "turned \u{202e}round", &"x".repeat(501)] {
        let task = Task::Pause { user: None, reason: reason.to_owned(), by: "ops".to_owned() };
        let refused = house.service().operate(task).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.status(), 400, "{reason:?}");
    }
    // What is held on her tells of them; an erasure takes them out.
    house.operate(pause(Some(&ada.user_id))).await;
    let task = Task::Export { user: ada.user_id.clone(), telemetry_before: None };
    let export = house.operate(task).await.export.unwrap();
    assert_eq!(export["pauses"].as_array().unwrap().len(), 3);
    assert_eq!(export["pauses"][2]["reason"], REASON);
    house.operate(Task::Erase { user: ada.user_id.clone() }).await;
    let left: i64 = house
        .accounts_db()
        .query_row("SELECT count(*) FROM pauses WHERE user_id IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    house.stop().await;
}

/// A command whose body comes in two parts, with something between.
async fn half_sent(house: &House, player: &Player, path: &str, between: Task) -> String {
    let body = json!({ "expectedDay": 1 }).to_string();
    let (session, length) = (&player.client.cookies["session"], body.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         connection: close\r\ncookie: session={session}\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut connection =
        TcpStream::connect(house.base().trim_start_matches("http://")).await.unwrap();
    let (first, second) = body.split_at(3);
    connection.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    // Long enough for the head to be read; where it is not, the answer is the same.
    tokio::time::sleep(Duration::from_millis(300)).await;
    house.operate(between).await;
    connection.write_all(second.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_was_half_sent_is_not_played_after_a_pause_or_a_lock() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    ada.bet_on_all(&season).await.expect(201);
    let path = format!("{season}/advance");
    let head = house.ledger().head();
    let paused = half_sent(&house, &ada, &path, pause(None)).await;
    assert!(paused.starts_with("HTTP/1.1 503") && paused.contains("PAUSED"), "{paused}");
    assert_eq!(house.ledger().head(), head);
    house.operate(resume(None)).await;
    let lock = Task::Lock { user: ada.user_id.clone() };
    let locked = half_sent(&house, &ada, &path, lock).await;
    assert!(locked.starts_with("HTTP/1.1 401") && locked.contains("SESSION_EXPIRED"), "{locked}");
    house.stop().await;
    let reader = daybook_ledger::Reader::open(house.directory()).unwrap();
    let resolved =
        reader.events_of_kinds(&[daybook_schema::EventKind::DayResolved], daybook_schema::Seq::MIN);
    assert_eq!(resolved.count(), 0);
}
