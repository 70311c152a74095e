//! Guards: a migration is applied whole and verified, or not at all, and nothing is lost on the
//! way.

use std::path::{Path, PathBuf};

use daybook_projections::test_kit::same;
use daybook_projections::{
    DatabaseSettings, GameDatabase, MigrationError, MigrationNumber, Migrations,
};

use crate::fixture::{Played, all_rows};

/// The seed's example: coins as cents, in a column that takes the old one's place.
const CENTS: (&str, &str, &str) = (
    "ALTER TABLE seasons ADD COLUMN coins_v2 INTEGER DEFAULT 0;
     UPDATE seasons SET coins_v2 = coins * 100;
     CREATE TEMP TABLE coins_before AS SELECT id, coins FROM seasons;
     CREATE TABLE seasons_new (
       id text PRIMARY KEY NOT NULL, user_id text NOT NULL, season_number integer NOT NULL,
       current_day integer DEFAULT 1 NOT NULL, phase text DEFAULT 'planting' NOT NULL,
       coins integer DEFAULT 50000 NOT NULL, jackpot_contribution real DEFAULT 0 NOT NULL,
       started_at integer NOT NULL, completed_at integer, final_score integer,
       FOREIGN KEY (user_id) REFERENCES users(id)
     ) STRICT;
     INSERT INTO seasons_new SELECT id, user_id, season_number, current_day, phase, coins_v2,
       jackpot_contribution, started_at, completed_at, final_score FROM seasons;
     DROP TABLE seasons;
     ALTER TABLE seasons_new RENAME TO seasons;
     CREATE INDEX idx_seasons_user ON seasons (user_id);
     CREATE INDEX idx_seasons_active ON seasons (user_id, completed_at);",
    "CREATE TABLE seasons_old (
       id text PRIMARY KEY NOT NULL, user_id text NOT NULL, season_number integer NOT NULL,
       current_day integer DEFAULT 1 NOT NULL, phase text DEFAULT 'planting' NOT NULL,
       coins integer DEFAULT 500 NOT NULL, jackpot_contribution real DEFAULT 0 NOT NULL,
       started_at integer NOT NULL, completed_at integer, final_score integer,
       FOREIGN KEY (user_id) REFERENCES users(id) ON UPDATE no action ON DELETE no action
     ) STRICT;
     INSERT INTO seasons_old SELECT id, user_id, season_number, current_day, phase, coins / 100,
       jackpot_contribution, started_at, completed_at, final_score FROM seasons;
     DROP TABLE seasons;
     ALTER TABLE seasons_old RENAME TO seasons;
     CREATE INDEX idx_seasons_user ON seasons (user_id);
     CREATE INDEX idx_seasons_active ON seasons (user_id, completed_at);",
    "SELECT 'season ' || seasons.id || ' has ' || seasons.coins || ' cents' FROM seasons
     JOIN coins_before USING (id) WHERE seasons.coins <> coins_before.coins * 100",
);

fn write(directory: &Path, name: &str, (up, down, check): (&str, &str, &str)) {
    for (kind, text) in [("up", up), ("down", down), ("check", check)] {
        if !text.is_empty() {
            std::fs::write(directory.join(format!("{name}.{kind}.sql")), text).unwrap();
        }
    }
}

async fn filled() -> (Played, GameDatabase, PathBuf) {
    let played = Played::new(8, 5, 81);
    let (database, _) = played.project("game.db").await;
    let directory = played.path().join("migrations");
    std::fs::create_dir(&directory).unwrap();
    (played, database, directory)
}

fn coins(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row("SELECT sum(coins) FROM seasons", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn coins_become_cents_and_coins_again_and_nothing_is_lost() {
    let (_played, database, directory) = filled().await;
    let path = database.path();
    let before = all_rows(path).await;
    let sum = coins(path);
    write(&directory, "0004_coins_to_cents", CENTS);
    let migrations = Migrations::game().and_directory(&directory).unwrap();
    for _ in 0..2 {
        let up = migrations.up(path, None).await.unwrap();
        assert_eq!(up.numbers, [MigrationNumber::Teams(4)]);
        let backup = up.backup.unwrap();
        assert_eq!(coins(&backup), sum, "the copy is of before");
        assert_eq!(coins(path), sum * 100);
        assert_eq!(migrations.verify(path).await.unwrap(), Vec::<String>::new());
        assert_eq!(migrations.up(path, None).await.unwrap().numbers, []);
        let down = migrations.down(path, None).await.unwrap();
        assert_eq!(down.numbers, [MigrationNumber::Teams(4)]);
        same("up and down", &before, &all_rows(path).await).unwrap();
    }
    assert_eq!(Migrations::game().verify(path).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_migration_whose_check_fails_is_rolled_back_whole() {
    let (_played, database, directory) = filled().await;
    let path = database.path();
    let before = all_rows(path).await;
    let off_by_one = CENTS.0.replace("coins * 100;", "coins * 100 + (season_number = 2);");
    write(&directory, "0004_coins_to_cents", (&off_by_one, CENTS.1, CENTS.2));
    let migrations = Migrations::game().and_directory(&directory).unwrap();
    let error = migrations.up(path, None).await.unwrap_err();
    assert!(error.to_string().starts_with("Migration verification failed"), "{error}");
    assert!(error.to_string().contains("cents"), "{error}");
    same("rolled back", &before, &all_rows(path).await).unwrap();
    Migrations::game().require_current(path).await.unwrap();
}

#[tokio::test]
async fn a_migration_that_nobody_wrote_yet_is_not_applied() {
    let (_played, database, directory) = filled().await;
    Migrations::game().new_pair(&directory, "add_teams").unwrap();
    let migrations = Migrations::game().and_directory(&directory).unwrap();
    let error = migrations.up(database.path(), None).await.unwrap_err().to_string();
    assert!(error.starts_with("`0001_add_teams.up.sql` has no statement"), "{error}");
    Migrations::game().require_current(database.path()).await.unwrap();
}

#[tokio::test]
async fn a_migrations_check_may_only_look() {
    let (_played, database, directory) = filled().await;
    let path = database.path();
    let before = all_rows(path).await;
    write(&directory, "0004_writes", ("CREATE TABLE a (x);", "DROP TABLE a;", "DELETE FROM bets;"));
    let migrations = Migrations::game().and_directory(&directory).unwrap();
    migrations.up(path, None).await.unwrap_err();
    same("rolled back", &before, &all_rows(path).await).unwrap();
    Migrations::game().require_current(path).await.unwrap();
}

/// Rows that are lost, references that lead nowhere and SQL that fails: each leaves the file as it
/// was.
#[tokio::test]
async fn what_a_migration_must_not_do_is_seen() {
    let bad = [
        ("DELETE FROM bets WHERE rowid % 7 = 0;", "`bets` had"),
        ("-- changes rows of: users\nDELETE FROM users;", "rows refer to nothing"),
        ("DROP TABLE days;", "`days` is gone with its"),
        ("UPDATE seasons SET coins = coins + 1; SELECT no_such_function();", "nothing was changed"),
    ];
    let (_played, database, directory) = filled().await;
    let path = database.path();
    let before = all_rows(path).await;
    for (up, message) in bad {
        write(&directory, "0004_bad", (up, "SELECT 1;", ""));
        let migrations = Migrations::game().and_directory(&directory).unwrap();
        let error = migrations.up(path, None).await.unwrap_err();
        assert!(error.to_string().contains(message), "{up}: {error}");
        same(up, &before, &all_rows(path).await).unwrap();
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_and_a_changed_migration_are_refused() {
    let (_played, database, directory) = filled().await;
    let path = database.path();
    write(&directory, "0004_teams", ("CREATE TABLE teams (id TEXT);", "DROP TABLE teams;", ""));
    let ours = Migrations::game();
    let theirs = ours.clone().and_directory(&directory).unwrap();
    let pending = theirs.require_current(path).await.unwrap_err();
    assert!(
        matches!(pending, MigrationError::Pending { number: MigrationNumber::Teams(4), .. }),
        "{pending}"
    );
    theirs.up(path, None).await.unwrap();
    let newer = ours.require_current(path).await.unwrap_err();
    assert!(
        matches!(newer, MigrationError::Newer { number: MigrationNumber::Teams(4), .. }),
        "{newer}"
    );
    assert!(ours.up(path, None).await.is_err());
    write(&directory, "0004_teams", ("CREATE TABLE teams (id INT);", "DROP TABLE teams;", ""));
    let changed = Migrations::game().and_directory(&directory).unwrap();
    let changed = changed.require_current(path).await.unwrap_err();
    assert!(
        matches!(changed, MigrationError::Changed { number: MigrationNumber::Teams(4), .. }),
        "{changed}"
    );
}

#[tokio::test]
async fn every_migration_of_ours_goes_up_and_down() {
    let directory = tempfile::tempdir().unwrap();
    for (number, migrations) in [Migrations::game(), Migrations::telemetry()].iter().enumerate() {
        let path = directory.path().join(format!("{number}.db"));
        let up = migrations.up(&path, None).await.unwrap();
        assert!(!up.numbers.is_empty());
        assert_eq!(migrations.verify(&path).await.unwrap(), Vec::<String>::new());
        let down = migrations.down(&path, Some(MigrationNumber::Ours(0))).await.unwrap();
        assert_eq!(down.numbers.len(), up.numbers.len());
        let connection = rusqlite::Connection::open(&path).unwrap();
        let left: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '%sqlx%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(left, 0);
        migrations.up(&path, None).await.unwrap();
        assert_eq!(migrations.verify(&path).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_ledger_is_no_file_of_read_models() {
    let played = Played::new(2, 2, 82);
    let ledger = daybook_ledger::ledger_path(played.path());
    let before = std::fs::read(&ledger).unwrap();
    for refused in [
        Migrations::game().up(&ledger, None).await.unwrap_err(),
        Migrations::game().status(&ledger).await.unwrap_err(),
        GameDatabase::open(&ledger, DatabaseSettings::default()).await.unwrap_err(),
    ] {
        assert!(matches!(refused, MigrationError::Foreign { .. }), "{refused}");
    }
    assert!(std::fs::read(&ledger).unwrap() == before, "nothing was written to it");
}

/// A team's own migrations, and workers that know of them.
#[tokio::test]
async fn a_file_with_a_teams_own_migrations_is_opened_with_them() {
    let (_played, database, directory) = filled().await;
    write(&directory, "0004_teams", ("CREATE TABLE teams (id TEXT);", "DROP TABLE teams;", ""));
    let theirs = Migrations::game().and_directory(&directory).unwrap();
    theirs.up(database.path(), None).await.unwrap();
    assert!(GameDatabase::open(database.path(), DatabaseSettings::default()).await.is_err());
    let settings = DatabaseSettings { migrations: Some(directory), ..DatabaseSettings::default() };
    GameDatabase::open(database.path(), settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_file_is_made_by_whoever_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = directory.path().join(format!("{round}.db"));
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let path = path.clone();
            opening.spawn(async move {
                GameDatabase::open(&path, DatabaseSettings::default()).await.map(drop)
            });
        }
        for opened in opening.join_all().await {
            opened.unwrap();
        }
        assert_eq!(Migrations::game().verify(&path).await.unwrap(), Vec::<String>::new());
    }
}

#[test]
fn statements_that_would_leave_the_transaction_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for bad in [
        "CREATE TABLE a (x); commit;",
        "ATTACH 'x' AS y;",
        "-- so\nPRAGMA user_version = 3;",
        "SELECT 1; /* so */ END;",
        "SELECT '--'; COMMIT;",
        "SELECT '/*', 'it''s'; COMMIT; SELECT '*/';",
        "/* see -- */ COMMIT;",
        "CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END;\nEND;",
    ] {
        write(directory.path(), "0004_bad", (bad, "SELECT 1;", ""));
        let refused = Migrations::game().and_directory(directory.path()).unwrap_err();
        assert!(refused.to_string().contains("has the statement"), "{bad}: {refused}");
    }
    for bad in ["\u{feff}SELECT 1;", "SELECT 1;\0 SELECT 2;"] {
        write(directory.path(), "0004_bad", (bad, "SELECT 1;", ""));
        let refused = Migrations::game().and_directory(directory.path()).unwrap_err();
        assert!(refused.to_string().contains("0004_bad.up.sql"), "{bad}: {refused}");
    }
    for good in [
        "CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END;",
        "SELECT 'one; COMMIT'; SELECT \"a; END\" FROM [b; BEGIN]; -- ; ROLLBACK",
    ] {
        write(directory.path(), "0004_bad", (good, "SELECT 1;", ""));
        Migrations::game().and_directory(directory.path()).unwrap();
    }
}

#[tokio::test]
async fn verify_tells_what_was_changed_by_hand() {
    let (_played, database, _) = filled().await;
    let connection = rusqlite::Connection::open(database.path()).unwrap();
    connection
        .execute_batch("DROP INDEX idx_bets_unique; ALTER TABLE users ADD COLUMN age")
        .unwrap_err();
    connection.execute_batch("DROP INDEX IF EXISTS idx_bets_unique").unwrap();
    connection.execute_batch("ALTER TABLE users ADD COLUMN age INTEGER").unwrap();
    let findings = Migrations::game().verify(database.path()).await.unwrap();
    assert_eq!(
        findings,
        ["the index `idx_bets_unique` is missing", "the table `users` is not what it should be"]
    );
}

#[test]
fn a_new_pair_is_numbered_after_all_and_named_plainly() {
    let directory = tempfile::tempdir().unwrap();
    let pair = Migrations::game().new_pair(directory.path(), "add_teams").unwrap();
    assert_eq!(pair.up.file_name().unwrap(), "0001_add_teams.up.sql");
    assert_eq!(pair.down.file_name().unwrap(), "0001_add_teams.down.sql");
    let with = Migrations::game().and_directory(directory.path()).unwrap();
    let next = with.new_pair(directory.path(), "more").unwrap();
    assert_eq!(next.up.file_name().unwrap(), "0002_more.up.sql");
    for name in ["", "Ab", "a b", "../a"] {
        assert!(with.new_pair(directory.path(), name).is_err(), "{name}");
    }
    std::fs::remove_file(next.down).unwrap();
    let alone = Migrations::game().and_directory(directory.path()).unwrap_err();
    assert!(alone.to_string().contains("needs both"), "{alone}");
}

/// A file of something else is refused without a trace: its log may be all that is left of its
/// newest rows.
#[tokio::test]
async fn looking_for_positions_in_a_foreign_file_leaves_it_as_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let live = rusqlite::Connection::open(path("live.db")).unwrap();
    live.pragma_update(None, "journal_mode", "WAL").unwrap();
    live.execute_batch("CREATE TABLE other (x); INSERT INTO other VALUES (1)").unwrap();
    for ending in ["", "-wal"] {
        let copied =
            std::fs::copy(path(&format!("live.db{ending}")), path(&format!("copy.db{ending}")));
        copied.unwrap();
    }
    let bytes = || ["copy.db", "copy.db-wal"].map(|name| std::fs::read(path(name)).unwrap());
    let before = bytes();
    let ledger_id = daybook_schema::LedgerId::from_bytes([1; 16]);
    let refused = daybook_projections::known_heads(&path("copy.db"), ledger_id).await.unwrap_err();
    assert!(matches!(refused, MigrationError::Foreign { .. }), "{refused}");
    assert!(bytes() == before);
}

fn ours_newest(status: Vec<daybook_projections::MigrationStatus>) -> MigrationNumber {
    let ours =
        status.iter().map(|it| it.number).filter(|it| matches!(it, MigrationNumber::Ours(_)));
    ours.max().unwrap()
}

/// What an earlier version applied for a team under the number that now is one of ours.
#[tokio::test]
async fn a_teams_migration_under_an_old_number_is_told_apart_and_moved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("game.db");
    let files = directory.path().join("migrations");
    std::fs::create_dir(&files).unwrap();
    let ours = Migrations::game();
    ours.up(&path, Some(MigrationNumber::Ours(3))).await.unwrap();
    let sql = "CREATE TABLE teams (id TEXT);";
    write(&files, "0004_teams", (sql, "DROP TABLE teams;", ""));
    write(&files, "0005_later", ("CREATE TABLE later (x);", "DROP TABLE later;", ""));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    let as_it_was = sqlx::migrate::Migration::new(
        4,
        "teams".into(),
        sqlx::migrate::MigrationType::ReversibleUp,
        sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(sql.to_owned())),
        false,
    );
    connection
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (4, 'teams', 1, ?1, 0)",
            [as_it_was.checksum.as_ref()],
        )
        .unwrap();
    let refused = ours.status(&path).await.unwrap_err();
    let four = MigrationNumber::Ours(4);
    assert!(matches!(refused, MigrationError::Changed { number, .. } if number == four));
    let theirs = Migrations::game().and_directory(&files).unwrap();
    let pending = |status: Vec<daybook_projections::MigrationStatus>| {
        let pending = status.into_iter().filter(|it| !it.applied).map(|it| it.number);
        pending.collect::<Vec<_>>()
    };
    let found = pending(theirs.status(&path).await.unwrap());
    assert_eq!((found.first(), found.last()), (Some(&four), Some(&MigrationNumber::Teams(5))));
    assert!(!found.contains(&MigrationNumber::Teams(4)));
    theirs.up(&path, None).await.unwrap();
    assert_eq!(theirs.verify(&path).await.unwrap(), [""; 0]);
    let newest = ours_newest(theirs.status(&path).await.unwrap());
    let down = theirs.down(&path, Some(newest)).await.unwrap();
    assert_eq!(down.numbers, [5, 4].map(MigrationNumber::Teams));
    ours.down(&path, Some(MigrationNumber::Ours(3))).await.unwrap();
    for (text, number) in [("4", four), ("0004", four), ("team-7", MigrationNumber::Teams(7))] {
        assert_eq!(text.parse(), Ok(number));
    }
    for bad in ["", "-1", "team", "team--1", "+4", "four"] {
        assert!(bad.parse::<MigrationNumber>().is_err(), "{bad}");
    }
}

/// The same files with other line endings are the same migration, whichever were applied.
#[tokio::test]
async fn line_endings_do_not_change_a_migration() {
    let directory = tempfile::tempdir().unwrap();
    let sql = "-- Teams.\nCREATE TABLE teams (\n  id INTEGER PRIMARY KEY\n) STRICT;\n";
    for (first, later) in [("\n", "\r\n"), ("\r\n", "\n")] {
        let path = directory.path().join(format!("{}.db", first.len()));
        let files = directory.path().join(format!("migrations-{}", first.len()));
        std::fs::create_dir(&files).unwrap();
        for ending in [first, later] {
            let texts = (&*sql.replace('\n', ending), "DROP TABLE teams;", "");
            write(&files, "0004_add_teams", texts);
            let migrations = Migrations::game().and_directory(&files).unwrap();
            migrations.up(&path, None).await.unwrap();
            assert_eq!(migrations.verify(&path).await.unwrap(), [""; 0]);
        }
        // As an earlier version applied it, whose checksum was of the text as it was.
        let as_it_was = sqlx::migrate::Migration::new(
            4,
            "add teams".into(),
            sqlx::migrate::MigrationType::ReversibleUp,
            sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(sql.replace('\n', "\r\n"))),
            false,
        );
        let applied = rusqlite::Connection::open(&path).unwrap();
        let changed = applied.execute(
            "UPDATE _sqlx_migrations SET checksum = ?1 WHERE description = 'add teams'",
            [&*as_it_was.checksum],
        );
        assert_eq!(changed.unwrap(), 1);
        let migrations = Migrations::game().and_directory(&files).unwrap();
        migrations.require_current(&path).await.unwrap();
        write(&files, "0004_add_teams", ("CREATE TABLE other (id INTEGER);", "", ""));
        let changed = Migrations::game().and_directory(&files).unwrap();
        let refused = changed.up(&path, None).await.unwrap_err();
        assert!(matches!(refused, MigrationError::Changed { .. }), "{refused}");
    }
}
