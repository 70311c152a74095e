//! Guards: each way to say who we are to a server, and TLS both ways, works against a real one that asks for
//! it, and nothing gets in without.

use std::path::PathBuf;
use std::time::Duration;

use daybook_projections::{Credentials, Reads};

use crate::nats::{Bus, NAMES};
use crate::nats_server::NatsServer;

const NKEY_SEED: &str = "SUAA4XXF3UOVSHMSWQQ2A4NMUSB2OOPE5GL3JHHNKOLDSAJJWIS6E4RPMQ";
const NKEY: &str = "UCJONSYPNGGIJH5HBTGPZF6225RCI3KX7V53T7WHX4LFHIKT6UNBUVMA";

fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// The tables come over the bus with these credentials, and do not without.
async fn expect_access(mut bus: Bus, credentials: Credentials) {
    bus.settings.credentials = Credentials::None;
    bus.settings.request_timeout = Duration::from_millis(200);
    let (database, workers) = bus.workers("refused.db").await;
    let reads = Reads::new(&database);
    let stands = reads.wait_for(&NAMES, 1, Duration::from_millis(700)).await.unwrap();
    assert!(stands.is_stale, "without credentials nothing comes");
    workers.stop().await;

    bus.settings.credentials = credentials;
    bus.settings.request_timeout = Duration::from_secs(2);
    let relay = bus.relay();
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("with credentials", &database).await;
    workers.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_password() {
    let users = "authorization { users: [ { user: relay, password: secret } ] }";
    let bus = Bus::with(61, NatsServer::with(users)).await;
    let (user, password) = ("relay".to_owned(), "secret".to_owned());
    expect_access(bus, Credentials::UserAndPassword { user, password }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token() {
    let bus = Bus::with(62, NatsServer::with("authorization { token: s3cr3t }")).await;
    expect_access(bus, Credentials::Token("s3cr3t".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey() {
    let users = format!("authorization {{ users: [ {{ nkey: {NKEY} }} ] }}");
    let bus = Bus::with(63, NatsServer::with(&users)).await;
    expect_access(bus, Credentials::NkeySeed(NKEY_SEED.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_both() {
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        tls_file("server.pem"),
        tls_file("server.key"),
        tls_file("ca.pem")
    );
    let mut bus = Bus::with(64, NatsServer::with(&tls)).await;
    bus.settings.url = bus.settings.url.replace("nats://", "tls://");
    bus.settings.require_tls = true;
    bus.settings.root_certificates = Some(tls_file("ca.pem"));
    bus.settings.client_certificate = Some((tls_file("client.pem"), tls_file("client.key")));
    let relay = bus.relay();
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("with certificates", &database).await;
    workers.stop().await;
    relay.stop().await;
}
