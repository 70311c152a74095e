//! Guards: a player's statement adds up, and a day can be recalled as it was.

use daybook_schema::Head;
use serde_json::{Value, json};

use crate::house::House;
use crate::player::Player;

async fn statement(player: &mut Player, query: &str) -> Vec<Value> {
    let (mut rows, mut more) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/auth/me/statement?{query}{more}");
        let page = player.get(&path).await.expect(200);
        rows.extend(page.body["movements"].as_array().unwrap().clone());
        let Some(next) = page.body["next"].as_str() else { return rows };
        assert!(page.header("link").unwrap().contains(next));
        more = format!("&after={next}");
    }
}

#[tokio::test]
async fn a_statement_adds_up_with_the_ledgers_accounts() {
    let house = House::playing().await;
    let mut players = Vec::new();
    let count = std::env::var("DAYBOOK_LONG").map_or(6, |text| text.parse::<u32>().unwrap());
    for number in 0..count {
        let bet_days = 1 + u8::try_from(number % 10).unwrap();
        let mut player = Player::register(&house, &format!("player{number}")).await;
        for _ in 0..2 {
            let season = player.start().await;
            for day in 1..=7 + bet_days {
                let bet = json!({ "potId": "growth", "betType": "raise", "amount": 1 });
                player.post(&format!("{season}/bets"), bet).await.expect(201);
                player.bet_on_all(&season).await;
                player.advance(&season, day).await;
            }
            if number % 2 == 0 || players.len() % 2 == 0 {
                player.post(&format!("{season}/abandon"), json!({})).await.expect(200);
            } else {
                for day in 8 + bet_days..=28 {
                    player.advance(&season, day).await;
                }
            }
        }
        let season = player.start().await;
        let all_in = json!({ "potId": "water", "betType": "all-in", "amount": 500 });
        player.post(&format!("{season}/bets"), all_in).await.expect(201);
        players.push(player);
    }
    let (mut minted, mut balances) = (0, 0);
    for player in &mut players {
        let rows = statement(player, "limit=7").await;
        let (mut balance, mut season) = (0, Value::Null);
        for row in &rows {
            if row["seasonId"] != season {
                season = row["seasonId"].clone();
                assert_eq!(balance, 0, "a season's balance went back before the next began");
            }
            assert_eq!(row["balanceBefore"], balance, "{row}");
            balance += row["amount"].as_i64().unwrap();
            assert_eq!(row["balanceAfter"], balance, "{row}");
            assert!(balance >= 0);
            if ["start", "stipend", "end"].contains(&row["reason"].as_str().unwrap()) {
                minted += row["amount"].as_i64().unwrap();
            }
        }
        assert_eq!(rows, statement(player, "limit=1000").await, "pages are cut anywhere");
        let ids: std::collections::BTreeSet<String> =
            rows.iter().map(|row| row["id"].to_string()).collect();
        assert_eq!(ids.len(), rows.len());
        balances += balance;
        let days: Vec<i64> = rows.iter().map(|row| row["movedAt"].as_i64().unwrap()).collect();
        assert!(days.is_sorted());
    }
    let accounts = house.ledger().query(|state| state.accounts).unwrap().await.unwrap();
    assert_eq!(i128::from(minted) * 1_000, -accounts.mint, "what the mint gave is what came");
    assert_eq!(i128::from(balances) * 1_000, accounts.balances);
}

#[tokio::test]
async fn a_statement_is_cut_by_days_and_comes_as_csv() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    ada.bet_on_all(&season).await.expect(201);
    let all = statement(&mut ada, "").await;
    assert_eq!(all.len(), 5);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let (yesterday, tomorrow) = (today.yesterday().unwrap(), today.tomorrow().unwrap());
    assert_eq!(statement(&mut ada, &format!("from={yesterday}&to={tomorrow}")).await, all);
    assert!(statement(&mut ada, "to=2020-01-01").await.is_empty());
    assert!(
        statement(&mut ada, &format!("from={}", tomorrow.tomorrow().unwrap())).await.is_empty()
    );
    assert_eq!(statement(&mut ada, &format!("from={today}&to={tomorrow}")).await, all);
    for wrong in [
        "from=x",
        "from=2026-13-01",
        "to=2026-02-30",
        "from=2026-11-30&to=2026-11-29",
        "after=1",
        "limit=0",
        "limit=1001",
    ] {
        let refused = ada.get(&format!("/api/auth/me/statement?{wrong}")).await;
        refused.expect_error(400, "VALIDATION_ERROR");
    }
    assert_eq!(statement(&mut ada, "from=2020-01-01&to=2020-01-01").await.len(), 0);
    let request = ada.client.request("GET", "/api/auth/me/statement").header("accept", "text/csv");
    let csv = ada.client.send(request).await.expect(200);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = csv.body.as_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("id,time,reason,amount,balance_before,balance_after,season_id"));
    assert!(lines[1].starts_with("1~1,20") && lines[1].contains("Z,start,500,0,500,ssn_"));
    // Where nothing moved there is a line of names.
    let request = ada.client.request("GET", "/api/auth/me/statement?to=2020-01-01");
    let csv = ada.client.send(request.header("accept", "text/csv, */*;q=0.1")).await.expect(200);
    assert_eq!(csv.body.as_str().unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_day_is_recalled_as_it_was() {
    let house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let mut previous = Value::Null;
    for day in 1..=8 {
        ada.get(&format!("{season}/days/{day}")).await.expect_error(409, "DAY_NOT_RESOLVED");
        let placed = ada.bet_on_all(&season).await.expect(201).body;
        let before = ada.get(&season).await.body["season"]["coins"].as_i64().unwrap() + 4;
        ada.get(&format!("{season}/days/{day}")).await.expect_error(409, "DAY_NOT_RESOLVED");
        let advanced = ada.advance(&season, day).await.body;
        let recalled = ada.get(&format!("{season}/days/{day}")).await.expect(200).body;
        assert_eq!(recalled["draw"]["dayKey"], advanced["day"]["seed"]);
        assert_eq!(recalled["potLevels"], advanced["day"]["potLevels"]);
        assert_eq!(recalled["events"], advanced["day"]["events"]);
        assert_eq!(recalled["hand"].is_null(), day != 7);
        let ids = |list: &Value, name: &str| -> Vec<String> {
            list.as_array().unwrap().iter().map(|it| it[name].to_string()).collect()
        };
        assert_eq!(ids(&recalled["stakes"], "betId"), ids(&placed["bets"], "id"));
        let funds = &recalled["funds"];
        let of = |name: &str| funds[name].as_i64().unwrap();
        assert_eq!((of("before"), of("staked")), (before, 4));
        assert_eq!(of("after"), before - 4 + of("paid") + of("jackpot"));
        if !previous.is_null() {
            assert_eq!(recalled["draw"]["previousDayKey"], previous);
        }
        previous = recalled["draw"]["dayKey"].clone();
        let head: Head = recalled["head"].as_str().unwrap().parse().unwrap();
        assert!(house.ledger().reader().unwrap().has(head).unwrap());
    }
    ada.post(&format!("{season}/abandon"), json!({})).await.expect(200);
    ada.get(&format!("{season}/days/8")).await.expect(200);
    // What will never be resolved is not there.
    for day in ["9", "10", "28", "29", "0", "x"] {
        ada.get(&format!("{season}/days/{day}")).await.expect_error(404, "NOT_FOUND");
    }
    // An older season too.
    ada.start().await;
    ada.get(&format!("{season}/days/1")).await.expect(200);
}
