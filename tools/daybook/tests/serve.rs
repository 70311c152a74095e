//! `daybook serve` and `daybook user` as their operator meets them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

#[path = "../../../engine/api/tests/api/client.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod client;
#[expect(dead_code, reason = "not every test uses all of it")]
mod common;
#[path = "common/serving.rs"]
mod serving;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use client::{Client, PASSWORD};
use common::{command, json, run};
use serde_json::{Value, json as value};
use serving::{Serving, UNLIMITED};

#[track_caller]
fn expect_refusal(output: &Output, words: &str) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("daybook: ")).collect();
    assert_eq!(lines.len(), 1, "one line: {told}");
    assert!(lines[0].contains(words), "`{words}` is not in: {told}");
}

fn serve(data: &Path, more: &[&str]) -> Output {
    let arguments = ["serve", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    run(&[&arguments[..], more].concat())
}

/// A task of the operator's, with stdin.
fn user(data: &Path, arguments: &[&str], stdin: &str) -> Output {
    let more = ["--data", data.to_str().unwrap()];
    let mut child = command(&[&["user"], arguments, &more].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Guards: the first lines that a newcomer tries work as they are printed.
#[test]
fn a_fresh_directory_is_served_and_the_printed_lines_work() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let serving = Serving::start(&data, &[]);
    let commands = serving.printed.replace("\\\n", " ");
    let lines = commands.lines().filter(|line| line.starts_with("curl "));
    let answers: Vec<Value> = lines
        .map(|line| {
            let output = std::process::Command::new("sh")
                .args(["-c", &line.replace("curl ", "curl -sS ")])
                .current_dir(directory.path())
                .output()
                .unwrap();
            json(&output)
        })
        .collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["user"]["email"], "ada@farm.example");
    assert_eq!(answers[1], answers[0]);
    let (status, _) = serving.stop();
    assert_eq!(status.code(), Some(0));
    // Everything is folded in and verifies.
    for name in ["ledger.db-wal", "accounts.db-wal", "game.db-wal", "operator.sock"] {
        let length = std::fs::metadata(data.join(name)).map_or(0, |found| found.len());
        assert_eq!(length, 0, "{name}");
    }
    let report = json(&run(&["verify", "--full", "--json", "--data", data.to_str().unwrap()]));
    assert_eq!(report["verdict"], "intact");
    // README shows the same lines.
    let readme = include_str!("../../../README.md");
    let printed = serving_lines(&commands);
    for line in printed {
        assert!(readme.replace("\\\n", " ").contains(&line), "{line}");
    }
}

/// The printed commands as README has them, at the usual port.
fn serving_lines(commands: &str) -> Vec<String> {
    let lines = commands.lines().filter(|line| line.starts_with("curl "));
    lines
        .map(|line| {
            let (before, after) = line.split_once("localhost:").unwrap();
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}localhost:8080{rest}")
        })
        .collect()
}

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    // A demo's ledger.
    let demo = data.join("demo");
    let play =
        ["demo", "--players", "3", "--days", "2", "--data", demo.to_str().unwrap(), "--json"];
    assert!(run(&play).status.success());
    expect_refusal(&serve(&demo, &[]), "name another directory with --data");
    expect_refusal(&serve(&data.join("none"), &["--demo"]), "`daybook demo` makes one");
    let unknown = serve(&data.join("none"), &["--budget", "db_querry=50"]);
    expect_refusal(&unknown, "there is no metric `db_querry` with a budget");
    // A second service, and a port that is taken.
    let own = data.join("own");
    let serving = Serving::start(&own, &[]);
    expect_refusal(&serve(&own, &[]), "stop it first");
    let taken = serving.base.trim_start_matches("http://");
    let second = run(&["serve", "--data", data.join("other").to_str().unwrap(), "--listen", taken]);
    expect_refusal(&second, "name another address with --listen");
    assert!(!data.join("other").exists(), "nothing is made");
    assert_eq!(serving.stop().0.code(), Some(0));
    expect_refusal(&serve(&own, &["--demo"]), "holds no demo's ledger");
    // Keys, accounts or ledger that are gone.
    std::fs::rename(own.join("keys"), data.join("keys")).unwrap();
    expect_refusal(&serve(&own, &[]), "put them back");
    // Another ledger's keys.
    let foreign = data.join("foreign");
    assert_eq!(Serving::start(&foreign, &[]).stop().0.code(), Some(0));
    let others = foreign.join("keys");
    expect_refusal(&serve(&own, &["--keys", others.to_str().unwrap()]), "is not in");
    std::fs::rename(data.join("keys"), own.join("keys")).unwrap();
    std::fs::rename(own.join("ledger.db"), data.join("ledger.db")).unwrap();
    expect_refusal(&serve(&own, &[]), "there is no ledger");
    assert!(!own.join("ledger.db").exists());
}

#[tokio::test]
async fn accounts_that_are_gone_are_not_replaced_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let serving = Serving::start(&data, &UNLIMITED);
    Client::new(&serving.base).register("ada@farm.example").await.expect(201);
    serving.stop();
    std::fs::rename(data.join("accounts.db"), directory.path().join("moved")).unwrap();
    expect_refusal(&serve(&data, &[]), "--new-accounts");
    assert!(!data.join("accounts.db").exists());
    std::fs::rename(directory.path().join("moved"), data.join("accounts.db")).unwrap();
    let serving = Serving::start(&data, &UNLIMITED);
    Client::new(&serving.base).log_in("ada@farm.example", PASSWORD).await.expect(200);
    // While it serves: it ends, so that a supervisor starts it again, and says what it saved.
    std::fs::rename(data.join("accounts.db"), directory.path().join("moved")).unwrap();
    let mut serving = serving;
    let (status, told) = serving.wait();
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("accounts.db.rescued-"), "{told}");
}

#[tokio::test]
async fn a_demo_is_served_to_look_around_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let play =
        ["demo", "--players", "3", "--days", "2", "--data", data.to_str().unwrap(), "--json"];
    assert!(run(&play).status.success());
    let serving = Serving::start(data, &[&["--demo"], &UNLIMITED[..]].concat());
    assert!(serving.printed.contains("a demo's ledger"));
    let mut client = Client::new(&serving.base);
    for path in ["/healthz", "/readyz", "/nowhere", "/api/auth/me", "/openapi.json"] {
        assert_eq!(client.get(path).await.header("x-daybook-demo"), Some("true"), "{path}");
    }
    client.register("ada@farm.example").await.expect(201);
    assert_eq!(serving.stop().0.code(), Some(0));
}

#[test]
fn the_configuration_comes_from_file_environment_and_flags() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let check = |file: &str, variables: &[(&str, &str)], more: &[&str]| {
        std::fs::write(data.join("daybook.toml"), file).unwrap();
        let arguments = ["serve", "--check-config", "--data", data.to_str().unwrap()];
        let mut command = command(&[&arguments[..], more].concat());
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let file = "public-url = \"https://farm.example\"\napi_limit = \"7/3\"\nconnections = 5\n\
                trusted-proxy = [\"127.0.0.1=x-forwarded-for\", \"10.0.0.0/8=cf-connecting-ip\"]\n";
    let shown = stdout(&check(file, &[], &[]));
    let line_of = |shown: &str, name: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    for (name, expected) in [
        ("public-url", "https://farm.example (file)"),
        ("api-limit", "7/3 (file)"),
        ("auth-limit", "5/0.1 (default)"),
        ("connections", "5 (file)"),
        ("trusted-proxy", "127.0.0.1=x-forwarded-for, 10.0.0.0/8=cf-connecting-ip (file)"),
    ] {
        assert_eq!(line_of(&shown, name), expected);
    }
    let variables = [("DAYBOOK_API_LIMIT", "8/3"), ("DAYBOOK_PUBLIC_URL", "")];
    let shown = stdout(&check(file, &variables, &[]));
    assert_eq!(line_of(&shown, "api-limit"), "8/3 (variable)");
    assert_eq!(line_of(&shown, "public-url"), "https://farm.example (file)");
    let shown = stdout(&check(file, &variables, &["--api-limit", "9/3"]));
    assert_eq!(line_of(&shown, "api-limit"), "9/3 (flag)");

    expect_refusal(&check("publik-url = \"x\"", &[], &[]), "did you mean `public-url`");
    expect_refusal(&check("accept-loss = true", &[], &[]), "is for one start");
    expect_refusal(&check("zzz = 1", &[], &[]), "there is no setting `zzz`");
    expect_refusal(
        &check("connections = \"many\"", &[], &[]),
        "daybook.toml`: invalid value 'many'",
    );
    expect_refusal(&check("connections = 0", &[], &[]), "daybook.toml`");
    expect_refusal(&check("listen = [\"127.0.0.1:1\"]", &[], &[]), "takes one value");
    expect_refusal(
        &check("api-limit = \"1/1\"\napi_limit = \"2/1\"", &[], &[]),
        "stands there twice",
    );
    expect_refusal(&check("api-limit = \"4294967295/0.0001\"", &[], &[]), "a rate limit is");
    expect_refusal(&check("connections = {}", &[], &[]), "must be a text, a number");
    expect_refusal(&check("connections", &[], &[]), "line 1");
    expect_refusal(&check("", &[], &["--config", "/nowhere.toml"]), "/nowhere.toml");
    expect_refusal(&check("", &[], &["--public-url", "farm.example/x"]), "a public URL is");
    expect_refusal(&check("", &[], &["--trusted-proxy", "127.0.0.1"]), "a trusted proxy is");
    expect_refusal(&check("", &[], &["--auth-limit", "5"]), "a rate limit is");
}

/// Guards: the log has what an operator needs, and nobody's secrets.
#[tokio::test]
async fn the_log_is_one_object_a_line_and_holds_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let more = [&UNLIMITED[..], &["--log-format", "json"]].concat();
    let serving = Serving::start(directory.path(), &more);
    let mut ada = Client::new(&serving.base);
    ada.register("ada@farm.example").await.expect(201);
    let token = ada.cookies["session"].clone();
    ada.get("/api/auth/me").await.expect(200);
    ada.get(&format!("/api/auth/me?token={token}")).await.expect(200);
    ada.log_in("ada@farm.example", "not the password").await.expect(401);
    let body = value!({ "token": token, "password": "two pails of water" });
    ada.post("/api/auth/reset", body).await.expect(400);
    let (_, told) = serving.stop();
    let lines: Vec<Value> = told
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answered = lines.iter().filter(|line| line["target"] == "access").count();
    assert_eq!(answered, 5, "{told}");
    for secret in [token.as_str(), PASSWORD, "ada@farm.example", "not the password", "two pails"] {
        assert!(!told.contains(secret), "`{secret}` is in {told}");
    }
}

/// Guards: the operator's tasks do the same whether a service runs or not.
#[tokio::test]
async fn the_operators_tasks_work_beside_a_service_and_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let serving = Serving::start(data, &UNLIMITED);
    let mut ada = Client::new(&serving.base);
    let made =
        user(data, &["create", "ada@farm.example", "--role", "admin"], "a pail of cold water\n");
    assert!(stdout(&made).ends_with("ada@farm.example  ada  admin"), "{}", stdout(&made));
    ada.log_in("ada@farm.example", PASSWORD).await.expect(200);
    let link = stdout(&user(data, &["reset-password", "ada@farm.example"], ""));
    assert!(link.starts_with("http://localhost:") && link.contains("/reset#"), "{link}");
    stdout(&user(data, &["lock", "ada@farm.example"], ""));
    ada.get("/api/auth/me").await.expect(401);
    stdout(&user(data, &["unlock", "ada@farm.example"], ""));
    stdout(&user(data, &["passwd", "ada@farm.example"], "two pails of water"));
    ada.log_in("ada@farm.example", "two pails of water").await.expect(200);
    expect_refusal(&user(data, &["show", "nobody"], ""), "there is no user `nobody`");
    expect_refusal(&user(data, &["passwd", "ada@farm.example"], ""), "stdin holds no password");
    expect_refusal(&user(data, &["passwd", "ada@farm.example"], "password1"), "most common");
    expect_refusal(
        &user(data, &["create", "ada@farm.example"], PASSWORD),
        "an account with this address",
    );
    expect_refusal(&user(data, &["create", "nobody"], PASSWORD), "must be an address");
    // One that was killed leaves its socket.
    serving.kill();
    assert!(data.join("operator.sock").exists());
    let shown = user(data, &["role", "ada@farm.example", "moderator", "--json"], "");
    assert_eq!(json(&shown)["user"]["role"], "moderator");
    let export = json(&user(data, &["export", "ada@farm.example"], ""));
    assert_eq!(export["user"]["email"], "ada@farm.example");
    assert!(stdout(&user(data, &["erase", "ada@farm.example"], "")).ends_with("is erased"));
    expect_refusal(&user(data, &["show", "ada@farm.example"], ""), "there is no user");
    expect_refusal(
        &user(&data.join("none"), &["show", "ada@farm.example"], ""),
        "there is no ledger",
    );
    let report = json(&run(&["verify", "--full", "--json", "--data", data.to_str().unwrap()]));
    assert_eq!(report["verdict"], "intact");
}

/// Guards: a service that lost its read models ends, so that the next start makes them anew.
#[tokio::test]
async fn a_service_whose_read_models_are_gone_ends_for_its_supervisor() {
    let directory = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(directory.path(), &UNLIMITED);
    Client::new(&serving.base).register("ada@farm.example").await.expect(201);
    std::fs::remove_file(directory.path().join("game.db")).unwrap();
    let (status, told) = serving.wait();
    assert_eq!(status.code(), Some(1), "{told}");
    let serving = Serving::start(directory.path(), &UNLIMITED);
    Client::new(&serving.base).log_in("ada@farm.example", PASSWORD).await.expect(200);
}

/// Guards: what is under way is answered when the service stops.
#[tokio::test]
async fn a_stop_answers_what_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let more =
        [&UNLIMITED[..6], &["--password-memory", "65536", "--password-passes", "8"]].concat();
    let serving = Serving::start(directory.path(), &more);
    let mut ada = Client::new(&serving.base);
    let registering = tokio::spawn(async move { ada.register("ada@farm.example").await.status });
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    let stopped = tokio::task::spawn_blocking(move || serving.stop());
    assert_eq!(registering.await.unwrap(), 201);
    assert_eq!(stopped.await.unwrap().0.code(), Some(0));
}

/// Guards: ten thousand who connect and say nothing hold up nobody who asks.
#[tokio::test]
async fn ten_thousand_idle_connections_hold_nobody_up() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let more = [&UNLIMITED[..], &["--header-timeout", "3600"]].concat();
    let serving = Serving::start(directory.path(), &more);
    let address = serving.base.trim_start_matches("http://").parse().unwrap();
    let mut held = Vec::new();
    for number in 0..10_000_u32 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // 500 of each address: more of one are turned away.
        let from = format!("127.0.1.{}:0", 1 + number / 500);
        socket.bind(from.parse().unwrap()).unwrap();
        held.push(socket.connect(address).await.unwrap());
    }
    let mut ada = Client::from_address(&serving.base, "127.0.0.9");
    ada.register("ada@farm.example").await.expect(201);
    for _ in 0..100 {
        ada.get("/api/auth/me").await.expect(200);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(kib < 512 * 1024, "{kib} KiB");
    // They are all still there.
    let mut byte = [0];
    let first = &mut held[0];
    let read = tokio::io::AsyncReadExt::read(first, &mut byte);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), read).await.is_err());
    assert_eq!(serving.stop().0.code(), Some(0));
}

/// A start that is refused leaves every file to the version before.
#[test]
fn a_start_that_needs_a_migration_changes_no_other_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    Serving::start(data, &UNLIMITED).stop();
    let down = |database: &str, to: &str| {
        let to = ["--to", to, "--database", database, "--data", data.to_str().unwrap()];
        stdout(&run(&[&["migrate", "down"], &to[..]].concat()));
    };
    down("game", "7");
    down("accounts", "2");
    expect_refusal(&serve(data, &[]), "lacks migration 0008");
    let status = run(&["migrate", "status", "--json", "--data", data.to_str().unwrap()]);
    let status = json(&status);
    let applied: Vec<bool> = status["databases"][1]["migrations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|migration| migration["applied"].as_bool().unwrap())
        .collect();
    assert_eq!(applied, [true, true, false]);
}

/// Half a task at the operator's socket holds up no stop, and no socket is left behind.
#[test]
fn half_a_task_holds_up_no_stop() {
    let directory = tempfile::tempdir().unwrap();
    let serving = Serving::start(directory.path(), &UNLIMITED);
    let socket = directory.path().join("operator.sock");
    let mut half = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let head = "POST /task HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    half.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).unwrap();
    assert_eq!(serving.stop().0.code(), Some(0));
    assert!(!socket.exists());
}
