//! Guards: what a person does not do is put on record, once; claims are held to resolved days.

use daybook_api::Task;
use daybook_schema::{Event, Role, SuspicionCode};
use serde_json::{Value, json};

use crate::house::House;
use crate::player::Player;

fn flags(house: &House) -> Vec<(u8, SuspicionCode)> {
    let flags = house.events().into_iter().filter_map(|event| match event {
        Event::SuspicionFlagged(flag) => Some((flag.day_number.get(), flag.code)),
        _ => None,
    });
    flags.collect()
}

fn claim(day: &Value, coins: i64) -> Value {
    json!({ "potLevels": day["potLevels"], "coinsEarned": coins })
}

#[tokio::test]
async fn a_claim_is_compared_with_a_resolved_day_and_what_differs_is_flagged() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let check = format!("{season}/days/1/check");
    ada.bet_on_all(&season).await.expect(201);
    let levels = json!({ "water": 0, "sun": 0, "pest": 0, "growth": 0 });
    let guess = json!({ "potLevels": levels, "coinsEarned": 0 });
    // Before it is resolved a claim would be an oracle.
    ada.post(&check, guess).await.expect_error(409, "DAY_NOT_RESOLVED");
    let day = ada.advance(&season, 1).await.body;
    let earned: i64 =
        day["bets"].as_array().unwrap().iter().map(|bet| bet["payout"].as_i64().unwrap()).sum();
    let right = ada.post(&check, claim(&day["day"], earned)).await.expect(200).body;
    assert_eq!(right, json!({ "valid": true, "errors": [], "details": [] }));
    // A little less, and a little off, are no differences.
    let mut near = claim(&day["day"], 0);
    near["potLevels"]["sun"] = json!(near["potLevels"]["sun"].as_f64().unwrap() + 0.01);
    assert_eq!(ada.post(&check, near).await.expect(200).body["valid"], true);

    let mut wrong = claim(&day["day"], earned + 1);
    wrong["potLevels"]["pest"] = json!(wrong["potLevels"]["pest"].as_f64().unwrap() + 0.5);
    for _ in 0..3 {
        let told = ada.post(&check, wrong.clone()).await.expect(200).body;
        let errors = json!(["Pot level mismatch for pest", "Coin total exceeds maximum possible"]);
        assert_eq!(told["errors"], errors);
        assert_eq!(told["details"][1]["claimed"], (earned + 1) as f64);
        assert_eq!(told["details"][1]["actual"], earned as f64);
    }
    let expected = [(1, SuspicionCode::LevelManipulation), (1, SuspicionCode::CoinManipulation)];
    let is_flagged = |house: &House| expected.iter().all(|flag| flags(house).contains(flag));
    house.until("both flags", |house| is_flagged(house).then_some(())).await;
    assert_eq!(flags(&house).len(), 2, "each once");

    // In a season that ended differences are listed, and nothing is flagged.
    ada.advance(&season, 2).await;
    ada.post(&format!("{season}/abandon"), json!({})).await.expect(200);
    let check = format!("{season}/days/2/check");
    let told = ada.post(&check, wrong).await.expect(200).body;
    assert_eq!(told["valid"], false);
    for body in [json!({}), json!({ "potLevels": { "water": "x" }, "coinsEarned": -1 })] {
        ada.post(&check, body).await.expect_error(400, "VALIDATION_ERROR");
    }
    assert_eq!(flags(&house).len(), 2);
}

#[tokio::test]
async fn rapid_bets_are_flagged_once_a_day_and_listed_to_those_who_look_after_players() {
    // The system's clock: bets come as fast as they can.
    let house = House::new().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let bet = |pot: &str| json!({ "potId": pot, "betType": "fold", "amount": 0 });
    let mut refused = 0;
    for _ in 0..20 {
        let (bets, [first, second]) = (format!("{season}/bets"), [bet("sun"), bet("water")]);
        let (mut one, mut other) = (ada.clone(), ada.clone());
        let answers = tokio::join!(one.post(&bets, first), other.post(&bets, second));
        refused +=
            [answers.0, answers.1].iter().filter(|it| it.body["error"] == "RAPID_BET").count();
    }
    assert!(refused > 0);
    house.until("the flag", |house| (!flags(house).is_empty()).then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(flags(&house), [(1, SuspicionCode::RapidBet)]);

    ada.get("/api/flags").await.expect_error(403, "FORBIDDEN");
    ada.get("/api/flags?nonsense").await.expect_error(403, "FORBIDDEN");
    let mut moderator = Player::register(&house, "mod").await;
    let user = "mod@farm.example".to_owned();
    house.operate(Task::SetRole { user, role: Role::Moderator }).await;
    let page = loop {
        let page = moderator.get("/api/flags").await.expect(200).body;
        if page["flags"].as_array().is_some_and(|flags| !flags.is_empty()) {
            break page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(page["flags"][0]["code"], "rapid_bet");
    assert_eq!(page["flags"][0]["userId"], ada.user_id);
    let own = format!("/api/flags?userId={}", moderator.user_id);
    assert!(moderator.get(&own).await.expect(200).body["flags"].as_array().unwrap().is_empty());
}
