//! Guards: each way to say who we are to a server, and TLS both ways, works against a real one that
//! asks for it, and nothing gets in without.

use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use daybook_projections::{Credentials, Reads};
use nkeys::KeyPair;

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

/// A JWT as `nsc` makes them: claims of a subject, signed by whoever issues them.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: serde_json::Value) -> String {
    let (issued_by, about) = (issuer.public_key(), subject.public_key());
    let claims = serde_json::json!({
        "jti": "daybook", "iat": 1_700_000_000, "iss": issued_by, "sub": about, "name": "daybook",
        "nats": nats,
    });
    let header = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(&signature))
}

/// A server of an operator, with an account for JetStream, as a team that uses `nsc` has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file() {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let unlimited = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_account = serde_json::json!({ "type": "account", "version": 2, "limits": unlimited });
    let of_system = serde_json::json!({ "type": "account", "version": 2, "limits": {
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    } });
    let of_user = serde_json::json!({
        "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
    });
    let of_operator = serde_json::json!({ "type": "operator", "version": 2 });
    let configuration = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n{}: {}\n{}: {}\n}}",
        jwt(&operator, &operator, of_operator),
        system.public_key(),
        system.public_key(),
        jwt(&operator, &system, of_system),
        account.public_key(),
        jwt(&operator, &account, of_account),
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daybook.creds");
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(&account, &user, of_user),
        user.seed().unwrap(),
    );
    std::fs::write(&path, file).unwrap();
    let bus = Bus::with(66, NatsServer::with(&configuration)).await;
    expect_access(bus, Credentials::File(path)).await;
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

/// The users of PROJECTIONS.md can do what they are for, and whoever faces the public can do
/// nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions() {
    let document = include_str!("../../../docs/PROJECTIONS.md");
    let (_, users) = document.split_once("authorization {").unwrap();
    let (users, _) = users.split_once("```").unwrap();
    let passwords = ["RELAY", "WORKER", "API"].into_iter();
    let users = passwords.fold(format!("authorization {{{users}"), |users, name| {
        users.replace(&format!("${name}_PASSWORD"), "secret")
    });
    let mut bus = Bus::with(67, NatsServer::with(&users)).await;
    let login = |user: &str| Credentials::UserAndPassword {
        user: user.to_owned(),
        password: "secret".to_owned(),
    };
    bus.settings.credentials = login("relay");
    let relay = bus.relay();
    bus.settings.credentials = login("worker");
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("with the documented permissions", &database).await;
    workers.stop().await;
    relay.stop().await;

    let connect = |user: &'static str| {
        let options =
            async_nats::ConnectOptions::with_user_and_password(user.into(), "secret".into());
        options.request_timeout(Some(Duration::from_millis(500))).connect(bus.server.url())
    };
    let public = connect("api").await.unwrap();
    let delete = public.request("$JS.API.STREAM.DELETE.daybook", "".into()).await;
    assert!(delete.is_err(), "{delete:?}");
    public.publish("daybook.blocks", "garbage".into()).await.unwrap();
    public.flush().await.unwrap();
    let context = async_nats::jetstream::new(connect("relay").await.unwrap());
    let mut stream = context.get_stream("daybook").await.unwrap();
    let newest = stream.info().await.unwrap().state.last_sequence;
    let newest = stream.get_raw_message(newest).await.unwrap();
    assert_ne!(newest.payload, "garbage");
}
