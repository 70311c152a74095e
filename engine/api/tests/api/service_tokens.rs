//! Guards: another backend plays for its own users and for nobody else, within its scopes, until its
//! token is revoked; who reads the ledger by one is told each event once, and no fork.

use std::time::Duration;

use daybook_api::{Hashing, RateLimit, Scope, Task};
use daybook_schema::{Head, Role, Seq};
use serde_json::{Value, json};

use crate::client::{Answer, Client, PASSWORD};
use crate::house::{House, settings};
use crate::player::Player;

const BY: &str = "ops";

async fn token(house: &House, name: &str, scopes: &[Scope], users: &[&str]) -> String {
    let (name, scopes) = (name.to_owned(), scopes.to_vec());
    let users = users.iter().map(ToString::to_string).collect();
    let made = house.operate(Task::MakeToken { name, scopes, users, by: BY.to_owned() }).await;
    made.token.unwrap()
}

/// Another backend with its token.
struct Backend {
    client: Client,
    token: String,
}

impl Backend {
    fn new(house: &House, token: String) -> Self {
        Self { client: house.client(), token }
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        user: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let request = self.client.request(method, path).bearer_auth(&self.token);
        let request = match user {
            Some(user) => request.header("x-on-behalf-of", user),
            None => request,
        };
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        self.client.send(request).await
    }

    async fn get(&mut self, path: &str, user: Option<&str>) -> Answer {
        self.ask("GET", path, user, None).await
    }

    async fn start(&mut self, user: &str) -> Answer {
        let next = self.get("/api/fairness/next", Some(user)).await.expect(200);
        let body = json!({ "commitment": next.body["commitment"], "clientSeed": "5a".repeat(32) });
        self.ask("POST", "/api/seasons", Some(user), Some(body)).await
    }
}

#[tokio::test]
async fn a_token_plays_for_its_users_and_for_nobody_else() {
    let mut house = House::playing().await;
    let (ada, eve) = (Player::register(&house, "ada").await, Player::register(&house, "eve").await);
    let (hers, others) = (ada.user_id.as_str(), eve.user_id.as_str());
    let shop = token(&house, "shop", &[Scope::Play], &["ada@farm.example"]).await;
    let mut shop = Backend::new(&house, shop);
    let started = shop.start(hers).await.expect(201);
    let season = format!("/api/seasons/{}", started.body["season"]["id"].as_str().unwrap());
    let bet = json!({ "potId": "sun", "betType": "call", "amount": 1 });
    shop.ask("POST", &format!("{season}/bets"), Some(hers), Some(bet)).await.expect(201);
    let day = json!({ "expectedDay": 1 });
    shop.ask("POST", &format!("{season}/advance"), Some(hers), Some(day)).await.expect(200);
    for path in
        [season.as_str(), &format!("{season}/days/1"), "/api/simulins", "/api/auth/me/statement"]
    {
        shop.get(path, Some(hers)).await.expect(200);
    }
    // It is her own season too.
    let mut own = ada.clone();
    own.get(&season).await.expect(200);
    // Others are not there, whether they exist or not; nor is an admin that it is bound to.
    for user in [others, "usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"] {
        shop.get("/api/seasons", Some(user)).await.expect_error(404, "NOT_FOUND");
    }
    house.operate(Task::SetRole { user: hers.to_owned(), role: Role::Admin }).await;
    shop.get("/api/seasons", Some(hers)).await.expect_error(404, "NOT_FOUND");
    house.operate(Task::SetRole { user: hers.to_owned(), role: Role::Player }).await;
    shop.get("/api/seasons", Some(hers)).await.expect(200);
    house.operate(Task::Lock { user: hers.to_owned() }).await;
    shop.get("/api/seasons", Some(hers)).await.expect_error(404, "NOT_FOUND");
    house.operate(Task::Unlock { user: hers.to_owned() }).await;
    // Nothing of a person's own, and no scope that it lacks.
    for path in
        ["/api/auth/me", "/api/auth/sessions", "/api/flags", "/api/analytics/dau", "/api/events"]
    {
        shop.get(path, Some(hers)).await.expect_error(403, "FORBIDDEN");
    }
    for (path, body) in [
        (
            "/api/auth/password",
            json!({ "currentPassword": PASSWORD, "password": "two pails of water" }),
        ),
        ("/api/auth/me/erase", json!({ "password": PASSWORD })),
        ("/api/auth/login", json!({ "email": "ada@farm.example", "password": PASSWORD })),
    ] {
        shop.ask("POST", path, Some(hers), Some(body)).await.expect_error(403, "FORBIDDEN");
    }
    // Who it is for is said once, and well.
    shop.get("/api/seasons", None).await.expect_error(400, "VALIDATION_ERROR");
    shop.get("/api/seasons", Some("ada")).await.expect_error(400, "VALIDATION_ERROR");
    let both = eve.client.request("GET", "/api/seasons").bearer_auth(&shop.token);
    let both = shop.client.send(both.header("x-on-behalf-of", hers)).await;
    both.expect_error(400, "VALIDATION_ERROR");
    let bare = house.client().request("GET", "/api/seasons").header("x-on-behalf-of", hers);
    house.client().send(bare).await.expect_error(400, "VALIDATION_ERROR");
    // It lasts over a restart, and ends at once.
    house.stop().await;
    house.start().await;
    shop.client = house.client();
    shop.get("/api/seasons", Some(hers)).await.expect(200);
    house.operate(Task::RevokeToken { name: "shop".to_owned(), by: BY.to_owned() }).await;
    shop.get("/api/seasons", Some(hers)).await.expect_error(401, "UNAUTHORIZED");
    let listed = house.operate(Task::ListTokens).await.tokens.unwrap();
    assert_eq!((listed.len(), listed[0].users), (1, 1));
    assert_eq!((listed[0].created_by.as_str(), listed[0].revoked_by.as_deref()), (BY, Some(BY)));
    let stored = std::fs::read(house.path("accounts.db")).unwrap();
    let stored =
        [stored, std::fs::read(house.path("accounts.db-wal")).unwrap_or_default()].concat();
    let is_there = stored.windows(shop.token.len()).any(|bytes| bytes == shop.token.as_bytes());
    assert!(!is_there, "the token itself is stored nowhere");
    house.stop().await;
}

#[tokio::test]
async fn a_token_registers_users_and_plays_for_them() {
    let mut limited = settings();
    limited.registrations_per_day_max = 1;
    let mut house = House::with(limited).await;
    let shop = token(&house, "shop", &[Scope::Play], &[]).await;
    let mut shop = Backend::new(&house, shop);
    for name in ["ada", "bob", "eve"] {
        let body = json!({ "email": format!("{name}@farm.example"), "password": PASSWORD, "displayName": name });
        let made = shop.ask("POST", "/api/auth/register", None, Some(body)).await.expect(201);
        assert!(made.cookies.is_empty(), "nobody is logged in");
        let user = made.body["user"]["id"].as_str().unwrap().to_owned();
        shop.start(&user).await.expect(201);
    }
    // Whoever lost the answer asks again; what only others may play for is taken.
    let again = json!({ "email": "Ada@farm.example", "password": PASSWORD, "displayName": "ada" });
    let found = shop.ask("POST", "/api/auth/register", None, Some(again)).await.expect(200);
    // Of the account it is told no more than what the token plays with.
    let of_user: Vec<&String> = found.body["user"].as_object().unwrap().keys().collect();
    assert_eq!(of_user, ["email", "id"]);
    assert_eq!(found.body["user"]["email"], "ada@farm.example");
    Player::register(&house, "max").await;
    let taken = json!({ "email": "max@farm.example", "password": PASSWORD, "displayName": "max" });
    shop.ask("POST", "/api/auth/register", None, Some(taken))
        .await
        .expect_error(409, "EMAIL_TAKEN");
    // They are people with passwords of their own.
    house.client().log_in("ada@farm.example", PASSWORD).await.expect(200);
    let other = token(&house, "other", &[Scope::Play], &[]).await;
    let state =
        house.service().operate(Task::Show { user: "ada@farm.example".to_owned() }).await.unwrap();
    Backend::new(&house, other)
        .get("/api/seasons", Some(&state.id))
        .await
        .expect_error(404, "NOT_FOUND");
    // Analysts ask by a token too.
    let reports = token(&house, "reports", &[Scope::Analytics], &[]).await;
    let mut reports = Backend::new(&house, reports);
    reports.get("/api/analytics/dau", None).await.expect(200);
    reports.get("/api/seasons", Some(&state.id)).await.expect_error(403, "FORBIDDEN");
    // Whoever may not play is bound to nobody.
    let bind = Task::BindToken { name: "reports".to_owned(), users: vec![state.id.clone()] };
    assert_eq!(house.service().operate(bind).await.map(|_| ()).unwrap_err().status(), 400);
    // Names and scopes are looked at; a name is used once.
    for (name, scopes) in
        [("shop", vec![Scope::Play]), ("a b", vec![Scope::Play]), ("empty", vec![])]
    {
        let task =
            Task::MakeToken { name: name.to_owned(), scopes, users: Vec::new(), by: BY.to_owned() };
        assert_eq!(
            house.service().operate(task).await.map(|_| ()).unwrap_err().status(),
            400,
            "{name}"
        );
    }
    house.stop().await;
}

#[tokio::test]
async fn a_token_that_registers_many_leaves_people_their_turns() {
    let mut slow = settings();
    let (memory_kib, passes) = (64 * 1024, 4);
    slow.hashing = Hashing { memory_kib, passes, at_once_max: 1, waiting_max: 8, ..slow.hashing };
    slow.hashing.wait = Duration::from_secs(60);
    let mut house = House::with(slow).await;
    house.client().register("ada@farm.example").await.expect(201);
    let shop = token(&house, "shop", &[Scope::Play], &[]).await;
    let many = (0..32).map(|number| {
        let mut shop = Backend::new(&house, shop.clone());
        tokio::spawn(async move {
            let body = json!({ "email": format!("{number}@farm.example"), "password": PASSWORD, "displayName": "x" });
            shop.ask("POST", "/api/auth/register", None, Some(body)).await.status
        })
    });
    let many: Vec<_> = many.collect();
    house
        .until("the token's turns are all waited for", |_| {
            many.iter().any(tokio::task::JoinHandle::is_finished).then_some(())
        })
        .await;
    house.client().log_in("ada@farm.example", PASSWORD).await.expect(200);
    let mut statuses = Vec::new();
    for asked in many {
        statuses.push(asked.await.unwrap());
    }
    assert!(statuses.contains(&503) && statuses.contains(&201), "{statuses:?}");
    house.stop().await;
}

#[tokio::test]
async fn tokens_and_their_users_are_limited_apart() {
    let mut limited = settings();
    limited.rate_limits.token = RateLimit { burst: 12, per_second: 0.001 };
    limited.rate_limits.api = RateLimit { burst: 4, per_second: 0.001 };
    let mut house = House::with(limited).await;
    let (ada, bob) = (Player::register(&house, "ada").await, Player::register(&house, "bob").await);
    let users = ["ada@farm.example", "bob@farm.example"];
    let shop = token(&house, "shop", &[Scope::Play], &users).await;
    let mut shop = Backend::new(&house, shop);
    // Hers are used up; his are not, until the token's are.
    for expected in [200, 200, 200, 200, 429, 429] {
        shop.get("/api/seasons", Some(&ada.user_id)).await.expect(expected);
    }
    for expected in [200, 200, 200, 200, 429, 429, 429] {
        shop.get("/api/seasons", Some(&bob.user_id)).await.expect(expected);
    }
    // Wrong tokens cost whoever sends them, and no write.
    let mut stranger = Backend::new(&house, "x".repeat(43));
    stranger.get("/api/seasons", Some(&ada.user_id)).await.expect_error(401, "UNAUTHORIZED");
    stranger.token = "short".to_owned();
    stranger.get("/api/seasons", Some(&ada.user_id)).await.expect_error(401, "UNAUTHORIZED");
    house.stop().await;
}

/// The feed as a program reads it.
struct Reader {
    response: reqwest::Response,
    buffer: String,
}

impl Reader {
    async fn open(backend: &Backend, query: &str, last: Option<&str>) -> Result<Self, Answer> {
        let path = format!("/api/events{query}");
        let request = backend.client.request("GET", &path).bearer_auth(&backend.token);
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.unwrap();
        if response.status().as_u16() == 200 {
            return Ok(Self { response, buffer: String::new() });
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.json().await.unwrap();
        Err(Answer { status, headers, body, cookies: Vec::new() })
    }

    /// The next id with its data, if it has any; none when it is over.
    async fn next(&mut self) -> Option<(String, Option<Value>)> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
                };
                let data = field("data").map(|data| serde_json::from_str(data).unwrap());
                if let Some(id) = field("id").or(field("event")) {
                    return Some((id.to_owned(), data));
                }
            }
            let waited = tokio::time::timeout(Duration::from_secs(30), self.response.chunk()).await;
            let chunk = waited.expect("an event within 30 s").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn the_feed_tells_each_event_once_and_goes_on_after_any() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let audit = token(&house, "audit", &[Scope::ReadEvents], &[]).await;
    let audit = Backend::new(&house, audit);
    let mut feed = Reader::open(&audit, "", None).await.unwrap();
    // Some were there before, some come while it reads.
    for day in 1..=4 {
        ada.bet_on_all(&season).await.expect(201);
        ada.advance(&season, day).await;
    }
    let head = house.ledger().head();
    let reader = daybook_ledger::Reader::open(house.directory()).unwrap();
    let events: Vec<_> = reader.events_from(Seq::MIN).map(Result::unwrap).collect();
    let mut ids = Vec::new();
    for stored in &events {
        let (id, data) = feed.next().await.unwrap();
        assert_eq!(id, stored.head().to_string());
        assert_eq!(data.unwrap(), serde_json::to_value(stored).unwrap(), "as `tail` prints it");
        ids.push(id);
    }
    assert_eq!(ids.len() as u64, head.seq);
    // From anywhere: by an id, by a seq, by the query.
    let middle = events.len() / 2;
    for (query, last) in [
        (String::new(), Some(ids[middle].clone())),
        (String::new(), Some((middle + 1).to_string())),
        (format!("?from={}", ids[middle]), None),
        (format!("?from={}", middle + 2), None),
    ] {
        let mut later = Reader::open(&audit, &query, last.as_deref()).await.unwrap();
        for id in &ids[middle + 1..] {
            assert_eq!(&later.next().await.unwrap().0, id, "{query} {last:?}");
        }
    }
    // By kind; what is passed is told by its id.
    let mut bets = Reader::open(&audit, "?kind=bet_placed,bet_resolved", None).await.unwrap();
    let mut count = 0;
    loop {
        let (id, data) = bets.next().await.unwrap();
        if let Some(data) = data {
            assert!(data["kind"] == "bet_placed" || data["kind"] == "bet_resolved");
            count += 1;
        }
        if id == head.to_string() {
            break;
        }
    }
    assert_eq!(count, 4 * 4 * 2);
    // A fork is refused, and so is what is not there yet.
    let fork = Head { seq: 3, hash: head.hash };
    let beyond = (head.seq + 5).to_string();
    for last in [fork.to_string(), format!("{}:{}", head.seq + 9, head.hash), beyond] {
        let Err(refused) = Reader::open(&audit, "", Some(&last)).await else { panic!("{last}") };
        refused.expect_error(409, "HEAD_UNKNOWN");
    }
    for query in ["?from=0", "?from=x", "?kind=no_such_kind", "?kind=", "?nosuch=1"] {
        let Err(refused) = Reader::open(&audit, query, None).await else { panic!("{query}") };
        refused.expect_error(400, "VALIDATION_ERROR");
    }
    ada.client.request("GET", "/api/events").send().await.unwrap();
    house.client().get("/api/events").await.expect_error(401, "UNAUTHORIZED");
    ada.get("/api/events").await.expect_error(401, "UNAUTHORIZED");
    // It ends when its token is revoked.
    house.operate(Task::RevokeToken { name: "audit".to_owned(), by: BY.to_owned() }).await;
    let (event, data) = feed.next().await.unwrap();
    assert_eq!((event.as_str(), data), ("end", Some(json!({ "reason": "session_over" }))));
    assert!(feed.next().await.is_none());
    house.stop().await;
}

/// Readers that take nothing hold nobody up.
#[tokio::test]
async fn readers_that_do_not_read_slow_nobody() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let audit = token(&house, "audit", &[Scope::ReadEvents], &[]).await;
    let audit = Backend::new(&house, audit);
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(Reader::open(&audit, "", None).await.unwrap());
    }
    let season = ada.start().await;
    for day in 1..=20 {
        ada.bet_on_all(&season).await.expect(201);
        ada.advance(&season, day).await;
    }
    // One that comes now is told all, and those that woke up too.
    let head = house.ledger().head().to_string();
    idle.push(Reader::open(&audit, "", None).await.unwrap());
    for mut reader in idle.into_iter().rev().take(5) {
        let mut last = String::new();
        while last != head {
            last = reader.next().await.unwrap().0;
        }
    }
    house.stop().await;
}

/// However a reader comes at the moment when its token is revoked, it is told nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_outlives_its_token() {
    const READERS: usize = 200;
    let mut house = House::playing().await;
    let ada = Player::register(&house, "ada").await;
    let audit = token(&house, "audit", &[Scope::ReadEvents], &[]).await;
    let head = house.ledger().head().to_string();
    let opened = (0..READERS).map(|_| {
        let (backend, query) = (Backend::new(&house, audit.clone()), format!("?from={head}"));
        tokio::spawn(async move { Reader::open(&backend, &query, None).await.ok() })
    });
    let opened: Vec<_> = opened.collect();
    house.operate(Task::RevokeToken { name: "audit".to_owned(), by: BY.to_owned() }).await;
    for reader in opened {
        let Some(mut reader) = reader.await.unwrap() else { continue };
        let told = reader.next().await.unwrap();
        assert_eq!(told, ("end".to_owned(), Some(json!({ "reason": "session_over" }))));
    }
    drop(ada);
    house.stop().await;
}

/// Another's streams of a user end as the user's own do.
#[tokio::test]
async fn a_token_sees_no_more_of_who_is_locked_or_an_admin() {
    let mut house = House::playing().await;
    for (name, task) in [
        ("ada", Task::SetRole { user: "ada@farm.example".to_owned(), role: Role::Admin }),
        ("bob", Task::Lock { user: "bob@farm.example".to_owned() }),
    ] {
        let user = Player::register(&house, name).await.user_id;
        let shop = token(&house, name, &[Scope::Play], &[&user]).await;
        let mut shop = Backend::new(&house, shop);
        let started = shop.start(&user).await.expect(201);
        let path = format!("/api/seasons/{}/live", started.body["season"]["id"].as_str().unwrap());
        let request = shop.client.request("GET", &path).bearer_auth(&shop.token);
        let response = request.header("x-on-behalf-of", &user).send().await.unwrap();
        let mut stream = Reader { response, buffer: String::new() };
        house.operate(task).await;
        let last = loop {
            match stream.next().await {
                Some((_, Some(data))) if data["reason"].is_string() => break data,
                other => assert!(other.is_some(), "{name}: it ended without a reason"),
            }
        };
        assert_eq!(last["reason"], "session_over", "{name}");
        shop.get("/api/seasons", Some(&user)).await.expect_error(404, "NOT_FOUND");
    }
    house.stop().await;
}

/// Whoever stands in front may have a way of its own to ask who somebody is.
#[tokio::test]
async fn what_is_no_bearer_is_no_token() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let request = ada.client.request("GET", "/api/auth/me").basic_auth("gate", Some("open"));
    ada.client.send(request).await.expect(200);
    house.stop().await;
}
