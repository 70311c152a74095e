//! Guards: while the disk is full and the ledger read-only, sessions end all the same, and whoever is
//! erased is gone; the ledger is told when there is room.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use daybook_api::Task;
use daybook_schema::{Event, SessionEndReason, limits};
use serde_json::json;

use crate::client::PASSWORD;
use crate::house::House;

const DIRECTORY: &str = "API_FULL_DISK";
/// What is left: too little for the ledger, enough for the accounts.
const LEFT_BYTES: usize = 16 * 1024 * 1024;

/// The child: it serves on a small disk of its own, which it fills and clears.
#[tokio::test]
async fn child_on_a_small_disk() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let house = House::within(&directory).await;
    let [mut stays, mut goes, mut locked, mut erased] = std::array::from_fn(|_| house.client());
    for (client, name) in [
        (&mut stays, "stays"),
        (&mut goes, "goes"),
        (&mut locked, "locked"),
        (&mut erased, "erased"),
    ] {
        client.register(&format!("{name}@farm.example")).await.expect(201);
    }
    fill(&directory.join("filler"));
    house.client().get("/readyz").await.expect_error(503, "READ_ONLY");
    house.client().get("/healthz").await.expect(200);
    house.client().register("late@farm.example").await.expect_error(503, "READ_ONLY");
    house.client().log_in("stays@farm.example", PASSWORD).await.expect_error(503, "READ_ONLY");
    let change = json!({ "currentPassword": PASSWORD, "password": "two pails of water" });
    stays.post("/api/auth/password", change).await.expect_error(503, "READ_ONLY");
    stays.get("/api/auth/me").await.expect(200);

    let (was, locked_was) = (goes.clone(), locked.clone());
    goes.post("/api/auth/logout", json!({})).await.expect(204);
    was.clone().get("/api/auth/me").await.expect(401);
    house.operate(Task::Lock { user: "locked@farm.example".to_owned() }).await;
    locked_was.clone().get("/api/auth/me").await.expect(401);
    erased.post("/api/auth/me/erase", json!({ "password": PASSWORD })).await.expect(204);
    let database = house.accounts_db();
    let left = "SELECT count(*) FROM users WHERE email = 'erased@farm.example'";
    assert_eq!(database.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert!(!house.events().iter().any(|event| matches!(event, Event::SessionEnded(_))));

    std::fs::remove_file(directory.join("filler")).unwrap();
    house
        .until("what the ledger was not told", |house| {
            let events = house.events();
            let has = |reason| {
                events.iter().any(
                    |event| matches!(event, Event::SessionEnded(ended) if ended.reason == reason),
                )
            };
            let erased = events.iter().any(|event| matches!(event, Event::UserErased(_)));
            let all =
                [SessionEndReason::Logout, SessionEndReason::Locked, SessionEndReason::Erased];
            (erased && all.into_iter().all(has)).then_some(())
        })
        .await;
    house.client().get("/readyz").await.expect(200);
    house.client().register("late@farm.example").await.expect(201);
    println!("\nSERVED ON");
}

/// Writes until so much is left.
pub fn fill(path: &Path) {
    let mut filler = std::fs::File::create(path).unwrap();
    while filler.write_all(&[0; 1 << 20]).is_ok() {}
    let length = filler.metadata().unwrap().len();
    filler.set_len(length - LEFT_BYTES as u64).unwrap();
}

/// Runs a test as a child of its own on a disk of so many bytes; gives what it printed.
pub fn on_a_small_disk(size: u64, variable: &str, test: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
    // A mount that only the child sees; who is not root gets one of a user namespace.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|found| {
        use std::os::unix::fs::MetadataExt;
        found.uid() == 0
    });
    let output = Command::new("unshare")
        .args(if is_root { &["-m"][..] } else { &["-rm"][..] })
        .args(["sh", "-c", &mount])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, directory.path())
        .output()
        .expect("unshare of util-linux");
    let [printed, failed] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    printed + &failed
}

#[test]
fn a_full_disk_holds_up_no_end_of_a_session() {
    let size = limits::DISK_FREE_BYTES_MIN + 64 * 1024 * 1024;
    let printed = on_a_small_disk(size, DIRECTORY, "full_disk::child_on_a_small_disk");
    assert!(printed.contains("SERVED ON"), "{printed}");
}
