//! Guards: what a ledger says that it is must hold before anything is done by it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

#[expect(dead_code, reason = "other tests follow tables and processes")]
mod common;

use std::path::Path;
use std::process::Output;

use common::run;
use daybook_ledger::{Ledger, NewLedger, Options, Submission, keys};
use daybook_schema::{Command, Genesis, LedgerFormat, UserId};
use rusqlite::Connection;

/// A real ledger with its keys and a user, closed.
fn real_ledger(data: &Path) -> Genesis {
    let keys_dir = data.join("keys");
    keys::init(&keys_dir, &keys::random_season_key().unwrap()).unwrap();
    let keys = keys::load(&keys_dir).unwrap();
    let key_id = *keys.season_keys.key_ids().next().unwrap();
    let options = Options::new(data, keys.season_keys).newest_head(keys.newest_head);
    let ledger = Ledger::open(options.create(NewLedger::random())).unwrap();
    for command in [
        Command::RotateKey { key_id, compromised: false },
        Command::RegisterUser { user_id: UserId::random() },
    ] {
        ledger.submit(Submission::new(command)).unwrap().wait().unwrap();
    }
    let genesis = *ledger.reader().unwrap().genesis();
    ledger.close().wait().unwrap();
    genesis
}

/// Edits the genesis, and puts its guard back byte for byte.
fn edit_genesis(data: &Path, edit: &str) {
    let sql = LedgerFormat::NEWEST.sql();
    let is_guard = |part: &&str| part.contains("TRIGGER genesis_refuse_update");
    let guard = sql.split("\n\n").find(is_guard).unwrap();
    let connection = Connection::open(data.join("ledger.db")).unwrap();
    let all = format!("DROP TRIGGER genesis_refuse_update; UPDATE genesis SET {edit}; {guard}");
    connection.execute_batch(&all).unwrap();
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A demo replaces an earlier demo alone: that a ledger says it is one is not enough.
#[test]
fn a_real_ledger_that_was_made_to_look_like_a_demo_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let genesis = real_ledger(data);
    let shown = data.to_str().unwrap();
    let demo = ["demo", "--players", "2", "--days", "1", "--data", shown];
    assert!(error_of(&run(&demo)).contains("not a demo's"));
    edit_genesis(data, "is_demo = 1");
    let before = std::fs::read(data.join("ledger.db")).unwrap();
    let error = error_of(&run(&demo));
    assert!(error.contains("the genesis hashes to"), "{error}");
    assert!(error.contains("daybook verify"), "{error}");
    // Nor is it read as if it held.
    assert!(error_of(&run(&["tail", "--data", shown])).contains("the genesis hashes to"));
    assert_eq!(std::fs::read(data.join("ledger.db")).unwrap(), before);
    edit_genesis(data, "is_demo = 0");
    let verified = common::json(&run(&["verify", "--full", "--json", "--data", shown]));
    assert_eq!(verified["ledger_id"], genesis.ledger_id.to_string());
    assert_eq!(verified["verdict"], "intact");
}

/// A demo whose place cannot be written to anew stays.
#[test]
fn a_demo_that_cannot_be_replaced_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let shown = data.to_str().unwrap();
    let demo = ["demo", "--players", "2", "--days", "1", "--data", shown];
    assert!(run(&demo).status.success());
    for obstacle in ["ledger.db.new", "keys/signing.key.new"] {
        let obstacle = data.join(obstacle);
        std::fs::create_dir(&obstacle).unwrap();
        let error = error_of(&run(&demo));
        assert!(error.contains(obstacle.to_str().unwrap()), "{error}");
        std::fs::remove_dir(&obstacle).unwrap();
        let verified = run(&["verify", "--full", "--json", "--data", shown]);
        assert_eq!(common::json(&verified)["held_to"].as_array().unwrap().len(), 5);
    }
}

/// Nothing is done beside a ledger of a game that this version does not know.
#[test]
fn a_ledger_of_an_unknown_game_ends_every_command_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let shown = data.to_str().unwrap();
    let genesis = real_ledger(data);
    assert!(run(&["migrate", "up", "--data", shown]).status.success());
    edit_genesis(data, "game = 'chess'");
    let ledger_id = genesis.ledger_id.to_string();
    for command in [
        &["verify"][..],
        &["tail"],
        &["replay"],
        &["keys", "rotate"],
        &["projections", "status"],
        &["projections", "run"],
        &["projections", "rebuild", "seasons"],
        &["projections", "forget", "--ledger", &ledger_id],
        &["migrate", "status"],
        &["migrate", "up"],
        &["migrate", "down"],
        &["migrate", "verify"],
        &["demo"],
    ] {
        let error = error_of(&run(&[command, &["--data", shown]].concat()));
        assert!(
            error.contains("`chess`") && error.contains("farming_season"),
            "{command:?}: {error}"
        );
    }
    assert!(data.join("game.db").exists());
}

/// What a killed migration left of its copy is no witness: what it copied was not touched yet.
#[test]
fn an_unfinished_backup_stands_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let shown = data.to_str().unwrap();
    real_ledger(data);
    assert!(run(&["migrate", "up", "--data", shown]).status.success());
    std::fs::create_dir(data.join("backups")).unwrap();
    for ending in ["new", "new-journal"] {
        let name = format!("backups/game-20260101T000000000Z-before-0006.db.{ending}");
        std::fs::write(data.join(name), b"half a copy").unwrap();
    }
    let verified = run(&["verify", "--data", shown]);
    assert!(verified.status.success(), "{verified:?}");
    let rotated = run(&["keys", "rotate", "--data", shown]);
    assert!(rotated.status.success(), "{rotated:?}");
}

/// A key that was compromised in events that are lost now does not come back into force.
#[test]
fn after_a_loss_no_earlier_key_is_put_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let shown = data.to_str().unwrap();
    real_ledger(data);
    let older = std::fs::read(data.join("ledger.db")).unwrap();
    let rotate = |more: &[&str]| {
        let rotated = run(&[&["keys", "rotate", "--json", "--data", shown], more].concat());
        common::json(&rotated)["key_id"].as_str().unwrap().to_owned()
    };
    let mut earlier = vec![rotate(&[]), rotate(&["--compromised"])];
    std::fs::write(data.join("ledger.db"), older).unwrap();
    for more in [&["--accept-loss"][..], &[], &[]] {
        let key_id = rotate(more);
        assert!(!earlier.contains(&key_id), "{key_id} was in force before: {earlier:?}");
        earlier.push(key_id);
    }
}
