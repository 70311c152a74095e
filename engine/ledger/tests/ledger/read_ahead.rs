//! Guards: where several threads read ahead, the first row that does not hold is found, as by one
//! that reads row by row: wherever runs are cut, and whatever lies behind it.

use std::path::Path;

use daybook_ledger::{Ledger, OpenError, Submission, Verdict, replay, snapshots_path};
use daybook_schema::{Command, UserId, limits};
use rusqlite::Connection;

use crate::fixture::Fixture;

/// Users enough for more runs than are read by one thread alone; each takes two events.
const USERS: u64 = 11 * limits::ROWS_PER_READ as u64 / 2;

fn many_users() -> Fixture {
    let mut fixture = Fixture::new();
    for chunk in 0..USERS / 2_048 {
        let sent: Vec<_> = (0..2_048_u64)
            .map(|number| {
                let mut bytes = [9; 16];
                bytes[..8].copy_from_slice(&(chunk * 2_048 + number).to_be_bytes());
                let register = Command::RegisterUser { user_id: UserId::from_bytes(bytes) };
                fixture.ledger().submit(Submission::new(register).at(fixture.now)).unwrap()
            })
            .collect();
        sent.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    }
    fixture.close();
    std::fs::remove_dir_all(snapshots_path(fixture.path())).unwrap();
    fixture
}

#[test]
fn the_first_row_that_does_not_hold_is_found() {
    let fixture = many_users();
    let run = limits::ROWS_PER_READ as i64;
    let report = fixture.verify(true);
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
    assert!(report.events > 10 * run.unsigned_abs(), "{} events", report.events);
    let replayed = replay(fixture.path(), None, |_, _| {}).unwrap();
    assert_eq!(Some(replayed.state_hash()), report.state_hash);
    let until = 9 * run.unsigned_abs() + 7;
    assert_eq!(replay(fixture.path(), Some(until), |_, _| {}).unwrap().head.seq, until);

    let connection = Connection::open(fixture.database()).unwrap();
    let guards: Vec<String> = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE name IN ('events_refuse_update', 'events_refuse_delete')")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    let drops = "DROP TRIGGER events_refuse_update; DROP TRIGGER events_refuse_delete;";
    let at = |seq: i64, change: &str| format!("{change} WHERE seq = {seq}");
    let altered = "UPDATE events SET hash = zeroblob(32)";
    let moved = "UPDATE events SET recorded_at = recorded_at + 1";
    let gone = "DELETE FROM events";
    let mut cases = Vec::new();
    for seq in [1, run, run + 1, 5 * run + 77, 8 * run, 10 * run + 9] {
        cases.push((at(seq, altered), Verdict::Altered, seq));
        cases.push((at(seq, moved), Verdict::Altered, seq));
        cases.push((at(seq, gone), Verdict::Gap, seq));
    }
    // Two at once: the first counts, though another thread comes upon the second earlier.
    let two = format!("{}; {}", at(4 * run + 9, altered), at(4 * run - 3, gone));
    cases.push((two, Verdict::Gap, 4 * run - 3));
    // A row before the first.
    cases.push((at(6 * run, "UPDATE events SET seq = -5"), Verdict::Unreadable, 1));
    for (change, verdict, seq) in cases {
        // In a transaction that is rolled back nobody else would see it: the file is copied aside.
        let directory = tempfile::tempdir().unwrap();
        let copy = daybook_ledger::ledger_path(directory.path());
        connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let changed = Connection::open(&copy).unwrap();
        changed.pragma_update(None, "journal_mode", "WAL").unwrap();
        changed.execute_batch(&format!("{drops}{change};{};", guards.join(";"))).unwrap();
        drop(changed);
        for full in [false, true] {
            let options = daybook_ledger::VerifyOptions { full, ..Default::default() };
            let report = daybook_ledger::verify(directory.path(), &options, &mut |_, _| {});
            let report = report.unwrap();
            let found = (report.verdict, report.first_bad_seq);
            assert_eq!(found, (verdict, Some(seq)), "{change}: {}", report.detail);
        }
        assert!(replay(directory.path(), None, |_, _| {}).is_err(), "{change}");
    }

    // A start goes through the same rows.
    connection
        .execute_batch(&format!("{drops}{};{};", at(7 * run, altered), guards.join(";")))
        .unwrap();
    drop(connection);
    let error = Ledger::open(fixture.options()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
}

/// Makes a key in the root page of `events` too small: a walk does not notice.
fn lead_searches_astray(ledger: &Path) {
    let connection = Connection::open(ledger).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'events'";
    let root: u32 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut file = std::fs::read(ledger).unwrap();
    let page = (root as usize - 1) * limits::LEDGER_PAGE_BYTES as usize;
    assert_eq!(file[page], 5, "the root is an interior page of a table");
    let number = |at: usize, file: &[u8]| usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
    let cells = number(page + 3, &file);
    let changed = (0..cells).find_map(|index| {
        // Four bytes of the child's page, then the greatest seq in it as a varint: here two bytes.
        let key = page + number(page + 12 + 2 * index, &file) + 4;
        let seq = usize::from(file[key] & 0x7f) << 7 | usize::from(file[key + 1]);
        let is_two_bytes = file[key] & 0x80 != 0 && file[key + 1] & 0x80 == 0;
        // No run of rows begins near it.
        let is_apart = (100..limits::ROWS_PER_READ - 100).contains(&(seq % limits::ROWS_PER_READ));
        (is_two_bytes && is_apart && file[key + 1] > 9).then_some(key + 1)
    });
    file[changed.expect("a key to change")] -= 5;
    std::fs::write(ledger, file).unwrap();
}

#[test]
fn where_searches_go_astray_the_file_is_unreadable_and_rows_come_first() {
    let fixture = many_users();
    lead_searches_astray(&fixture.database());
    let report = fixture.verify(true);
    assert_eq!((report.verdict, report.first_bad_seq), (Verdict::Unreadable, None));
    assert!(report.detail.contains("SQLite's integrity check says"), "{}", report.detail);
    assert_eq!(fixture.verify(false).verdict, Verdict::Intact, "a walk does not notice");

    let connection = Connection::open(fixture.database()).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER events_refuse_update; UPDATE events SET hash = zeroblob(32) WHERE seq = 3",
        )
        .unwrap();
    drop(connection);
    let report = fixture.verify(true);
    assert_eq!((report.verdict, report.first_bad_seq), (Verdict::Altered, Some(3)));
}
