//! Guards: who one is, and who is logged in.

use daybook_api::Task;
use daybook_schema::{Event, SessionEndReason};
use serde_json::json;

use crate::client::{Client, PASSWORD};
use crate::house::House;

/// The ends of sessions in the ledger, once there are so many.
async fn ends(house: &House, count: usize) -> Vec<(u32, SessionEndReason)> {
    house
        .until("the ends of sessions", |house| {
            let events = house.events().into_iter();
            let ended: Vec<_> = events
                .filter_map(|event| match event {
                    Event::SessionEnded(ended) => Some((ended.session_number.get(), ended.reason)),
                    _ => None,
                })
                .collect();
            (ended.len() >= count).then_some(ended)
        })
        .await
}

#[tokio::test]
async fn a_user_is_answered_with_the_seeds_columns_and_nothing_of_credentials() {
    let house = House::new().await;
    let mut ada = house.client();
    let registered = ada.register(" Ada@Farm.Example ").await.expect(201);
    let user = registered.body["user"].as_object().unwrap();
    let mut names: Vec<&str> = user.keys().map(String::as_str).collect();
    names.sort_unstable();
    let seeds = ["avatarUrl", "createdAt", "displayName", "email", "id", "lastLoginAt", "role"];
    assert_eq!(names, seeds);
    assert_eq!(user["email"], "ada@farm.example");
    assert_eq!(user["role"], "player");
    assert_eq!(ada.get("/api/auth/me").await.expect(200).body["user"]["id"], user["id"]);

    // The cookie is the seed's.
    let cookie = registered.cookies.iter().find(|it| it.starts_with("session=")).unwrap();
    for part in ["HttpOnly", "Secure", "SameSite=Strict", "Max-Age=604800", "Path=/"] {
        assert!(cookie.split("; ").any(|it| it == part), "{part} is not in {cookie}");
    }
    // The token is stored as a hash alone.
    let stored: Vec<String> = ["accounts.db", "accounts.db-wal"]
        .iter()
        .map(|name| String::from_utf8_lossy(&std::fs::read(house.path(name)).unwrap()).into_owned())
        .collect();
    assert!(stored.iter().all(|bytes| !bytes.contains(&ada.cookies["session"])));
    assert!(stored.iter().all(|bytes| !bytes.contains(PASSWORD)));

    // An address is another's whatever its case.
    house.client().register("ADA@farm.example").await.expect_error(409, "EMAIL_TAKEN");
    // The ledger knows the user, and the session.
    let kinds: Vec<&str> = house.events().iter().map(|event| event.kind().as_str()).collect();
    assert_eq!(kinds[1..], ["user_registered", "commitment_published", "session_started"]);
}

#[tokio::test]
async fn a_profile_changes_by_what_is_given() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let picture = json!({ "avatarUrl": "https://farm.example/a.png" });
    let changed = ada.patch("/api/auth/me", picture).await.expect(200);
    assert_eq!(changed.body["user"]["avatarUrl"], "https://farm.example/a.png");
    let changed = ada.patch("/api/auth/me", json!({ "displayName": "Ada L." })).await.expect(200);
    assert_eq!(changed.body["user"]["displayName"], "Ada L.");
    assert_eq!(changed.body["user"]["avatarUrl"], "https://farm.example/a.png");
    let changed = ada.patch("/api/auth/me", json!({ "avatarUrl": null })).await.expect(200);
    assert_eq!(changed.body["user"]["avatarUrl"], json!(null));
    for bad in [json!({}), json!({ "displayName": null }), json!({ "avatarUrl": "http://x.y/a" })] {
        ada.patch("/api/auth/me", bad).await.expect_error(400, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn sessions_end_at_once_and_the_ledger_has_each_end_with_its_reason() {
    let house = House::new().await;
    let (mut ada, mut phone, mut tablet) = (house.client(), house.client(), house.client());
    ada.register("ada@farm.example").await.expect(201);
    phone.log_in("ada@farm.example", PASSWORD).await.expect(200);
    tablet.log_in("ada@farm.example", PASSWORD).await.expect(200);
    let listed = ada.get("/api/auth/sessions").await.expect(200);
    let sessions = listed.body["sessions"].as_array().unwrap();
    let shown: Vec<_> =
        sessions.iter().map(|it| (it["number"].as_u64(), it["isCurrent"].as_bool())).collect();
    assert_eq!(shown, [(Some(3), Some(false)), (Some(2), Some(false)), (Some(1), Some(true))]);

    let old = tablet.clone();
    tablet.post("/api/auth/logout", json!({})).await.expect(204);
    assert!(!tablet.cookies.contains_key("session"));
    old.clone().get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    tablet.get("/api/auth/me").await.expect_error(401, "UNAUTHORIZED");
    ada.delete("/api/auth/sessions/2").await.expect(204);
    phone.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    ada.delete("/api/auth/sessions/2").await.expect_error(404, "NOT_FOUND");
    ada.delete("/api/auth/sessions/0").await.expect_error(404, "NOT_FOUND");
    ada.delete("/api/auth/sessions/x").await.expect_error(404, "NOT_FOUND");
    ada.delete("/api/auth/sessions").await.expect(204);
    let ends = ends(&house, 3).await;
    let revoked = SessionEndReason::Revoked;
    assert_eq!(ends, [(3, SessionEndReason::Logout), (2, revoked), (1, revoked)]);
}

#[tokio::test]
async fn the_ninth_login_ends_the_oldest_session() {
    let house = House::new().await;
    let mut clients: Vec<Client> = (0..9).map(|_| house.client()).collect();
    clients[0].register("ada@farm.example").await.expect(201);
    for client in &mut clients[1..] {
        client.log_in("ada@farm.example", PASSWORD).await.expect(200);
    }
    clients[0].get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    for client in &mut clients[1..] {
        client.get("/api/auth/me").await.expect(200);
    }
    assert_eq!(ends(&house, 1).await, [(1, SessionEndReason::Replaced)]);
}

/// Guards: a new token at every login, and the old one dead.
#[tokio::test]
async fn logging_in_again_ends_the_session_that_was() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let mut old = ada.clone();
    ada.log_in("ada@farm.example", PASSWORD).await.expect(200);
    assert_ne!(old.cookies["session"], ada.cookies["session"]);
    old.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    ada.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_new_password_ends_every_session_but_the_one_that_it_begins() {
    let house = House::new().await;
    let (mut ada, mut phone) = (house.client(), house.client());
    ada.register("ada@farm.example").await.expect(201);
    phone.log_in("ada@farm.example", PASSWORD).await.expect(200);
    let change =
        |current: &str| json!({ "currentPassword": current, "password": "two pails of water" });
    ada.post("/api/auth/password", change("not my password"))
        .await
        .expect_error(401, "INVALID_CREDENTIALS");
    ada.post("/api/auth/password", change(PASSWORD)).await.expect(200);
    phone.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    ada.get("/api/auth/me").await.expect(200);
    house
        .client()
        .log_in("ada@farm.example", PASSWORD)
        .await
        .expect_error(401, "INVALID_CREDENTIALS");
    house.client().log_in("ada@farm.example", "two pails of water").await.expect(200);
}

#[tokio::test]
async fn two_session_cookies_are_no_session() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let token = ada.cookies["session"].clone();
    let mut other = house.client();
    let twice = other
        .request("GET", "/api/auth/me")
        .header("cookie", format!("session={token}; session={token}"));
    other.send(twice).await.expect_error(401, "SESSION_EXPIRED");
    let unreadable = other.request("GET", "/api/auth/me").header("cookie", "session=ä");
    other.send(unreadable).await.expect(401);
}

/// Guards: nobody is logged out by a restart, and nobody who logged out is in again.
#[tokio::test]
async fn sessions_and_their_ends_survive_a_restart() {
    let mut house = House::new().await;
    let (mut ada, mut gone) = (house.client(), house.client());
    ada.register("ada@farm.example").await.expect(201);
    gone.log_in("ada@farm.example", PASSWORD).await.expect(200);
    let was = gone.clone();
    gone.post("/api/auth/logout", json!({})).await.expect(204);
    house.stop().await;
    house.start().await;
    let again = |client: &Client| Client { cookies: client.cookies.clone(), ..house.client() };
    again(&ada).get("/api/auth/me").await.expect(200);
    again(&was).get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
}

#[tokio::test]
async fn a_session_lasts_as_long_as_it_is_set_and_its_end_is_swept() {
    let mut settings = crate::house::settings();
    settings.session_age = std::time::Duration::from_secs(1);
    let mut house = House::with(settings).await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    ada.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    // A start sweeps at once.
    house.stop().await;
    house.start().await;
    assert_eq!(ends(&house, 1).await, [(1, SessionEndReason::Expired)]);
}

#[tokio::test]
async fn a_reset_link_is_for_one_use_and_ends_all_sessions() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let made = house.operate(Task::ResetPassword { user: "ada@farm.example".to_owned() }).await;
    let link = made.link.unwrap();
    let (page, token) = link.split_once('#').unwrap();
    assert_eq!(page, format!("{}/reset", house.base()));
    let mut stranger = house.client();
    let reset = |token: &str| json!({ "token": token, "password": "two pails of water" });
    let weak = json!({ "token": token, "password": "password1" });
    stranger.post("/api/auth/reset", weak).await.expect_error(400, "VALIDATION_ERROR");
    stranger.post("/api/auth/reset", reset("nonsense")).await.expect_error(400, "INVALID_LINK");
    stranger.post("/api/auth/reset", reset(token)).await.expect(204);
    stranger.post("/api/auth/reset", reset(token)).await.expect_error(400, "INVALID_LINK");
    ada.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    ada.log_in("ada@farm.example", "two pails of water").await.expect(200);
}

#[tokio::test]
async fn moderators_lock_players_and_admins_lock_moderators() {
    let house = House::new().await;
    let (mut ada, mut bob, mut eve) = (house.client(), house.client(), house.client());
    let id = |answer: crate::client::Answer| answer.body["user"]["id"].as_str().unwrap().to_owned();
    let (ada_id, bob_id, eve_id) = (
        id(ada.register("ada@farm.example").await),
        id(bob.register("bob@farm.example").await),
        id(eve.register("eve@farm.example").await),
    );
    let lock = |id: &str| format!("/api/users/{id}/lock");
    eve.post(&lock(&bob_id), json!({})).await.expect_error(403, "FORBIDDEN");
    for (user, role) in [("ada@farm.example", "admin"), ("bob@farm.example", "moderator")] {
        let (user, role) = (user.to_owned(), role.parse().unwrap());
        house.operate(Task::SetRole { user, role }).await;
    }
    // A role counts at once, in sessions that are open too.
    bob.post(&lock(&ada_id), json!({})).await.expect_error(403, "FORBIDDEN");
    bob.post(&lock(&eve_id), json!({})).await.expect(204);
    eve.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    // A lock is told to who has the password, and to nobody else.
    eve.log_in("eve@farm.example", "not the password")
        .await
        .expect_error(401, "INVALID_CREDENTIALS");
    eve.log_in("eve@farm.example", PASSWORD).await.expect_error(403, "ACCOUNT_LOCKED");
    bob.delete(&lock(&eve_id)).await.expect(204);
    eve.log_in("eve@farm.example", PASSWORD).await.expect(200);
    ada.post(&lock(&bob_id), json!({})).await.expect(204);
    bob.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    ada.post(&lock(&ada_id), json!({})).await.expect_error(403, "FORBIDDEN");
    ada.post(&lock("usr_nobody"), json!({})).await.expect_error(404, "NOT_FOUND");
    ada.post(&lock("usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"), json!({}))
        .await
        .expect_error(404, "NOT_FOUND");
    assert!(ends(&house, 2).await.iter().all(|(_, reason)| *reason == SessionEndReason::Locked));
}

#[tokio::test]
async fn an_export_holds_the_account_its_sessions_and_what_was_played() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let wrong = json!({ "password": "not the password" });
    ada.post("/api/auth/me/export", wrong).await.expect_error(401, "INVALID_CREDENTIALS");
    let export = ada.post("/api/auth/me/export", json!({ "password": PASSWORD })).await.expect(200);
    assert_eq!(export.body["user"]["email"], "ada@farm.example");
    assert_eq!(export.body["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(export.body["failedLogins"].as_array().unwrap().len(), 0);
    assert_eq!(export.body["play"]["seasons"], json!([]));
    assert_eq!(export.body["play"]["simulins"], json!([]));
}

/// Guards: an address of the form that placeholders have is nobody's: it would stop the copies.
#[tokio::test]
async fn addresses_of_placeholders_are_nobodys() {
    let house = House::new().await;
    let mut ada = house.client();
    let registered = ada.register("ada@farm.example").await.expect(201);
    let id = registered.body["user"]["id"].as_str().unwrap();
    for email in [
        format!("filling+{id}@filling.invalid"),
        format!("erased+{id}@ERASED.Invalid "),
        "x@sub.invalid".to_owned(),
    ] {
        house.client().register(&email).await.expect_error(400, "VALIDATION_ERROR");
    }
}

#[tokio::test]
async fn names_that_are_not_seen_are_none() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    for name in ["\u{200b}", "\u{3164}", "ada\u{202e}nimda", "a\u{7}b", "\u{200d}"] {
        let change = json!({ "displayName": name });
        ada.patch("/api/auth/me", change).await.expect_error(400, "VALIDATION_ERROR");
    }
    // Families of emoji are joined by what is not seen itself.
    ada.patch("/api/auth/me", json!({ "displayName": "👩\u{200d}🌾 Ada" })).await.expect(200);
}

/// Guards: whoever knows the old password has no session after it was changed, however the two come
/// together.
#[tokio::test]
async fn a_login_beside_a_change_of_password_does_not_outlive_it() {
    let mut settings = crate::house::settings();
    // Slow enough that the two meet.
    settings.hashing.memory_kib = 4_096;
    settings.hashing.at_once_max = 4;
    let mut house = House::with(settings).await;
    for round in 0..12 {
        let email = format!("user{round}@farm.example");
        let mut ada = house.client();
        ada.register(&email).await.expect(201);
        if round == 6 {
            // From here on the hashes that were made before are outdated: logging in renews them.
            house.stop().await;
            house.settings.hashing.passes = 2;
            house.start().await;
            ada.base = house.base().to_owned();
        }
        let thief = {
            let (mut thief, email) = (house.client(), email.clone());
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(3 * round)).await;
                let status = thief.log_in(&email, PASSWORD).await.status;
                (status, thief)
            })
        };
        let change = json!({ "currentPassword": PASSWORD, "password": "two pails of water" });
        ada.post("/api/auth/password", change).await.expect(200);
        let (_, mut thief) = thief.await.unwrap();
        assert_eq!(thief.get("/api/auth/me").await.status, 401, "round {round}");
        house.client().log_in(&email, PASSWORD).await.expect(401);
        house.client().log_in(&email, "two pails of water").await.expect(200);
    }
}

#[tokio::test]
async fn a_moderator_does_not_open_what_an_admin_locked() {
    let house = House::new().await;
    let (mut bob, mut eve) = (house.client(), house.client());
    bob.register("bob@farm.example").await.expect(201);
    let registered = eve.register("eve@farm.example").await.expect(201);
    let id = registered.body["user"]["id"].as_str().unwrap().to_owned();
    let role = "moderator".parse().unwrap();
    house.operate(Task::SetRole { user: "bob@farm.example".to_owned(), role }).await;
    house.operate(Task::Lock { user: "eve@farm.example".to_owned() }).await;
    bob.delete(&format!("/api/users/{id}/lock")).await.expect_error(403, "FORBIDDEN");
    bob.post("/api/users/%FF/lock", json!({})).await.expect_error(404, "NOT_FOUND");
    house.operate(Task::Unlock { user: "eve@farm.example".to_owned() }).await;
    eve.log_in("eve@farm.example", PASSWORD).await.expect(200);
}
