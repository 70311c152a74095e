//! Guards: what a game client does all day works as it is told, and answers say what they stand
//! for.

use serde_json::{Value, json};

use crate::house::House;
use crate::player::{Player, key};

#[tokio::test]
async fn a_season_is_played_from_its_start_to_its_end() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let adopted = ada.post("/api/simulins", json!({ "species": "sprig", "name": " Drop " })).await;
    let simulin = adopted.expect(201).body["simulin"].clone();
    assert_eq!(simulin["name"], "Drop");
    let mut body = ada.start_body().await;
    body["simulinId"] = simulin["id"].clone();
    let started = ada.post("/api/seasons", body).await.expect(201);
    let (season, day) = (&started.body["season"], &started.body["day"]);
    assert_eq!(season["coins"], 500);
    assert_eq!(
        (&day["dayNumber"], &day["resolved"], &day["seed"]),
        (&json!(1), &json!(false), &json!(""))
    );
    let path = format!("/api/seasons/{}", season["id"].as_str().unwrap());

    let odds = ada.get(&format!("{path}/odds")).await.expect(200);
    assert_eq!(odds.body["weather"], day["weather"]);
    assert_eq!(odds.body["pots"].as_array().unwrap().len(), 4);

    let mut coins = 500;
    for number in 1..=28 {
        let placed = ada.bet_on_all(&path).await.expect(201);
        assert_eq!(placed.body["bets"].as_array().unwrap().len(), 4);
        coins -= 4;
        let advanced = ada.advance(&path, number).await;
        coins += advanced.body["coinsChange"].as_i64().unwrap();
        assert_eq!(advanced.body["day"]["seed"].as_str().unwrap().len(), 64);
        assert_eq!(advanced.body["nextDay"].is_null(), number == 28);
        assert_eq!(advanced.body["week"].is_null(), number % 7 != 0);
        if number == 28 {
            assert_eq!(advanced.body["end"]["coins"], coins);
        } else {
            // One's own writes are in what is read.
            let shown = ada.get(&path).await.expect(200);
            assert_eq!(shown.header("x-stale"), None);
            assert_eq!(shown.body["season"]["coins"], coins);
            assert_eq!(shown.body["season"]["currentDay"], number + 1);
        }
    }
    let shown = ada.get(&path).await.expect(200).body;
    assert_eq!(shown["end"], "completed");
    assert!(shown["season"]["finalScore"].is_i64());
    assert_eq!(shown["days"].as_array().unwrap().len(), 28);
    assert_eq!(shown["bets"].as_array().unwrap().len(), 112);
    assert!(shown["days"][0]["potLevels"]["water"].is_i64());

    // What an advance answered and what is read of it later are the same.
    ada.get("/api/leaderboards/weekly").await.expect(200);
    let board = ada.get("/api/leaderboards/all_time").await.expect(200).body;
    assert_eq!(board["own"]["rank"], 1);
    assert_eq!(board["rows"][0]["displayName"], "Ada");
    assert_eq!(board["rows"][0]["score"], shown["season"]["finalScore"]);
    ada.get("/api/leaderboards/daily").await.expect_error(404, "NOT_FOUND");

    let listed = ada.get("/api/simulins").await.expect(200).body;
    assert_eq!(listed["simulins"][0]["name"], "Drop");
    assert!(listed["simulins"][0]["bondXP"].as_i64().unwrap() >= 0);
    house.client().get("/api/jackpot").await.expect(200);
}

/// The answers of commands and of reads have one shape and one content.
#[tokio::test]
async fn answers_to_commands_are_what_is_read_later() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let body = ada.start_body().await;
    let started = ada.post("/api/seasons", body).await.expect(201).body;
    let path = format!("/api/seasons/{}", started["season"]["id"].as_str().unwrap());
    let shown = ada.get(&path).await.expect(200).body;
    assert_eq!(shown["season"], started["season"]);
    assert_eq!(shown["days"], json!([started["day"]]));
    let placed = ada.bet_on_all(&path).await.expect(201).body;
    let shown = ada.get(&path).await.expect(200).body;
    let mut bets = placed["bets"].as_array().unwrap().clone();
    bets.sort_by_key(|bet| bet["id"].to_string());
    assert_eq!(shown["bets"], json!(bets));
    let advanced = ada.advance(&path, 1).await.body;
    let shown = ada.get(&path).await.expect(200).body;
    for field in ["seed", "potLevels", "events", "resolved", "seasonId", "dayNumber"] {
        assert_eq!(shown["days"][0][field], advanced["day"][field], "{field}");
    }
    assert_eq!(shown["days"][1], advanced["nextDay"]);
    for bet in advanced["bets"].as_array().unwrap() {
        let is_same = |row: &&Value| row["potId"] == bet["potId"];
        let row = shown["bets"].as_array().unwrap().iter().find(is_same).unwrap();
        assert_eq!((&row["won"], &row["payout"]), (&bet["won"], &bet["payout"]));
    }
    let abandoned = ada.post(&format!("{path}/abandon"), json!({})).await.expect(200).body;
    let shown = ada.get(&path).await.expect(200).body;
    assert_eq!(shown["end"], "abandoned");
    assert_eq!(shown["season"]["coins"], abandoned["coins"]);
    assert_eq!(shown["season"]["completedAt"], abandoned["completedAt"]);
}

/// What belongs to another is not there, whatever one asks.
#[tokio::test]
async fn another_players_season_is_not_there() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let mut eve = Player::register(&house, "eve").await;
    let season = ada.start().await;
    ada.advance(&season, 1).await;
    let unknown = format!("/api/seasons/ssn_{}", "019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b");
    for season in [season, unknown] {
        for part in ["", "/odds", "/days/1", "/live"] {
            eve.get(&format!("{season}{part}")).await.expect_error(404, "NOT_FOUND");
        }
        let claim = json!({ "potLevels": { "water": 1, "sun": 1, "pest": 1, "growth": 1 }, "coinsEarned": 0 });
        eve.post(&format!("{season}/days/1/check"), claim).await.expect_error(404, "NOT_FOUND");
        eve.bet_on_all(&season).await.expect_error(404, "SEASON_NOT_FOUND");
        let body = json!({ "expectedDay": 2 });
        let advance = format!("{season}/advance");
        eve.post(&advance, body).await.expect_error(404, "SEASON_NOT_FOUND");
        let abandon = format!("{season}/abandon");
        eve.post(&abandon, json!({})).await.expect_error(404, "SEASON_NOT_FOUND");
    }
    for path in ["/api/seasons/nonsense", "/api/seasons/%ff", "/api/seasons/usr_1/odds"] {
        eve.get(path).await.expect_error(404, "NOT_FOUND");
    }
    for path in ["/api/seasons", "/api/simulins", "/api/auth/me/statement", "/api/fairness/next"] {
        house.client().get(path).await.expect_error(401, "UNAUTHORIZED");
    }
}

/// Each answer says which head it stands for; whoever asks gets it signed.
#[tokio::test]
async fn answers_carry_heads_and_reads_stand_for_what_was_answered() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let seq = |answer: &crate::client::Answer| -> u64 {
        let head = answer.header("x-ledger-head").unwrap();
        let (seq, hash) = head.split_once(':').unwrap();
        assert_eq!(hash.len(), 64);
        seq.parse().unwrap()
    };
    let mut newest = 0;
    for day in 1..=5 {
        let placed = ada.bet_on_all(&season).await.expect(201);
        assert!(seq(&placed) > newest);
        let advanced = ada.advance(&season, day).await;
        newest = seq(&advanced);
        for path in [season.as_str(), "/api/seasons", "/api/simulins", "/api/auth/me/statement"] {
            let read = ada.get(path).await.expect(200);
            assert!(seq(&read) >= newest, "{path}");
        }
    }
    // A head that is given out is one that the ledger has, and the last of its command.
    let head: daybook_schema::Head =
        ada.get(&season).await.header("x-ledger-head").unwrap().parse().unwrap();
    let reader = house.ledger().reader().unwrap();
    assert!(reader.has(head).unwrap());
    let stored = reader.event(daybook_schema::Seq::new(head.seq).unwrap()).unwrap();
    assert_eq!(stored.header.command.place + 1, stored.header.command.size);

    let signed = house.client().request("GET", "/api/head").header("x-sign-head", "1");
    let signed = house.client().send(signed).await.expect(200);
    let note = signed.header("x-ledger-head-signed").unwrap();
    let note = base64_decoded(note);
    assert!(note.starts_with("daybook answered head v1\n"), "{note}");
    assert!(note.contains(signed.header("x-ledger-head").unwrap()));
    let keys = daybook_ledger::keys::load(&house.path("keys")).unwrap();
    let identity = house.ledger().query(|state| state.identity()).unwrap().await.unwrap();
    let head = signed.header("x-ledger-head").unwrap().parse().unwrap();
    let is_signed = |head| {
        let key = &keys.verifying_key;
        daybook_ledger::is_answered_head(identity, head, note.as_bytes(), key)
    };
    assert!(is_signed(head) && !is_signed(daybook_schema::Head { seq: head.seq + 1, ..head }));

    // From beyond the newest head nothing can be had: what there is is answered, and said so.
    let request = house.client().request("GET", "/api/leaderboards/weekly");
    house.client().send(request).await.expect(401);
    let request = ada.client.request("GET", "/api/seasons").header("x-ledger-at-least", "999999");
    let stale = ada.client.send(request).await.expect(200);
    assert_eq!(stale.header("x-stale"), Some("true"));
    for wrong in ["0", "-1", "x", "1e3"] {
        let request = ada.client.request("GET", "/api/seasons").header("x-ledger-at-least", wrong);
        ada.client.send(request).await.expect_error(400, "VALIDATION_ERROR");
    }
}

fn base64_decoded(text: &str) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A read never becomes an error because the read models lag or stopped.
#[tokio::test]
async fn a_stopped_projection_makes_no_error_of_a_read() {
    let mut house = House::playing().await;
    house.settings.read_wait = std::time::Duration::from_millis(20);
    house.stop().await;
    house.start().await;
    let mut ada = Player::register(&house, "ada").await;
    let before = ada.start().await;
    ada.get(&before).await.expect(200);
    house.stop_workers().await;
    ada.bet_on_all(&before).await.expect(201);
    let mut eve = Player::register(&house, "eve").await;
    let after = eve.start().await;
    eve.bet_on_all(&after).await.expect(201);
    eve.advance(&after, 1).await;
    for (player, season) in [(&mut ada, &before), (&mut eve, &after)] {
        for path in [
            season,
            "/api/seasons",
            "/api/simulins",
            "/api/auth/me/statement",
            "/api/leaderboards/all_time",
        ] {
            let read = player.get(path).await.expect(200);
            assert_eq!(read.header("x-stale"), Some("true"), "{path}");
        }
    }
    // What the read models never had is read from the ledger itself.
    let shown = eve.get(&after).await.expect(200).body;
    assert_eq!(shown["season"]["currentDay"], 2);
    assert_eq!(shown["bets"].as_array().unwrap().len(), 4);
    eve.get(&format!("{after}/days/1")).await.expect(200);
    eve.post(&format!("{after}/abandon"), json!({})).await.expect(200);
    eve.get(&format!("{after}/days/1")).await.expect(200);
    assert_eq!(eve.get(&after).await.expect(200).body["end"], "abandoned");
    eve.get(&format!("{after}/odds")).await.expect_error(404, "NOT_FOUND");
    // Nor does one that began before it stopped and ended after, once the next is in play.
    ada.advance(&before, 1).await;
    ada.post(&format!("{before}/abandon"), json!({})).await.expect(200);
    ada.start().await;
    ada.get(&format!("{before}/days/1")).await.expect(200);
    ada.get(&format!("{before}/days/2")).await.expect_error(404, "NOT_FOUND");
}

/// A body is told what is wrong with each of its fields.
#[tokio::test]
async fn every_bad_field_of_a_bet_is_named() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let bets = format!("{season}/bets");
    let cases = [
        (json!({}), vec![("amount", "required"), ("betType", "required"), ("potId", "required")]),
        (
            json!({ "potId": "mud", "betType": "bluff", "amount": -1, "expectedDay": 29, "x": 1 }),
            vec![
                ("amount", "too_small"),
                ("betType", "unknown_value"),
                ("expectedDay", "too_large"),
                ("potId", "unknown_value"),
                ("x", "unknown"),
            ],
        ),
        (json!({ "potId": "sun", "betType": "call", "amount": 1.5 }), vec![("amount", "type")]),
        (
            json!({ "potId": "sun", "betType": "call", "amount": 10_001 }),
            vec![("amount", "too_large")],
        ),
        (
            json!({ "potId": "sun", "betType": "call", "amount": 1e300 }),
            vec![("amount", "too_large")],
        ),
        (json!({ "bets": [] }), vec![("bets", "too_short")]),
        (
            json!({ "bets": [{ "potId": "sun", "betType": "call", "amount": 1 }, { "potId": "sun" }] }),
            vec![("bets.1.amount", "required"), ("bets.1.betType", "required")],
        ),
        (
            json!({ "seasonId": "ssn_other", "potId": "sun", "betType": "call", "amount": 1 }),
            vec![("seasonId", "value")],
        ),
    ];
    for (body, expected) in cases {
        let refused = ada.post(&bets, body.clone()).await.expect_error(400, "VALIDATION_ERROR");
        let mut faults = refused.faults();
        faults.sort();
        let expected: Vec<_> = expected
            .iter()
            .map(|(field, code)| ((*field).to_owned(), (*code).to_owned()))
            .collect();
        assert_eq!(faults, expected, "{body}");
    }
    // In JSON 5.0 is the whole number 5.
    let body = json!({ "potId": "sun", "betType": "call", "amount": 5.0, "seasonId": season.trim_start_matches("/api/seasons/") });
    ada.post(&bets, body).await.expect(201);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("before=0", "before"),
        ("x=1", "x"),
        ("limit=1&limit=2", "limit"),
    ] {
        let refused = ada.get(&format!("/api/seasons?{query}")).await;
        assert_eq!(refused.expect_error(400, "VALIDATION_ERROR").faults()[0].0, field, "{query}");
    }
    let wrong = ada.send(&bets, "not-a-key", &json!({})).await;
    assert_eq!(wrong.expect_error(400, "VALIDATION_ERROR").faults()[0].0, "Idempotency-Key");
    let random = "00000000-0000-4000-8000-000000000000";
    ada.send(&bets, random, &json!({})).await.expect_error(400, "VALIDATION_ERROR");
    let _ = key();
}

/// Pages of lists go on where the one before ended.
#[tokio::test]
async fn lists_are_paged() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    for _ in 0..3 {
        let season = ada.start().await;
        ada.post(&format!("{season}/abandon"), json!({})).await.expect(200);
    }
    for species in ["dewdrop", "sunpetal", "ladybot"] {
        ada.post("/api/simulins", json!({ "species": species })).await.expect(201);
    }
    for (path, list) in [("/api/seasons", "seasons"), ("/api/simulins", "simulins")] {
        let (mut ids, mut more) = (Vec::new(), String::new());
        loop {
            let page = ada.get(&format!("{path}?limit=2{more}")).await.expect(200).body;
            ids.extend(page[list].as_array().unwrap().iter().map(|row| row["id"].to_string()));
            match &page["next"] {
                Value::Null => break,
                next => {
                    more =
                        format!("&before={}", next.as_str().map_or(next.to_string(), str::to_owned))
                }
            }
        }
        let newest_first = ids.windows(2).all(|pair| pair[0] > pair[1]);
        assert!(ids.len() == 3 && newest_first, "{path}: {ids:?}");
    }
}

/// Each bet takes a token, and whoever waits as told is let in.
#[tokio::test]
async fn each_bet_takes_a_token_and_the_wait_is_for_all_of_them() {
    let mut settings = crate::house::settings();
    settings.rate_limits.bet = "5/1".parse().unwrap();
    let house = House::with(settings).await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let placed = ada.bet_on_all(&season).await.expect(201);
    assert_eq!(placed.header("x-ratelimit-remaining"), Some("1"));
    let refused = ada.bet_on_all(&season).await.expect_error(429, "RATE_LIMITED");
    // One token was left, and is taken: the next time four are needed.
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3..=4).contains(&wait), "{wait}");
    tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
    ada.bet_on_all(&season).await.expect_error(409, "DUPLICATE_BET");
}
