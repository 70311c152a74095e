//! Guards: a backup that is made under load holds all that was answered before it began, and a
//! restored service has it; nothing half or damaged is taken for a backup; nobody gains by a restore.
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
#[expect(dead_code, reason = "not every test uses all of it")]
mod serving;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use client::{Client, PASSWORD};
use common::{json, run};
use daybook_ledger::{Reader, replay};
use daybook_schema::{EventKind, Head, Seq};
use serde_json::{Value, json};
use serving::{Serving, UNLIMITED};

const BACKUPS: u64 = 5;
const PLAYERS: usize = 4;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What the command says that cannot be done.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    error
}

fn made(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    json(&output)
}

fn path_of(backup: &Value) -> PathBuf {
    PathBuf::from(backup["path"].as_str().unwrap())
}

/// The keys without the newest head: as they are kept apart from the backups.
fn keys_without_head(data: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::process::Command::new("chmod").arg("700").arg(to).status().unwrap();
    for entry in std::fs::read_dir(data.join("keys")).unwrap() {
        let path = entry.unwrap().path();
        // The newest head, and what becomes the next one: it comes and goes while the service runs.
        if !text(&path).contains(".head") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[derive(Default)]
struct Answered {
    head: u64,
    people: Vec<String>,
    is_over: bool,
}

/// Registers people and begins seasons until it is told to end; notes what was answered.
async fn live(base: String, number: usize, answered: Arc<Mutex<Answered>>) {
    for turn in 0.. {
        if answered.lock().unwrap().is_over {
            return;
        }
        let mut client = Client::new(&base);
        let email = format!("u{number}-{turn}@farm.example");
        client.register(&email).await.expect(201);
        answered.lock().unwrap().people.push(email);
        let next = client.get("/api/fairness/next").await.expect(200);
        let start = json!({ "commitment": next.body["commitment"], "clientSeed": "ab".repeat(32) });
        let started = client.post("/api/seasons", start).await.expect(201);
        let head = started.header("x-ledger-head").unwrap().split(':').next().unwrap().to_owned();
        let mut answered = answered.lock().unwrap();
        answered.head = answered.head.max(head.parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_all_that_was_answered_before_it_began() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups) = (directory.path().join("data"), directory.path().join("backups"));
    let serving = Serving::start(&data, &UNLIMITED);
    let answered = Arc::new(Mutex::new(Answered::default()));
    let people: Vec<_> = (0..PLAYERS)
        .map(|number| tokio::spawn(live(serving.base.clone(), number, Arc::clone(&answered))))
        .collect();
    let count = std::env::var("DAYBOOK_LONG").map_or(BACKUPS, |text| text.parse().unwrap());
    let mut restored = 0;
    for number in 0..count {
        let (head, known) = {
            let answered = answered.lock().unwrap();
            (answered.head, answered.people.clone())
        };
        let (from, to) = (text(&data).to_owned(), text(&backups).to_owned());
        let more: &[&str] = if number % 2 == 0 { &["--with-game-db"] } else { &[] };
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        let backup = tokio::task::spawn_blocking(move || {
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            made(&[&["backup", &to, "--data", &from], &more[..]].concat())
        });
        let backup = backup.await.unwrap();
        let has: Head = backup["head"].as_str().unwrap().parse().unwrap();
        assert!(has.seq >= head, "{has} lacks {head}, which was answered");
        // The backup is a ledger by itself, and other tools may look at it.
        let report = made(&["verify", "--full", "--data", text(&path_of(&backup))]);
        assert_eq!(report["verdict"], "intact", "{report}");
        if number % 5 < 2 {
            let to = directory.path().join(format!("restored-{number}"));
            expect_restored(&data, &path_of(&backup), &to, &known, has).await;
            restored += 1;
        }
    }
    answered.lock().unwrap().is_over = true;
    for person in people {
        person.await.unwrap();
    }
    assert_eq!(serving.stop().0.code(), Some(0));
    let people = answered.lock().unwrap().people.len();
    println!("{count} backups beside {people} registrations, {restored} of them restored");
}

/// A restored service: nobody is logged in, everybody who was answered can log in, and the seasons
/// are over.
async fn expect_restored(data: &Path, backup: &Path, to: &Path, known: &[String], head: Head) {
    made(&["restore", text(backup), "--data", text(to)]);
    keys_without_head(data, &to.join("keys"));
    let serving = Serving::start(to, &UNLIMITED);
    for email in known.iter().rev().take(3) {
        Client::new(&serving.base).log_in(email, PASSWORD).await.expect(200);
    }
    assert_eq!(serving.stop().0.code(), Some(0));
    let report = made(&["verify", "--full", "--data", text(to), "--head", &head.to_string()]);
    assert_eq!(report["verdict"], "intact", "{report}");
    let reader = Reader::open(to).unwrap();
    let restored = reader.events_of_kinds(&[EventKind::LedgerRestored], Seq::MIN);
    let restored: Vec<_> = restored.map(|event| event.unwrap().header.seq.get()).collect();
    assert_eq!(restored, [head.seq + 1], "the epoch begins right after the backup");
    let state = replay(to, None, |_, _| {}).unwrap().state;
    assert!(state.seasons.is_empty(), "seasons in play are over");
}

/// A small service with a player, stopped; and a backup of it.
async fn played(directory: &Path) -> (PathBuf, PathBuf, Value) {
    let (data, backups) = (directory.join("data"), directory.join("backups"));
    let serving = Serving::start(&data, &UNLIMITED);
    let mut ada = Client::new(&serving.base);
    ada.register("ada@farm.example").await.expect(201);
    Client::new(&serving.base).register("bob@farm.example").await.expect(201);
    let body = json!({ "events": [] });
    ada.post("/api/telemetry", body).await;
    assert_eq!(serving.stop().0.code(), Some(0));
    let backup = made(&["backup", text(&backups), "--data", text(&data), "--with-game-db"]);
    (data, backups, backup)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_half_or_damaged_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, backup) = played(directory.path()).await;
    let (path, to) = (path_of(&backup), directory.path().join("restored"));
    let restore =
        |more: &[&str]| refused(&[&["restore", text(&path), "--data", text(&to)], more].concat());
    // What was put beside the files is part of no backup.
    for name in ["ledger.db-wal", "accounts.db-journal", "keys"] {
        std::fs::write(path.join(name), "more").unwrap();
        assert!(restore(&[]).contains("is not what it was when the backup was made"), "{name}");
        std::fs::remove_file(path.join(name)).unwrap();
    }
    // Each file, altered, cut and missing.
    for name in ["ledger.db", "accounts.db", "telemetry.db", "game.db"] {
        let file = path.join(name);
        let genuine = std::fs::read(&file).unwrap();
        let mut altered = genuine.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        for bytes in [&altered[..], &genuine[1..]] {
            std::fs::write(&file, bytes).unwrap();
            assert!(restore(&[]).contains("is not what it was when the backup was made"), "{name}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(restore(&[]).contains("it is missing"), "{name}");
        std::fs::write(&file, genuine).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(&to).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["ledger.lock"], "nothing of it is left");
    }
    // What is not whole, and a directory of backups.
    let partial = backups.join("backup-20260101T000000000Z.partial");
    std::fs::create_dir(&partial).unwrap();
    assert!(
        refused(&["restore", text(&partial), "--data", text(&to)]).contains("is no whole backup")
    );
    let named = refused(&["restore", text(&backups), "--data", text(&to)]);
    assert!(named.contains(&format!("the newest is `{}`", path.display())), "{named}");
    let manifest = path.join("backup.json");
    let genuine = std::fs::read_to_string(&manifest).unwrap();
    for (from, to) in
        [("\"daybook_backup\": 1", "\"daybook_backup\": 9"), ("ledger.db", "../ledger.db")]
    {
        std::fs::write(&manifest, genuine.replace(from, to)).unwrap();
        assert!(restore(&[]).contains("is not what this version of daybook writes"));
    }
    let mut lacks: Value = serde_json::from_str(&genuine).unwrap();
    lacks["files"].as_array_mut().unwrap().retain(|file| file["path"] != "telemetry.db");
    std::fs::write(&manifest, lacks.to_string()).unwrap();
    assert!(restore(&[]).contains("the manifest does not name it"));
    std::fs::write(&manifest, &genuine).unwrap();
    // Nothing is overwritten.
    assert!(refused(&["restore", text(&path), "--data", text(&data)]).contains("is in the way"));
    let seq = backup["head"].as_str().unwrap().split(':').next().unwrap().parse::<u64>().unwrap();
    assert!(restore(&["--until", &(seq + 1).to_string()]).contains("the ledger ends with event"));
    assert!(restore(&["--until", "2"]).contains("lies within a command"));
    // The next backup clears what a killed one left; then all is well.
    made(&["backup", text(&backups), "--data", text(&data)]);
    assert!(!partial.exists());
    made(&["restore", text(&path), "--data", text(&to)]);
    assert!(to.join("game.db").exists() && to.join("telemetry.db").exists());
    assert!(refused(&["restore", text(&path), "--data", text(&to)]).contains("is in the way"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_was_cut_off_is_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let (_, _, backup) = played(directory.path()).await;
    let (path, to) = (path_of(&backup), directory.path().join("restored"));
    made(&["restore", text(&path), "--data", text(&to)]);
    // Cut off before the ledger was in its place: nothing starts there, and the same restore goes on.
    std::fs::remove_file(to.join("ledger.db")).unwrap();
    std::fs::create_dir(to.join("restore.partial")).unwrap();
    std::fs::write(to.join("restore.partial/ledger.db"), "half").unwrap();
    let serve = refused(&["serve", "--data", text(&to), "--listen", "127.0.0.1:0"]);
    assert!(serve.contains("was cut off: do the same restore again"), "{serve}");
    assert!(!to.join("keys").exists());
    // Another one does not mix with it.
    let other = refused(&["restore", text(&path), "--data", text(&to), "--until", "1"]);
    assert!(other.contains("is in the way"), "{other}");
    made(&["restore", text(&path), "--data", text(&to)]);
    assert!(to.join("ledger.db").exists() && !to.join("restore.partial").exists());
    // Killed while it was begun: nothing else begins there.
    let begun = directory.path().join("begun");
    std::fs::create_dir_all(begun.join("restore.partial")).unwrap();
    std::fs::copy(to.join("restored.json"), begun.join("restored.json")).unwrap();
    let serve = refused(&["serve", "--data", text(&begun), "--listen", "127.0.0.1:0"]);
    assert!(serve.contains("was cut off: do the same restore again"), "{serve}");
    made(&["restore", text(&path), "--data", text(&begun)]);
    // What cannot be read as a mark is looked at by a person.
    let odd = directory.path().join("odd");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("restored.json"), "{").unwrap();
    assert!(refused(&["restore", text(&path), "--data", text(&odd)]).contains("is in the way"));
}

/// Keys are put in place whole or not at all, and none that is there is overwritten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_half_put_back_are_completed() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, _) = played(directory.path()).await;
    let backup = made(&["backup", text(&backups), "--data", text(&data), "--with-keys"]);
    let to = directory.path().join("restored");
    let keys = to.join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    std::process::Command::new("chmod").arg("700").arg(&keys).status().unwrap();
    let season = std::fs::read_dir(data.join("keys")).unwrap().map(|entry| entry.unwrap().path());
    let is_season = |path: &PathBuf| text(path).contains("season-");
    let season = season.into_iter().find(is_season).unwrap();
    let there = keys.join(season.file_name().unwrap());
    std::fs::write(&there, "another").unwrap();
    let restore = ["restore", text(&path_of(&backup)), "--data", text(&to)].map(str::to_owned);
    let restore: Vec<&str> = restore.iter().map(String::as_str).collect();
    let refused = refused(&restore);
    assert!(refused.contains("is in the way") && refused.contains(text(&there)), "{refused}");
    std::fs::remove_file(&there).unwrap();
    std::fs::copy(&season, &there).unwrap();
    assert_eq!(made(&restore)["has_keys"], true);
    assert_eq!(Serving::start(&to, &UNLIMITED).stop().0.code(), Some(0));
}

/// A backup that nobody could log in to is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_that_lack_users_are_not_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, whole) = played(directory.path()).await;
    std::fs::rename(data.join("accounts.db"), directory.path().join("accounts.db")).unwrap();
    let backup = ["backup", text(&backups), "--data", text(&data)];
    let lacks = refused(&backup);
    assert!(lacks.contains("has no account of 2 users whom the ledger has"), "{lacks}");
    let without = made(&[&backup[..], &["--without-accounts", "--keep", "1"]].concat());
    // The one before may be the last to have them.
    assert_eq!(without["left"], json!([whole["path"]]));
}

/// What was erased after the backup is erased again; who was logged in is not; what was cut off is
/// registered again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_brings_back_no_session_and_nobody_who_was_erased() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups) = (directory.path().join("data"), directory.path().join("backups"));
    let serving = Serving::start(&data, &UNLIMITED);
    let mut ada = Client::new(&serving.base);
    ada.register("ada@farm.example").await.expect(201);
    let mut eve = Client::new(&serving.base);
    let registered = eve.register("eve@farm.example").await.expect(201);
    let backup = made(&["backup", text(&backups), "--data", text(&data), "--with-keys"]);
    eve.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    assert_eq!(serving.stop().0.code(), Some(0));
    // Its keys are those of now: `erased` names her.
    let to = directory.path().join("restored");
    std::fs::create_dir(&to).unwrap();
    copy_directory(&data.join("keys"), &to);
    let done = made(&["restore", text(&path_of(&backup)), "--data", text(&to)]);
    assert_eq!(done["has_keys"], false, "those that are there stay");
    let serving = Serving::start(&to, &UNLIMITED);
    let mut old = Client::new(&serving.base);
    old.cookies = ada.cookies.clone();
    old.get("/api/auth/me").await.expect_error(401, "SESSION_EXPIRED");
    Client::new(&serving.base).log_in("ada@farm.example", PASSWORD).await.expect(200);
    Client::new(&serving.base).log_in("eve@farm.example", PASSWORD).await.expect(401);
    assert_eq!(serving.stop().0.code(), Some(0));
    let state = replay(&to, None, |_, _| {}).unwrap().state;
    let id = registered.body["user"]["id"].as_str().unwrap().parse().unwrap();
    assert!(state.users.get(&id).unwrap().erased);
    // Up to before anybody was registered, with the backup's own keys: accounts are registered again.
    let earlier = directory.path().join("earlier");
    let from = path_of(&backup);
    let done = made(&["restore", text(&from), "--data", text(&earlier), "--until", "1"]);
    assert_eq!((&done["is_cut"], &done["has_keys"]), (&true.into(), &true.into()));
    assert!(!earlier.join("game.db").exists());
    let serving = Serving::start(&earlier, &UNLIMITED);
    Client::new(&serving.base).log_in("ada@farm.example", PASSWORD).await.expect(200);
    assert_eq!(serving.stop().0.code(), Some(0));
    assert_eq!(made(&["verify", "--full", "--data", text(&earlier)])["verdict"], "intact");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_backups_go_where_the_newest_has_their_events() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, first) = played(directory.path()).await;
    let backup =
        |data: &Path| made(&["backup", text(&backups), "--data", text(data), "--keep", "2"]);
    let second = backup(&data);
    assert_eq!(second["removed"], json!([]));
    let third = backup(&data);
    assert_eq!(third["removed"], json!([first["path"]]));
    // A ledger that went another way: the older ones have events that it lacks.
    let to = directory.path().join("restored");
    made(&["restore", text(&path_of(&second)), "--data", text(&to), "--until", "1"]);
    keys_without_head(&data, &to.join("keys"));
    Serving::start(&to, &UNLIMITED).stop();
    let (fourth, fifth) = (backup(&to), backup(&to));
    assert_eq!(fourth["left"], json!([second["path"]]));
    assert_eq!(fifth["removed"], json!([]));
    assert_eq!(fifth["left"], json!([second["path"], third["path"]]));
    // A ledger that lacks what its keys know of is not backed up.
    let serving = Serving::start(&data, &UNLIMITED);
    Client::new(&serving.base).register("carol@farm.example").await.expect(201);
    assert_eq!(serving.stop().0.code(), Some(0));
    let older = directory.path().join("older");
    std::fs::create_dir(&older).unwrap();
    std::fs::copy(path_of(&third).join("ledger.db"), older.join("ledger.db")).unwrap();
    copy_directory(&data.join("keys"), &older);
    let error = refused(&["backup", text(&backups), "--data", text(&older)]);
    assert!(error.contains("a copy of it would be no backup"), "{error}");
}

/// A clock that was ahead made an older backup look like the newest: the one that was just made is not
/// removed for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_removes_no_newer_backup() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, first) = played(directory.path()).await;
    let manifest = path_of(&first).join("backup.json");
    let mut ahead: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    ahead["taken_at"] = "2099-01-01T00:00:00Z".into();
    std::fs::write(&manifest, serde_json::to_vec(&ahead).unwrap()).unwrap();
    let keep = |count| made(&["backup", text(&backups), "--data", text(&data), "--keep", count]);
    let second = keep("2");
    assert_eq!(second["removed"], json!([]));
    let third = keep("1");
    assert_eq!(third["removed"], json!([second["path"], first["path"]]));
    assert!(path_of(&third).join("backup.json").exists());
}

/// Backups of several ledgers may lie in one directory: each is kept by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_of_another_ledger_are_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, first) = played(directory.path()).await;
    let elsewhere = directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let (other, _, _) = played(&elsewhere).await;
    let keep = |data: &Path| made(&["backup", text(&backups), "--data", text(data), "--keep", "2"]);
    keep(&other);
    keep(&other);
    let third = keep(&data);
    assert_eq!((&third["removed"], &third["left"]), (&json!([]), &json!([])));
    assert_eq!(keep(&data)["removed"], json!([first["path"]]));
}

/// The last copy of an account is not removed for a backup that lacks it; an erased one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_that_have_accounts_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, first) = played(directory.path()).await;
    let accounts = data.join("accounts.db");
    let older = directory.path().join("older.db");
    std::fs::copy(&accounts, &older).unwrap();
    let serving = Serving::start(&data, &UNLIMITED);
    Client::new(&serving.base).register("carol@farm.example").await.expect(201);
    assert_eq!(serving.stop().0.code(), Some(0));
    let with_carol = made(&["backup", text(&backups), "--data", text(&data)]);
    // An older copy is put in the place of the accounts.
    std::fs::copy(&older, &accounts).unwrap();
    for log in ["accounts.db-wal", "accounts.db-shm"] {
        drop(std::fs::remove_file(data.join(log)));
    }
    let keep = ["backup", text(&backups), "--data", text(&data), "--keep", "1"];
    let without = made(&[&keep[..], &["--without-accounts"]].concat());
    assert_eq!(without["removed"], json!([first["path"]]));
    assert_eq!(without["left"], json!([with_carol["path"]]));
    // Whoever was erased is missed by nobody.
    made(&["restore", text(&path_of(&with_carol)), "--data", text(&directory.path().join("back"))]);
    let back = directory.path().join("back");
    keys_without_head(&data, &back.join("keys"));
    let unstarted = refused(&["backup", text(&backups), "--data", text(&back)]);
    assert!(unstarted.contains("has not been started since"), "{unstarted}");
    Serving::start(&back, &UNLIMITED).stop();
    let erase = ["user", "erase", "carol@farm.example", "--data", text(&back)];
    assert_eq!(run(&erase).status.code(), Some(0));
    let keep = ["backup", text(&backups), "--data", text(&back), "--keep", "1"];
    let removed = made(&keep)["removed"].clone();
    assert_eq!(removed, json!([with_carol["path"], without["path"]]));
}

/// What can be made again stands in the way of no backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_models_that_cannot_be_read_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let (data, backups, _) = played(directory.path()).await;
    std::fs::write(data.join("game.db"), "no database at all").unwrap();
    let backup = ["backup", text(&backups), "--data", text(&data), "--with-game-db"];
    let output = run(&[&backup[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("`game.db` is not in the backup"), "{told}");
    let made_without = path_of(&json(&output));
    assert!(!made_without.join("game.db").exists());
    let to = directory.path().join("restored");
    made(&["restore", text(&made_without), "--data", text(&to)]);
    assert_eq!(made(&["verify", "--data", text(&to)])["verdict"], "intact");
}

fn copy_directory(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").args(["-r", text(from), text(to)]).status();
    assert!(copied.unwrap().success());
}
