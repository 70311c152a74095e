//! Guards: one changed bit in any column of any row, a row removed, added, swapped or replaced, and
//! what is forged consistently: each is found, with the verdict and the seq that follow from it.

use daybook_ledger::{Head, Report, Verdict, VerifyOptions, verify};
use daybook_schema::chain::{CommandMark, CommandPart, EventHeader};
use daybook_schema::{
    CommandHash, CommandId, Event, EventHash, LedgerId, Seq, StreamId, UnixMicros,
};
use rusqlite::Connection;

use crate::fixture::Fixture;

/// A row as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub seq: i64,
    pub recorded_at: i64,
    pub stream: Vec<u8>,
    pub stream_prev: i64,
    pub kind: i64,
    pub version: i64,
    pub command: Vec<u8>,
    pub payload: Vec<u8>,
    pub hash: Vec<u8>,
}

/// A played ledger whose rows can be changed, and put back.
pub struct Victim {
    pub fixture: Fixture,
    pub connection: Connection,
    pub rows: Vec<Row>,
}

impl Victim {
    pub fn new() -> Self {
        let fixture = Fixture::played();
        let connection = Connection::open(fixture.database()).unwrap();
        let rows = read_rows(&connection);
        let victim = Self { fixture, connection, rows };
        victim.write(&victim.rows);
        victim
    }

    /// Another ledger, of another id, played in the same way.
    pub fn foreign() -> Self {
        let fixture = Fixture::played_as(LedgerId::from_bytes([0x44; 16]));
        let connection = Connection::open(fixture.database()).unwrap();
        let rows = read_rows(&connection);
        Self { fixture, connection, rows }
    }

    /// Verifies these rows after more was done to the file, all of which is undone afterwards.
    pub fn verify_changed(&self, rows: &[Row], sql: &str, options: VerifyOptions) -> Report {
        self.write(rows);
        if sql.is_empty() {
            return verify(self.fixture.path(), &options, &mut |_, _| {}).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let copy = daybook_ledger::ledger_path(directory.path());
        self.connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let connection = Connection::open(&copy).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        verify(directory.path(), &options, &mut |_, _| {}).unwrap()
    }

    /// Puts these rows in the place of all, past the triggers, which are put back afterwards.
    pub fn write(&self, rows: &[Row]) {
        self.connection
            .execute_batch("BEGIN; DROP TRIGGER events_refuse_delete; DELETE FROM events;")
            .unwrap();
        let mut insert = self
            .connection
            .prepare("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")
            .unwrap();
        for row in rows {
            insert
                .execute(rusqlite::params![
                    row.seq,
                    row.recorded_at,
                    row.stream,
                    row.stream_prev,
                    row.kind,
                    row.version,
                    row.command,
                    row.payload,
                    row.hash
                ])
                .unwrap();
        }
        let trigger = daybook_schema::LedgerFormat::NEWEST
            .sql()
            .split("\n\n")
            .find(|part| part.contains("CREATE TRIGGER events_refuse_delete"))
            .unwrap();
        self.connection.execute_batch(&format!("{trigger} COMMIT;")).unwrap();
    }

    pub fn verify(&self, rows: &[Row], full: bool) -> Report {
        self.write(rows);
        self.fixture.verify(full)
    }

    #[track_caller]
    fn expect(&self, rows: &[Row], (verdict, seq): (Verdict, Option<i64>)) {
        let report = self.verify(rows, false);
        assert_eq!((report.verdict, report.first_bad_seq), (verdict, seq), "{}", report.detail);
    }
}

pub fn read_rows(connection: &Connection) -> Vec<Row> {
    let mut statement = connection.prepare("SELECT * FROM events ORDER BY seq").unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Row {
            seq: row.get(0)?,
            recorded_at: row.get(1)?,
            stream: row.get(2)?,
            stream_prev: row.get(3)?,
            kind: row.get(4)?,
            version: row.get(5)?,
            command: row.get(6)?,
            payload: row.get(7)?,
            hash: row.get(8)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// The verdict on a row whose columns were changed: it is unreadable if its columns or payload do
/// not decode, else altered.
pub fn verdict_on(row: &Row) -> Verdict {
    let fits = row.stream.len() == 16
        && row.hash.len() == 32
        && row.stream_prev >= 0
        && u16::try_from(row.kind).is_ok()
        && u16::try_from(row.version).is_ok()
        && CommandPart::from_bytes(&row.command).is_ok();
    let decodes = || {
        let (kind, version) = (row.kind.try_into().unwrap(), row.version.try_into().unwrap());
        Event::decode(kind, version, &row.payload).is_ok()
    };
    if fits && decodes() { Verdict::Altered } else { Verdict::Unreadable }
}

#[test]
fn one_changed_bit_in_any_column_is_found_at_its_row() {
    let victim = Victim::new();
    assert_eq!(victim.verify(&victim.rows, true).verdict, Verdict::Intact);
    type Change = fn(&mut Row, usize);
    fn flip(bytes: &mut [u8], at: usize) {
        let length = bytes.len();
        if length > 0 {
            bytes[at / 8 % length] ^= 1 << (at % 8);
        }
    }
    let changes: [(&str, Change); 8] = [
        ("recorded_at", |row, at| row.recorded_at ^= 1 << (at % 64)),
        ("stream", |row, at| flip(&mut row.stream, at)),
        ("stream_prev", |row, at| row.stream_prev ^= 1 << (at % 64)),
        ("kind", |row, at| row.kind ^= 1 << (at % 64)),
        ("version", |row, at| row.version ^= 1 << (at % 64)),
        ("command", |row, at| flip(&mut row.command, at)),
        ("payload", |row, at| flip(&mut row.payload, at)),
        ("hash", |row, at| flip(&mut row.hash, at)),
    ];
    let last = victim.rows.len() - 1;
    for (number, index) in (0..=last).step_by(9).chain([1, 2, last]).enumerate() {
        for (offset, (column, change)) in changes.iter().enumerate() {
            let mut rows = victim.rows.clone();
            change(&mut rows[index], number * 37 + offset * 11);
            if rows[index] == victim.rows[index] {
                continue;
            }
            let report = victim.verify(&rows, false);
            let found = (report.verdict, report.first_bad_seq);
            let expected = (verdict_on(&rows[index]), Some(rows[index].seq));
            assert_eq!(found, expected, "{column} of row {}: {}", index + 1, report.detail);
        }
        let mut rows = victim.rows.clone();
        rows[index].seq ^= 1 << 20;
        let missing = i64::try_from(index).unwrap() + 1;
        victim.expect(&rows, (Verdict::Gap, Some(missing)));
    }
}

#[test]
fn rows_removed_added_swapped_and_replaced_are_found() {
    let victim = Victim::new();
    let count = victim.rows.len();
    for index in [0, 5, count / 2, count - 3] {
        let mut removed = victim.rows.clone();
        removed.remove(index);
        let seq = victim.rows[index].seq;
        victim.expect(&removed, (Verdict::Gap, Some(seq)));

        let mut swapped = victim.rows.clone();
        (swapped[index].seq, swapped[index + 1].seq) = (seq + 1, seq);
        swapped.swap(index, index + 1);
        victim.expect(&swapped, (Verdict::Altered, Some(seq)));

        let mut replaced = victim.rows.clone();
        replaced[index] = Row { seq, ..victim.rows[(index + 7) % count].clone() };
        victim.expect(&replaced, (Verdict::Altered, Some(seq)));
    }
    let mut added = victim.rows.clone();
    let next = i64::try_from(count).unwrap() + 1;
    added.push(Row { seq: next, ..victim.rows[count - 1].clone() });
    victim.expect(&added, (Verdict::Altered, Some(next)));
    let mut before = victim.rows.clone();
    before.insert(0, Row { seq: -5, ..victim.rows[3].clone() });
    victim.expect(&before, (Verdict::Unreadable, Some(1)));
}

#[test]
fn a_cut_is_found_inside_a_command_or_with_a_head_noted_earlier() {
    let victim = Victim::new();
    let rows = &victim.rows;
    let report = victim.verify(rows, false);
    let head = report.head;
    // Inside the last command.
    victim.expect(&rows[..rows.len() - 1], (Verdict::BrokenLink, Some(rows[rows.len() - 2].seq)));
    // The last command whole: only a head from outside tells.
    let size = usize::from(rows[rows.len() - 1].command[1]);
    let cut = &rows[..rows.len() - size];
    assert_eq!(victim.verify(cut, false).verdict, Verdict::Intact);
    let held_to = |head: Head| {
        let options = VerifyOptions { heads: vec![head.into()], ..VerifyOptions::default() };
        let report = verify(victim.fixture.path(), &options, &mut |_, _| {}).unwrap();
        (report.verdict, report.first_bad_seq)
    };
    let first_missing = i64::try_from(cut.len()).unwrap() + 1;
    assert_eq!(held_to(head), (Verdict::Truncated, Some(first_missing)));
    victim.write(rows);
    assert_eq!(held_to(head), (Verdict::Intact, None));
    let other = Head { seq: 10, hash: EventHash::new([1; 32]) };
    assert_eq!(held_to(other), (Verdict::HeadMismatch, Some(10)));
    // Of several heads, in any order, one that is not there counts first.
    let beyond = Head { seq: head.seq + 5, hash: other.hash };
    for heads in [vec![other, beyond], vec![beyond, other]] {
        let heads = heads.into_iter().map(Into::into).collect();
        let options = VerifyOptions { heads, ..VerifyOptions::default() };
        let report = verify(victim.fixture.path(), &options, &mut |_, _| {}).unwrap();
        assert_eq!(report.verdict, Verdict::Truncated);
        assert_eq!(report.first_bad_seq, Some(head.seq.cast_signed() + 1));
    }
}

/// Computes the hashes of all rows again, as a forger who owns the file would.
pub fn rehash(rows: &mut [Row], genesis: EventHash) {
    let mut previous = genesis;
    for row in rows {
        let stream_prev = u64::try_from(row.stream_prev).ok().and_then(|seq| Seq::new(seq).ok());
        let header = EventHeader {
            seq: Seq::new(row.seq.unsigned_abs()).unwrap(),
            recorded_at: UnixMicros::new(row.recorded_at),
            stream: StreamId::from_bytes(row.stream.clone().try_into().unwrap()),
            stream_prev,
            kind: row.kind.try_into().unwrap(),
            version: row.version.try_into().unwrap(),
            command: CommandPart::from_bytes(&row.command).unwrap(),
        };
        previous = header.hash(&previous, &row.payload);
        row.hash = previous.as_bytes().to_vec();
    }
}

pub fn genesis_hash(victim: &Victim) -> EventHash {
    let hash: [u8; 32] =
        victim.connection.query_row("SELECT hash FROM genesis", [], |row| row.get(0)).unwrap();
    EventHash::new(hash)
}

fn find(victim: &Victim, wanted: impl Fn(&Event) -> bool) -> usize {
    victim
        .rows
        .iter()
        .position(|row| {
            let kind = row.kind.try_into().unwrap();
            wanted(&Event::decode(kind, 1, &row.payload).unwrap())
        })
        .unwrap()
}

/// The owner rewrites an outcome and every hash after it: the bytes hold, the rules do not.
#[test]
fn a_forged_outcome_in_a_consistent_chain_is_found_by_executing_again() {
    let victim = Victim::new();
    let genesis = genesis_hash(&victim);
    type Forgery = (&'static str, fn(&Event) -> bool, fn(Event) -> Event);
    let richer = |event: Event| match event {
        Event::BetResolved(mut bet) => {
            bet.payout = daybook_schema::Coins::clamped(bet.payout.get() + 1);
            Event::BetResolved(bet)
        }
        Event::SeasonCompleted(mut done) => {
            done.final_score = daybook_schema::Score::clamped(done.final_score.get() + 1);
            Event::SeasonCompleted(done)
        }
        Event::DayOpened(mut opened) => {
            opened.weather = match opened.weather {
                daybook_schema::Weather::Sunny => daybook_schema::Weather::Stormy,
                _ => daybook_schema::Weather::Sunny,
            };
            Event::DayOpened(opened)
        }
        other => other,
    };
    let forgeries: [Forgery; 3] = [
        (
            "payout",
            |event| matches!(event, Event::BetResolved(bet) if bet.threshold.is_some()),
            richer,
        ),
        ("score", |event| matches!(event, Event::SeasonCompleted(_)), richer),
        ("weather", |event| matches!(event, Event::DayOpened(_)), richer),
    ];
    for (name, wanted, forge) in forgeries {
        let mut rows = victim.rows.clone();
        let index = find(&victim, wanted);
        let kind = rows[index].kind.try_into().unwrap();
        let event = forge(Event::decode(kind, 1, &rows[index].payload).unwrap());
        rows[index].payload.clear();
        event.encode(&mut rows[index].payload);
        rehash(&mut rows, genesis);
        assert_eq!(victim.verify(&rows, false).verdict, Verdict::Intact, "the chain holds");
        let report = victim.verify(&rows, true);
        let found = (report.verdict, report.first_bad_seq);
        let seq = rows[index].seq;
        // Day 1's forged weather is told by the day's opening; later commands follow from it.
        assert_eq!(found, (Verdict::OutcomeMismatch, Some(seq)), "{name}: {}", report.detail);
    }
}

#[test]
fn links_that_are_forged_in_a_consistent_chain_are_found() {
    let victim = Victim::new();
    let genesis = genesis_hash(&victim);
    let index = victim.rows.len() / 2;
    let seq = victim.rows[index].seq;
    let forged = |change: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = victim.rows.clone();
        change(&mut rows);
        rehash(&mut rows, genesis);
        rows
    };
    // A stream that leads elsewhere.
    let relinked = forged(&|rows| rows[index].stream_prev -= 1);
    victim.expect(&relinked, (Verdict::BrokenLink, Some(seq)));
    // Time that goes back.
    let first = (index..).find(|i| victim.rows[*i].command[0] == 0).unwrap();
    let earlier = forged(&|rows| rows[first].recorded_at -= 3_600_000_000);
    victim.expect(&earlier, (Verdict::BrokenLink, Some(victim.rows[first].seq)));
    // A command cut in two: its second event begins another.
    let second = first + 1;
    assert_eq!(victim.rows[second].command[0], 1);
    let cut = forged(&|rows| {
        let size = rows[second].command[1];
        let id = CommandId::from_parts(UnixMicros::from_seconds(1), [1; 10]);
        let mark = Some(CommandMark { id, hash: CommandHash::new([0; 16]) });
        let (bytes, length) = CommandPart { place: 0, size, mark }.to_bytes();
        rows[second].command = bytes[..length].to_vec();
    });
    victim.expect(&cut, (Verdict::BrokenLink, Some(victim.rows[second].seq)));
    // A stream that begins with what begins none.
    let orphan = forged(&|rows| {
        let at = rows.len() - 1;
        (rows[at].stream, rows[at].stream_prev) = (vec![0x77; 16], 0);
    });
    let last = victim.rows.last().unwrap().seq;
    victim.expect(&orphan, (Verdict::BrokenLink, Some(last)));
}

#[test]
fn a_changed_genesis_and_missing_guards_are_found() {
    let victim = Victim::new();
    victim
        .connection
        .execute_batch(
            "DROP TRIGGER genesis_refuse_update; UPDATE genesis SET created_at = created_at + 1;",
        )
        .unwrap();
    victim.expect(&victim.rows, (Verdict::BrokenLink, Some(0)));

    // Whatever is not 0 or 1 is not a truth value.
    let victim = Victim::new();
    victim
        .connection
        .execute_batch("DROP TRIGGER genesis_refuse_update; UPDATE genesis SET is_demo = 3;")
        .unwrap();
    victim.expect(&victim.rows, (Verdict::BrokenLink, Some(0)));
    victim.connection.execute_batch("DROP TABLE genesis").unwrap();
    victim.expect(&victim.rows, (Verdict::BrokenLink, Some(0)));

    for fault in [
        "DROP TRIGGER events_refuse_update",
        "DROP TRIGGER events_refuse_delete; CREATE TRIGGER events_refuse_delete BEFORE DELETE ON \
         events BEGIN SELECT 1; END",
        "CREATE TABLE notes (text TEXT)",
        "CREATE TRIGGER \"sqlite-stat\" BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TRIGGER more AFTER INSERT ON events BEGIN SELECT 1; END",
    ] {
        let victim = Victim::new();
        victim.connection.execute_batch(fault).unwrap();
        let report = victim.fixture.verify(false);
        let found = (report.verdict, report.first_bad_seq);
        assert_eq!(found, (Verdict::GuardsMissing, None), "{fault}");
        let refused = daybook_ledger::Ledger::open(victim.fixture.options()).unwrap_err();
        assert!(refused.to_string().contains("guards_missing"), "{refused}");
    }
}

/// Bits of the file itself are flipped, under SQLite: a ledger is called intact only if a walk over
/// the whole table still gives every row as it was.
#[test]
fn a_flipped_bit_of_the_file_is_found_or_changed_nothing() {
    let fixture = Fixture::played();
    let path = fixture.database();
    let sound = std::fs::read(&path).unwrap();
    let rows = |path: &std::path::Path| {
        let connection = Connection::open(path).unwrap();
        let mut statement = connection.prepare("SELECT * FROM events NOT INDEXED").ok()?;
        let rows = statement.query_map([], |row| {
            let values: Vec<rusqlite::types::Value> =
                (0..9).map(|index| row.get(index)).collect::<rusqlite::Result<_>>()?;
            Ok(values)
        });
        rows.ok()?.collect::<rusqlite::Result<Vec<_>>>().ok()
    };
    let expected = rows(&path).unwrap();
    let mut found = 0;
    for (number, position) in (0..sound.len()).step_by(37).enumerate() {
        let mut damaged = sound.clone();
        damaged[position] ^= 1 << (number % 8);
        // A new file each time: SQLite must not find pages of an earlier one.
        let directory = tempfile::tempdir().unwrap();
        let path = daybook_ledger::ledger_path(directory.path());
        std::fs::write(&path, &damaged).unwrap();
        let Ok(report) = verify(directory.path(), &VerifyOptions::default(), &mut |_, _| {}) else {
            // No ledger any more, by its own header.
            assert!(position < 100, "byte {position}");
            continue;
        };
        if report.verdict == Verdict::Intact {
            assert_eq!(rows(&path).as_ref(), Some(&expected), "byte {position}");
        } else {
            found += 1;
        }
    }
    assert!(found > 500, "{found} flips were found");
}
