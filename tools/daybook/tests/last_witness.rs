//! Guards: whatever an operator or an attacker did to game.db, what may be the last that tells of
//! lost events is neither destroyed nor passed over in silence.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected must stop"
)]

#[expect(dead_code, reason = "other tests compare tables")]
mod common;

use std::path::{Path, PathBuf};

use common::{Process, run, wait_until_current};
use rusqlite::Connection;

/// A demo whose tables were followed to the end by a process that was killed: its log is not folded
/// in.
struct Killed {
    directory: tempfile::TempDir,
}

impl Killed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let killed = Self { directory };
        let demo = ["demo", "--players", "6", "--days", "4", "--data", killed.data()];
        assert!(run(&demo).status.success());
        for ending in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(killed.path(&format!("game.db{ending}"))));
        }
        let mut process = Process::start(&["projections", "run", "--data", killed.data()]);
        wait_until_current(killed.data());
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(killed.path("game.db-wal").metadata().unwrap().len() > 0);
        killed
    }

    fn data(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn game_db(&self) -> PathBuf {
        self.path("game.db")
    }

    /// Takes the newest events away, with all that tells of them but game.db.
    fn cut(&self) {
        drop(std::fs::remove_dir_all(self.path("snapshots")));
        for key in std::fs::read_dir(self.path("keys")).unwrap() {
            let key = key.unwrap().path();
            if key.extension().is_some_and(|extension| extension == "head") {
                std::fs::remove_file(key).unwrap();
            }
        }
        let ledger = Connection::open(self.path("ledger.db")).unwrap();
        let guards: Vec<String> = ledger
            .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for name in ["events_refuse_update", "events_refuse_delete"] {
            ledger.execute(&format!("DROP TRIGGER {name}"), []).unwrap();
        }
        let last = "(SELECT max(seq) FROM events WHERE length(command) = 34)";
        ledger.execute(&format!("DELETE FROM events WHERE seq >= {last}"), []).unwrap();
        for guard in guards.iter().filter(|guard| guard.contains("ON events")) {
            ledger.execute_batch(guard).unwrap();
        }
    }

    /// As if its process had closed the file.
    fn fold(&self) {
        let game_db = Connection::open(self.game_db()).unwrap();
        game_db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        game_db.close().unwrap();
        assert_eq!(bytes(&self.path("game.db-wal")), 0);
        self.words().iter().for_each(|word| std::fs::remove_file(word).unwrap());
    }

    /// Nothing says that all is well, and nothing is written to the ledger.
    fn is_told(&self, what: &str) {
        let rotated = run(&["keys", "rotate", "--data", self.data()]);
        assert_eq!(rotated.status.code(), Some(2), "{what}: {rotated:?}");
        for look in [&["projections", "status"][..], &["verify"]] {
            let looked = run(&[look, &["--data", self.data()]].concat());
            assert!(!looked.status.success(), "{what}: {look:?} {looked:?}");
        }
    }

    /// A start of a process that keeps the tables, which is given a moment.
    fn start_and_stop(&self) {
        let process = Process::start(&["projections", "run", "--data", self.data()]);
        std::thread::sleep(std::time::Duration::from_millis(600));
        drop(process);
    }

    fn words(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_str().unwrap().contains(".open-")).collect()
    }
}

fn bytes(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

/// SQLite removes a log when it opens a database that is empty or gone: so it never does.
#[test]
fn a_log_without_its_database_is_never_removed() {
    for is_removed in [false, true] {
        for has_word in [true, false] {
            let killed = Killed::new();
            killed.cut();
            if is_removed {
                std::fs::remove_file(killed.game_db()).unwrap();
            } else {
                std::fs::write(killed.game_db(), "").unwrap();
            }
            if !has_word {
                killed.words().iter().for_each(|word| std::fs::remove_file(word).unwrap());
            }
            let what = format!("removed {is_removed}, word {has_word}");
            let log = bytes(&killed.path("game.db-wal"));
            killed.is_told(&what);
            assert!(!run(&["migrate", "up", "--data", killed.data()]).status.success());
            assert_eq!(bytes(&killed.path("game.db-wal")), log, "{what}");
            killed.start_and_stop();
            killed.is_told(&what);
            let entries = std::fs::read_dir(killed.directory.path()).unwrap();
            let logs = entries.map(|entry| entry.unwrap().path());
            let kept = logs.filter(|path| path.to_str().unwrap().ends_with("Z-wal"));
            assert!(kept.map(|path| bytes(&path)).any(|kept| kept == log), "{what}");
        }
    }
}

/// What a killed process said that it committed tells, also where its log was cut or removed.
#[test]
fn the_word_of_a_killed_process_is_a_witness() {
    for length in [None, Some(8_000)] {
        let killed = Killed::new();
        killed.cut();
        let log = killed.path("game.db-wal");
        match length {
            None => std::fs::remove_file(log).unwrap(),
            Some(length) => {
                std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(length).unwrap();
            }
        }
        killed.is_told("before a start");
        killed.start_and_stop();
        killed.is_told("after it");
    }
}

/// A position that cannot be one may have been the last that told of lost events.
#[test]
fn an_altered_position_is_not_taken_for_an_old_one() {
    let changes = [
        "version = -1",
        "hash = 'zz'",
        "epoch_nonce = 'x'",
        "ledger_id = ''",
        "ledger_id = upper(ledger_id)",
        "seq = 0",
    ];
    let killed = Killed::new();
    killed.fold();
    killed.cut();
    let whole = std::fs::read(killed.game_db()).unwrap();
    for change in changes {
        std::fs::write(killed.game_db(), &whole).unwrap();
        let game_db = Connection::open(killed.game_db()).unwrap();
        game_db.execute(&format!("UPDATE projection_positions SET {change}"), []).unwrap();
        let stored = |game_db: &Connection| -> Vec<String> {
            let sql = "SELECT quote(seq) || quote(hash) || quote(version) || quote(ledger_id) \
                       FROM projection_positions ORDER BY name";
            let mut statement = game_db.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let before = stored(&game_db);
        game_db.close().unwrap();
        killed.is_told(change);
        killed.start_and_stop();
        killed.is_told(change);
        let game_db = Connection::open(killed.game_db()).unwrap();
        assert_eq!(stored(&game_db), before, "{change}");
        drop(game_db);
        for word in killed.words() {
            std::fs::remove_file(word).unwrap();
        }
        for ending in ["-wal", "-shm"] {
            drop(std::fs::remove_file(killed.path(&format!("game.db{ending}"))));
        }
    }
}

/// Beside where the file really lies, not beside a name that leads there.
#[test]
fn what_was_set_aside_behind_a_link_is_a_witness() {
    let killed = Killed::new();
    killed.fold();
    killed.cut();
    let elsewhere = tempfile::tempdir().unwrap();
    let real = elsewhere.path().join("x.db");
    std::fs::rename(killed.game_db(), &real).unwrap();
    std::os::unix::fs::symlink(&real, killed.game_db()).unwrap();
    killed.is_told("a link");
    // A malformed page: the next start sets the file aside.
    let file = std::fs::OpenOptions::new().write(true).open(&real).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 65_536], 4_096).unwrap();
    drop(file);
    killed.start_and_stop();
    let aside = std::fs::read_dir(elsewhere.path()).unwrap();
    assert!(
        aside
            .map(|entry| entry.unwrap().path())
            .any(|path| { path.to_str().unwrap().contains("x.db.damaged-") })
    );
    killed.is_told("set aside behind a link");
    // A link that leads nowhere is no sign that there never was a file.
    std::fs::remove_file(killed.game_db()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("gone.db"), killed.game_db()).unwrap();
    killed.is_told("a link that leads nowhere");
}

/// A copy is looked at as it lies: nothing is made beside it, and the second look says what the
/// first did.
#[test]
fn looking_at_copies_makes_nothing_beside_them() {
    let killed = Killed::new();
    killed.fold();
    killed.cut();
    let backups = killed.path("backups");
    std::fs::create_dir(&backups).unwrap();
    std::fs::rename(killed.game_db(), backups.join("game-copy.db")).unwrap();
    for what in ["once", "twice"] {
        killed.is_told(what);
        assert_eq!(std::fs::read_dir(&backups).unwrap().count(), 1, "{what}");
    }
}

/// Another ledger's file is refused by migrations too.
#[test]
fn migrations_refuse_another_ledgers_file() {
    let (ours, other) = (Killed::new(), tempfile::tempdir().unwrap());
    let data = other.path().to_str().unwrap();
    let demo = ["demo", "--players", "4", "--days", "2", "--seed", "9", "--data", data];
    assert!(run(&demo).status.success());
    for ending in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(ours.path(&format!("game.db{ending}"))));
    }
    ours.words().iter().for_each(|word| std::fs::remove_file(word).unwrap());
    std::fs::copy(other.path().join("game.db"), ours.game_db()).unwrap();
    let before = std::fs::read(ours.game_db()).unwrap();
    for direction in ["up", "down"] {
        let refused = run(&["migrate", direction, "--data", ours.data()]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("ldg_"), "{refused:?}");
    }
    assert!(std::fs::read(ours.game_db()).unwrap() == before);
}

/// A file that is gone with its log leaves what its process said of it.
#[test]
fn the_word_outlasts_the_file_that_it_was_of() {
    let killed = Killed::new();
    killed.cut();
    for ending in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(killed.path(&format!("game.db{ending}"))));
    }
    killed.is_told("before a start");
    killed.start_and_stop();
    killed.is_told("after it");
}

/// What tells nothing keeps nobody from anything: the leftovers of a file that a sound ledger needs
/// no more.
#[test]
fn an_index_and_an_empty_log_are_no_witnesses() {
    let killed = Killed::new();
    killed.fold();
    let process = Process::start(&["projections", "run", "--data", killed.data()]);
    wait_until_current(killed.data());
    std::thread::sleep(std::time::Duration::from_millis(300));
    std::fs::remove_file(killed.game_db()).unwrap();
    drop(process);
    killed.start_and_stop();
    let _process = Process::start(&["projections", "run", "--data", killed.data()]);
    wait_until_current(killed.data());
    assert!(run(&["verify", "--data", killed.data()]).status.success());
    assert!(run(&["keys", "rotate", "--data", killed.data()]).status.success());
}

/// A head that was forgotten once, and that the ledger then had, is a witness again when it is
/// lost.
#[test]
fn a_forgotten_head_does_not_shadow_a_later_loss() {
    let killed = Killed::new();
    killed.fold();
    let (whole, cut) = (killed.path("whole.db"), killed.path("cut.db"));
    let fold_ledger = || {
        let ledger = Connection::open(killed.path("ledger.db")).unwrap();
        ledger.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    };
    let put = |from: &Path| {
        for ending in ["-wal", "-shm"] {
            drop(std::fs::remove_file(killed.path(&format!("ledger.db{ending}"))));
        }
        std::fs::copy(from, killed.path("ledger.db")).unwrap();
    };
    fold_ledger();
    std::fs::copy(killed.path("ledger.db"), &whole).unwrap();
    killed.cut();
    fold_ledger();
    std::fs::copy(killed.path("ledger.db"), &cut).unwrap();
    let game_db = Connection::open(killed.game_db()).unwrap();
    let head: String = game_db
        .query_row("SELECT seq || ':' || hash FROM projection_positions LIMIT 1", [], |row| {
            row.get(0)
        })
        .unwrap();
    drop(game_db);
    let follow = || {
        let mut process = Process::start(&["projections", "run", "--data", killed.data()]);
        wait_until_current(killed.data());
        let pid = process.child.id().to_string();
        std::process::Command::new("kill").arg(pid).status().unwrap();
        process.child.wait().unwrap();
    };
    let forget = ["projections", "forget", "--position", head.as_str(), "--data", killed.data()];
    assert!(run(&forget).status.success());
    follow();
    put(&whole);
    follow();
    put(&cut);
    killed.is_told("lost after it was there again");
}

/// A log of another life of the file, beside one that was closed, is not mixed with it in silence.
#[test]
fn a_log_that_is_another_files_is_not_mixed_with_it() {
    let (killed, other) = (Killed::new(), tempfile::tempdir().unwrap());
    let log = other.path().join("log");
    std::fs::copy(killed.path("game.db-wal"), &log).unwrap();
    killed.fold();
    // A file whose pages lie otherwise, as one that was compacted.
    let game_db = Connection::open(killed.game_db()).unwrap();
    game_db
        .execute_batch("PRAGMA journal_mode = DELETE; VACUUM; PRAGMA journal_mode = WAL;")
        .unwrap();
    game_db.close().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(killed.game_db()).unwrap();
    file.set_len(bytes(&killed.game_db()) / 2 / 4_096 * 4_096).unwrap();
    drop(file);
    std::fs::copy(&log, killed.path("game.db-wal")).unwrap();
    let _process = Process::start(&["projections", "run", "--data", killed.data()]);
    wait_until_current(killed.data());
    let checked = run(&["migrate", "verify", "--data", killed.data()]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("game.db"), "{checked:?}");
    let game_db = Connection::open(killed.game_db()).unwrap();
    let found: String = game_db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

/// What an operator is told fits what is wrong: no lag where the past is another, and no talk of accepting a loss
/// where a file only cannot be read.
#[test]
fn status_gives_the_advice_that_fits() {
    let killed = Killed::new();
    killed.fold();
    let aside = killed.path("game.db.damaged-20260101T000000000000Z");
    std::fs::write(&aside, "garbage").unwrap();
    let status = || {
        let status = run(&["projections", "status", "--data", killed.data()]);
        assert_eq!(status.status.code(), Some(1));
        String::from_utf8(status.stdout).unwrap()
    };
    let told = status();
    assert!(told.contains("verify --full") && !told.contains("--accept-loss"), "{told}");
    std::fs::remove_file(aside).unwrap();
    killed.cut();
    let told = status();
    assert!(told.contains("--accept-loss"), "{told}");
    let status = run(&["projections", "status", "--json", "--data", killed.data()]);
    for projection in common::json(&status)["projections"].as_array().unwrap() {
        assert_eq!(projection["state"], "ledger behind", "{projection}");
        assert!(projection["lag_events"].is_null(), "{projection}");
    }
}
