//! Guards: what people are called and how they are reached is in `accounts.db` alone; `game.db` is
//! filled from it, and nothing is lost when it is removed.

use std::path::{Path, PathBuf};

use daybook_projections::test_kit::{Rows, rows_of, same};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, MigrationNumber, Migrations, Workers,
    all_projections,
};

use crate::fixture::Played;

fn accounts_of(played: &Played) -> PathBuf {
    played.path().join("accounts.db")
}

/// Makes or follows the read models with the accounts beside them; gives the tables that people
/// stand in.
async fn follow(played: &Played) -> Rows {
    let (path, accounts) = (played.game_db("game.db"), accounts_of(played));
    let settings = DatabaseSettings { accounts: Some(accounts), ..DatabaseSettings::default() };
    let database = GameDatabase::open(&path, settings).await.unwrap();
    let source = FeedSource::ledger(played.path());
    Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
    rows_of(&path, &["users", "sessions", "simulins", "simulin_names"]).await.unwrap()
}

fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        drop(std::fs::remove_file(name));
    }
}

fn ids(path: &Path, table: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut found = connection.prepare(&format!("SELECT id FROM {table} ORDER BY id")).unwrap();
    found.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

const USER: &str = "INSERT INTO users (id, email, display_name, created_at, last_login_at) \
    VALUES (?1, ?1 || '@example.org', 'Ann', 7, 8) ON CONFLICT (id) DO UPDATE \
    SET email = excluded.email, display_name = excluded.display_name, last_login_at = 8";
const SESSION: &str = "INSERT INTO sessions (id, user_id, expires_at, created_at) \
    VALUES ('token-' || ?1, ?1, 99, 7)";
const NAME: &str = "INSERT INTO simulin_names (simulin_id, name) VALUES (?1, 'Bud of ' || ?1)";

#[tokio::test]
async fn what_was_in_game_db_alone_is_moved_and_outlasts_it() {
    let played = Played::new(6, 3, 121);
    let path = played.game_db("game.db");
    let (database, _) = played.project("game.db").await;
    drop(database);
    // As an earlier version left it.
    Migrations::game().down(&path, Some(MigrationNumber::Ours(3))).await.unwrap();
    let (users, simulins) = (ids(&path, "users"), ids(&path, "simulins"));
    let connection = rusqlite::Connection::open(&path).unwrap();
    for user in &users[..3] {
        connection.execute(USER, [user]).unwrap();
        connection.execute(SESSION, [user]).unwrap();
    }
    for simulin in &simulins[..2] {
        connection.execute(NAME, [simulin]).unwrap();
        connection
            .execute("UPDATE simulins SET name = 'Bud of ' || id WHERE id = ?1", [simulin])
            .unwrap();
    }
    drop(connection);
    let before = rows_of(&path, &["users", "sessions", "simulins", "simulin_names"]).await.unwrap();
    assert!(!accounts_of(&played).exists());
    Migrations::game().up(&path, None).await.unwrap();
    same("moved", &before, &follow(&played).await).unwrap();
    for _ in 0..2 {
        remove(&path);
        same("made anew", &before, &follow(&played).await).unwrap();
    }
    assert_eq!(Migrations::accounts().verify(&accounts_of(&played)).await.unwrap(), [""; 0]);
}

/// Accounts that were removed, and made anew without anybody in them, do not take the copies along.
#[tokio::test]
async fn copies_are_not_overwritten_from_empty_accounts() {
    let played = Played::new(4, 3, 122);
    follow(&played).await;
    let accounts = accounts_of(&played);
    Migrations::accounts().up(&accounts, None).await.unwrap();
    for user in ids(&played.game_db("game.db"), "users") {
        rusqlite::Connection::open(&accounts).unwrap().execute(USER, [user]).unwrap();
    }
    let before = follow(&played).await;
    remove(&accounts);
    Migrations::accounts().up(&accounts, None).await.unwrap();
    let path = played.game_db("game.db");
    let settings =
        DatabaseSettings { accounts: Some(accounts.clone()), ..DatabaseSettings::default() };
    let database = GameDatabase::open(&path, settings).await.unwrap();
    let source = FeedSource::ledger(played.path());
    let refused = Workers::catch_up(&database, &all_projections(), &source).await.unwrap_err();
    let told = std::error::Error::source(&refused).map_or_else(String::new, ToString::to_string);
    assert!(told.contains("accounts.db is empty"), "{refused}: {told}");
    let now = rows_of(&path, &["users", "sessions", "simulins", "simulin_names"]).await.unwrap();
    same("kept", &before, &now).unwrap();
    // Whoever gives them up removes the file.
    database.close().await.unwrap();
    remove(&path);
    follow(&played).await;
}

#[tokio::test]
async fn every_change_of_accounts_is_filled_in() {
    let played = Played::new(8, 3, 122);
    let path = played.game_db("game.db");
    drop(played.project("game.db").await);
    let (users, simulins) = (ids(&path, "users"), ids(&path, "simulins"));
    let file = accounts_of(&played);
    Migrations::accounts().up(&file, None).await.unwrap();
    let accounts = rusqlite::Connection::open(&file).unwrap();
    let text = |sql: &str, id: &str| -> String {
        let live = rusqlite::Connection::open(&path).unwrap();
        live.query_row(sql, [id], |row| row.get(0)).unwrap()
    };
    let email = "SELECT email FROM users WHERE id = ?1";
    for user in &users[..4] {
        accounts.execute(USER, [user]).unwrap();
        accounts.execute(SESSION, [user]).unwrap();
    }
    accounts.execute(NAME, [&simulins[0]]).unwrap();
    follow(&played).await;
    assert_eq!(text(email, &users[1]), format!("{}@example.org", users[1]));
    assert_eq!(
        text("SELECT name FROM simulins WHERE id = ?1", &simulins[0]),
        format!("Bud of {}", simulins[0])
    );

    // Two change addresses, one goes, a session ends, a name is taken back.
    let older = played.path().join("older.db");
    accounts.execute("VACUUM INTO ?1", [older.to_str().unwrap()]).unwrap();
    let address = "UPDATE users SET email = ?2 WHERE id = ?1";
    let swap = [(&users[0], "x"), (&users[1], "y"), (&users[0], "y2"), (&users[1], "x")];
    for (user, to) in swap {
        accounts.execute(address, (user, to)).unwrap();
    }
    accounts.execute(address, (&users[0], "y")).unwrap();
    accounts.execute("PRAGMA foreign_keys = ON", []).unwrap();
    accounts.execute("DELETE FROM users WHERE id = ?1", [&users[2]]).unwrap();
    accounts.execute("DELETE FROM sessions WHERE user_id = ?1", [&users[3]]).unwrap();
    accounts.execute("DELETE FROM simulin_names", []).unwrap();
    let filled = follow(&played).await;
    assert_eq!((text(email, &users[0]), text(email, &users[1])), ("y".to_owned(), "x".to_owned()));
    assert!(text(email, &users[2]).starts_with("erased+"));
    let species = "SELECT name = species FROM simulins WHERE id = ?1";
    let live = rusqlite::Connection::open(&path).unwrap();
    assert!(live.query_row(species, [&simulins[0]], |row| row.get::<_, bool>(0)).unwrap());
    let sessions = "SELECT count(*) FROM sessions";
    assert_eq!(live.query_row(sessions, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    remove(&path);
    same("all at once", &filled, &follow(&played).await).unwrap();

    // An older copy of accounts counts from its own beginning, and so do other accounts.
    drop(accounts);
    remove(&file);
    std::fs::rename(&older, &file).unwrap();
    follow(&played).await;
    assert_eq!(text(email, &users[1]), format!("{}@example.org", users[1]));
    remove(&file);
    Migrations::accounts().up(&file, None).await.unwrap();
    let accounts = rusqlite::Connection::open(&file).unwrap();
    accounts.execute(USER, [&users[5]]).unwrap();
    follow(&played).await;
    assert_eq!(text(email, &users[5]), format!("{}@example.org", users[5]));
    assert!(text(email, &users[1]).starts_with("erased+"), "whom these accounts do not know");
}

/// An older copy that was put back and went on has given numbers again.
#[tokio::test]
async fn numbers_that_were_given_again_are_told_apart() {
    let played = Played::new(8, 3, 123);
    let path = played.game_db("game.db");
    drop(played.project("game.db").await);
    let users = ids(&path, "users");
    let file = accounts_of(&played);
    Migrations::accounts().up(&file, None).await.unwrap();
    let accounts = rusqlite::Connection::open(&file).unwrap();
    for user in &users[..2] {
        accounts.execute(USER, [user]).unwrap();
    }
    let older = played.path().join("older.db");
    accounts.execute("VACUUM INTO ?1", [older.to_str().unwrap()]).unwrap();
    accounts.execute("UPDATE users SET email = 'new' WHERE id = ?1", [&users[0]]).unwrap();
    accounts.execute(USER, [&users[2]]).unwrap();
    follow(&played).await;
    drop(accounts);
    remove(&file);
    std::fs::rename(&older, &file).unwrap();
    let accounts = rusqlite::Connection::open(&file).unwrap();
    for user in &users[3..6] {
        accounts.execute(USER, [user]).unwrap();
    }
    let found = follow(&played).await;
    remove(&path);
    same("as in these accounts", &follow(&played).await, &found).unwrap();
}

/// People who are gone from accounts do not come back from an older state of the copies, and
/// accounts that cannot be read are not taken for a damaged `game.db`.
#[tokio::test]
async fn who_is_gone_stays_gone_and_damage_is_told_where_it_is() {
    let played = Played::new(6, 3, 124);
    let path = played.game_db("game.db");
    drop(played.project("game.db").await);
    let users = ids(&path, "users");
    let file = accounts_of(&played);
    Migrations::accounts().up(&file, None).await.unwrap();
    let accounts = rusqlite::Connection::open(&file).unwrap();
    for user in &users[..2] {
        accounts.execute(USER, [user]).unwrap();
        accounts.execute(SESSION, [user]).unwrap();
    }
    follow(&played).await;
    accounts.execute("PRAGMA foreign_keys = ON", []).unwrap();
    accounts.execute("DELETE FROM users WHERE id = ?1", [&users[0]]).unwrap();
    Migrations::game().down(&path, Some(MigrationNumber::Ours(3))).await.unwrap();
    Migrations::game().up(&path, None).await.unwrap();
    let found = follow(&played).await;
    let left: i64 = accounts.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "deleted people stay deleted");
    drop(accounts);

    let settings =
        || DatabaseSettings { accounts: Some(file.clone()), ..DatabaseSettings::default() };
    let database = GameDatabase::open(&path, settings()).await.unwrap();
    let length = std::fs::metadata(&file).unwrap().len();
    let accounts = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    accounts.set_len(length / 2).unwrap();
    let source = FeedSource::ledger(played.path());
    let workers = Workers::start(&database, &all_projections(), &source);
    let started = std::time::Instant::now();
    while daybook_projections::filling_waits(&path).is_none() {
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "it is told");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let waits = daybook_projections::filling_waits(&path).unwrap();
    assert!(waits.reason.contains("accounts.db"), "{}", waits.reason);
    workers.stop().await;
    drop(database);
    let tables = ["users", "sessions", "simulins", "simulin_names"];
    same("as it was", &found, &rows_of(&path, &tables).await.unwrap()).unwrap();
}
