//! Guards: guessing passwords, and locking others out.

use daybook_api::Task;
use serde_json::json;

use crate::client::{Client, PASSWORD};
use crate::house::{House, settings};

async fn fail(client: &mut Client, email: &str, times: usize) {
    for _ in 0..times {
        client.log_in(email, "not the password").await.expect_error(401, "INVALID_CREDENTIALS");
    }
}

/// Guards: nothing tells whether an address has an account, neither by the answer nor by the
/// lock-out.
#[tokio::test]
async fn an_unknown_address_is_answered_and_locked_out_as_a_known_one() {
    let house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    let mut texts = Vec::new();
    for email in ["ada@farm.example", "nobody@farm.example"] {
        let mut guesser = house.client();
        let wrong = guesser.log_in(email, "not the password").await.expect(401);
        fail(&mut guesser, email, 9).await;
        // The right password is not looked at.
        let locked = guesser.log_in(email, PASSWORD).await.expect_error(423, "LOCKED_OUT");
        assert_eq!(locked.body["message"], "Account temporarily locked");
        let wait: u64 = locked.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        texts.push((wrong.body, locked.body));
    }
    assert_eq!(texts[0], texts[1]);
}

/// Guards: whoever sends all guesses at once gets no more than ten looked at.
#[tokio::test]
async fn guesses_that_come_at_once_count_as_those_that_come_one_by_one() {
    let house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    let guesses = (0..80).map(|number| {
        let mut guesser = house.client();
        tokio::spawn(async move {
            guesser.log_in("ada@farm.example", &format!("guess number {number}")).await.status
        })
    });
    let mut statuses = Vec::new();
    for guess in guesses.collect::<Vec<_>>() {
        statuses.push(guess.await.unwrap());
    }
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    assert!(looked_at <= 10, "{looked_at} of {statuses:?}");
    assert!(statuses.contains(&423), "{statuses:?}");
}

/// Guards: nobody can lock a player out for good who has logged in from here before; and sessions
/// that are open go on.
#[tokio::test]
async fn a_known_device_is_counted_apart_and_open_sessions_go_on() {
    let mut house = House::new().await;
    let (mut ada, mut guesser) = (house.client(), house.client());
    ada.register("ada@farm.example").await.expect(201);
    fail(&mut guesser, "ada@farm.example", 10).await;
    guesser.log_in("ada@farm.example", PASSWORD).await.expect(423);
    ada.get("/api/auth/me").await.expect(200);
    ada.log_in("ada@farm.example", PASSWORD).await.expect(200);
    // The record is there after a restart.
    house.stop().await;
    house.start().await;
    house.client().log_in("ada@farm.example", PASSWORD).await.expect(423);
    let mut ada = Client { cookies: ada.cookies, ..house.client() };
    ada.log_in("ada@farm.example", PASSWORD).await.expect(200);
    // A device that fails ten times is locked out itself.
    fail(&mut ada, "ada@farm.example", 10).await;
    ada.log_in("ada@farm.example", PASSWORD).await.expect(423);
    // A device counts for the user alone who logged in from it.
    let mut bob = house.client();
    bob.register("bob@farm.example").await.expect(201);
    bob.log_in("ada@farm.example", PASSWORD).await.expect(423);
    // A link lifts it.
    let made = house.operate(Task::ResetPassword { user: "ada@farm.example".to_owned() }).await;
    let link = made.link.unwrap();
    let token = link.split_once('#').unwrap().1;
    let reset = json!({ "token": token, "password": "two pails of water" });
    house.client().post("/api/auth/reset", reset).await.expect(204);
    house.client().log_in("ada@farm.example", "two pails of water").await.expect(200);
}

#[tokio::test]
async fn a_lock_out_ends_by_itself_and_a_right_password_begins_the_count_anew() {
    let mut settings = settings();
    settings.lockout.shortest = std::time::Duration::from_secs(1);
    let house = House::with(settings).await;
    house.client().register("ada@farm.example").await.expect(201);
    let mut guesser = house.client();
    fail(&mut guesser, "ada@farm.example", 9).await;
    guesser.log_in("ada@farm.example", PASSWORD).await.expect(200);
    guesser.cookies.clear();
    fail(&mut guesser, "ada@farm.example", 10).await;
    let locked = guesser.log_in("ada@farm.example", PASSWORD).await.expect(423);
    let wait: u64 = locked.header("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(wait * 1_000 + 1_000)).await;
    guesser.log_in("ada@farm.example", PASSWORD).await.expect(200);
}

/// Guards: one client cannot try one password at each of many addresses; a school behind one
/// address can log in.
#[tokio::test]
async fn a_client_address_is_locked_out_after_a_hundred_failures() {
    let mut settings = settings();
    settings.lockout.client_failures_max = 20;
    let house = House::with(settings).await;
    let mut school = house.client();
    school.register("ada@farm.example").await.expect(201);
    for _ in 0..30 {
        Client { cookies: Default::default(), ..school.clone() }
            .log_in("ada@farm.example", PASSWORD)
            .await
            .expect(200);
    }
    let mut guesser = house.client();
    for number in 0..20 {
        fail(&mut guesser, &format!("user{number}@farm.example"), 1).await;
    }
    guesser.log_in("fresh@farm.example", "not the password").await.expect(423);
    let mut elsewhere = Client::from_address(house.base(), "127.0.0.2");
    elsewhere.log_in("ada@farm.example", PASSWORD).await.expect(200);
}

/// Guards: what is remembered of failures is bounded in number.
#[tokio::test]
async fn failures_are_remembered_of_so_many_and_no_more() {
    let mut settings = settings();
    settings.lockout.keys_max = 10;
    settings.lockout.client_failures_max = 1_000;
    let house = House::with(settings).await;
    for number in 0..30 {
        fail(&mut house.client(), &format!("user{number}@farm.example"), 1).await;
    }
    let count = "SELECT count(*) FROM failed_logins";
    let known: i64 = house.accounts_db().query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(known, 10);
    // No address stands there.
    let keys: Vec<Vec<u8>> = {
        let database = house.accounts_db();
        let mut statement = database.prepare("SELECT key FROM failed_logins").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert!(keys.iter().all(|key| key.len() == 32));
}

#[tokio::test]
async fn a_client_address_registers_so_often_a_day() {
    let mut settings = settings();
    settings.registrations_per_day_max = 3;
    let house = House::with(settings).await;
    let mut client = house.client();
    client.register("ada@farm.example").await.expect(201);
    // An address that is taken counts too: it tells something.
    client.register("ada@farm.example").await.expect_error(409, "EMAIL_TAKEN");
    client.register("bob@farm.example").await.expect(201);
    let refused = client.register("eve@farm.example").await.expect_error(429, "REGISTRATION_LIMIT");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait));
    let mut elsewhere = Client::from_address(house.base(), "127.0.0.2");
    elsewhere.register("eve@farm.example").await.expect(201);
}

/// Guards: a neighbour behind the same address cannot keep a known device out, and a link makes a
/// device known.
#[tokio::test]
async fn a_neighbours_failures_keep_no_known_device_out() {
    let mut settings = settings();
    settings.lockout.client_failures_max = 5;
    let house = House::with(settings).await;
    let (mut ada, mut guesser) = (house.client(), house.client());
    ada.register("ada@farm.example").await.expect(201);
    for number in 0..5 {
        fail(&mut guesser, &format!("user{number}@farm.example"), 1).await;
    }
    house.client().log_in("ada@farm.example", PASSWORD).await.expect(423);
    ada.log_in("ada@farm.example", PASSWORD).await.expect(200);
    let made = house.operate(Task::ResetPassword { user: "ada@farm.example".to_owned() }).await;
    let link = made.link.unwrap();
    let reset =
        json!({ "token": link.split_once('#').unwrap().1, "password": "two pails of water" });
    let mut fresh = house.client();
    fresh.post("/api/auth/reset", reset).await.expect(204);
    fresh.log_in("ada@farm.example", "two pails of water").await.expect(200);
}

/// Guards: a device that is locked out is let in again by a link, and by the operator.
#[tokio::test]
async fn a_link_and_the_operator_lift_a_devices_lock_out() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    fail(&mut ada, "ada@farm.example", 10).await;
    ada.log_in("ada@farm.example", PASSWORD).await.expect(423);
    house.operate(Task::Unlock { user: "ada@farm.example".to_owned() }).await;
    ada.log_in("ada@farm.example", PASSWORD).await.expect(200);
    fail(&mut ada, "ada@farm.example", 10).await;
    let made = house.operate(Task::ResetPassword { user: "ada@farm.example".to_owned() }).await;
    let link = made.link.unwrap();
    let reset =
        json!({ "token": link.split_once('#').unwrap().1, "password": "two pails of water" });
    house.client().post("/api/auth/reset", reset).await.expect(204);
    ada.log_in("ada@farm.example", "two pails of water").await.expect(200);
}

/// Guards: a clock that was ahead and was set right locks nobody out for longer than a lock-out.
#[tokio::test]
async fn a_lock_out_of_a_clock_that_was_ahead_is_none() {
    let house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    let mut guesser = house.client();
    fail(&mut guesser, "ada@farm.example", 10).await;
    guesser.log_in("ada@farm.example", PASSWORD).await.expect(423);
    house
        .accounts_db()
        .execute("UPDATE failed_logins SET locked_until = locked_until + 86400", [])
        .unwrap();
    guesser.log_in("ada@farm.example", PASSWORD).await.expect(200);
}
