//! Guards: a start from a snapshot gives what a start from the genesis gives; a snapshot that is of
//! no use is ignored; and memory and start-up do not depend on the number of events.

use std::path::{Path, PathBuf};

use daybook_ledger::{
    Head, Ledger, OpenError, Reader, Submission, SubmitError, Verdict, make_snapshot,
    snapshots_path,
};
use daybook_schema::{Command, CommandId, EventHash, UserId, digest, limits};
use daybook_simulator::Rejection;

use crate::fixture::{Fixture, user};

fn files(data_dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(snapshots_path(data_dir))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

fn state_hash(ledger: &Ledger) -> EventHash {
    ledger.query(|state| state.hash()).unwrap().wait().unwrap()
}

/// A ledger with a snapshot in the middle of a season and events after it.
fn with_snapshot() -> (Fixture, UserId, CommandId, Head) {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    fixture.bets(user_id, season_id);
    let old = fixture.next_id();
    fixture.send(old, Command::StartSession { user_id }).unwrap();
    // Much later than a start without a snapshot remembers ids.
    fixture.now = fixture.now.plus_micros(10 * limits::COMMAND_ID_RECOVERED_MICROS);
    fixture.advance(user_id, season_id, 1);
    let head = make_snapshot(fixture.path()).unwrap();
    fixture.bets(user_id, season_id);
    (fixture, user_id, old, head)
}

/// Damages a row that a start with a snapshot does not read and one without it does.
fn damage_an_early_row(fixture: &Fixture) {
    let connection = rusqlite::Connection::open(fixture.database()).unwrap();
    let trigger: String = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'events_refuse_update'", [], |row| {
            row.get(0)
        })
        .unwrap();
    connection
        .execute_batch(&format!(
            "DROP TRIGGER events_refuse_update; UPDATE events SET payload = x'' WHERE seq = 4; {trigger};"
        ))
        .unwrap();
}

#[test]
fn a_start_from_a_snapshot_gives_the_same_state_and_remembers_more_ids() {
    let (mut fixture, user_id, old, head) = with_snapshot();
    assert!(fixture.ledger().head().seq > head.seq, "there is a tail");
    let before = (state_hash(fixture.ledger()), fixture.ledger().head());
    let first = fixture.send(old, Command::StartSession { user_id }).unwrap();
    fixture.close();
    fixture.open();
    assert_eq!((state_hash(fixture.ledger()), fixture.ledger().head()), before);
    assert_eq!(fixture.send(old, Command::StartSession { user_id }).unwrap(), first);
    // Play goes on, stream links included.
    let season_id =
        fixture.ledger().query(move |state| state.users.get(&user_id).unwrap().season_in_play);
    fixture.advance(user_id, season_id.unwrap().wait().unwrap().unwrap(), 2);
    fixture.close();
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);

    // Without the snapshot the old id is no longer known, and certainly not applied twice.
    std::fs::remove_dir_all(snapshots_path(fixture.path())).unwrap();
    fixture.open();
    let again = fixture.send(old, Command::StartSession { user_id });
    assert!(matches!(again, Err(SubmitError::Expired { .. })));
}

/// What the start does not read, verify does.
#[test]
fn a_start_from_a_snapshot_reads_only_what_came_after_it() {
    let (mut fixture, ..) = with_snapshot();
    fixture.close();
    damage_an_early_row(&fixture);
    fixture.open();
    fixture.close();
    let report = fixture.verify(false);
    assert_eq!((report.verdict, report.first_bad_seq), (Verdict::Unreadable, Some(4)));
}

/// Each damaged, cut, foreign or newer snapshot is ignored: the start reads the ledger instead,
/// which is seen by the damage that it then finds there.
#[test]
fn a_snapshot_that_is_of_no_use_is_ignored() {
    let (mut fixture, ..) = with_snapshot();
    let hash = state_hash(fixture.ledger());
    fixture.close();
    let file = files(fixture.path()).pop().unwrap();
    let sound = std::fs::read(&file).unwrap();
    let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound[..sound.len() - 32].to_vec();
        change(&mut bytes);
        let checksum = digest::SNAPSHOT.derive(&[&bytes]);
        bytes.extend_from_slice(&checksum);
        bytes
    };
    let mut useless: Vec<Vec<u8>> = (0..sound.len())
        .step_by(7)
        .map(|at| {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        })
        .collect();
    useless.extend((0..sound.len()).step_by(11).map(|length| sound[..length].to_vec()));
    useless.push(b"no snapshot at all".repeat(40));
    useless.push(resealed(&|bytes| bytes[16] = 3));
    useless.push(resealed(&|bytes| bytes[18] ^= 1));
    useless.push(resealed(&|bytes| bytes[34] ^= 1));
    // With a checksum that holds, a state that is not the one it says: the mint's millicoins.
    useless.push(resealed(&|bytes| bytes[200] ^= 1));
    useless.push(resealed(&|bytes| bytes.push(0)));
    assert_eq!(resealed(&|_| {}), sound);
    // Alone, so that no other serves.
    let put = |bytes: &[u8]| {
        for other in files(fixture.path()) {
            std::fs::remove_file(other).unwrap();
        }
        std::fs::write(&file, bytes).unwrap();
    };
    for bytes in &useless {
        put(bytes);
        let ledger = Ledger::open(fixture.options()).unwrap();
        assert_eq!(state_hash(&ledger), hash);
        ledger.close().wait().unwrap();
    }
    // And none of them was used: with them a start comes upon the damaged row.
    damage_an_early_row(&fixture);
    for bytes in &useless {
        put(bytes);
        let error = Ledger::open(fixture.options()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
    put(&sound);
    fixture.open();
}

/// Where the newest is damaged, the one before it serves; others than these two are removed.
#[test]
fn the_newest_two_are_kept() {
    let (mut fixture, user_id, ..) = with_snapshot();
    for _ in 0..3 {
        fixture.must(Command::StartSession { user_id });
        make_snapshot(fixture.path()).unwrap();
    }
    fixture.close();
    let kept = files(fixture.path());
    assert_eq!(kept.len(), limits::SNAPSHOTS_KEPT);
    std::fs::write(&kept[1], "damaged").unwrap();
    damage_an_early_row(&fixture);
    fixture.open();
    // A snapshot that is made now keeps the sound one, not the damaged one.
    fixture.must(Command::StartSession { user_id });
    let head = make_snapshot(fixture.path()).unwrap();
    let kept_now = files(fixture.path());
    assert_eq!(kept_now.len(), 2);
    assert_eq!(kept_now[0], kept[0]);
    assert!(kept_now[1].ends_with(format!("{:020}.snapshot", head.seq)));
}

/// A ledger that is closed leaves a snapshot of its last event, unless there is one, and the next
/// start reads nothing else.
#[test]
fn closing_leaves_a_snapshot_of_the_last_event() {
    let (mut fixture, user_id, ..) = with_snapshot();
    let head = fixture.ledger().head();
    fixture.close();
    let newest = files(fixture.path()).pop().unwrap();
    assert!(newest.ends_with(format!("{:020}.snapshot", head.seq)));
    damage_an_early_row(&fixture);
    fixture.open();
    fixture.close();
    assert_eq!(files(fixture.path()).pop().unwrap(), newest);
    fixture.open();
    fixture.must(Command::StartSession { user_id });
    drop(fixture.ledger.take());
    assert_eq!(files(fixture.path()).len(), limits::SNAPSHOTS_KEPT);
    assert!(files(fixture.path()).pop().unwrap() > newest);
}

/// The engine makes them itself, beside the work.
#[test]
fn a_snapshot_is_made_in_the_background() {
    let mut fixture = Fixture::new();
    let mut pending = Vec::new();
    fixture.now = fixture.now.plus_micros(1_000_000);
    for number in 0..limits::SNAPSHOT_EVENTS / 2 + 1 {
        let mut bytes = [9; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let register = Command::RegisterUser { user_id: UserId::from_bytes(bytes) };
        let submission = Submission::new(register).at(fixture.now);
        pending.push(fixture.ledger().submit(submission).unwrap());
        if pending.len() == limits::COMMANDS_PER_BATCH_MAX {
            pending.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
        }
    }
    pending.drain(..).for_each(|pending| drop(pending.wait().unwrap()));
    while files(fixture.path()).iter().all(|path| path.extension().unwrap() != "snapshot") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (hash, head) = (state_hash(fixture.ledger()), fixture.ledger().head());
    fixture.close();
    damage_an_early_row(&fixture);
    fixture.open();
    assert_eq!((state_hash(fixture.ledger()), fixture.ledger().head()), (hash, head));
}

/// A finished season is no longer in memory, and yet refused as what it is, listed and replayed.
#[test]
fn finished_seasons_leave_memory_and_are_still_known() {
    let mut fixture = Fixture::played();
    make_snapshot(fixture.path()).unwrap();
    fixture.open();
    let second = user(2);
    let (in_play, ended) = fixture
        .ledger()
        .query(move |state| {
            (state.seasons.len(), state.users.get(&second).unwrap().newest_ended.unwrap())
        })
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(in_play, 1, "only the season that is in play");
    let advance = Command::AdvanceDay {
        user_id: second,
        season_id: ended.season_id,
        expected_day: daybook_schema::DayNumber::MIN,
    };
    let id = fixture.next_id();
    let refused = fixture.send(id, advance.clone()).unwrap_err();
    let SubmitError::Rejected { rejections, .. } = refused else { panic!("{refused}") };
    assert!(rejections.iter().any(|rejection| matches!(rejection, Rejection::SeasonComplete)));
    // Still so when a newer season has begun.
    fixture.now = fixture.now.plus_micros(86_400_000_000);
    let next = fixture.start(second);
    let id = fixture.next_id();
    let refused = fixture.send(id, advance).unwrap_err();
    let SubmitError::Rejected { rejections, .. } = refused else { panic!("{refused}") };
    assert!(rejections.iter().any(|rejection| matches!(rejection, Rejection::SeasonComplete)));
    let reader = Reader::open(fixture.path()).unwrap();
    let events = reader.find_stream_head(ended.season_id.into()).unwrap().unwrap();
    assert!(reader.stream_from_head(events).unwrap().len() > 28);
    assert_ne!(next, ended.season_id);
}
