//! Guards: what is too old or too much goes, the oldest first; a file that was moved, damaged or lost
//! holds nobody up; and a disk that telemetry fills has room for play.

use std::path::PathBuf;
use std::time::Duration;

use daybook_api::{Settings, TelemetrySettings};
use serde_json::{Value, json};

use crate::full_disk::on_a_small_disk;
use crate::house::{House, settings, stepping_options};
use crate::player::Player;
use crate::telemetry::{column, error, event, now_ms, send};

const DAY_MS: i64 = 86_400_000;
const DIRECTORY: &str = "API_TELEMETRY_FULL_DISK";

/// Rows of a time, put there from outside.
fn add(house: &House, days_ago: i64, rows: u32) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
               INSERT INTO telemetry_events SELECT ?2 || '-' || i, 'error', ?3, 'adas', NULL, \
               '{\"message\": \"' || hex(zeroblob(500)) || '\"}', '{}', ?3, ?3, '192.0.2.1', NULL, NULL, NULL FROM n";
    let at = now_ms() - days_ago * DAY_MS;
    house.telemetry_db().execute(sql, rusqlite::params![rows, days_ago, at]).unwrap();
}

async fn limited(telemetry: TelemetrySettings) -> House {
    House::with(Settings { telemetry, ..settings() }).await
}

/// Databases that were set aside.
fn set_aside(house: &House) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(house.directory()).unwrap().map(|entry| entry.unwrap().path());
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("telemetry.db.set-aside-") && name.ends_with('Z')
    };
    paths.filter(is_aside).collect()
}

fn days(house: &House) -> Vec<(String, i64)> {
    let database = house.telemetry_db();
    let sql = "SELECT substr(event_id, 1, instr(event_id, '-') - 1) AS day, count(*) FROM telemetry_events \
               WHERE session_id = 'adas' GROUP BY day ORDER BY CAST(day AS INTEGER)";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn what_is_too_old_goes_and_addresses_are_cleared_also_where_the_disk_is_filling_up() {
    let telemetry = TelemetrySettings {
        kept_days: 8,
        disk_free_bytes_min: u64::MAX,
        ..TelemetrySettings::default()
    };
    let mut house = limited(telemetry).await;
    for (days_ago, rows) in [(9, 2_500), (7, 1_500), (6, 10)] {
        add(&house, days_ago, rows);
    }
    house.stop().await;
    house.start().await;
    let kept = [("6".to_owned(), 10), ("7".to_owned(), 1_500)];
    house.until("what is too old is gone", |house| (days(house) == kept).then_some(())).await;
    let cleared = |house: &House| {
        let with = "substr(event_id, 1, 1) || coalesce(ip, '')";
        column::<String>(house, with).iter().all(|it| it == "7" || it == "6192.0.2.1")
    };
    house.until("addresses of a week ago are cleared", |house| cleared(house).then_some(())).await;
    assert_eq!(house.telemetry().counts().taken_out, 2_500);
    send(&mut house.client(), &[error("m")]).await.expect_error(503, "READ_ONLY");
}

#[tokio::test]
async fn past_its_size_the_oldest_days_go_whole_and_of_today_only_what_must() {
    let telemetry = TelemetrySettings { bytes_max: 6 << 20, ..TelemetrySettings::default() };
    let mut house = limited(telemetry).await;
    for (days_ago, rows) in [(5, 3_000), (4, 50), (3, 3_000), (2, 10)] {
        add(&house, days_ago, rows);
    }
    house.stop().await;
    house.start().await;
    let kept = [("2".to_owned(), 10), ("3".to_owned(), 3_000), ("4".to_owned(), 50)];
    house.until("the oldest day is gone", |house| (days(house) == kept).then_some(())).await;
    add(&house, 0, 12_000);
    house.stop().await;
    house.start().await;
    let is_small = |house: &House| {
        let days = days(house);
        let today =
            days.first().filter(|(day, rows)| day == "0" && *rows > 2_000 && *rows < 12_000);
        (days.len() == 1 && today.is_some()).then_some(())
    };
    house.until("all but the newest of today is gone", is_small).await;
    send(&mut house.client(), &[error("m")]).await.expect(200);
}

#[tokio::test]
async fn a_file_that_is_moved_away_while_it_is_open_is_made_anew() {
    let mut house = House::new().await;
    send(&mut house.client(), &[error("first")]).await.expect(200);
    std::fs::rename(house.path("telemetry.db"), house.path("moved.db")).unwrap();
    // Its log lies there: it is set aside, and the next event is in a file of its own.
    send(&mut house.client(), &[error("second")]).await.expect(200);
    assert_eq!(column::<String>(&house, "properties ->> 'message'"), ["second"]);
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(house.directory()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert!(
        names().iter().any(|name| name.starts_with("telemetry.db.set-aside-")),
        "{:?}",
        names()
    );
    std::fs::remove_file(house.path("telemetry.db")).unwrap();
    std::fs::remove_file(house.path("telemetry.db-wal")).unwrap();
    send(&mut house.client(), &[error("third")]).await.expect(200);
    assert_eq!(column::<String>(&house, "properties ->> 'message'"), ["third"]);
    house.stop().await;
    house.start().await;
    assert_eq!(column::<String>(&house, "properties ->> 'message'"), ["third"]);
}

#[tokio::test]
async fn a_log_that_is_removed_alone_costs_nothing_that_was_answered() {
    let house = House::new().await;
    send(&mut house.client(), &[error("first")]).await.expect(200);
    std::fs::remove_file(house.path("telemetry.db-wal")).unwrap();
    send(&mut house.client(), &[error("second")]).await.expect(200);
    std::fs::remove_file(house.path("telemetry.db-shm")).unwrap();
    send(&mut house.client(), &[error("third")]).await.expect(200);
    let told = column::<String>(&house, "properties ->> 'message'");
    assert_eq!(told, ["first", "second", "third"]);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_one_of_somebody_elses_is_refused() {
    let mut house = House::new().await;
    send(&mut house.client(), &[error("first")]).await.expect(200);
    house.stop().await;
    let path = house.path("telemetry.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_096..].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    house.start().await;
    send(&mut house.client(), &[error("second")]).await.expect(200);
    assert_eq!(column::<String>(&house, "properties ->> 'message'"), ["second"]);
    assert!(
        set_aside(&house).iter().any(|path| std::fs::read(path).unwrap() == bytes),
        "it is kept as it was"
    );
    house.stop().await;

    let newer = rusqlite::Connection::open(&path).unwrap();
    let migration = "INSERT INTO _sqlx_migrations SELECT 9000, 'newer', installed_on, success, checksum, 1 \
                     FROM _sqlx_migrations LIMIT 1";
    newer.execute(migration, []).unwrap();
    newer.close().unwrap();
    let refused = house.try_start().await.unwrap_err();
    assert!(refused.contains("telemetry.db"), "{refused}");
    let foreign = house.path("foreign.db");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE letters (text)")
        .unwrap();
    std::fs::rename(&foreign, &path).unwrap();
    let refused = house.try_start().await.unwrap_err();
    assert!(refused.contains("letters"), "{refused}");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = house.try_start().await.unwrap_err();
    assert!(refused.contains("is no file"), "{refused}");
}

/// What the file is made into while it is closed, and what is then set aside for.
const UNUSABLE: [&str; 3] = ["no header", "no table", "no index"];

#[tokio::test]
async fn a_file_that_cannot_be_used_is_set_aside_at_the_start() {
    for unusable in UNUSABLE {
        let mut house = House::new().await;
        send(&mut house.client(), &[error("first")]).await.expect(200);
        house.stop().await;
        let path = house.path("telemetry.db");
        let change =
            |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        match unusable {
            "no table" => change("DROP TABLE telemetry_events"),
            "no index" => change("DROP INDEX idx_telemetry_ip"),
            _ => {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[..100].fill(0x5a);
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let before = std::fs::read(&path).unwrap();
        house.start().await;
        send(&mut house.client(), &[error("second")]).await.expect(200);
        let kept = set_aside(&house).iter().any(|path| std::fs::read(path).unwrap() == before);
        assert!(kept, "{unusable}: it is kept as it was");
    }
}

#[tokio::test]
async fn a_table_that_is_dropped_while_it_is_written_is_made_anew() {
    let house = House::new().await;
    send(&mut house.client(), &[error("first")]).await.expect(200);
    house.telemetry_db().execute_batch("DROP TABLE telemetry_events").unwrap();
    send(&mut house.client(), &[error("lost")]).await.expect_error(503, "UNAVAILABLE");
    for _ in 0..200 {
        if send(&mut house.client(), &[error("second")]).await.status == 200 {
            assert_eq!(set_aside(&house).len(), 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it was not made anew within 20 s");
}

#[tokio::test]
async fn what_is_written_to_a_file_that_is_moved_away_meanwhile_is_not_accepted() {
    let house = House::new().await;
    send(&mut house.client(), &[error("first")]).await.expect(200);
    let locker = house.telemetry_db();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut client = house.client();
    let sending = tokio::spawn(async move { send(&mut client, &[error("second")]).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    for ending in ["", "-wal", "-shm"] {
        let moved = house.path(&format!("moved.db{ending}"));
        std::fs::rename(house.path(&format!("telemetry.db{ending}")), moved).unwrap();
    }
    locker.execute_batch("ROLLBACK").unwrap();
    sending.await.unwrap().expect_error(503, "UNAVAILABLE");
    send(&mut house.client(), &[error("third")]).await.expect(200);
    assert_eq!(column::<String>(&house, "properties ->> 'message'"), ["third"]);
}

fn flags(house: &House) -> Vec<(String, String, String, i64)> {
    let sql = "SELECT event_id, properties, coalesce(user_id, '') || session_id, timestamp FROM telemetry_events \
               WHERE properties LIKE '%ANTI_CHEAT%' ORDER BY rowid";
    let database = house.telemetry_db();
    let mut statement = database.prepare(sql).unwrap();
    let columns =
        |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    statement.query_map([], columns).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn each_flag_of_the_ledger_becomes_the_seeds_error_event_once() {
    let mut house = House::playing().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    ada.advance(&season, 1).await;
    let levels = json!({ "water": -1, "sun": -1, "pest": -1, "growth": -1 });
    let claim = json!({ "potLevels": levels, "coinsEarned": 9_999 });
    ada.post(&format!("{season}/days/1/check"), claim).await.expect(200);
    let told =
        house.until("both flags", |house| Some(flags(house)).filter(|all| all.len() == 2)).await;
    let mut properties: Vec<Value> =
        told.iter().map(|(_, text, ..)| serde_json::from_str(text).unwrap()).collect();
    properties.sort_by_key(Value::to_string);
    let expected = ["coin_manipulation", "level_manipulation"].map(|code| {
        json!({ "error_code": format!("ANTI_CHEAT_{}", code.to_uppercase()),
                "message": format!("Suspicious activity: {code}") })
    });
    assert_eq!(properties, expected);
    assert!(told.iter().all(|(id, _, whose, _)| id.starts_with("server:") && whose == "server"));
    // Once more after a start, and the same where the file was lost.
    house.stop().await;
    house.start().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(flags(&house), told);
    house.stop().await;
    std::fs::remove_file(house.path("telemetry.db")).unwrap();
    house.start().await;
    house.until("both flags again", |house| (flags(house) == told).then_some(())).await;
}

/// The child: telemetry fills the disk that it serves on.
#[tokio::test]
async fn child_whose_disk_telemetry_fills() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    std::fs::write(directory.join("filler"), vec![0; 16 << 20]).unwrap();
    let mut house = House::opened(&directory, stepping_options()).await;
    house.settings.telemetry =
        TelemetrySettings { events_per_client_day_max: u32::MAX, ..TelemetrySettings::default() };
    house.stop().await;
    house.start().await;
    let mut ada = Player::register(&house, "ada").await;
    let season = ada.start().await;
    let stack = json!({ "error_code": "E", "message": "m", "stack": "x".repeat(8_000) });
    let mut stored = 0;
    let refused = loop {
        let events: Vec<Value> = (0..7).map(|_| event("error", stack.clone())).collect();
        let answer = send(&mut house.client(), &events).await;
        match answer.status {
            200 => stored += 7,
            _ => break answer,
        }
    };
    refused.expect_error(503, "READ_ONLY");
    assert!(stored > 700, "{stored}");
    // The defaults leave a gibibyte: play goes on, and people come.
    for day in 1..=5 {
        ada.bet_on_all(&season).await.expect(201);
        ada.advance(&season, day).await;
    }
    house.client().register("late@farm.example").await.expect(201);
    house.client().get("/readyz").await.expect(200);
    assert_eq!(house.telemetry().counts().refused_full, 7);
    // Where there is room again it goes on.
    std::fs::remove_file(directory.join("filler")).unwrap();
    send(&mut house.client(), &[error("m")]).await.expect(200);
    println!("\nPLAYED ON");
}

#[test]
fn a_disk_that_telemetry_fills_has_room_for_play() {
    let size = TelemetrySettings::default().disk_free_bytes_min + (64 << 20);
    let test = "telemetry_file::child_whose_disk_telemetry_fills";
    let printed = on_a_small_disk(size, DIRECTORY, test);
    assert!(printed.contains("PLAYED ON"), "{printed}");
}
