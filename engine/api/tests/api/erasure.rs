//! Guards: an erased person leaves nothing behind, and nobody brings him back.

use std::path::Path;

use daybook_api::Task;
use daybook_ledger::{Submission, VerifyOptions, verify};
use daybook_schema::commands::ClientSeed;
use daybook_schema::{Command, Event, UserId};
use serde_json::json;

use crate::client::PASSWORD;
use crate::house::House;
use crate::telemetry::{error, send};

/// Every file below a directory that holds one of these texts.
fn holding(directory: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, texts));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let holds = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            let held: Vec<&str> = texts.iter().copied().filter(holds).collect();
            if !held.is_empty() {
                found.push(format!("{}: {held:?}", path.display()));
            }
        }
    }
    found
}

const EMAIL: &str = "quetzalcoatl@farm.example";
const NAME: &str = "Quetzalcoatl";
const AGENT: &str = "Quetzalbrowser";
const SIMULIN: &str = "Quetzalsprig";
const TOLD: &str = "Quetzaltelemetry";
const PERSONAL: [&str; 6] = [EMAIL, NAME, AGENT, SIMULIN, TOLD, "https://farm.example/quetzal.png"];

/// Registers somebody, with a season in play and a name for a simulin.
async fn play(house: &House) -> (crate::client::Client, UserId) {
    let mut client = house.client();
    let body = json!({ "email": EMAIL, "password": PASSWORD, "displayName": NAME,
                       "avatarUrl": "https://farm.example/quetzal.png" });
    let register =
        client.request("POST", "/api/auth/register").header("user-agent", AGENT).json(&body);
    let registered = client.send(register).await.expect(201);
    let user_id: UserId = registered.body["user"]["id"].as_str().unwrap().parse().unwrap();
    let commitment = house
        .ledger()
        .query(move |state| state.users.get(&user_id).unwrap().next_commitment.unwrap().commitment)
        .unwrap()
        .await
        .unwrap();
    let client_seed = ClientSeed::from_seed(&[7; 32]);
    let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id: None };
    house.ledger().submit(Submission::new(start)).unwrap().await.unwrap();
    send(&mut client, &[error(TOLD)]).await.expect(200);
    // Before a login, in the same telemetry session.
    send(&mut house.client(), &[error(TOLD)]).await.expect(200);
    let named = "INSERT INTO simulin_names (simulin_id, name, user_id) VALUES ('sim_x', ?1, ?2)";
    house.accounts_db().execute(named, [SIMULIN, &user_id.to_string()]).unwrap();
    (client, user_id)
}

#[tokio::test]
async fn nothing_of_a_person_is_left_in_any_file_and_the_chain_still_verifies() {
    let mut house = House::new().await;
    let (mut client, user_id) = play(&house).await;
    // The read models have it too.
    house
        .until("the copy in game.db", |house| {
            let names = holding(house.directory(), &[NAME]);
            names.iter().any(|file| file.contains("game.db")).then_some(())
        })
        .await;
    house.client().log_in(EMAIL, "not the password").await.expect(401);
    client.post("/api/auth/me/erase", json!({ "password": "not the password" })).await.expect(401);
    client.get("/api/auth/me").await.expect(200);
    client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    client.get("/api/auth/me").await.expect(401);
    house.client().log_in(EMAIL, PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");

    // Within a minute, and while it runs.
    house
        .until("the end of the last trace", |house| {
            holding(house.directory(), &PERSONAL).is_empty().then_some(())
        })
        .await;
    let kinds: Vec<&str> = house.events().iter().map(|event| event.kind().as_str()).collect();
    let last: Vec<&str> = kinds[kinds.len() - 4..].to_vec();
    assert_eq!(last, ["season_abandoned", "commitment_published", "session_ended", "user_erased"]);
    // The address is free again, for another person.
    let another = house.client().register(EMAIL).await.expect(201);
    assert_ne!(another.body["user"]["id"], user_id.to_string());
    let remembered = std::fs::read_to_string(house.path("keys/erased")).unwrap();
    assert!(remembered.contains(&user_id.to_string()));
    house.stop().await;
    let options = VerifyOptions { full: true, ..VerifyOptions::default() };
    let report = verify(house.directory(), &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict.as_str(), "intact");
}

/// Guards: an older copy of accounts.db that is put back brings nobody back.
#[tokio::test]
async fn who_was_erased_is_erased_again_where_an_older_copy_was_put_back() {
    let mut house = House::new().await;
    let (mut client, user_id) = play(&house).await;
    house.stop().await;
    std::fs::copy(house.path("accounts.db"), house.path("copy")).unwrap();
    house.start().await;
    client.base = house.base().to_owned();
    client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    house.stop().await;
    std::fs::rename(house.path("copy"), house.path("accounts.db")).unwrap();
    house.start().await;
    assert_eq!(house.reconciled().erasures, 1);
    client.base = house.base().to_owned();
    client.get("/api/auth/me").await.expect(401);
    client.log_in(EMAIL, PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");
    house
        .until("the end of the last trace", |house| {
            holding(house.directory(), &PERSONAL).is_empty().then_some(())
        })
        .await;
    let erased =
        house.events().iter().filter(|event| matches!(event, Event::UserErased(_))).count();
    assert_eq!(erased, 1, "{user_id} is erased in the ledger once");
}

/// Guards: an erasure that was cut off is finished by the next start, before anything is served.
#[tokio::test]
async fn an_erasure_that_was_begun_is_finished_by_a_start() {
    let mut house = House::new().await;
    let (mut client, user_id) = play(&house).await;
    house.stop().await;
    let begun = "INSERT INTO erasures (user_id, requested_at) VALUES (?1, 0)";
    house.accounts_db().execute(begun, [user_id.to_string()]).unwrap();
    house.start().await;
    assert_eq!(house.reconciled().erasures, 1);
    client.base = house.base().to_owned();
    client.get("/api/auth/me").await.expect(401);
    let users: i64 =
        house.accounts_db().query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(users, 0);
    assert!(house.events().iter().any(|event| matches!(event, Event::UserErased(_))));
}

#[tokio::test]
async fn the_operator_erases_too() {
    let house = House::new().await;
    let (mut client, _) = play(&house).await;
    let answer = house.operate(Task::Erase { user: EMAIL.to_owned() }).await;
    assert!(answer.user.is_none());
    client.get("/api/auth/me").await.expect(401);
}

/// Guards: whom the ledger has erased an older copy does not bring back, also where the keys
/// directory forgot him.
#[tokio::test]
async fn the_ledger_remembers_erasures_too() {
    let mut house = House::new().await;
    let (mut client, _) = play(&house).await;
    house.stop().await;
    std::fs::copy(house.path("accounts.db"), house.path("copy")).unwrap();
    house.start().await;
    client.base = house.base().to_owned();
    client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    house.stop().await;
    std::fs::rename(house.path("copy"), house.path("accounts.db")).unwrap();
    std::fs::remove_file(house.path("keys/erased")).unwrap();
    house.start().await;
    assert_eq!(house.reconciled().erasures, 1);
    house.client().log_in(EMAIL, PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");
}

/// Guards: an erasure that failed midway goes on by itself.
#[tokio::test]
async fn an_erasure_that_fails_midway_goes_on() {
    let house = House::new().await;
    let (mut client, _) = play(&house).await;
    std::fs::rename(house.path("keys"), house.path("away")).unwrap();
    client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(503);
    std::fs::rename(house.path("away"), house.path("keys")).unwrap();
    house
        .until("the end of the last trace", |house| {
            holding(house.directory(), &PERSONAL).is_empty().then_some(())
        })
        .await;
}

/// Guards: who reads the files meanwhile holds up neither play nor, in the end, the erasure.
#[tokio::test]
async fn a_reader_holds_nobody_up_while_the_logs_are_emptied() {
    let house = House::new().await;
    let (mut client, _) = play(&house).await;
    let reader = house.accounts_db();
    reader.execute_batch("BEGIN; SELECT count(*) FROM users;").unwrap();
    client.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    let began = std::time::Instant::now();
    for number in 0..10 {
        house.client().register(&format!("user{number}@farm.example")).await.expect(201);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    reader.execute_batch("COMMIT").unwrap();
    house
        .until("the end of the last trace", |house| {
            holding(house.directory(), &PERSONAL).is_empty().then_some(())
        })
        .await;
}
