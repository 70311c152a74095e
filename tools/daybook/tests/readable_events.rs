//! The view of `tail --sql`, held to what `tail` prints and to the golden payloads.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

use std::path::Path;
use std::process::{Command, Output};

use rusqlite::{Connection, OpenFlags, params};
use serde_json::{Value, json};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybook"));
    command.args(arguments).env_remove("DAYBOOK_DATA").output().unwrap()
}

fn sql() -> String {
    String::from_utf8(run(&["tail", "--sql"]).stdout).unwrap()
}

/// All rows of the view, as `tail` prints events.
fn rows(ledger: &Connection) -> Vec<Value> {
    let mut statement = ledger.prepare("SELECT * FROM readable_events ORDER BY seq").unwrap();
    let rows = statement.query_map([], |row| {
        Ok(json!({
            "seq": row.get::<_, i64>("seq")?,
            "recordedMicros": row.get::<_, i64>("recorded_micros")?,
            "stream": row.get::<_, String>("stream")?,
            "streamPrev": row.get::<_, i64>("stream_prev")?,
            "kind": row.get::<_, String>("kind")?,
            "version": row.get::<_, i64>("version")?,
            "commandId": row.get::<_, Option<String>>("command_id")?,
            "place": row.get::<_, i64>("place")?,
            "size": row.get::<_, i64>("size")?,
            "payload": row.get::<_, Option<String>>("payload")?,
            "hash": row.get::<_, String>("hash")?,
        }))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_view_of_the_events_says_what_tail_prints() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    assert!(run(&["demo", "--players", "20", "--days", "9", "--data", data]).status.success());
    let tail = String::from_utf8(run(&["tail", "--data", data]).stdout).unwrap();
    let printed: Vec<Value> =
        tail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Who only looks needs no right to write.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = Connection::open_with_flags(directory.path().join("ledger.db"), flags).unwrap();
    ledger.execute_batch(&sql()).unwrap();
    let seen = rows(&ledger);
    assert_eq!(seen.len(), printed.len());
    for (seen, printed) in seen.iter().zip(&printed) {
        assert_eq!(seen, printed);
    }
    let day: String = ledger
        .query_row("SELECT substr(recorded_time, 1, 10) FROM readable_events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(day.len(), 10, "{day}");
}

/// An events table that takes what no ledger would.
fn loose_table() -> Connection {
    let table = Connection::open_in_memory().unwrap();
    let columns = "seq INTEGER PRIMARY KEY, recorded_at, stream, stream_prev, kind, version, command, payload, hash";
    table.execute_batch(&format!("CREATE TABLE events ({columns});")).unwrap();
    table.execute_batch(&sql()).unwrap();
    table
}

fn payload(table: &Connection, kind: i64, version: i64, bytes: &[u8]) -> Option<String> {
    table
        .execute(
            "INSERT OR REPLACE INTO events VALUES (1, 0, zeroblob(16), 0, ?1, ?2, zeroblob(2), ?3, zeroblob(32))",
            params![kind, version, bytes],
        )
        .unwrap();
    table.query_row("SELECT payload FROM readable_events", [], |row| row.get(0)).unwrap()
}

#[test]
fn every_kind_and_version_is_decoded_and_a_damaged_payload_is_null() {
    let table = loose_table();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden");
    let mut decoded = 0;
    for entry in std::fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let vector: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (kind, version) =
            (vector["kind"].as_i64().unwrap(), vector["version"].as_i64().unwrap());
        let hex = vector["payload_hex"].as_str().unwrap();
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|place| u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap())
            .collect();
        let seen = payload(&table, kind, version, &bytes);
        if kind >= 65_000 {
            assert_eq!(seen, None, "no kind of the format");
            continue;
        }
        let seen: Value = serde_json::from_str(&seen.unwrap()).unwrap();
        assert_eq!(seen, vector["json"], "{}", path.display());
        decoded += 1;
        for end in 0..bytes.len() {
            assert_eq!(
                payload(&table, kind, version, &bytes[..end]),
                None,
                "{} cut",
                path.display()
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(payload(&table, kind, version, &longer), None, "{} and more", path.display());
        assert_eq!(payload(&table, kind, version + 7, &bytes), None, "a version to come");
    }
    assert!(decoded >= 26, "{decoded}");
    assert_eq!(payload(&table, 50, 1, &[3, 9, 3, 1]), None, "no pot has the number 9");
}
