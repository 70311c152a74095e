//! Guards: `daybook analytics` prints what the ledger has, in each form, and says what is wrong.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected stops"
)]

#[expect(dead_code, reason = "not every test uses all of it")]
mod common;

use std::path::Path;
use std::process::Command;

use common::{json, run};
use rusqlite::Connection;
use serde_json::Value;

const TABLES: [&str; 6] = ["dau", "retention", "funnel", "bets", "sessions", "coins"];

fn demo(within: &Path) -> String {
    let data = within.join("data").to_str().unwrap().to_owned();
    let arguments = ["demo", "--players", "30", "--days", "12", "--seed", "9", "--data", &data];
    json(&run(&[&arguments[..], &["--json"]].concat()));
    data
}

fn ask(data: &str, arguments: &[&str]) -> Value {
    json(&run(&[&["analytics"], arguments, &["--data", data, "--json"]].concat()))
}

/// Runs it; gives its status and both outputs.
fn tried(arguments: &[&str]) -> (i32, String, String) {
    let done = run(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn answers_agree_with_the_accounts_and_with_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let data = &*demo(directory.path());
    // Coins: the newest day has what the trial balance has.
    let coins = ask(data, &["coins"]);
    let last = coins["days"].as_array().unwrap().last().unwrap();
    let replayed = json(&run(&["replay", "--accounts", "--json", "--data", data]));
    let accounts = &replayed["accounts"];
    let of = |value: &Value| value.as_i64().unwrap();
    assert_eq!(of(&last["mint"]) * 1_000, of(&accounts["mint_millicoins"]), "{accounts}");
    assert_eq!(of(&last["houseMillicoins"]), of(&accounts["house_millicoins"]));
    assert_eq!(of(&last["jackpotMillicoins"]), of(&accounts["jackpot_millicoins"]));
    assert_eq!(of(&last["balances"]) * 1_000, of(&accounts["balances_millicoins"]));
    assert_eq!(of(&last["escrow"]) * 1_000, of(&accounts["escrows_millicoins"]));
    let staked = coins["days"].as_array().unwrap().iter().map(|day| of(&day["staked"]));
    let (staked, bets) = (staked.sum::<i64>(), ask(data, &["bets"]));
    assert_eq!(staked, of(&bets["all"]["staked"]));
    let rows = |answer: &Value| -> i64 {
        answer["rows"].as_array().unwrap().iter().map(|row| of(&row["paid"])).sum()
    };
    assert_eq!(rows(&bets), rows(&ask(data, &["bets", "--by-day"])));
    // Activity: whoever is new on a day is that day's cohort.
    let (days, retention) = (ask(data, &["dau"]), ask(data, &["retention"]));
    let days = days["days"].as_array().unwrap();
    for (day, cohort) in days.iter().zip(retention["cohorts"].as_array().unwrap()) {
        assert_eq!(day["day"], cohort["cohortDay"]);
        assert_eq!(day["new"], cohort["cohortSize"]);
    }
    // The clock runs on for 31 days after the play: each has a row, and the last is not over.
    assert!(days.len() > 40 && days.iter().rev().take(30).all(|day| day["dau"] == 0));
    assert_eq!(days.iter().filter(|day| day["partial"] == true).count(), 1);
    assert_eq!(days.last().unwrap()["partial"], true);
    let asked = ask(data, &["dau", "--from", "2026-01-07", "--until", "2026-01-08"]);
    assert_eq!(asked["days"], Value::from(days[2..4].to_vec()));
    // What telemetry has of a demo is what the ledger has, but for who was erased.
    let told = ask(data, &["dau", "--source", "telemetry"]);
    assert!(of(&told["days"][0]["dau"]) <= of(&days[0]["dau"]));
    assert_eq!(told["seq"], Value::Null);
    assert!(of(&ask(data, &["dau"])["seq"]) > 1_000);
}

#[test]
fn tables_come_as_text_csv_and_pictures() {
    let directory = tempfile::tempdir().unwrap();
    let data = &*demo(directory.path());
    for table in TABLES {
        let (status, text, _) = tried(&["analytics", table, "--data", data]);
        assert_eq!((status, text.lines().count() > 5), (0, true), "{table}: {text}");
        let (_, csv, _) = tried(&["analytics", table, "--csv", "--data", data]);
        let mut lines = csv.lines();
        let columns = lines.next().unwrap().split(',').count();
        assert!(lines.clone().count() > 3);
        lines.for_each(|line| assert_eq!(line.split(',').count(), columns, "{line}"));
        // Of a time before the ledger there are no rows, and no failure.
        let none = ["analytics", table, "--csv", "--until", "2020-01-01", "--data", data];
        let (status, csv, _) = tried(&none);
        assert_eq!((status, csv.lines().count()), (0, 1), "{table}: {csv}");
        let none = ["analytics", table, "--until", "2020-01-01", "--data", data];
        assert_eq!(tried(&none).0, 0);
    }
    let pictures = [("retention", "Users active n days later"), ("bets", "What bets gave back")];
    for (table, title) in pictures {
        for until in ["9999-12-31", "2020-01-01"] {
            let file = directory.path().join("picture.svg");
            let named = file.to_str().unwrap();
            let arguments = ["analytics", table, "--svg", named, "--until", until, "--data", data];
            assert_eq!(tried(&arguments).0, 0);
            let picture = std::fs::read_to_string(file).unwrap();
            assert!(picture.starts_with("<svg") && picture.contains(title), "{table}");
        }
    }
}

#[test]
fn a_month_is_reported_as_a_page_as_json_and_as_csv() {
    let directory = tempfile::tempdir().unwrap();
    let data = &*demo(directory.path());
    let out = directory.path().join("report");
    let named = out.to_str().unwrap();
    let report = |month: &str| json(&run(&["report", "--month", month, "--json", "--data", data]));
    let whole = report("2026-01");
    assert_eq!((&whole["until"], &whole["partial"]), (&"2026-01-31".into(), &false.into()));
    let days = ["--from", "2026-01-01", "--until", "2026-01-31"];
    let bets = ask(data, &[&["bets"][..], &days].concat());
    assert_eq!(whole["periods"][0]["bets"]["all"], bets["all"]);
    assert_eq!(whole["periods"][2]["bets"]["rows"], bets["rows"], "the play began in this month");
    let dau = ask(data, &[&["dau"][..], &days].concat());
    assert_eq!(whole["days"][0]["dau"], dau["days"][0]["dau"]);
    assert_eq!(whole["periods"][0]["active"], 30);
    // The clock of a demo runs on into February, and ends within it.
    let february = report("2026-02");
    assert_eq!(
        (&february["partial"], &february["periods"][0]["active"]),
        (&true.into(), &0.into())
    );
    assert_eq!(february["periods"][1]["bets"]["all"], bets["all"], "of the year");
    assert_eq!(whole["cohorts"][0]["retained"].as_array().unwrap().len(), 27, "to the month's end");
    for (month, said) in [
        ("2026-01", "The whole month, up to 2026-01-31."),
        ("2026-02", "the last day that is over"),
        ("2025-12", "No activity"),
    ] {
        let (status, path, err) =
            tried(&["report", "--month", month, "--out", named, "--data", data]);
        assert_eq!(status, 0, "{err}");
        let page = std::fs::read_to_string(path.trim()).unwrap();
        assert!(page.contains(said) && page.contains("Ledger ldg_"), "{month}");
        assert!(!page.contains("<script") && !page.contains("src="), "all of it is in the page");
        let of_days = out.join(format!("report-{month}-days.csv"));
        assert!(std::fs::read_to_string(of_days).unwrap().starts_with("day,dau,new,bets"));
    }
    // Nothing is told of days that are not over.
    let (status, _, err) = tried(&["report", "--month", "2027-05", "--data", data]);
    assert!(status == 2 && err.contains("no day of 2027-05 is over"), "{err}");
    // The read models of another ledger are not taken for this one's.
    let others = tempfile::tempdir().unwrap();
    let other = others.path().join("other").to_str().unwrap().to_owned();
    let smaller = ["demo", "--players", "3", "--days", "2", "--seed", "2", "--data", &other];
    assert_eq!(tried(&smaller).0, 0);
    let foreign = format!("{data}/game.db");
    let asked = ["report", "--month", "2026-01", "--database-url", &foreign, "--data", &other];
    let (status, _, err) = tried(&asked);
    assert!(status == 2 && err.contains("is not of the ledger"), "{err}");
    let (status, _, err) = tried(&["report", "--month", "2026-13", "--data", data]);
    assert!(status == 2 && err.contains("expected a month such as 2026-11"), "{err}");
}

#[test]
fn what_cannot_be_answered_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let data = &*demo(directory.path());
    for (arguments, said) in [
        (&["dau", "--from", "2026-02-02", "--until", "2026-02-01"][..], "is after --until"),
        (&["dau", "--json", "--csv"], "cannot be used with"),
        (&["bets", "--source", "telemetry"], "unexpected argument"),
        (&["dau", "--from", "2026-02-30"], "expected a UTC day such as 2026-01-05"),
        (&["dau", "--until", "20260105"], "expected a UTC day such as 2026-01-05"),
        (&["bets", "--svg", "/no/such/place.svg"], "cannot be written"),
    ] {
        let (status, out, err) = tried(&[&["analytics"], arguments, &["--data", data]].concat());
        assert!(status == 2 && out.is_empty() && err.contains(said), "{arguments:?}: {err}");
    }
    // A picture takes the place of a picture, and of nothing else.
    let ledger = directory.path().join("data/ledger.db");
    let before = std::fs::read(&ledger).unwrap();
    let named = ledger.to_str().unwrap();
    let (status, _, err) = tried(&["analytics", "bets", "--svg", named, "--data", data]);
    assert!(status == 2 && err.contains("is there and is no picture"), "{err}");
    assert_eq!(std::fs::read(&ledger).unwrap(), before);
    let (status, _, err) = tried(&["verify", "--export", "/no/such", "--data", data]);
    assert!(status == 2 && err.contains("there is no export in `/no/such`"), "{err}");
    let elsewhere = directory.path().to_str().unwrap();
    let (status, _, err) = tried(&["analytics", "dau", "--data", elsewhere]);
    assert!(status == 2 && err.contains("there is no") && err.contains("game.db"), "{err}");
    // Answers go no further than the read model that is furthest behind.
    let days = |data: &str| ask(data, &["dau"])["days"].as_array().unwrap().len();
    let (all, game_db) = (days(data), directory.path().join("data/game.db"));
    let behind = "UPDATE projection_positions SET seq = seq - 1, \
                  recorded_at_micros = recorded_at_micros - 3 * 86400000000 WHERE name = 'seasons'";
    let seq = ask(data, &["dau"])["seq"].as_u64().unwrap();
    Connection::open(&game_db).unwrap().execute(behind, []).unwrap();
    assert_eq!((days(data), ask(data, &["dau"])["seq"].as_u64()), (all - 3, Some(seq - 1)));
    // A variable that says no stands in nobody's way.
    let off = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["analytics", "dau", "--csv", "--data", data])
        .env("DAYBOOK_JSON", "false")
        .output()
        .unwrap();
    assert!(off.status.success(), "{}", String::from_utf8_lossy(&off.stderr));
    // A file that an earlier version made, and one that is made anew.
    let older = "UPDATE projection_positions SET version = 2 WHERE name = 'analytics'";
    Connection::open(&game_db).unwrap().execute(older, []).unwrap();
    let (status, _, err) = tried(&["analytics", "dau", "--data", data]);
    assert!(status == 2 && err.contains("`daybook projections run` makes them"), "{err}");
    let dropped = "UPDATE projection_positions SET version = 3 WHERE name = 'analytics'; \
                   DROP TABLE user_days";
    Connection::open(&game_db).unwrap().execute_batch(dropped).unwrap();
    let (status, _, err) = tried(&["analytics", "dau", "--data", data]);
    assert!(status == 2 && err.contains("game.db` cannot be read"), "{err}");
    std::fs::write(&game_db, "no database at all, however long it may be").unwrap();
    let (status, _, err) = tried(&["analytics", "dau", "--data", data]);
    assert!(status == 2 && err.contains("cannot be read"), "{err}");
}
