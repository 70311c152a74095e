//! The command as its users meet it: what it prints, its exit status, and what it leaves alone.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn daybook(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(arguments)
        .env_remove("DAYBOOK_DATA")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "one JSON object: {text} {}", stderr(output));
    serde_json::from_str(&text).unwrap()
}

/// Runs a small demo into a directory.
fn demo(directory: &Path, seed: &str) -> Output {
    let data = directory.to_str().unwrap();
    daybook(&["demo", "--players", "12", "--days", "8", "--seed", seed, "--data", data, "--json"])
}

#[track_caller]
fn expect_refusal(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(2), "{} {}", stdout(output), stderr(output));
    let text = stderr(output);
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    assert!(text.contains(words), "`{words}` is not in: {text}");
    assert_eq!(stdout(output), "");
}

#[test]
fn the_same_seed_makes_the_same_events_and_another_seed_others() {
    let directories: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let runs: Vec<Value> = ["7", "7", "8"]
        .iter()
        .zip(&directories)
        .map(|(seed, directory)| json(&demo(directory.path(), seed)))
        .collect();
    assert_eq!(runs[0]["head_hash"], runs[1]["head_hash"]);
    assert_ne!(runs[0]["head_hash"], runs[2]["head_hash"]);
    assert_eq!(runs[0]["verdict"], "intact");
    for key in ["players", "seasons", "events", "commands", "seconds", "events_per_second"] {
        assert!(runs[0][key].is_number(), "{key}");
    }
    for key in ["p50", "p95", "p99", "max"] {
        assert!(runs[0]["latency_us"][key].is_number(), "{key}");
    }
    assert!(!runs[0]["leaderboard"].as_array().unwrap().is_empty());
    assert!(!runs[0]["retention"].as_array().unwrap().is_empty());

    // A demo replaces an earlier demo of its own.
    let again = json(&demo(directories[2].path(), "7"));
    assert_eq!(again["head_hash"], runs[0]["head_hash"]);
}

#[test]
fn verify_replay_and_tail_agree_on_a_demo() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let played = json(&demo(directory.path(), "7"));
    let report = json(&daybook(&["verify", "--full", "--json", "--data", data]));
    for key in ["verdict", "head_seq", "head_hash"] {
        assert_eq!(report[key], played[key], "{key}");
    }
    assert_eq!(report["first_bad_seq"], Value::Null);
    let world = json(&daybook(&["replay", "--json", "--data", data]));
    assert_eq!(world["state_hash"], report["state_hash"]);
    assert_eq!(world["accounts"]["sum_millicoins"], 0);

    let season = played["leaderboard"][0]["season_id"].as_str().unwrap();
    let page = stdout(&daybook(&["replay", "--season", season, "--data", data]));
    for expected in ["Day 1 · planting", "Day 28 · harvest", "── Week 4", "final score", "█"]
    {
        assert!(page.contains(expected), "`{expected}` is not in:\n{page}");
    }
    let replayed = json(&daybook(&["replay", "--season", season, "--json", "--data", data]));
    let of_season = replayed["season_events"].as_array().unwrap();
    let tailed = stdout(&daybook(&["tail", "--stream", season, "--data", data]));
    let own = of_season.iter().filter(|event| event["stream"] == season).count();
    assert_eq!(tailed.lines().count(), own);

    let all = stdout(&daybook(&["tail", "--data", data]));
    assert_eq!(all.lines().count() as u64, played["events"].as_u64().unwrap());
    let starts = stdout(&daybook(&["tail", "--kind", "season_started", "--data", data]));
    assert_eq!(starts.lines().count() as u64, played["seasons"].as_u64().unwrap());
    let first: Value = serde_json::from_str(starts.lines().next().unwrap()).unwrap();
    assert_eq!(first["kind"], "season_started");
    let payload: Value = serde_json::from_str(first["payload"].as_str().unwrap()).unwrap();
    assert!(payload["userId"].as_str().unwrap().starts_with("usr_"));
}

/// A part of the log by seq, by time, by number; and what is not there is told.
#[test]
fn tail_prints_the_part_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let played = json(&demo(directory.path(), "7"));
    let tail = |more: &[&str]| daybook(&[&["tail", "--data", data], more].concat());
    let events: Vec<Value> =
        stdout(&tail(&[])).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs = |more: &[&str]| -> Vec<u64> {
        let printed = stdout(&tail(more));
        let seq = |line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        printed.lines().map(seq).collect()
    };
    assert_eq!(seqs(&["--from", "5", "--until", "9"]), [5, 6, 7, 8, 9]);
    assert_eq!(seqs(&["--from", "5", "--until", "9", "--follow"]), [5, 6, 7, 8, 9]);
    assert_eq!(seqs(&["--from", "5", "--limit", "2", "--follow"]), [5, 6]);
    assert_eq!(seqs(&["--from", "9", "--until", "5"]), [0; 0]);
    // The demo's second day, whose events are those that the times say.
    let (since, until) = ("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z");
    let day = 1_767_657_600_000_000..1_767_744_000_000_000;
    let of_day =
        events.iter().filter(|event| day.contains(&event["recordedMicros"].as_i64().unwrap()));
    let expected: Vec<u64> = of_day.map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(!expected.is_empty() && expected.len() < events.len());
    assert_eq!(seqs(&["--since", since, "--until-time", until]), expected);
    assert_eq!(seqs(&["--since", "2040-01-01T00:00:00Z"]), [0; 0]);
    assert_eq!(seqs(&["--limit", "0", "--follow"]), [0; 0]);

    let nowhere = "ssn_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
    expect_refusal(
        &tail(&["--stream", nowhere]),
        "there is no event of the user, season or ledger",
    );
    // From a season, a bet and a user to the events, with game.db and without.
    let season = events.iter().find(|event| event["kind"] == "season_completed").unwrap();
    let stream = season["stream"].as_str().unwrap();
    let count = |output: &Output| stdout(output).lines().count();
    let of_stream = events.iter().filter(|event| event["stream"] == *stream).count();
    let placed = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let of_bet = |id: &str| {
        let lines: Vec<Value> = stdout(&tail(&["--bet", id])).lines().map(placed).collect();
        lines.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let game_db = directory.path().join("game.db");
    let connection = rusqlite::Connection::open(&game_db).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut found = connection.prepare(sql).unwrap();
        found.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let resolved = texts("SELECT id FROM bets WHERE won IS NOT NULL ORDER BY id LIMIT 3");
    let returned =
        texts("SELECT id FROM bets WHERE won IS NULL AND payout > 0 ORDER BY id LIMIT 3");
    let user = texts("SELECT user_id FROM seasons ORDER BY id LIMIT 1").remove(0);
    drop(connection);
    for _ in 0..2 {
        assert_eq!(count(&tail(&["--season", stream])), of_stream);
        assert_eq!(count(&tail(&["--season", stream, "--limit", "3"])), 3);
        for id in &resolved {
            assert_eq!(of_bet(id), ["bet_placed", "bet_resolved"]);
        }
        for id in &returned {
            let kinds = of_bet(id);
            assert!(kinds.len() == 2 && kinds[1].starts_with("season_"), "{kinds:?}");
        }
        let of_user = stdout(&tail(&["--user", &user])).lines().map(placed).collect::<Vec<_>>();
        assert!(of_user.iter().any(|event| event["kind"] == "user_registered"));
        assert!(of_user.iter().any(|event| event["kind"] == "bet_placed"));
        drop(std::fs::remove_file(&game_db));
    }
    for unknown in [
        ["--bet", "bet_0193a0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b"],
        ["--season", "ssn_0193a0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b"],
        ["--user", "usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"],
    ] {
        expect_refusal(&tail(&unknown), "there is no ");
    }
    let beyond = tail(&["--from", "999999999"]);
    assert!(beyond.status.success() && stderr(&beyond).contains("the ledger ends at"));
    assert_eq!(events.len() as u64, played["events"].as_u64().unwrap());
}

/// An auditor is told which ledger was verified and what it was held to, and needs no private key
/// for it.
#[test]
fn verify_tells_which_ledger_it_was_and_what_it_was_held_to() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let played = json(&demo(&data, "7"));
    let data = data.to_str().unwrap();
    let listed = json(&daybook(&["keys", "list", "--json", "--data", data]));
    let key = listed["verifying_key"].as_str().unwrap();
    // What an auditor is handed: the ledger, and the signed head without any key.
    let keys = directory.path().join("keys");
    std::fs::rename(Path::new(data).join("keys"), &keys).unwrap();
    std::fs::remove_dir_all(Path::new(data).join("snapshots")).unwrap();
    let heads = directory.path().join("heads");
    std::fs::create_dir(&heads).unwrap();
    for entry in std::fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "head") {
            std::fs::copy(&path, heads.join(path.file_name().unwrap())).unwrap();
        }
    }
    let heads = heads.to_str().unwrap();
    let verify = |more: &[&str]| daybook(&[&["verify", "--json", "--data", data], more].concat());
    let beside = json(&verify(&[]));
    let held_to = beside["held_to"].as_array().unwrap();
    let is_position = |held: &Value| held["source"].as_str().unwrap().contains("the position of");
    assert!(held_to.len() == 3 && held_to.iter().all(is_position), "{held_to:?}");
    std::fs::remove_file(Path::new(data).join("game.db")).unwrap();
    let alone = json(&verify(&[]));
    assert_eq!((&alone["is_demo"], &alone["held_to"]), (&true.into(), &serde_json::json!([])));
    assert!(alone["ledger_id"].as_str().unwrap().starts_with("ldg_"));
    assert_eq!(alone["game"], "farming_season");
    let held = json(&verify(&["--keys", heads, "--verifying-key", key]));
    assert_eq!(held["held_to"][0]["head_hash"], played["head_hash"]);
    assert_eq!(held["held_to"].as_array().unwrap().len(), 1);
    // Another key: the curve's base point.
    let other = "58".to_owned() + &"66".repeat(31);
    expect_refusal(&verify(&["--keys", heads, "--verifying-key", &other]), ".head");
    let text = stdout(&daybook(&["verify", "--data", data]));
    assert!(text.contains("held to     no head"), "{text}");
}

#[test]
fn verify_tells_what_was_altered_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let played = json(&demo(directory.path(), "7"));
    let connection = rusqlite::Connection::open(directory.path().join("ledger.db")).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER events_refuse_update;
             UPDATE events SET recorded_at = recorded_at + 1 WHERE seq = 100;",
        )
        .unwrap();
    drop(connection);
    let output = daybook(&["verify", "--json", "--data", data]);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert_eq!((&report["verdict"], &report["first_bad_seq"]), (&"altered".into(), &100.into()));

    // Whoever closes the pipe early still gets the verdict, by the exit status.
    let mut verify = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["verify", "--data", data])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(verify.stdout.take());
    assert_eq!(verify.wait().unwrap().code(), Some(1));

    let head = format!("{}:{}", played["events"], "00".repeat(32));
    assert!(demo(directory.path(), "7").status.success());
    let output = daybook(&["verify", "--head", &head, "--data", data]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("head_mismatch"));
    let head = format!("99999999:{}", "00".repeat(32));
    let report = json(&daybook(&["verify", "--head", &head, "--json", "--data", data]));
    assert_eq!(report["verdict"], "truncated");
    assert_eq!(report["first_bad_seq"].as_u64(), played["events"].as_u64().map(|seq| seq + 1));
}

#[test]
fn bad_directories_are_refused_in_one_line_and_left_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let file = directory.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letters.txt"), "dear").unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("ledger.db"), "").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    for command in [&["verify"][..], &["replay"], &["tail"], &["verify", "--full"]] {
        let run = |data: &Path| daybook(&[command, &["--data", &text(data)]].concat());
        expect_refusal(&run(&missing), "no ledger at");
        expect_refusal(&run(&file), "no ledger at");
        expect_refusal(&run(&foreign), "no ledger at");
        expect_refusal(&run(&empty), "is not a Daybook ledger");
    }
    expect_refusal(&demo(&file, "7"), "is not a directory");
    expect_refusal(&demo(&foreign, "7"), "is not empty and holds no demo");
    expect_refusal(&demo(&empty, "7"), "is not a Daybook ledger");
    assert!(!missing.exists());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a file");
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
    assert_eq!(std::fs::metadata(empty.join("ledger.db")).unwrap().len(), 0);
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 1);
}

/// A demo that is refused leaves the earlier one as it was; one with keys of its own elsewhere can
/// be repeated.
#[test]
fn a_refused_demo_leaves_the_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let (data, keys) = (directory.path().join("data"), directory.path().join("keys"));
    let run = |seed: &str| {
        let (data, keys) = (data.to_str().unwrap(), keys.to_str().unwrap());
        let size = ["--players", "6", "--days", "2", "--json"];
        let places = ["--seed", seed, "--data", data, "--keys", keys];
        daybook(&[&["demo"][..], &size, &places].concat())
    };
    let first = json(&run("7"));
    assert_eq!(json(&run("7"))["head_hash"], first["head_hash"]);
    expect_refusal(&run("8"), "--keys names another directory");
    let still_there = || {
        let kept = json(&daybook(&["verify", "--json", "--data", data.to_str().unwrap()]));
        assert_eq!(kept["head_hash"], first["head_hash"]);
    };
    still_there();

    // What lies beside keys, or behind a link, is not removed with them.
    let own = data.join("keys");
    std::os::unix::fs::symlink(&keys, &own).unwrap();
    expect_refusal(&run("7"), "is a link or holds other things");
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 4);
    std::fs::remove_file(&own).unwrap();
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("note.txt"), "mine").unwrap();
    expect_refusal(&run("7"), "is a link or holds other things");
    still_there();
    std::fs::remove_dir_all(&own).unwrap();

    // The data directory's own keys, named: replaced with the demo, and there afterwards.
    let named = own.to_str().unwrap();
    let data = data.to_str().unwrap();
    for _ in 0..2 {
        let size = ["--players", "6", "--days", "2", "--data", data, "--keys", named];
        assert!(daybook(&[&["demo"][..], &size].concat()).status.success());
        assert!(daybook(&["keys", "list", "--data", data]).status.success());
    }
}

#[test]
fn keys_are_made_listed_and_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    demo(directory.path(), "7");
    let before = json(&daybook(&["keys", "list", "--json", "--data", data]));
    let statuses: Vec<&str> = before["season_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == "in force").count(), 1);
    let rotated = json(&daybook(&["keys", "rotate", "--compromised", "--json", "--data", data]));
    assert!(rotated["commitments_renewed"].as_u64().unwrap() > 0);
    let after = json(&daybook(&["keys", "list", "--json", "--data", data]));
    let in_force = |list: &Value| {
        let keys = list["season_keys"].as_array().unwrap().clone();
        keys.into_iter().find(|key| key["status"] == "in force").unwrap()["key_id"].clone()
    };
    assert_eq!(in_force(&after), rotated["key_id"]);
    let report = json(&daybook(&["verify", "--full", "--json", "--data", data]));
    assert_eq!((&report["verdict"], &report["head_seq"]), (&"intact".into(), &rotated["head_seq"]));

    let own = directory.path().join("own");
    let own = own.to_str().unwrap();
    assert!(daybook(&["keys", "init", "--keys", own]).status.success());
    expect_refusal(&daybook(&["keys", "init", "--keys", own]), "holds keys or other things");
    expect_refusal(&daybook(&["keys", "list", "--keys", "/nowhere/at/all"]), "keys init");
}

/// Seasons that are in play under a key that is gone are told of: nothing else would say that they
/// stand still.
#[test]
fn a_rotation_tells_of_seasons_under_lost_keys() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    demo(&data, "7");
    // Half of the demo, so that seasons are in play, and nothing that tells of the rest.
    let connection = rusqlite::Connection::open(data.join("ledger.db")).unwrap();
    let guards = daybook_schema::LedgerFormat::NEWEST.sql().split_once("CREATE TRIGGER").unwrap().1;
    connection
        .execute_batch(&format!(
            "DROP TRIGGER events_refuse_update; DROP TRIGGER events_refuse_delete; \
             DROP TRIGGER genesis_refuse_update; DROP TRIGGER genesis_refuse_delete; \
             DELETE FROM events WHERE seq >= (SELECT min(seq) FROM events \
             WHERE length(command) = 34 AND seq > (SELECT max(seq) / 2 FROM events)); \
             CREATE TRIGGER{guards}"
        ))
        .unwrap();
    drop(connection);
    std::fs::remove_dir_all(data.join("snapshots")).unwrap();
    std::fs::remove_file(data.join("game.db")).unwrap();
    let (data, own) = (data.to_str().unwrap(), directory.path().join("own"));
    let own = own.to_str().unwrap();
    assert!(daybook(&["keys", "init", "--keys", own]).status.success());
    let rotated = daybook(&["keys", "rotate", "--keys", own, "--json", "--data", data]);
    let told = json(&rotated);
    assert!(told["seasons_under_lost_keys"].as_u64().unwrap() > 0, "{told}");
    let text = stderr(&daybook(&["keys", "rotate", "--keys", own, "--data", data]));
    assert!(text.contains("seasons are in play under a season key"), "{text}");
}

#[test]
fn odds_prints_all_48_cells() {
    let odds = json(&daybook(&["odds", "--json"]));
    assert_eq!(odds["cells"].as_array().unwrap().len(), 48);
    let text = stdout(&daybook(&["odds"]));
    assert!(text.lines().count() > 48);
    assert!(text.contains("1.3862  2.0794   3.4657"), "cloudy, water, call");
}

#[test]
fn help_usage_completions_and_closed_pipes() {
    for command in ["demo", "verify", "replay", "tail", "odds", "keys"] {
        let help = daybook(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(stdout(&help).contains("Examples:"), "{command}");
    }
    let completions = stdout(&daybook(&["completions", "bash"]));
    assert!(completions.contains("--players"));
    for usage in [&[][..], &["demo", "--players", "x"], &["verify", "--head", "1"], &["fly"]] {
        expect_refusal(&daybook(usage), "--help");
    }
    let directory = tempfile::tempdir().unwrap();
    demo(directory.path(), "7");
    let mut tail = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["tail", "--data", directory.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(tail.stdout.take());
    let output = tail.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn options_come_from_the_environment_too() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .arg("demo")
        .env("DAYBOOK_DATA", directory.path())
        .envs([("DAYBOOK_PLAYERS", "6"), ("DAYBOOK_DAYS", "2"), ("DAYBOOK_JSON", "true")])
        .output()
        .unwrap();
    let report = json(&output);
    assert_eq!(report["players"], 6);
    let verified = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .arg("verify")
        .env("DAYBOOK_DATA", directory.path())
        .output()
        .unwrap();
    assert!(stdout(&verified).starts_with("verdict     intact"));
}

/// A log that cannot be written is no reason to stop.
#[test]
fn a_full_stderr_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert!(demo(directory.path(), "7").status.success());
    let snapshots = directory.path().join("snapshots");
    let rotate = |stderr: Stdio| {
        std::fs::write(snapshots.join("00000000000099999999.snapshot"), "damaged").unwrap();
        let data = directory.path().to_str().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_daybook"));
        process.args(["keys", "rotate", "--data", data]).stderr(stderr).output().unwrap()
    };
    let told = rotate(Stdio::piped());
    assert!(told.status.success());
    assert!(stderr(&told).contains("a snapshot is ignored"), "{}", stderr(&told));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(rotate(full.into()).status.code(), Some(0));
}

/// A variable that is set but empty means unset, for every option.
#[test]
fn an_empty_variable_means_unset() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], variables: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
        command.args(arguments).current_dir(directory.path());
        command.envs(variables.iter().map(|name| (name, ""))).output().unwrap()
    };
    let verify = ["DAYBOOK_DATA", "DAYBOOK_KEYS", "DAYBOOK_JSON", "DAYBOOK_FULL", "DAYBOOK_HEAD"];
    expect_refusal(&run(&["verify"], &verify), "no ledger at `./daybook-data/ledger.db`");
    let tail = ["DAYBOOK_DATA", "DAYBOOK_FROM", "DAYBOOK_KIND", "DAYBOOK_STREAM", "DAYBOOK_FOLLOW"];
    expect_refusal(&run(&["tail"], &tail), "no ledger at `./daybook-data/ledger.db`");
    let status = ["DATABASE_URL", "DAYBOOK_DATA", "DAYBOOK_MIGRATIONS"];
    expect_refusal(
        &run(&["projections", "status"], &status),
        "there is no `./daybook-data/game.db`",
    );
    assert!(run(&["odds"], &["DAYBOOK_JSON"]).status.success());
    assert!(run(&["keys", "init"], &["DAYBOOK_KEYS", "DAYBOOK_DATA"]).status.success());
    assert!(directory.path().join("daybook-data/keys/signing.key").exists());
}

/// Names of directories are names, whatever is in them.
#[test]
fn a_directory_is_a_path_and_no_uri() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
        command.args(arguments).current_dir(directory.path()).env_remove("DAYBOOK_DATA");
        command.output().unwrap()
    };
    for data in ["file:x?mode=memory", "file:y", "a%20b#c?immutable=1", ":memory:"] {
        let demo = run(&["demo", "--players", "2", "--days", "2", "--json", "--data", data]);
        assert_eq!(json(&demo)["verdict"], "intact", "{data}");
        for name in ["ledger.db", "game.db", "keys/signing.key"] {
            assert!(directory.path().join(data).join(name).exists(), "{data}/{name}");
        }
        assert!(run(&["verify", "--data", data]).status.success(), "{data}");
        assert!(run(&["keys", "rotate", "--data", data]).status.success(), "{data}");
        let rebuild = ["projections", "rebuild", "seasons", "--data", data];
        assert!(run(&rebuild).status.success(), "{data}");
        let down = ["migrate", "down", "--database", "game", "--data", data];
        assert!(run(&down).status.success(), "a backup is made: {data}");
    }
    let made: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(made.len(), 4, "nothing lies beside: {made:?}");
}

/// What cannot work is refused before anything is written, and a strange name of our own is no
/// reason to stop.
#[test]
fn names_that_are_not_utf_8_are_refused_or_taken_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;

    let directory = tempfile::tempdir().unwrap();
    let strange = std::ffi::OsStr::from_bytes(b"data\xff");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
        command.args(arguments).current_dir(directory.path()).env_remove("DAYBOOK_DATA");
        command
    };
    let demo = ["demo", "--players", "2", "--days", "2", "--data"];
    expect_refusal(&command(&demo).arg(strange).output().unwrap(), "is not a name in UTF-8");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
    let named = command(&demo).arg("data").arg0(strange).output().unwrap();
    assert!(named.status.success(), "{}", stderr(&named));
    // What needs the ledger alone takes any name.
    std::fs::rename(directory.path().join("data"), directory.path().join(strange)).unwrap();
    let verify = command(&["verify", "--full", "--data"]).arg(strange).output().unwrap();
    assert!(verify.status.success(), "{}", stderr(&verify));
}

/// A process that may open no more files says so.
#[test]
fn too_few_open_files_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    assert!(demo(directory.path(), "7").status.success());
    let limited = |files: u32, arguments: &str| {
        let script = format!(
            "ulimit -n {files}; exec '{}' {arguments} --data '{data}'",
            env!("CARGO_BIN_EXE_daybook")
        );
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    // From too few to begin with to enough: never a verdict of the ledger.
    let mut refused = 0;
    for files in 4..40 {
        for arguments in ["verify", "projections status", "keys rotate"] {
            let output = limited(files, arguments);
            let told = stderr(&output);
            assert!(matches!(output.status.code(), Some(0 | 2)), "{files}: {told}");
            if output.status.code() == Some(2) {
                refused += 1;
                assert!(told.contains("ulimit -n"), "{arguments}, {files}: {told}");
            }
        }
    }
    assert!(refused > 2, "{refused}");
}
