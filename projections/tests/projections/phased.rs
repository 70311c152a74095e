//! Guards: the phased form of a migration (docs/MIGRATIONS.md): expand, write both, fill in batches
//! while writing goes on, verify, switch, contract; in a process that is killed again and again, in
//! every phase.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use daybook_projections::{DatabaseSettings, GameDatabase, Migrations};

use crate::fixture::repeats;

const FILE: &str = "DAYBOOK_TEST_PHASED";
const WALLETS: i64 = 3_000;

/// Tables that later migrations change are made by migrations too.
const WALLETS_MADE: (&str, &str, &str) = (
    "-- Moves data.
     CREATE TABLE wallets (id INTEGER PRIMARY KEY, coins INTEGER NOT NULL) STRICT;
     CREATE TABLE deposits (id INTEGER PRIMARY KEY, wallet_id INTEGER NOT NULL) STRICT;
     CREATE INDEX deposits_wallet ON deposits (wallet_id);",
    "DROP TABLE deposits; DROP TABLE wallets;",
    "",
);
const EXPAND: (&str, &str, &str) = (
    "-- Moves data. Writers write both columns from here on.\nALTER TABLE wallets ADD COLUMN cents INTEGER;",
    "ALTER TABLE wallets DROP COLUMN cents;",
    "",
);
/// Applied once every row is filled: its check is the verification.
const CONTRACT: (&str, &str, &str) = (
    "-- Moves data. Writers write cents alone from here on.
     CREATE TABLE wallets_new (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
     INSERT INTO wallets_new SELECT id, cents FROM wallets;
     DROP TABLE wallets;
     ALTER TABLE wallets_new RENAME TO wallets;",
    "CREATE TABLE wallets_old (id INTEGER PRIMARY KEY, coins INTEGER NOT NULL, cents INTEGER) STRICT;
     INSERT INTO wallets_old SELECT id, cents / 100, cents FROM wallets;
     DROP TABLE wallets;
     ALTER TABLE wallets_old RENAME TO wallets;",
    "SELECT 'wallet ' || id || ' has ' || cents FROM wallets WHERE cents <> 100 * \
     (SELECT count(*) FROM deposits WHERE wallet_id = wallets.id)",
);

fn migrations(path: &Path) -> Migrations {
    Migrations::game().and_directory(&path.with_file_name("migrations")).unwrap()
}

fn has_column(database: &rusqlite::Connection, column: &str) -> bool {
    let query = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('wallets') WHERE name = ?1)";
    database.query_row(query, [column], |row| row.get(0)).unwrap()
}

fn open(path: &Path) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(path).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database
}

/// Puts a coin into a wallet and says so, in one transaction, in whichever columns there are by
/// then.
fn deposit(database: &rusqlite::Connection, wallet: i64) {
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let set = match (has_column(database, "coins"), has_column(database, "cents")) {
        (true, false) => "coins = coins + 1",
        // A row that was not filled yet stays so: the filling sees the newest coins.
        (true, true) => "coins = coins + 1, cents = cents + 100",
        _ => "cents = cents + 100",
    };
    database.execute(&format!("UPDATE wallets SET {set} WHERE id = ?1"), [wallet]).unwrap();
    database.execute("INSERT INTO deposits (wallet_id) VALUES (?1)", [wallet]).unwrap();
    database.execute_batch("COMMIT").unwrap();
}

/// Every phase in turn, from wherever the file stands; writing goes on beside them.
async fn all_phases(path: PathBuf) {
    let writing = path.clone();
    std::thread::spawn(move || {
        let database = open(&writing);
        for wallet in (0..).map(|step: i64| 1 + step * 7_919 % WALLETS) {
            deposit(&database, wallet);
            // SQLite's lock is not fair: who never pauses lets nobody else in.
            std::thread::sleep(Duration::from_micros(700));
        }
    });
    let migrations = migrations(&path);
    migrations.up(&path, Some(daybook_projections::MigrationNumber::Teams(5))).await.unwrap();
    let database = open(&path);
    loop {
        let fill = "UPDATE wallets SET cents = coins * 100 \
            WHERE id IN (SELECT id FROM wallets WHERE cents IS NULL LIMIT 50)";
        let is_contracted = !has_column(&database, "coins");
        if is_contracted || database.execute(fill, []).unwrap() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    migrations.up(&path, None).await.unwrap();
    // Goes on a little: who reads cents now sees new ones.
    std::thread::sleep(Duration::from_millis(20));
}

/// What the killed process runs; nothing where no other test asks for it.
#[tokio::test]
async fn child() {
    if let Some(path) = std::env::var_os(FILE) {
        all_phases(PathBuf::from(path)).await;
        std::process::exit(0);
    }
}

#[tokio::test]
async fn a_phased_migration_that_is_killed_in_every_phase_loses_nothing() {
    let mut interrupted = std::collections::BTreeSet::new();
    for round in 0..u64::from(repeats(1)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("game.db");
        GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
        let database = open(&path);
        let wallets = "INSERT INTO wallets (coins) SELECT 0 FROM json_each(?1)";
        let zeros = serde_json::to_string(&vec![0; WALLETS as usize]).unwrap();
        let files = directory.path().join("migrations");
        std::fs::create_dir(&files).unwrap();
        let all =
            [("0004_wallets", WALLETS_MADE), ("0005_expand", EXPAND), ("0006_contract", CONTRACT)];
        for (name, (up, down, check)) in all {
            for (kind, text) in [("up", up), ("down", down), ("check", check)] {
                // A migration without a check of its own has no file for one.
                if !text.is_empty() {
                    std::fs::write(files.join(format!("{name}.{kind}.sql")), text).unwrap();
                }
            }
        }
        migrations(&path)
            .up(&path, Some(daybook_projections::MigrationNumber::Teams(4)))
            .await
            .unwrap();
        database.execute(wallets, [zeros]).unwrap();
        for attempt in 1.. {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["phased::child", "--exact", "--nocapture"])
                .env(FILE, &path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Longer and longer, so that it comes to its end at last.
            std::thread::sleep(Duration::from_millis(20 + round * 5 + attempt * 25));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let is_filled = || -> bool {
                let query = "SELECT NOT EXISTS (SELECT 1 FROM wallets WHERE cents IS NULL)";
                database.query_row(query, [], |row| row.get(0)).unwrap()
            };
            interrupted.insert(
                match (has_column(&database, "coins"), has_column(&database, "cents")) {
                    (true, false) => "before it was expanded",
                    (true, true) if is_filled() => "when it was filled",
                    (true, true) => "while it was filled",
                    _ => "when it was contracted",
                },
            );
        }
        let wrong: i64 = database
            .query_row(
                "SELECT count(*) FROM wallets WHERE cents IS NOT 100 * \
                 (SELECT count(*) FROM deposits WHERE wallet_id = wallets.id)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(wrong, 0);
        let deposits: i64 =
            database.query_row("SELECT count(*) FROM deposits", [], |row| row.get(0)).unwrap();
        assert!(deposits > 0);
        assert!(!has_column(&database, "coins"));
        assert_eq!(migrations(&path).verify(&path).await.unwrap(), Vec::<String>::new());
    }
    assert!(interrupted.contains("while it was filled"), "{interrupted:?}");
}
