//! Guards: whatever is done to the files of the read models, beside a process that keeps them or
//! without one, they are never silently wrong, and what cannot be made again is kept.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daybook_bots::Play;
use daybook_projections::test_kit::{Rows, rows_of, same};

use common::{Process, command, json, run, tables, tables_from_the_tail, wait_until_current};

/// A ledger, its read models made, and what they should be.
struct Kept {
    directory: tempfile::TempDir,
    expected: Rows,
}

impl Kept {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Play { players: 5, days: 3, seed }.into_new_ledger(directory.path()).unwrap();
        let expected = tables_from_the_tail(directory.path());
        Self { directory, expected }
    }

    fn data(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn game_db(&self) -> PathBuf {
        self.directory.path().join("game.db")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.directory.path().join(format!("game.db{ending}"))
    }

    fn start(&self) -> Process {
        Process::start(&["projections", "run", "--data", self.data()])
    }

    /// Starts a process that keeps the read models, and waits until they are current.
    fn keep(&self) -> Process {
        let process = self.start();
        let started = Instant::now();
        while !self.has_opened(&process) {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        wait_until_current(self.data());
        process
    }

    /// Whether a process has the file: what it says of itself is there then.
    fn has_opened(&self, process: &Process) -> bool {
        !self.named(&format!(".open-{}-", process.child.id())).is_empty()
    }

    /// Whether this process says that it gave the file up.
    fn is_given_up(&self, process: &Process) -> bool {
        self.named(&format!(".open-{}-", process.child.id())).iter().any(|word| {
            let text = std::fs::read_to_string(word).unwrap_or_default();
            let word: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            word["given_up"].is_object()
        })
    }

    fn found(&self) -> Rows {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(rows_of(&self.game_db(), &tables())).unwrap()
    }

    /// Files beside `game.db` whose names go on like this.
    fn named(&self, ending: &str) -> Vec<PathBuf> {
        let beginning = format!("game.db{ending}");
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let all = entries.map(|entry| entry.unwrap().path());
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&beginning))
            .collect()
    }
}

/// Waits until a process has ended by itself; gives its exit status.
fn ended(process: &mut Process, what: &str) -> i32 {
    let started = Instant::now();
    loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is done to the files under a process that keeps them.
type Damage = fn(&Kept);

const DAMAGES: [(&str, Damage); 8] = [
    ("removed", |kept| std::fs::remove_file(kept.game_db()).unwrap()),
    ("all removed", |kept| {
        for ending in ["", "-wal", "-shm"] {
            std::fs::remove_file(kept.beside(ending)).unwrap();
        }
    }),
    ("log and index removed, and written by another", |kept| {
        for ending in ["-wal", "-shm"] {
            std::fs::remove_file(kept.beside(ending)).unwrap();
        }
        let connection = rusqlite::Connection::open(kept.game_db()).unwrap();
        drop(connection.execute("UPDATE seasons SET coins = coins + 1", []));
    }),
    ("another moved over it", |kept| {
        let other = kept.beside(".other");
        let connection = rusqlite::Connection::open(&other).unwrap();
        connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        drop(connection);
        std::fs::rename(other, kept.game_db()).unwrap();
    }),
    ("moved away", |kept| std::fs::rename(kept.game_db(), kept.beside(".elsewhere")).unwrap()),
    ("a table dropped that nobody reads now", |kept| {
        let connection = rusqlite::Connection::open(kept.game_db()).unwrap();
        connection.execute_batch("DROP TABLE season_coins").unwrap();
    }),
    ("all tables dropped but not the views", |kept| {
        let connection = rusqlite::Connection::open(kept.game_db()).unwrap();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        let tables: Vec<String> = connection
            .prepare(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            )
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for table in tables {
            connection.execute(&format!("DROP TABLE {table}"), []).unwrap();
        }
    }),
    ("its tables dropped", |kept| {
        let connection = rusqlite::Connection::open(kept.game_db()).unwrap();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = OFF; DROP TABLE projection_positions; DROP TABLE week_results;",
            )
            .unwrap();
    }),
];

/// The process notices, says why, and ends with 2; the next one makes all tables anew.
#[test]
fn a_file_that_is_lost_under_a_process_is_given_up_and_made_anew() {
    let kept = Kept::new(111);
    for (what, damage) in DAMAGES {
        let mut process = kept.keep();
        damage(&kept);
        assert_eq!(ended(&mut process, what), 2, "{what}");
        if kept.game_db().exists() {
            let status = run(&["projections", "status", "--data", kept.data()]);
            assert_ne!(status.status.code(), Some(0), "{what}");
        }
        if what == "another moved over it" {
            let refused = run(&["projections", "run", "--data", kept.data()]);
            assert_eq!(refused.status.code(), Some(2), "{what}");
            std::fs::remove_file(kept.game_db()).unwrap();
        }
        drop(kept.keep());
        same(what, &kept.expected, &kept.found()).unwrap();
    }
}

/// A page in the middle that is malformed, met by the process that keeps the file or by a rebuild.
#[test]
fn a_malformed_page_is_set_aside_and_made_anew() {
    let kept = Kept::new(112);
    drop(kept.keep());
    let checkpoint = rusqlite::Connection::open(kept.game_db()).unwrap();
    let size: i64 = checkpoint.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    checkpoint.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let root: i64 = checkpoint
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'seasons'", [], |row| {
            row.get(0)
        })
        .unwrap();
    drop(checkpoint);
    let file = std::fs::OpenOptions::new().write(true).open(kept.game_db()).unwrap();
    let at = u64::try_from((root - 1) * size).unwrap();
    file.write_all_at(&vec![0xff; usize::try_from(size).unwrap()], at).unwrap();
    drop(file);
    let rebuilt = run(&["projections", "rebuild", "seasons", "--data", kept.data()]);
    let told = String::from_utf8_lossy(&rebuilt.stderr).into_owned();
    assert_eq!(rebuilt.status.code(), Some(2), "{told}");
    assert!(told.contains("malformed"), "{told}");
    let again = command(&["projections", "rebuild", "seasons", "--data", kept.data()]);
    let again = { again }.output().unwrap();
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success() && told.contains("was set aside as `"), "{told}");
    assert!(!kept.named(".damaged-").is_empty());
    drop(kept.keep());
    same("malformed", &kept.expected, &kept.found()).unwrap();
}

/// A process that waits says why and since when, where nothing can be written to the file itself.
#[test]
fn a_process_that_waits_tells_why_and_since_when() {
    let kept = Kept::new(113);
    let database = rusqlite::Connection::open(kept.game_db()).unwrap();
    let mut process = kept.keep();
    // The ledger goes: what the workers follow cannot be read.
    let ledger = kept.directory.path().join("ledger.db");
    std::fs::rename(&ledger, kept.directory.path().join("away.db")).unwrap();
    let started = Instant::now();
    let waits = loop {
        let status = run(&["projections", "status", "--json", "--data", kept.data()]);
        let projection = json(&status)["projections"][0].clone();
        if projection["waits"].is_object() {
            assert_eq!(status.status.code(), Some(1));
            break projection["waits"].clone();
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(waits["reason"].as_str().unwrap().contains("no ledger at"), "{waits}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let since = waits["since"].as_u64().unwrap();
    assert!(since <= now.as_secs() && since + 60 > now.as_secs());
    std::fs::rename(kept.directory.path().join("away.db"), &ledger).unwrap();
    wait_until_current(kept.data());
    assert_eq!(process.child.try_wait().unwrap(), None);
    drop(database);
}

/// A generator for the choices of a test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Cuts a file somewhere, if it is there.
fn cut(path: &std::path::Path, random: &mut Random) {
    if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) {
        let length = file.metadata().unwrap().len();
        file.set_len(random.below(length.max(1))).unwrap();
    }
}

/// One mangling of the files: removed, cut, older, swapped with another ledger's.
fn mangle(kept: &Kept, (older, other): (&Kept, &Kept), random: &mut Random) -> String {
    let ending = ["", "-wal", "-shm"][usize::try_from(random.below(3)).unwrap()];
    let path = kept.beside(ending);
    let place = |from: PathBuf| {
        // Put in its place under its name: a new file.
        let new = kept.beside(".new");
        if std::fs::copy(&from, &new).is_ok() {
            std::fs::rename(new, &path).unwrap();
        }
    };
    let what = match random.below(5) {
        0 => {
            drop(std::fs::remove_file(&path));
            "removed"
        }
        1 => {
            cut(&path, random);
            "cut"
        }
        2 => {
            place(older.beside(ending));
            "older"
        }
        3 => {
            place(other.beside(ending));
            "another ledger's"
        }
        _ => {
            for ending in ["", "-wal", "-shm"] {
                drop(std::fs::remove_file(kept.beside(ending)));
            }
            "all removed"
        }
    };
    format!("{what}: game.db{ending}")
}

/// Beside a process that keeps them, one that was killed and one that was stopped, the files are
/// mangled at random: afterwards the tables are right, or the command says that something is to be
/// done, and after that they are right.
#[test]
fn whatever_is_done_to_the_files_the_tables_are_right_or_it_is_told() {
    let rounds: u64 = std::env::var("DAYBOOK_LONG").map_or(25, |text| text.parse().unwrap());
    let (kept, older, other) = (Kept::new(114), Kept::new(114), Kept::new(115));
    for made in [&older, &other] {
        let mut process = made.keep();
        process.child.kill().unwrap();
    }
    let verified = json(&run(&["verify", "--json", "--data", other.data()]));
    let other_id = verified["ledger_id"].as_str().unwrap().to_owned();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        // What was set aside has been looked at.
        for aside in kept.named(".damaged-").into_iter().chain(kept.named(".given-over-")) {
            std::fs::remove_file(aside).unwrap();
        }
        let mut process = kept.keep();
        let how = random.below(3);
        if how == 1 {
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        } else if how == 2 {
            let pid = process.child.id().to_string();
            std::process::Command::new("kill").arg(pid).status().unwrap();
            process.child.wait().unwrap();
        }
        let what = mangle(&kept, (&older, &other), &mut random);
        let what = format!(
            "round {round}, {}, {what}",
            ["running", "killed", "stopped"][usize::try_from(how).unwrap()]
        );
        std::thread::sleep(Duration::from_millis(random.below(700)));
        drop(process);
        // What is refused is another's: it is given over, as the message says.
        let mut refusals = 0;
        loop {
            let mut process = kept.start();
            let started = Instant::now();
            let is_current = loop {
                if process.child.try_wait().unwrap().is_some() {
                    break false;
                }
                let has_opened = kept.has_opened(&process);
                let status = run(&["projections", "status", "--json", "--data", kept.data()]);
                // What was set aside and cannot be read is moved away, once it was looked at, as it
                // says.
                if String::from_utf8_lossy(&status.stdout).contains("cannot be looked at") {
                    kept.named(".damaged-")
                        .iter()
                        .for_each(|path| drop(std::fs::remove_file(path)));
                }
                if has_opened && status.status.success() && !status.stdout.is_empty() {
                    let all = json(&status)["projections"].as_array().unwrap().clone();
                    if all.iter().all(|projection| projection["state"] == "current") {
                        break true;
                    }
                }
                assert!(started.elapsed() < Duration::from_secs(60), "{what}: {status:?}");
            };
            if is_current {
                break;
            }
            refusals += 1;
            assert!(refusals < 4, "{what}");
            // Another ledger's file alone is refused. What is only met on the way is given up, and the
            // next start sees to it.
            let told =
                run(&["projections", "forget", "--ledger", &other_id, "--data", kept.data()]);
            let known = run(&["projections", "status", "--data", kept.data()]);
            assert!(
                told.status.success() || !kept.game_db().exists() || kept.is_given_up(&process),
                "{what}: {told:?} {known:?}"
            );
        }
        same(&what, &kept.expected, &kept.found()).unwrap();
    }
}

/// A file that was cut while nothing ran is set aside by the next start, whatever is left of it;
/// after so many that the disk itself must be at fault a start refuses, and says what to do.
#[test]
fn a_file_that_was_cut_is_set_aside_and_not_without_end() {
    let kept = Kept::new(116);
    let mut process = kept.keep();
    let pid = process.child.id().to_string();
    std::process::Command::new("kill").arg(pid).status().unwrap();
    process.child.wait().unwrap();
    for (round, length) in
        [4_096, 10_000, 100_000, 600, 20_000, 30_000, 50_000, 70_000].into_iter().enumerate()
    {
        let file = std::fs::OpenOptions::new().write(true).open(kept.game_db()).unwrap();
        file.set_len(length).unwrap();
        let mut process = kept.keep();
        let aside = kept.named(".damaged-");
        let aside = aside.iter().filter(|path| !path.to_str().unwrap().contains("Z-"));
        assert_eq!(aside.count(), round + 1, "{length} bytes");
        let pid = process.child.id().to_string();
        std::process::Command::new("kill").arg(pid).status().unwrap();
        process.child.wait().unwrap();
        assert!(!kept.beside("-wal").exists(), "a stop folds the log in");
        same("cut", &kept.expected, &kept.found()).unwrap();
    }
    let file = std::fs::OpenOptions::new().write(true).open(kept.game_db()).unwrap();
    file.set_len(9_000).unwrap();
    let refused = run(&["projections", "run", "--data", kept.data()]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(told.contains("was set aside 8 times already"), "{told}");
}

/// Header and schema may be whole where a page is not that the next start reads first.
#[test]
fn a_file_of_which_a_page_cannot_be_read_that_a_start_needs_is_set_aside() {
    for table in ["_sqlx_migrations", "filled_accounts", "users"] {
        is_set_aside_without(table);
    }
}

fn is_set_aside_without(table: &str) {
    let kept = Kept::new(117);
    let mut process = kept.keep();
    let pid = process.child.id().to_string();
    std::process::Command::new("kill").arg(pid).status().unwrap();
    process.child.wait().unwrap();
    let game_db = rusqlite::Connection::open(kept.game_db()).unwrap();
    let page: u64 = game_db
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = '_sqlx_migrations'",
            [],
            |row| row.get::<_, i64>(0).map(i64::unsigned_abs),
        )
        .unwrap();
    drop(game_db);
    let file = std::fs::OpenOptions::new().write(true).open(kept.game_db()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4_096], (page - 1) * 4_096).unwrap();
    drop(file);
    drop(kept.keep());
    let aside = kept.named(".damaged-");
    assert_eq!(aside.iter().filter(|path| path.to_str().unwrap().ends_with('Z')).count(), 1);
    same(table, &kept.expected, &kept.found()).unwrap();
}
