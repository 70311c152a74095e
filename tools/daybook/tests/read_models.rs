//! Guards: the relay and the workers as processes of their own, killed again and again beside the
//! server between them, leave the tables that the ledger's tail gives.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

#[path = "../../../projections/tests/projections/nats_server.rs"]
#[expect(dead_code, reason = "shared with the tests of the projections, which use all of it")]
mod nats_server;
#[path = "common/serving.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod serving;

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use daybook_bots::Play;
use daybook_ledger::keys;
use daybook_projections::test_kit::{rows_of, same};
use nats_server::NatsServer;
use serving::{Serving, UNLIMITED};

use common::{Process, command, json, run, tables, tables_from_the_tail, wait_until_current};

/// Kills a process, which must not have ended by itself, and starts it again.
fn kill_and_start(process: &mut Process, arguments: &[&str]) {
    assert_eq!(process.child.try_wait().unwrap(), None, "{arguments:?} ended by itself");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    *process = Process::start(arguments);
}

#[test]
fn whatever_is_killed_the_tables_are_those_of_the_tail() {
    let kills: u64 = std::env::var("DAYBOOK_LONG").map_or(8, |text| text.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap().to_owned();
    let keys_dir = directory.path().join("keys");
    keys::init(&keys_dir, &keys::random_season_key().unwrap()).unwrap();
    // The ledger is there before it is relayed, and grows meanwhile.
    let play = Play { players: 25, days: 8, seed: 101 };
    let path = directory.path().to_owned();
    let playing = std::thread::spawn(move || play.into_new_ledger(&path).unwrap());
    while daybook_ledger::Reader::open(directory.path()).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }

    let mut server = NatsServer::start();
    let url = server.url();
    let relaying = ["relay", "--nats", &url, "--data", &data];
    let projecting = ["projections", "run", "--nats", &url, "--data", &data];
    let mut relay = Process::start(&relaying);
    let mut workers = Process::start(&projecting);
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..kills {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(40 + (random >> 33) % 260));
        match (random >> 60) % 3 {
            0 => kill_and_start(&mut relay, &relaying),
            1 => kill_and_start(&mut workers, &projecting),
            _ => {
                server.kill();
                std::thread::sleep(Duration::from_millis(30));
                server.begin();
            }
        }
    }
    let head = playing.join().unwrap();
    let status = wait_until_current(&data);
    for projection in status["projections"].as_array().unwrap() {
        assert_eq!(projection["head_hash"], head.hash.to_string());
    }
    drop((relay, workers));
    let expected = tables_from_the_tail(directory.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let game_db = directory.path().join("game.db");
    let found = runtime.block_on(rows_of(&game_db, &tables())).unwrap();
    same("after the kills", &expected, &found).unwrap();
}

#[test]
fn the_commands_say_what_they_did_and_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let missing = run(&["projections", "status", "--data", data]);
    assert_eq!(missing.status.code(), Some(2));
    let without_ledger = run(&["projections", "run", "--data", data]);
    assert_eq!(without_ledger.status.code(), Some(2));
    assert!(!directory.path().join("game.db").exists(), "it would keep the demo out");
    let demo = run(&["demo", "--players", "6", "--days", "4", "--data", data, "--json"]);
    let demo = json(&demo);
    assert!(demo["projections_seconds"].as_f64().unwrap() > 0.0);

    let status = json(&run(&["projections", "status", "--json", "--data", data]));
    for projection in status["projections"].as_array().unwrap() {
        assert_eq!(projection["state"], "current");
        assert_eq!(projection["head_hash"], demo["head_hash"]);
        assert_eq!(projection["lag_events"], 0);
    }
    let rebuilt = run(&[
        "projections",
        "rebuild",
        "analytics",
        "simulins",
        "analytics",
        "--json",
        "--data",
        data,
    ]);
    let rebuilt = json(&rebuilt);
    assert_eq!(rebuilt["rebuilt"][1]["head_seq"], demo["head_seq"]);
    assert_eq!(rebuilt["rebuilt"].as_array().unwrap().len(), 2, "each once");
    let unknown = run(&["projections", "rebuild", "seasonz", "--data", data]);
    assert_eq!(unknown.status.code(), Some(2));
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(told.contains("there are seasons, simulins, analytics"), "{told}");

    let migrations = json(&run(&["migrate", "status", "--json", "--data", data]));
    assert_eq!(migrations["databases"][0]["migrations"][2]["applied"], true);
    assert_eq!(migrations["databases"][1]["migrations"][0]["applied"], false, "nobody logs in");
    assert_eq!(migrations["databases"][2]["migrations"][1]["applied"], true);
    assert!(run(&["migrate", "up", "--data", data]).status.success());
    assert!(run(&["migrate", "verify", "--data", data]).status.success());
    let game_db = directory.path().join("game.db");
    let connection = rusqlite::Connection::open(&game_db).unwrap();
    connection.execute_batch("DROP INDEX idx_bets_season_day").unwrap();
    let wrong = run(&["migrate", "verify", "--json", "--data", data]);
    assert_eq!(wrong.status.code(), Some(1));
    let finding = &json(&wrong)["databases"][0]["findings"][0];
    assert_eq!(finding, "the index `idx_bets_season_day` is missing");

    let remote = command(&["projections", "status", "--data", data])
        .env("DATABASE_URL", "libsql://db.example.org")
        .output()
        .unwrap();
    assert_eq!(remote.status.code(), Some(2));
    let told = String::from_utf8_lossy(&remote.stderr).into_owned();
    assert!(told.contains("libSQL server") && told.trim_end().lines().count() == 1, "{told}");
    for url in [format!("file:{}", game_db.display()), format!("sqlite://{}", game_db.display())] {
        let status = command(&["projections", "status", "--data", data])
            .env("DATABASE_URL", url)
            .output()
            .unwrap();
        assert_eq!(status.status.code(), Some(0));
    }
}

/// Read models are ahead of a ledger that was put back from an older copy: they tell that events
/// are missing, and follow once the loss was accepted.
#[test]
fn read_models_tell_that_a_ledger_lost_events() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    assert!(run(&["demo", "--players", "6", "--days", "3", "--data", data]).status.success());
    let ledger = directory.path().join("ledger.db");
    let older = directory.path().join("older.db");
    std::fs::copy(&ledger, &older).unwrap();
    assert!(run(&["keys", "rotate", "--data", data]).status.success());
    tables_follow(directory.path());

    std::fs::copy(&older, &ledger).unwrap();
    // No other witness is left.
    for entry in std::fs::read_dir(directory.path().join("keys")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "head") {
            std::fs::remove_file(path).unwrap();
        }
    }
    drop(std::fs::remove_dir_all(directory.path().join("snapshots")));
    let refused = run(&["keys", "rotate", "--data", data]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("(the position of `") && told.contains("game.db)"), "{told}");
    // A URL that names another file, or none, does not silence them.
    let nothing = directory.path().join("nothing.db");
    for (url, words) in [(&ledger, "it holds `"), (&nothing, "there is no `")] {
        let before = std::fs::read(&ledger).unwrap();
        let mut rotate = command(&["keys", "rotate", "--data", data]);
        let refused = rotate.env("DATABASE_URL", url).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains(words) && told.trim_end().lines().count() == 1, "{told}");
        assert!(std::fs::read(&ledger).unwrap() == before && !nothing.exists());
    }
    assert!(run(&["keys", "rotate", "--accept-loss", "--data", data]).status.success());
    assert!(run(&["keys", "rotate", "--data", data]).status.success());
    tables_follow(directory.path());
    let expected = tables_from_the_tail(directory.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let game_db = directory.path().join("game.db");
    let found = runtime.block_on(rows_of(&game_db, &tables())).unwrap();
    same("after an accepted loss", &expected, &found).unwrap();

    // Where the ledger is gone, what lies beside it is named, and no new one is advised.
    std::fs::remove_file(&ledger).unwrap();
    let told = String::from_utf8_lossy(&run(&["verify", "--data", data]).stderr).into_owned();
    assert!(told.contains("put it back") && !told.contains("demo"), "{told}");
}

/// Lets a worker process follow the ledger to its end.
fn tables_follow(data_dir: &Path) {
    let data = data_dir.to_str().unwrap();
    let _workers = Process::start(&["projections", "run", "--data", data]);
    wait_until_current(data);
}

/// Guards: a server with too little room for the stream is told of, with what to change.
#[test]
fn a_relay_says_that_the_server_has_no_room() {
    let server = NatsServer::start();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    assert!(run(&["demo", "--players", "2", "--days", "2", "--data", data]).status.success());
    let url = server.url();
    let more_than_it_has = (1_u64 << 40).to_string();
    let relaying = ["relay", "--nats", &url, "--nats-max-bytes", &more_than_it_has, "--data", data];
    let child = command(&relaying).stderr(Stdio::piped()).spawn().unwrap();
    let mut relay = Process { child };
    let told = BufReader::new(relay.child.stderr.take().unwrap()).lines();
    let told = told.map(Result::unwrap).find(|line| line.contains("no room")).unwrap();
    assert!(told.contains("max_file_store") && told.contains("--nats-max-bytes"), "{told}");
}

/// Guards: a service with a bus keeps its read models through it, and serves while the server is away.
#[tokio::test]
async fn a_service_reads_through_jetstream_and_serves_while_the_server_is_away() {
    let mut nats = NatsServer::start();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let url = nats.url();
    let serving = Serving::start(data, &[&UNLIMITED[..], &["--nats", &url]].concat());
    let register = async |name: &str| {
        let body = serde_json::json!({
            "email": format!("{name}@farm.example"), "password": "a pail of cold water", "displayName": name,
        });
        let url = format!("{}/api/auth/register", serving.base);
        reqwest::Client::new().post(url).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(register("ada").await, 201);
    wait_until_current(data.to_str().unwrap());
    nats.kill();
    assert_eq!(register("bob").await, 201);
    nats.begin();
    wait_until_current(data.to_str().unwrap());
    let sessions = rusqlite::Connection::open(data.join("game.db")).unwrap();
    let count = "SELECT count(*) FROM play_sessions";
    assert_eq!(sessions.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(serving.stop().0.code(), Some(0));
}
