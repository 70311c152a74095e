//! Guards: while play is paused nothing is played, everything is read, nobody's season expires, and
//! who did it stays on record.

use std::time::Duration;

use daybook_api::Task;
use serde_json::json;

use crate::house::House;
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
    for reason in ["", " ", "two\nlines", &"x".repeat(501)] {
        let task = Task::Pause { user: None, reason: reason.to_owned(), by: "ops".to_owned() };
        let refused = house.service().operate(task).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.status(), 400, "{reason:?}");
    }
    tokio::time::sleep(Duration::ZERO).await;
    house.stop().await;
}
