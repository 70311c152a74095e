//! Guards: every rejection of the rulebook is answered as docs/PLAY.md tells. The table there is
//! made here: `DAYBOOK_ACCEPT=1` takes today's for right.

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_ledger::{Options, Submission, Time};
use daybook_schema::{Command, KeyId, RulesetNumber, UnixMicros};
use daybook_simulator::{RULESET_1, Rejection, Rulesets};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::house::{House, MakeOptions, Stepping};
use crate::player::Player;

/// What no player's request is answered with, and why.
const ELSEWHERE: [(&str, &str); 9] = [
    ("USER_NOT_FOUND", "a session's user is registered"),
    ("USER_ALREADY_REGISTERED", "registering makes a new id"),
    ("USER_ERASED", "an erased user has no session"),
    ("SESSION_NOT_OPEN", "ending a session is answered NOT_FOUND"),
    ("COMMITMENT_IN_FORCE", "the service's own commands"),
    ("KEY_ALREADY_USED", "the operator's command"),
    ("SEASON_NOT_IDLE", "the service's own commands"),
    ("NO_HEAD_LOST", "the operator's command"),
    ("ALREADY_FLAGGED", "the service's own commands"),
];

const BEGINS: &str = "<!-- rejections: made by a test -->\n";
const ENDS: &str = "<!-- end -->\n";

/// A row of the table.
struct Row {
    status: u16,
    sentence: String,
    retry_after: &'static str,
}

#[derive(Default)]
struct Table(BTreeMap<String, Row>);

impl Table {
    /// Takes an answer for what a rejection is answered with.
    #[track_caller]
    fn take(&mut self, answer: &Answer, code: &str) {
        assert_eq!(answer.body["error"], code, "{answer:?}");
        let detail = &answer.body["details"][0];
        assert_eq!((&detail["code"], &detail["message"]), (&json!(code), &answer.body["message"]));
        let wait: Option<u64> = answer.header("retry-after").map(|wait| wait.parse().unwrap());
        let retry_after = match wait {
            None => "",
            Some(1) => "1 s",
            Some(_) => "until the next UTC day",
        };
        let sentence = general(answer.body["message"].as_str().unwrap());
        self.0.insert(code.to_owned(), Row { status: answer.status, sentence, retry_after });
    }

    fn to_markdown(&self) -> String {
        let mut text =
            "| code | status | sentence | `Retry-After` |\n|---|---|---|---|\n".to_owned();
        for (_, code) in Rejection::CODES {
            if let Some(Row { status, sentence, retry_after }) = self.0.get(*code) {
                text += &format!("| `{code}` | {status} | {sentence} | {retry_after} |\n");
            }
        }
        text
    }
}

/// A sentence without the values of this time.
fn general(sentence: &str) -> String {
    let quoted = |(place, part): (usize, &str)| match place % 2 {
        1 if part.len() > 20 || part.parse::<u64>().is_ok() => "…".to_owned(),
        1 => format!("`{part}`"),
        _ => part.to_owned(),
    };
    let plain: String = sentence.split('`').enumerate().map(quoted).collect();
    let words = plain.split(' ').map(|word| match word.parse::<u64>() {
        Ok(number) if number > 100_000 => "…",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

fn stepping(hours: i64, rulesets: Rulesets) -> MakeOptions {
    // From tomorrow's noon: no day ends meanwhile, here or there.
    let today = UnixMicros::new(jiff::Timestamp::now().as_microsecond()).utc_day();
    let began = UnixMicros::from_seconds(((today + 1) * 24 + 12 + hours) * 3_600);
    Arc::new(move |data, keys| {
        let clock = Time::Source(Box::new(Stepping::from(began)));
        Options::new(data, keys).rulesets(rulesets.clone()).time(clock)
    })
}

async fn bets(player: &mut Player, season: &str, body: Value) -> Answer {
    player.post(&format!("{season}/bets"), body).await
}

fn bet(pot: &str, kind: &str, amount: u64) -> Value {
    json!({ "potId": pot, "betType": kind, "amount": amount })
}

/// What a start and a season in play are refused for.
async fn of_seasons(house: &House, table: &mut Table) {
    let mut ada = Player::register(house, "ada").await;
    let unknown = "/api/seasons/ssn_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b";
    table.take(&bets(&mut ada, unknown, bet("sun", "call", 1)).await, "SEASON_NOT_FOUND");
    let mut body = ada.start_body().await;
    body.as_object_mut().unwrap().remove("clientSeed");
    table.take(&ada.post("/api/seasons", body).await, "CLIENT_SEED_REQUIRED");
    let other = json!({ "commitment": "0".repeat(64), "clientSeed": "1".repeat(64) });
    table.take(&ada.post("/api/seasons", other).await, "COMMITMENT_CHANGED");
    let mut body = ada.start_body().await;
    body["simulinId"] = json!("sim_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b");
    table.take(&ada.post("/api/seasons", body).await, "SIMULIN_NOT_FOUND");

    let body = ada.start_body().await;
    let started = ada.post("/api/seasons", body.clone()).await.expect(201);
    let season = format!("/api/seasons/{}", started.body["season"]["id"].as_str().unwrap());
    table.take(&ada.get("/api/fairness/next").await, "SEASON_IN_PROGRESS");
    let again = ada.post("/api/seasons", body).await.expect_error(409, "SEASON_IN_PROGRESS");
    assert_eq!(again.body["details"].as_array().unwrap().len(), 1, "{again:?}");
    let refused = bets(&mut ada, &season, bet("sun", "raise", 9_000)).await;
    table.take(&refused, "INSUFFICIENT_BALANCE");
    table.take(&bets(&mut ada, &season, bet("sun", "call", 400)).await, "AMOUNT_NOT_ALLOWED");
    bets(&mut ada, &season, bet("sun", "call", 1)).await.expect(201);
    table.take(&bets(&mut ada, &season, bet("sun", "call", 1)).await, "DUPLICATE_BET");
    let advance = ada.post(&format!("{season}/advance"), json!({ "expectedDay": 2 })).await;
    table.take(&advance, "WRONG_DAY");
    ada.post(&format!("{season}/abandon"), json!({})).await.expect(200);
    table.take(&bets(&mut ada, &season, bet("sun", "call", 1)).await, "NOT_IN_ACTION_PHASE");
    let again = ada.post(&format!("{season}/abandon"), json!({})).await;
    table.take(&again, "SEASON_COMPLETE");
    for _ in 0..3 {
        let season = ada.start().await;
        ada.post(&format!("{season}/abandon"), json!({})).await.expect(200);
    }
    let body = ada.start_body().await;
    table.take(&ada.post("/api/seasons", body).await, "SEASON_LIMIT");
}

/// What companions are refused for. One is played until it may choose its path.
async fn of_simulins(house: &House, table: &mut Table) {
    let mut eve = Player::register(house, "eve").await;
    let mut ids = Vec::new();
    for species in ["sprig", "dewdrop", "ladybot"] {
        let adopted = eve.post("/api/simulins", json!({ "species": species })).await.expect(201);
        ids.push(adopted.body["simulin"]["id"].as_str().unwrap().to_owned());
    }
    let fourth = eve.post("/api/simulins", json!({ "species": "sprig" })).await;
    table.take(&fourth, "SIMULIN_LIMIT");
    let path = format!("/api/simulins/{}/path", ids[0]);
    let lucky = json!({ "path": "lucky" });
    table.take(&eve.post(&path, lucky.clone()).await, "SIMULIN_TOO_YOUNG");
    eve.post(&format!("/api/simulins/{}/retire", ids[1]), json!({})).await.expect(200);
    let again = eve.post(&format!("/api/simulins/{}/retire", ids[1]), json!({})).await;
    table.take(&again, "SIMULIN_RETIRED");
    for _ in 0..4 {
        let mut body = eve.start_body().await;
        body["simulinId"] = json!(ids[0]);
        let started = eve.post("/api/seasons", body).await.expect(201);
        let season = format!("/api/seasons/{}", started.body["season"]["id"].as_str().unwrap());
        for day in 1..=28 {
            bets(&mut eve, &season, bet("growth", "raise", 10)).await.expect(201);
            eve.advance(&season, day).await;
        }
    }
    eve.post(&path, lucky.clone()).await.expect(200);
    table.take(&eve.post(&path, lucky).await, "PATH_ALREADY_CHOSEN");
}

/// What the operator or the engine sees to.
async fn of_keys(house: &mut House, table: &mut Table) {
    let mut bob = Player::register(house, "bob").await;
    let season = bob.start().await;
    let mut cat = Player::register(house, "cat").await;
    let advance = format!("{season}/advance");
    let rotate = |number: u8, compromised| {
        let key_id = KeyId::new([number; 8]);
        Submission::new(Command::RotateKey { key_id, compromised })
    };
    // A key that is nowhere to be had.
    house.ledger().submit(rotate(1, false)).unwrap().await.unwrap();
    let abandon = bob.post(&format!("{season}/abandon"), json!({})).await;
    table.take(&abandon, "KEY_UNAVAILABLE");
    house.ledger().submit(rotate(2, true)).unwrap().await.unwrap();
    let refused = bob.post(&advance, json!({ "expectedDay": 1 })).await;
    table.take(&refused, "SEASON_WITHDRAWN");
    table.take(&cat.get("/api/fairness/next").await, "COMMITMENT_OUTDATED");
}

/// A season that the engine ended, and one whose rules this version does not know.
async fn of_other_times(table: &mut Table) {
    let directory = tempfile::tempdir().unwrap();
    let newer = daybook_simulator::Rules { ruleset: RulesetNumber::clamped(2), ..RULESET_1 };
    let both = Rulesets::new(RULESET_1, vec![newer]);
    let mut house = House::opened(directory.path(), stepping(0, both.clone())).await;
    let mut ada = Player::register(&house, "ada").await;
    let mut eve = Player::register(&house, "eve").await;
    let (season, expired) = (ada.start().await, eve.start().await);
    house.stop().await;
    house.options = stepping(1, Rulesets::new(RULESET_1, Vec::new()));
    house.start().await;
    ada.client.base = house.base().to_owned();
    let refused = ada.post(&format!("{season}/advance"), json!({ "expectedDay": 1 })).await;
    table.take(&refused, "RULESET_UNKNOWN");
    house.stop().await;
    // 30 days and an hour later.
    house.options = stepping(30 * 24 + 2, both);
    house.start().await;
    eve.client.base = house.base().to_owned();
    let id = |text: &str| text.trim_start_matches("/api/seasons/").parse().unwrap();
    let (user_id, season_id) = (eve.user_id.parse().unwrap(), id(&expired));
    let expire = || Submission::new(Command::ExpireSeason { user_id, season_id });
    // Each command takes a fifth of a second, and none expires in the first hour.
    let mut ended = false;
    for _ in 0..20_000 {
        if house.ledger().submit(expire()).unwrap().await.is_ok() {
            ended = true;
            break;
        }
    }
    assert!(ended, "it expires after an hour");
    let refused = eve.post(&format!("{expired}/advance"), json!({ "expectedDay": 1 })).await;
    table.take(&refused, "SEASON_EXPIRED");
}

#[tokio::test]
async fn every_rejection_is_answered_as_the_table_in_the_docs_tells() {
    let mut table = Table::default();
    let directory = tempfile::tempdir().unwrap();
    let mut house = House::opened(directory.path(), stepping(0, Rulesets::default())).await;
    of_seasons(&house, &mut table).await;
    of_simulins(&house, &mut table).await;
    of_keys(&mut house, &mut table).await;
    of_other_times(&mut table).await;
    rapid(&mut table).await;
    for (_, code) in Rejection::CODES {
        let is_elsewhere = ELSEWHERE.iter().any(|(other, _)| other == code);
        assert!(table.0.contains_key(*code) != is_elsewhere, "{code}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/PLAY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGINS).expect("where it begins");
    let (told, after) = rest.split_once(ENDS).expect("where it ends");
    let today = table.to_markdown();
    if std::env::var_os("DAYBOOK_ACCEPT").is_some() {
        std::fs::write(path, format!("{before}{BEGINS}{today}{ENDS}{after}")).unwrap();
    } else {
        assert_eq!(told, today, "accept it with DAYBOOK_ACCEPT=1");
    }
}

/// Bets that come as fast as they can, by the system's clock.
async fn rapid(table: &mut Table) {
    let house = House::new().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    for _ in 0..100 {
        bets(&mut ada, &season, bet("sun", "fold", 0)).await;
        let refused = bets(&mut ada, &season, bet("water", "fold", 0)).await;
        if refused.body["error"] == "RAPID_BET" {
            return table.take(&refused, "RAPID_BET");
        }
        // The machine was slow: once more on the next day.
        let day = ada.get(&season).await.body["season"]["currentDay"].as_u64().unwrap();
        ada.post(&format!("{season}/advance"), json!({ "expectedDay": day })).await.expect(200);
    }
    panic!("no bet came within 100 ms of another");
}
