//! Guards: a client that hangs up midway, at whatever moment, has its command done once or not at
//! all, and the retry tells. Many clients at once are put into one order.

use std::time::Duration;

use daybook_ledger::{Submission, Verdict, VerifyOptions, verify};
use daybook_schema::{Command, Event};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::house::House;
use crate::player::{Player, key};

/// Small numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Sends a request, or a part of it, and hangs up a moment later.
async fn hang_up(player: &Player, path: &str, key: &str, body: &Value, numbers: &mut Numbers) {
    let body = body.to_string();
    let session = &player.client.cookies["session"];
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         cookie: session={session}\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let address = player.client.base.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await.unwrap();
    let sent = match numbers.below(4) {
        0 => usize::try_from(numbers.below(request.len() as u64)).unwrap(),
        _ => request.len(),
    };
    connection.write_all(&request.as_bytes()[..sent]).await.unwrap();
    tokio::time::sleep(Duration::from_micros(numbers.below(3_000))).await;
    if numbers.below(2) == 0 {
        // Cut off, not closed.
        connection.set_zero_linger().unwrap();
    }
}

/// Sends a command that is lost, and then again until it is answered.
async fn lost_and_retried(
    player: &mut Player,
    path: &str,
    body: &Value,
    numbers: &mut Numbers,
) -> bool {
    let key = key();
    hang_up(player, path, &key, body, numbers).await;
    let answer = player.send(path, &key, body).await;
    assert!(answer.status < 300, "{path}: {answer:?}");
    answer.header("idempotency-replayed").is_some()
}

const PLAYERS: u64 = 45;
const SEASONS: u64 = 4;
const DAYS: u64 = 28;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hangs_up_at_any_moment_is_told_by_the_retry() {
    let house = House::playing().await;
    let mut players = Vec::new();
    for number in 0..PLAYERS {
        players.push(Player::register(&house, &format!("player{number}")).await);
    }
    let play = async |mut player: Player, seed: u64| {
        let (mut numbers, mut replayed) = (Numbers(seed), 0_u64);
        for _ in 0..SEASONS {
            let season = player.start().await;
            for day in 1..=DAYS {
                let bet =
                    json!({ "potId": "sun", "betType": "call", "amount": 1, "expectedDay": day });
                let bets = format!("{season}/bets");
                replayed +=
                    u64::from(lost_and_retried(&mut player, &bets, &bet, &mut numbers).await);
                let (advance, body) = (format!("{season}/advance"), json!({ "expectedDay": day }));
                replayed +=
                    u64::from(lost_and_retried(&mut player, &advance, &body, &mut numbers).await);
            }
        }
        replayed
    };
    let seeded = players.into_iter().zip(1..);
    let replayed: u64 =
        join_all(seeded.map(|(player, seed)| play(player, seed))).await.iter().sum();
    let sent = PLAYERS * SEASONS * DAYS;
    assert!(2 * sent >= 10_000);
    let count = |is_it: fn(&Event) -> bool| {
        house.events().iter().filter(|event| is_it(event)).count() as u64
    };
    assert_eq!(count(|event| matches!(event, Event::BetPlaced(_))), sent, "each bet once");
    assert_eq!(count(|event| matches!(event, Event::DayResolved(_))), sent, "each day once");
    // Both were seen: what had been done, and what had not.
    assert!(replayed > 0 && replayed < 2 * sent, "{replayed} of {}", 2 * sent);
}

/// What 32 connections ask of one season at once is one order, in which balances hold.
#[tokio::test]
async fn many_connections_of_one_season_are_put_into_one_order() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let ask = async |connection: u64| {
        let mut player = Player { client: house.client(), ..ada.clone() };
        player.client.cookies = ada.client.cookies.clone();
        let (mut numbers, mut change, mut accepted) = (Numbers(connection), 0_i64, 0_u64);
        for _ in 0..40 {
            let day = 1 + numbers.below(6);
            if numbers.below(4) == 0 {
                let body = json!({ "expectedDay": day });
                let answer = player.post(&format!("{season}/advance"), body).await;
                if answer.status == 200 {
                    change += answer.body["coinsChange"].as_i64().unwrap();
                    accepted += 1;
                }
                continue;
            }
            let pot =
                ["water", "sun", "pest", "growth"][usize::try_from(numbers.below(4)).unwrap()];
            let amount = 1 + numbers.below(20);
            let bet =
                json!({ "potId": pot, "betType": "raise", "amount": amount, "expectedDay": day });
            let answer = player.post(&format!("{season}/bets"), bet).await;
            if answer.status == 201 {
                change -= i64::try_from(amount).unwrap();
                accepted += 1;
            } else {
                assert_eq!(answer.status, 409, "{answer:?}");
            }
        }
        (change, accepted)
    };
    let answers = join_all((0..32).map(ask)).await;
    let change: i64 = answers.iter().map(|(change, _)| change).sum();
    let accepted: u64 = answers.iter().map(|(_, accepted)| accepted).sum();
    assert!(accepted > 10, "{accepted}");
    let shown = ada.get(&season).await.expect(200).body;
    assert_eq!(shown["season"]["coins"], 500 + change);
    // One more from outside: the engine still takes commands in order.
    let user_id = ada.user_id.parse().unwrap();
    house
        .ledger()
        .submit(Submission::new(Command::StartSession { user_id }))
        .unwrap()
        .await
        .unwrap();
    house.stop().await;
    let options = VerifyOptions { full: true, ..VerifyOptions::default() };
    let report = verify(house.directory(), &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{report:?}");
}
