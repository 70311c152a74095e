//! Guards: nobody learns the future. Two services whose keys agree up to today, and on nothing
//! after it, cannot be told apart before the day is resolved, whatever an attacker asks.

use std::path::Path;
use std::sync::Arc;

use daybook_ledger::{Options, Time};
use daybook_schema::{Commitment, DayKey, Role, UnixMicros, digest};
use daybook_simulator::{SeasonKeyRequest, SeasonKeys};
use serde_json::{Value, json};

use crate::house::{House, MakeOptions, Stepping};
use crate::live::Listener;
use crate::player::Player;

/// Keys that are no hash chain: two of these with one `until` agree up to that day and, with
/// different branches, on nothing after it.
#[derive(Clone, Copy)]
struct BranchingKeys {
    until: u8,
    branch: u8,
}

impl SeasonKeys for BranchingKeys {
    fn day_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        let branch = if day <= self.until { 0 } else { self.branch };
        let number = season.season_number.get().to_le_bytes();
        let parts: [&[u8]; 3] = [season.user_id.as_bytes(), &number, &[day, branch]];
        Some(DayKey::new(digest::DAY_KEY.derive(&parts)))
    }

    fn commitment(&self, season: &SeasonKeyRequest) -> Option<Commitment> {
        let number = season.season_number.get().to_le_bytes();
        Some(Commitment::new(digest::COMMITMENT.derive(&[season.user_id.as_bytes(), &number])))
    }
}

/// A ledger with these keys, and a clock that goes on with each command alone.
fn options(keys: BranchingKeys, began: UnixMicros) -> MakeOptions {
    Arc::new(move |data, _| {
        Options::new(data, keys).time(Time::Source(Box::new(Stepping::from(began))))
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

/// All that a client sees of an answer. The time, the id of the request and what is left of the
/// limit come from the request alone.
async fn seen(player: &mut Player, method: &str, path: &str, key: &str, body: &Value) -> String {
    let request = player.client.request(method, path).header("x-sign-head", "1");
    let request = match method {
        "GET" => request,
        _ => request.header("idempotency-key", key).json(body),
    };
    let mut answer = player.client.send(request).await;
    for header in ["date", "x-request-id", "x-ratelimit-remaining"] {
        answer.headers.remove(header);
    }
    let mut headers: Vec<String> =
        answer.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.sort();
    format!("{method} {path} {} {headers:?} {}", answer.status, answer.body)
}

/// What the attacker asks on a day, in this order; bodies that change something have a key.
fn questions(season: &str, day: u8) -> Vec<(&'static str, String, Value)> {
    let bet = |pot: &str, kind: &str, amount: u64| json!({ "potId": pot, "betType": kind, "amount": amount });
    let levels = |level: u8| json!({ "potLevels": { "water": level, "sun": level, "pest": level, "growth": level }, "coinsEarned": 0 });
    let mut questions = vec![
        ("GET", "/api/head".to_owned(), Value::Null),
        ("GET", "/api/jackpot".to_owned(), Value::Null),
        ("GET", "/api/fairness/next".to_owned(), Value::Null),
        ("GET", "/api/seasons".to_owned(), Value::Null),
        ("GET", season.to_owned(), Value::Null),
        ("GET", format!("{season}/odds"), Value::Null),
        ("GET", "/api/simulins".to_owned(), Value::Null),
        ("GET", "/api/auth/me".to_owned(), Value::Null),
        ("GET", "/api/auth/me/statement?limit=1000".to_owned(), Value::Null),
        ("GET", "/api/leaderboards/all_time".to_owned(), Value::Null),
        ("GET", "/api/flags".to_owned(), Value::Null),
        ("GET", "/api/analytics/dau".to_owned(), Value::Null),
        ("GET", "/api/analytics/retention".to_owned(), Value::Null),
        ("GET", "/api/analytics/funnel".to_owned(), Value::Null),
        ("GET", "/api/analytics/bets?by=day".to_owned(), Value::Null),
        ("GET", "/api/analytics/sessions".to_owned(), Value::Null),
        ("GET", "/api/analytics/coins".to_owned(), Value::Null),
        ("POST", "/api/auth/me/export".to_owned(), json!({ "password": crate::client::PASSWORD })),
        (
            "POST",
            "/api/seasons".to_owned(),
            json!({ "commitment": "0".repeat(64), "clientSeed": "1".repeat(64) }),
        ),
        ("POST", format!("{season}/advance"), json!({ "expectedDay": day + 1 })),
        ("POST", format!("{season}/bets"), bet("sun", "raise", 9_999)),
        ("POST", format!("{season}/bets"), bet("sun", "call", 1)),
        ("POST", format!("{season}/bets"), bet("sun", "call", 1)),
        (
            "POST",
            format!("{season}/bets"),
            json!({ "bets": [bet("water", "fold", 0), bet("pest", "call", 2)], "expectedDay": day }),
        ),
        ("POST", "/api/simulins".to_owned(), json!({ "species": "sprig" })),
    ];
    for other in 1..=28 {
        questions.push(("GET", format!("{season}/days/{other}"), Value::Null));
    }
    // Claims about days to come; a wrong one about a day that was is put on record, under an id that
    // the engine makes at random.
    for other in day..=28 {
        for level in [0, 50, 100] {
            questions.push(("POST", format!("{season}/days/{other}/check"), levels(level)));
        }
    }
    questions.push(("GET", season.to_owned(), Value::Null));
    questions.push(("GET", "/api/auth/me/statement".to_owned(), Value::Null));
    questions
}

#[tokio::test]
async fn no_answer_differs_before_the_day_is_resolved() {
    let began = UnixMicros::new(jiff::Timestamp::now().as_microsecond());
    let later = |hours: i64| began.plus_micros(hours * 3_600_000_000);
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let until = 6;
    let keys = |branch| BranchingKeys { until, branch };
    let first = House::opened(directories[0].path(), options(keys(1), began)).await;
    let mut first = first;
    let mut ada = Player::register(&first, "ada").await;
    let user = "ada@farm.example".to_owned();
    // An attacker with every right that there is over HTTP.
    first.operate(daybook_api::Task::SetRole { user, role: Role::Admin }).await;
    let season = ada.start().await;
    for day in 1..until {
        ada.bet_on_all(&season).await.expect(201);
        ada.advance(&season, day).await;
    }
    first.stop().await;
    copy(directories[0].path(), directories[1].path());
    let mut houses = Vec::new();
    for (directory, branch) in directories.iter().zip([1, 2]) {
        houses.push(House::opened(directory.path(), options(keys(branch), later(1))).await);
    }
    let mut attackers: Vec<Player> = houses
        .iter()
        .map(|house| {
            let mut attacker = ada.clone();
            attacker.client.base = house.base().to_owned();
            attacker
        })
        .collect();
    // The day before the keys part, and the last on which they agree.
    for day in [until, until + 1] {
        for (method, path, body) in questions(&season, day) {
            let key = crate::player::key();
            let mut answers = Vec::new();
            for attacker in &mut attackers {
                answers.push(seen(attacker, method, &path, &key, &body).await);
            }
            assert_eq!(answers[0], answers[1], "day {day}");
        }
        let mut streams = Vec::new();
        for attacker in &attackers {
            let mut listener = Listener::open(&attacker.client, &season, None).await;
            let mut told = Vec::new();
            while told.iter().filter(|it: &&String| it.contains("day_opened")).count() < day.into()
            {
                told.push(format!("{:?}", listener.next().await.unwrap()));
            }
            streams.push(told);
        }
        assert_eq!(streams[0], streams[1], "day {day}");
        assert_eq!(feed(&houses[0]), feed(&houses[1]), "day {day}");
        let mut resolved = Vec::new();
        let (key, body) = (crate::player::key(), json!({ "expectedDay": day }));
        for attacker in &mut attackers {
            let path = format!("{season}/advance");
            resolved.push(seen(attacker, "POST", &path, &key, &body).await);
        }
        // That it would be seen is seen here.
        assert_eq!(resolved[0] == resolved[1], day <= until, "day {day}");
    }
}

/// The ledger as every reader of it sees it.
fn feed(house: &House) -> Vec<String> {
    let reader = house.ledger().reader().unwrap();
    let events = reader.events_from(daybook_schema::Seq::MIN);
    events.map(|stored| serde_json::to_string(&stored.unwrap()).unwrap()).collect()
}
