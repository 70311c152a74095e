//! Guards: a power cut logs nobody out whose login was answered, revives no session that was ended,
//! and loses no account, whatever of the unsynced writes it drops, keeps or tears.

use std::path::Path;
use std::process::Command;

use daybook_simulator::Generator;
use serde_json::json;

use crate::client::{Client, PASSWORD};
use crate::disk::{Disk, copy, rebased};
use crate::house::House;
use crate::shim::{self, Call, What};

const ROOT: &str = "SHIM_ROOT";
const CUTS: u64 = 20;
const USERS: usize = 4;
/// What a loss is called.
const LOST: &str = "an answer about accounts is lost";

/// The child whose calls are written down: it serves, and is its own client.
#[tokio::test]
async fn child_that_is_watched() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let mut house = House::within(Path::new(&root)).await;
    for number in 0..USERS {
        let email = format!("user{number}@farm.example");
        let (mut stays, mut goes) = (house.client(), house.client());
        stays.register(&email).await.expect(201);
        println!("IN {}", stays.cookies["session"]);
        goes.log_in(&email, PASSWORD).await.expect(200);
        let token = goes.cookies["session"].clone();
        println!("IN {token}");
        goes.post("/api/auth/logout", json!({})).await.expect(204);
        println!("OUT {token}");
    }
    let mut erased = house.client();
    erased.register("erased@farm.example").await.expect(201);
    let token = erased.cookies["session"].clone();
    println!("IN {token}");
    erased.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    println!("OUT {token}\nERASED");
    house.stop().await;
    println!("FINISHED");
}

/// Runs the child in a directory and gives what it did.
fn watched(root: &Path, settings: &[(&str, &str)]) -> Vec<Call> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "power_cut::child_that_is_watched", "--nocapture"])
        .env("LD_PRELOAD", shim::library())
        .env("SHIM_LOG", log.path())
        .env(ROOT, root)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("FINISHED"), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    shim::read_log(log.path())
}

/// Starts a service on what a power cut left, and holds it to what was answered.
async fn hold(root: &Path, printed: &str) {
    let started = House::try_within(root).await;
    let mut house = started.unwrap_or_else(|error| panic!("{LOST}: {error}"));
    let ended: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("OUT ")).collect();
    for token in printed.lines().filter_map(|line| line.strip_prefix("IN ")) {
        let cookies = [("session".to_owned(), token.to_owned())].into();
        let answer = Client { cookies, ..house.client() }.get("/api/auth/me").await;
        match ended.contains(&token) {
            true => {
                assert_eq!(answer.status, 401, "{LOST}: a session that was ended is open again")
            }
            // Its logout may have been under way.
            false => {
                let is_last = printed.trim_end().ends_with(token);
                assert!(answer.status == 200 || is_last, "{LOST}: a session is gone");
            }
        }
    }
    if printed.contains("ERASED") {
        house.client().log_in("erased@farm.example", PASSWORD).await.expect(401);
    }
    house.stop().await;
}

async fn cuts(settings: &[(&str, &str)], count: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut house = House::within(directory.path()).await;
    house.stop().await;
    let before = tempfile::tempdir().unwrap();
    copy(directory.path(), before.path());
    let calls = watched(directory.path(), settings);
    for seed in 0..count {
        let mut seed_bytes = [0; 32];
        seed_bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut chance = Generator::from_seed(seed_bytes);
        let until = chance.below(calls.len() as u64 + 1) as usize;
        let mut disk = Disk::of(before.path());
        let mut printed = String::new();
        for call in &calls[..until] {
            match &call.what {
                What::Printed { text } => printed.push_str(text),
                _ => disk.take(&rebased(call, (directory.path(), before.path()))),
            }
        }
        let after = tempfile::tempdir().unwrap();
        disk.cut((before.path(), after.path()), &mut chance);
        hold(after.path(), &printed).await;
    }
}

#[tokio::test]
async fn a_power_cut_keeps_every_answer_about_accounts_and_sessions() {
    let long = std::env::var("DAYBOOK_LONG").map_or(CUTS, |text| text.parse().unwrap());
    cuts(&[], long).await;
}

/// The test above would see accounts that are not synced.
#[tokio::test]
#[should_panic(expected = "an answer about accounts is lost")]
async fn a_power_cut_without_syncs_of_the_accounts_is_seen() {
    cuts(&[("SHIM_SKIP", "accounts.db-wal")], 40).await;
}
