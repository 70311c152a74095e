//! Guards: what is no request of ours, too much of it, or another site's.

use std::time::Duration;

use daybook_api::{RateLimit, Server, guarded};
use serde_json::{Value, json};

use crate::client::{Client, PASSWORD};
use crate::house::{House, settings};

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let house = House::new().await;
    let mut client = house.client();
    let shape = json!({ "email": 5, "password": "short", "displayNam": "x", "avatarUrl": [] });
    let refused =
        client.post("/api/auth/register", shape).await.expect_error(400, "VALIDATION_ERROR");
    let mut faults = refused.faults();
    faults.sort();
    let expected = [
        ("avatarUrl", "type"),
        ("displayNam", "unknown"),
        ("displayName", "required"),
        ("email", "type"),
        ("password", "too_short"),
    ];
    assert_eq!(faults, expected.map(|(field, code)| (field.to_owned(), code.to_owned())));

    let values = json!({ "email": "nobody", "password": "Password1", "displayName": " \n ", "avatarUrl": "ftp://x" });
    let refused =
        client.post("/api/auth/register", values).await.expect_error(400, "VALIDATION_ERROR");
    let mut fields: Vec<String> = refused.faults().into_iter().map(|(field, _)| field).collect();
    fields.sort();
    assert_eq!(fields, ["avatarUrl", "displayName", "email", "password"]);

    // No more than 20 are listed, and nothing of what was sent is repeated.
    let many: serde_json::Map<String, Value> =
        (0..100).map(|number| (format!("field{number}"), json!("SECRET"))).collect();
    let refused = client.post("/api/auth/login", Value::Object(many)).await.expect(400);
    assert_eq!(refused.faults().len(), 20);
    assert!(!refused.body.to_string().contains("SECRET"));
}

#[tokio::test]
async fn what_is_no_json_too_deep_or_too_large_is_refused() {
    let house = House::new().await;
    let mut client = house.client();
    let send = |body: Vec<u8>, content_type: &str| {
        house
            .client()
            .request("POST", "/api/auth/login")
            .header("content-type", content_type)
            .body(body)
    };
    let json_type = "application/json; charset=utf-8";
    for body in [
        b"".to_vec(),
        b"{".to_vec(),
        b"\xff\xfe".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"{\"email\": \"\xff\"}".to_vec(),
    ] {
        client.send(send(body, json_type)).await.expect_error(400, "VALIDATION_ERROR");
    }
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    client.send(send(deep.into_bytes(), json_type)).await.expect_error(400, "VALIDATION_ERROR");
    let large = vec![b' '; 17 * 1024];
    client.send(send(large, json_type)).await.expect_error(413, "CONTENT_TOO_LARGE");
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        client
            .send(send(b"{}".to_vec(), content_type))
            .await
            .expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let long = format!("/api/auth/me?{}", "x".repeat(3_000));
    let long = client.get(&long).await.expect_error(414, "URI_TOO_LONG");
    assert!(long.header("x-ratelimit-remaining").is_some());
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let told = ada.post("/api/auth/logout", json!({ "reason": "x" })).await.expect(400);
    assert_eq!(told.faults(), [("reason".to_owned(), "unknown".to_owned())]);
    client.get("/nowhere").await.expect_error(404, "NOT_FOUND");
    client.post("/nowhere", json!({})).await.expect_error(404, "NOT_FOUND");
    let put = client.request("PUT", "/api/auth/me");
    let refused = client.send(put).await.expect_error(405, "METHOD_NOT_ALLOWED");
    assert!(refused.header("allow").unwrap().contains("PATCH"));
}

/// Guards: another site's page cannot act for who is logged in here, nor log anybody in.
#[tokio::test]
async fn what_another_site_sends_changes_nothing() {
    let house = House::new().await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let own = house.base().to_owned();
    let cases: [(&[(&str, &str)], u16); 7] = [
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site"), ("origin", &own)], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "none")], 403),
        (&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], 200),
        (&[("origin", &own)], 200),
    ];
    for (headers, expected) in cases {
        let body = json!({ "email": "ada@farm.example", "password": PASSWORD });
        let mut client = house.client();
        let mut request = client.request("POST", "/api/auth/login").json(&body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // The host says nothing: whoever rebinds a name chooses it.
        let answer = client.send(request.header("host", "evil.example")).await;
        assert_eq!(answer.status, expected, "{headers:?}");
    }
    let mut other = house.client();
    let twice = other
        .request("POST", "/api/auth/login")
        .header("origin", &own)
        .header("origin", "https://evil.example")
        .json(&json!({}));
    other.send(twice).await.expect_error(403, "CROSS_SITE");
}

#[tokio::test]
async fn every_answer_carries_an_id_and_what_browsers_must_know() {
    let house = House::new().await;
    let mut client = house.client();
    for path in ["/api/auth/me", "/nowhere", "/openapi.json"] {
        let answer = client.get(path).await;
        for name in [
            "x-request-id",
            "x-content-type-options",
            "content-security-policy",
            "x-ratelimit-remaining",
            "cross-origin-resource-policy",
            "referrer-policy",
        ] {
            assert!(answer.header(name).is_some(), "{name} of {path}");
        }
        assert!(answer.header("access-control-allow-origin").is_none());
    }
}

/// Guards: a burst is let in, then the wait is told, and whoever waits that long is let in.
#[tokio::test]
async fn whoever_waits_as_long_as_he_is_told_is_let_in() {
    let mut settings = settings();
    settings.rate_limits.api = RateLimit { burst: 3, per_second: 0.7 };
    let house = House::with(settings).await;
    let mut client = Client::from_address(house.base(), "127.0.0.3");
    for left in ["2", "1", "0"] {
        let answer = client.get("/api/auth/me").await.expect(401);
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left));
    }
    for _ in 0..3 {
        let refused = client.get("/api/auth/me").await.expect_error(429, "RATE_LIMITED");
        assert_eq!(refused.body["message"], "Rate limit exceeded");
        assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(wait >= 1);
        tokio::time::sleep(Duration::from_secs(wait)).await;
        client.get("/api/auth/me").await.expect(401);
    }
}

/// Guards: users do not share a bucket because they share an address, and wrong tokens cost who
/// sends them.
#[tokio::test]
async fn a_user_is_counted_by_himself_and_a_stranger_by_his_address() {
    let mut settings = settings();
    settings.rate_limits.api = RateLimit { burst: 5, per_second: 0.001 };
    let house = House::with(settings).await;
    let (mut ada, mut bob) = (house.client(), house.client());
    ada.register("ada@farm.example").await.expect(201);
    bob.register("bob@farm.example").await.expect(201);
    for _ in 0..5 {
        ada.get("/api/auth/me").await.expect(200);
    }
    ada.get("/api/auth/me").await.expect(429);
    bob.get("/api/auth/me").await.expect(200);
    let mut stranger = house.client();
    for _ in 0..5 {
        let forged = "session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let request = stranger.request("GET", "/api/auth/me").header("cookie", forged);
        stranger.send(request).await.expect(401);
    }
    stranger.get("/api/auth/me").await.expect(429);
    bob.get("/api/auth/me").await.expect(200);
}

/// Guards: a proxy that is trusted says who the client is, and nobody else does.
#[tokio::test]
async fn limits_are_kept_by_the_address_that_a_trusted_proxy_says() {
    let mut settings = settings();
    settings.rate_limits.api = RateLimit { burst: 1, per_second: 0.001 };
    settings.trusted_proxies = vec!["127.0.0.1=x-forwarded-for".parse().unwrap()];
    let house = House::with(settings).await;
    let mut proxy = house.client();
    for client in ["203.0.113.1", "203.0.113.2", "198.51.100.7, 203.0.113.3"] {
        let asks =
            || house.client().request("GET", "/api/auth/me").header("x-forwarded-for", client);
        proxy.send(asks()).await.expect(401);
        proxy.send(asks()).await.expect(429);
    }
    let mut stranger = Client::from_address(house.base(), "127.0.0.9");
    for (client, expected) in [("203.0.113.9", 401), ("203.0.113.10", 429)] {
        let asks = stranger.request("GET", "/api/auth/me").header("x-forwarded-for", client);
        stranger.send(asks).await.expect(expected);
    }
}

/// Guards: a flood of logins is refused, not queued without end.
#[tokio::test]
async fn more_passwords_than_can_be_hashed_are_refused_and_others_go_on() {
    let mut settings = settings();
    settings.hashing.memory_kib = 19_456;
    settings.hashing.at_once_max = 1;
    settings.hashing.waiting_max = 2;
    let house = House::with(settings).await;
    let mut ada = house.client();
    ada.register("ada@farm.example").await.expect(201);
    let flood: Vec<_> = (0..30)
        .map(|number| {
            let mut client = house.client();
            tokio::spawn(async move {
                client.log_in(&format!("user{number}@farm.example"), "not the password").await
            })
        })
        .collect();
    ada.get("/api/auth/me").await.expect(200);
    let mut refused = 0;
    for login in flood {
        let answer = login.await.unwrap();
        match answer.status {
            401 => {}
            503 => {
                assert_eq!(answer.body["error"], "OVERLOADED");
                assert!(answer.header("retry-after").is_some());
                refused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    // What was not looked at did not count.
    for number in 0..30 {
        house.client().log_in(&format!("user{number}@farm.example"), "no").await.expect(400);
    }
}

/// Guards: a neighbour that asks too much makes no probe fail.
#[tokio::test]
async fn probes_are_not_limited() {
    let mut settings = settings();
    settings.rate_limits.api = RateLimit { burst: 1, per_second: 0.001 };
    let house = House::with(settings).await;
    let mut client = house.client();
    client.get("/nowhere").await.expect(404);
    client.get("/nowhere").await.expect(429);
    for _ in 0..10 {
        client.get("/healthz").await.expect(200);
        client.get("/readyz").await.expect(200);
    }
    let put = client.request("PUT", "/healthz");
    client.send(put).await.expect_error(405, "METHOD_NOT_ALLOWED");
}

async fn panics() -> &'static str {
    panic!("a fault of ours")
}

/// Guards: a panic is answered with an id that the log has, and ends nothing else.
#[tokio::test]
async fn a_panic_is_answered_with_an_id_and_ends_nothing_else() {
    use axum::routing::get;
    let house = House::new().await;
    let routes =
        axum::Router::new().route("/panic", get(panics)).route("/fine", get(async || "{}"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (server, ready) = Server::new(listener, house.settings.connections, Vec::new(), false);
    ready.serve(guarded(house.service(), routes));
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(server.run(stopped));
    let mut client = Client::new(&base);
    for _ in 0..3 {
        let answer = client.get("/panic").await.expect_error(500, "INTERNAL");
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.body["message"].as_str().unwrap().contains(id), "{answer:?}");
        assert!(!answer.body.to_string().contains("a fault of ours"));
        assert!(answer.header("x-ratelimit-remaining").is_some());
        client.get("/fine").await.expect(200);
    }
    // Before it is ready all else is refused, and it says that it lives.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (server, _ready) = Server::new(listener, house.settings.connections, Vec::new(), true);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(server.run(stopped));
    let mut client = Client::new(&base);
    assert_eq!(client.get("/healthz").await.expect(200).body["status"], "starting");
    let refused = client.get("/readyz").await.expect_error(503, "UNAVAILABLE");
    assert_eq!(refused.header("x-daybook-demo"), Some("true"));
    assert!(refused.header("retry-after").is_some());
}
