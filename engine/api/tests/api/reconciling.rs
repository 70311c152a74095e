//! Guards: accounts and ledger say the same of who there is, whatever was cut off between them.

use daybook_ledger::Submission;
use daybook_schema::{Command, Event, SessionEndReason, UserId};
use serde_json::json;

use crate::client::PASSWORD;
use crate::house::House;

#[tokio::test]
async fn a_registration_that_was_cut_off_is_whole_after_a_start() {
    let mut house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    house.stop().await;
    // As if the process had ended between the row and the command.
    let user_id = UserId::random().to_string();
    let database = house.accounts_db();
    database
        .execute_batch(&format!(
            "INSERT INTO users (id, email, display_name, created_at) VALUES ('{user_id}', 'bob@farm.example', 'Bob', 1);
             INSERT INTO credentials SELECT '{user_id}', password_hash, 1 FROM credentials;
             INSERT INTO pending_users VALUES ('{user_id}');"
        ))
        .unwrap();
    drop(database);
    house.start().await;
    assert_eq!(house.reconciled().registrations, 1);
    house.client().log_in("bob@farm.example", PASSWORD).await.expect(200);
    let registered =
        house.events().into_iter().filter(|event| matches!(event, Event::UserRegistered(_)));
    assert_eq!(registered.count(), 2);
}

#[tokio::test]
async fn a_session_that_one_of_the_two_alone_has_is_over_after_a_start() {
    let mut house = House::new().await;
    let (mut ada, mut phone) = (house.client(), house.client());
    let registered = ada.register("ada@farm.example").await.expect(201);
    let user_id: UserId = registered.body["user"]["id"].as_str().unwrap().parse().unwrap();
    phone.log_in("ada@farm.example", PASSWORD).await.expect(200);
    // One that the ledger alone has: nobody was given its token.
    let start = Command::StartSession { user_id };
    house.ledger().submit(Submission::new(start)).unwrap().await.unwrap();
    // And one that the accounts alone have.
    let end = Command::EndSession {
        user_id,
        session_number: daybook_schema::SessionNumber::new(2).unwrap(),
        reason: SessionEndReason::Locked,
    };
    house.ledger().submit(Submission::new(end)).unwrap().await.unwrap();
    house.stop().await;
    house.start().await;
    let reconciled = house.reconciled();
    assert_eq!((reconciled.sessions_ended, reconciled.sessions_dropped), (1, 1));
    let again = |client: &crate::client::Client| crate::client::Client {
        cookies: client.cookies.clone(),
        ..house.client()
    };
    again(&ada).get("/api/auth/me").await.expect(200);
    again(&phone).get("/api/auth/me").await.expect(401);
    let revoked = house.events().into_iter().any(|event| {
        matches!(event, Event::SessionEnded(ended) if ended.reason == SessionEndReason::Revoked
            && ended.session_number.get() == 3)
    });
    assert!(revoked);
}

/// Guards: an end whose reason is known is told with it, also after a restart.
#[tokio::test]
async fn an_end_that_the_ledger_was_not_told_of_is_told_with_its_reason() {
    let mut house = House::new().await;
    let mut ada = house.client();
    let registered = ada.register("ada@farm.example").await.expect(201);
    let user_id = registered.body["user"]["id"].as_str().unwrap().to_owned();
    house.stop().await;
    house
        .accounts_db()
        .execute_batch(&format!(
            "DELETE FROM session_numbers; DELETE FROM sessions;
             INSERT INTO ended_sessions VALUES ('{user_id}', 1, 'logout');"
        ))
        .unwrap();
    house.start().await;
    let ends: Vec<Event> = house
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::SessionEnded(_)))
        .collect();
    assert_eq!(ends.len(), 1);
    assert!(
        matches!(&ends[0], Event::SessionEnded(ended) if ended.reason == SessionEndReason::Logout)
    );
    ada.base = house.base().to_owned();
    ada.get("/api/auth/me").await.expect(401);
}

/// Guards: people are not served who play in another ledger.
#[tokio::test]
async fn the_accounts_of_another_ledger_are_refused() {
    let (mut house, mut other) = (House::new().await, House::new().await);
    house.client().register("ada@farm.example").await.expect(201);
    house.stop().await;
    other.stop().await;
    std::fs::copy(house.path("accounts.db"), other.path("accounts.db")).unwrap();
    let refused = other.try_start().await.unwrap_err();
    assert!(refused.contains("holds the accounts of ledger ldg_"), "{refused}");
}

/// Guards: a client that hangs up midway: its registration is whole, or there is none.
#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing_half_done() {
    use tokio::io::AsyncWriteExt;
    let house = House::new().await;
    let address = house.base().trim_start_matches("http://").to_owned();
    for number in 0..40 {
        let body = json!({ "email": format!("user{number}@farm.example"), "password": PASSWORD, "displayName": "U" });
        let body = body.to_string();
        let request = format!(
            "POST /api/auth/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_micros(200 * number)).await;
        drop(stream);
    }
    let pending = "SELECT count(*) FROM pending_users";
    let numbered =
        "SELECT count(*) FROM sessions WHERE id NOT IN (SELECT session_id FROM session_numbers)";
    house
        .until("the end of what was begun", |house| {
            let database = house.accounts_db();
            let count = |sql| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            (count(pending) == 0 && count(numbered) == 0).then_some(())
        })
        .await;
    let here: i64 =
        house.accounts_db().query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    let registered =
        house.events().into_iter().filter(|event| matches!(event, Event::UserRegistered(_)));
    assert_eq!(i64::try_from(registered.count()).unwrap(), here);
}

/// Guards: sessions of an account that is locked are over, whatever was cut off between the two.
#[tokio::test]
async fn a_locked_account_has_no_session() {
    let house = House::new().await;
    let mut ada = house.client();
    let registered = ada.register("ada@farm.example").await.expect(201);
    let id = registered.body["user"]["id"].as_str().unwrap();
    let lock =
        "INSERT INTO locked_users (user_id, locked_at, locked_by) VALUES (?1, 1, 'operator')";
    house.accounts_db().execute(lock, [id]).unwrap();
    // It is not at hand: nothing was asked with it yet.
    ada.get("/api/auth/me").await.expect(401);
}

/// Guards: an older accounts.db, or one without its log, is not taken for whole.
#[tokio::test]
async fn accounts_that_lack_people_of_the_ledger_are_refused() {
    let mut house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    house.stop().await;
    std::fs::copy(house.path("accounts.db"), house.path("older")).unwrap();
    house.start().await;
    house.client().register("bob@farm.example").await.expect(201);
    house.stop().await;
    std::fs::rename(house.path("accounts.db"), house.path("newer")).unwrap();
    std::fs::rename(house.path("older"), house.path("accounts.db")).unwrap();
    let refused = house.try_start().await.unwrap_err();
    assert!(refused.contains("lacks the accounts of 1 player(s)"), "{refused}");
}
