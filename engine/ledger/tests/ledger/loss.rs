//! Guards: a ledger that lacks events that are known of is not written until the loss is accepted;
//! then a new epoch begins, and whoever knows the lost days' keys gains nothing by it.

use std::path::Path;

use daybook_ledger::{
    Failure, Head, KnownLedger, Ledger, NewLedger, NewestHead, OpenError, Options, Reader, Stopped,
    SubmitError, Verdict, VerifyOptions, WriterLock, keys, make_snapshot, verify,
};
use daybook_schema::commands::ClientSeed;
use daybook_schema::{
    Command, Commitment, DayKey, Event, EventKind, LedgerId, SeasonId, Seq, UserId,
};
use daybook_simulator::{Keyring, Rejection};

use crate::fixture::{Fixture, season_key};

/// A ledger whose newest head is kept in a keys directory, and an older copy of it.
struct Lost {
    fixture: Fixture,
    keys_dir: tempfile::TempDir,
    copy: Vec<u8>,
    user_id: UserId,
    season_id: SeasonId,
}

impl Lost {
    /// A copy is made on day 2 of a season; afterwards the season is played to its end and another
    /// one begun.
    fn new() -> Self {
        let keys_dir = tempfile::tempdir().unwrap();
        keys::init(&keys_dir.path().join("keys"), &season_key()).unwrap();
        let mut fixture = Fixture::new();
        fixture.close();
        let mut lost = Self {
            fixture,
            keys_dir,
            copy: Vec::new(),
            user_id: UserId::from_bytes([0; 16]),
            season_id: SeasonId::from_bytes([0; 16]),
        };
        lost.fixture.ledger = Some(lost.open(false).unwrap());
        lost.user_id = lost.fixture.register(1);
        lost.fixture.register(2);
        lost.season_id = lost.fixture.start(lost.user_id);
        lost.fixture.advance(lost.user_id, lost.season_id, 1);
        lost.fixture.close();
        lost.copy = std::fs::read(lost.fixture.database()).unwrap();
        lost.fixture.ledger = Some(lost.open(false).unwrap());
        for day in 2..=28 {
            lost.fixture.bets(lost.user_id, lost.season_id);
            lost.fixture.advance(lost.user_id, lost.season_id, day);
        }
        lost
    }

    fn newest_head(&self) -> NewestHead {
        keys::load(&self.keys_dir.path().join("keys")).unwrap().newest_head
    }

    fn open(&self, accept_loss: bool) -> Result<Ledger, OpenError> {
        let options = self.fixture.options().newest_head(self.newest_head());
        Ledger::open(options.accept_loss(accept_loss))
    }

    /// Closes the ledger and puts the older copy in its place.
    fn put_copy_back(&mut self) -> Head {
        let newest = self.fixture.ledger().head();
        self.fixture.close();
        std::fs::write(self.fixture.database(), &self.copy).unwrap();
        newest
    }

    fn head_on_disk(&self) -> Head {
        Reader::open(self.fixture.path()).unwrap().head().unwrap()
    }
}

fn expect_behind(opened: Result<Ledger, OpenError>, lost: Head) {
    let error = opened.expect_err("an older copy is not taken for the newest");
    let told = matches!(&error, OpenError::Behind { missing, .. } if missing.head == lost);
    assert!(told, "{error}");
}

fn events(data_dir: &Path, from: Head, kind: EventKind) -> Vec<Event> {
    let from = Seq::new(from.seq + 1).unwrap();
    let reader = Reader::open(data_dir).unwrap();
    reader.events_of_kinds(&[kind], from).map(|event| event.unwrap().event).collect()
}

#[test]
fn the_signed_newest_head_tells_of_an_older_copy() {
    let mut lost = Lost::new();
    let newest = lost.put_copy_back();
    let ledger_id = Reader::open(lost.fixture.path()).unwrap().genesis().ledger_id;
    let signed = lost.newest_head().read(ledger_id).unwrap();
    assert_eq!(signed.map(|known| known.head), Some(newest));
    let copied = lost.head_on_disk();
    expect_behind(lost.open(false), newest);
    expect_behind(lost.open(false), newest);
    assert_eq!(lost.head_on_disk(), copied, "nothing was written");
    // It may not be altered, nor be another key's.
    let path = lost.newest_head().path(ledger_id);
    let signed = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, signed.replacen("head ", "head 1", 1)).unwrap();
    let error = lost.open(false).unwrap_err();
    assert!(matches!(error, OpenError::Keys(keys::KeysError::NotAHead { .. })), "{error}");
}

#[test]
fn a_head_that_was_noted_and_a_snapshot_tell_of_an_older_copy() {
    let mut lost = Lost::new();
    make_snapshot(lost.fixture.path()).unwrap();
    let newest = lost.put_copy_back();
    // The snapshot alone, without the keys directory's head.
    expect_behind(Ledger::open(lost.fixture.options()), newest);
    let report = verify(lost.fixture.path(), &VerifyOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Truncated);
    // A head that was given alone.
    std::fs::remove_dir_all(daybook_ledger::snapshots_path(lost.fixture.path())).unwrap();
    let given = |head| Ledger::open(lost.fixture.options().known_heads(vec![head]));
    expect_behind(given(newest), newest);
    let copied = lost.head_on_disk();
    let forked = Head { seq: copied.seq, hash: newest.hash };
    expect_behind(given(forked), forked);
    given(copied).unwrap().close().wait().unwrap();
}

/// The loss is accepted: a new epoch, the season expired, every commitment renewed, and the next
/// start asks for nothing.
#[test]
fn an_accepted_loss_begins_a_new_epoch() {
    let mut lost = Lost::new();
    make_snapshot(lost.fixture.path()).unwrap();
    lost.put_copy_back();
    let copied = lost.head_on_disk();
    let ledger = lost.open(true).unwrap();
    let epoch = ledger.query(|state| state.identity().epoch).unwrap().wait().unwrap();
    assert_eq!(epoch.number, 2);
    assert_ne!(epoch.nonce.as_bytes(), &[0; 16]);
    ledger.close().wait().unwrap();
    let path = lost.fixture.path();
    assert_eq!(events(path, copied, EventKind::LedgerRestored).len(), 1);
    assert_eq!(events(path, copied, EventKind::SeasonExpired).len(), 1);
    // One with the expiry, one for the user who waited.
    assert_eq!(events(path, copied, EventKind::CommitmentPublished).len(), 2);
    let head = lost.head_on_disk();
    lost.open(false).unwrap().close().wait().unwrap();
    assert_eq!(lost.head_on_disk(), head, "all was done");
    // Accepting where nothing is lost changes nothing.
    lost.open(true).unwrap().close().wait().unwrap();
    assert_eq!(lost.head_on_disk(), head);
    assert_eq!(lost.fixture.verify(true).verdict, Verdict::Intact);
}

/// What the lost days revealed is worth nothing in the new epoch: the season that they were of has
/// ended, and the season that a lost one had the number of has other keys.
#[test]
fn who_kept_the_lost_days_keys_gains_nothing() {
    let mut lost = Lost::new();
    let user_id = lost.user_id;
    lost.fixture.now = lost.fixture.now.plus_micros(86_400_000_000);
    let second = lost.fixture.start(user_id);
    lost.fixture.advance(user_id, second, 1);
    let revealed = lost_keys(lost.fixture.path(), second);
    lost.put_copy_back();
    lost.fixture.ledger = Some(lost.open(true).unwrap());

    // The season whose days 2 to 28 are known cannot be played on.
    let id = lost.fixture.next_id();
    let expected_day = daybook_schema::DayNumber::new(2).unwrap();
    let advance = Command::AdvanceDay { user_id, season_id: lost.season_id, expected_day };
    let refused = lost.fixture.send(id, advance).unwrap_err();
    let SubmitError::Rejected { rejections, .. } = refused else { panic!("{refused}") };
    assert!(rejections.iter().any(|one| matches!(one, Rejection::SeasonExpired)), "{rejections}");
    // The old commitment is refused, and the season that starts instead has other keys.
    let id = lost.fixture.next_id();
    let client_seed = ClientSeed::from_seed(&[0x33; 32]);
    let commitment = revealed.0;
    let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id: None };
    assert!(matches!(lost.fixture.send(id, start), Err(SubmitError::Rejected { .. })));
    let again = lost.fixture.start(user_id);
    lost.fixture.advance(user_id, again, 1);
    let fresh = lost_keys(lost.fixture.path(), again);
    assert_ne!(again, second);
    assert!(fresh.0 != revealed.0 && fresh.1 != revealed.1 && fresh.2 != revealed.2);
    lost.fixture.close();
    assert_eq!(lost.fixture.verify(true).verdict, Verdict::Intact);
}

/// A season's commitment, k0 and k1.
fn lost_keys(data_dir: &Path, season_id: SeasonId) -> (Commitment, DayKey, DayKey) {
    let reader = Reader::open(data_dir).unwrap();
    let head = reader.find_stream_head(season_id.into()).unwrap().unwrap();
    let events = reader.stream_from_head(head).unwrap();
    let started = events.iter().find_map(|stored| match &stored.event {
        Event::SeasonStarted(event) => Some(event),
        _ => None,
    });
    let started = started.unwrap();
    let resolved = events.iter().find_map(|stored| match &stored.event {
        Event::DayResolved(event) => Some(event.day_key),
        _ => None,
    });
    (started.commitment, started.day_key_zero, resolved.unwrap())
}

/// Killed between the new epoch and what follows from it, the next start goes on.
#[test]
fn an_interrupted_restore_is_finished_by_the_next_start() {
    let mut lost = Lost::new();
    lost.put_copy_back();
    lost.fixture.remove_snapshots();
    let newest_head = lost.newest_head();
    let ledger_id = Reader::open(lost.fixture.path()).unwrap().genesis().ledger_id;
    newest_head.remove(ledger_id).unwrap();
    lost.fixture.open();
    let copied = lost.head_on_disk();
    let nonce = daybook_schema::EpochNonce::new([5; 16]);
    lost.fixture.must(Command::RestoreLedger { nonce });
    lost.fixture.close();
    assert_eq!(events(lost.fixture.path(), copied, EventKind::SeasonExpired).len(), 0);
    lost.open(false).unwrap().close().wait().unwrap();
    assert_eq!(events(lost.fixture.path(), copied, EventKind::LedgerRestored).len(), 1);
    assert_eq!(events(lost.fixture.path(), copied, EventKind::SeasonExpired).len(), 1);
    assert_eq!(lost.fixture.verify(true).verdict, Verdict::Intact);
}

/// A ledger that is moved away while it is open takes no more writes: nobody would find them again.
#[test]
fn a_ledger_that_is_moved_while_open_is_not_written() {
    for name in ["ledger.db", "ledger.db-wal"] {
        let mut fixture = Fixture::new();
        let user_id = fixture.register(1);
        let head = fixture.ledger().head();
        let (path, moved) = (fixture.path().join(name), fixture.path().join("elsewhere"));
        std::fs::rename(&path, &moved).unwrap();
        let id = fixture.next_id();
        let error = fixture.send(id, Command::StartSession { user_id }).unwrap_err();
        assert!(matches!(
            &error,
            SubmitError::Unavailable(Stopped::Failed(Failure::FileMoved { .. }))
        ));
        std::fs::rename(&moved, &path).unwrap();
        assert!(fixture.ledger.take().unwrap().close().wait().is_err());
        fixture.open();
        assert_eq!(fixture.ledger().head(), head, "{name}");
    }
}

/// Snapshots of the lost branch go, whatever their seq and name: the next start asks for nothing.
#[test]
fn what_told_of_an_accepted_loss_does_not_tell_again() {
    let mut lost = Lost::new();
    make_snapshot(lost.fixture.path()).unwrap();
    let snapshots = daybook_ledger::snapshots_path(lost.fixture.path());
    let newest = lost.put_copy_back();
    let kept = snapshots.join(format!("{:020}.snapshot", newest.seq));
    for name in ["00000000000000000003.snapshot", "00000000000099999999.snapshot"] {
        std::fs::copy(&kept, snapshots.join(name)).unwrap();
    }
    std::fs::write(snapshots.join("notes.txt"), "mine").unwrap();
    expect_behind(lost.open(false), newest);
    lost.open(true).unwrap().close().wait().unwrap();
    let head = lost.head_on_disk();
    lost.open(false).unwrap().close().wait().unwrap();
    assert_eq!(lost.head_on_disk(), head);
    // Those that closing made are of this ledger; what is not ours stays.
    for entry in std::fs::read_dir(&snapshots).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let seq = name.strip_suffix(".snapshot").map(|seq| seq.parse::<u64>().unwrap());
        assert!(
            name == "notes.txt" || seq.is_some_and(|seq| (9..=head.seq).contains(&seq)),
            "{name}"
        );
    }
    assert!(snapshots.join("notes.txt").exists());
}

/// Where anything tells of a ledger that is gone, no other is made in its place unless that one is
/// named; and nothing at all is made.
#[test]
fn no_ledger_is_made_in_the_place_of_one_that_is_gone() {
    let lost = {
        let mut lost = Lost::new();
        make_snapshot(lost.fixture.path()).unwrap();
        lost.fixture.close();
        lost
    };
    let (path, ledger_id) = (lost.fixture.path(), lost.fixture.ledger_id());
    let snapshots = daybook_ledger::snapshots_path(path);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"] {
        drop(std::fs::remove_file(path.join(name)));
    }
    let other = NewLedger::random();
    let create = |options: Options| options.create(other);
    let expect_lost = |options: Options, told: Option<LedgerId>| {
        let error = Ledger::open(options).unwrap_err();
        let OpenError::Lost { lost, .. } = &error else { panic!("{error}") };
        assert!(lost.iter().all(|lost| lost.ledger_id == told), "{error}");
        assert!(!path.join("ledger.db").exists() && !path.join("ledger.lock").exists());
    };
    let plain = || create(Options::new(path, Keyring::new([season_key()])));
    // Its signed head, whatever is in the file; then its snapshots, whole or not.
    let with_head = || plain().newest_head(lost.newest_head());
    std::fs::rename(&snapshots, path.join("elsewhere")).unwrap();
    expect_lost(with_head(), Some(ledger_id));
    std::fs::write(lost.newest_head().path(ledger_id), "cut").unwrap();
    expect_lost(with_head(), Some(ledger_id));
    expect_lost(with_head().instead_of(other.ledger_id), Some(ledger_id));
    lost.newest_head().remove(ledger_id).unwrap();
    std::fs::rename(path.join("elsewhere"), &snapshots).unwrap();
    expect_lost(with_head(), Some(ledger_id));
    for entry in std::fs::read_dir(&snapshots).unwrap() {
        std::fs::write(entry.unwrap().path(), "daybook snapsho").unwrap();
    }
    expect_lost(with_head().instead_of(ledger_id), None);
    std::fs::remove_dir_all(&snapshots).unwrap();
    // What the caller knows: heads, and ledgers.
    let head = Head { seq: 7, hash: daybook_schema::EventHash::new([7; 32]) };
    expect_lost(plain().known_heads([head]), None);
    let source = "a position".to_owned();
    let known = || KnownLedger { ledger_id, source: source.clone() };
    expect_lost(plain().known_ledgers([known()]), Some(ledger_id));
    // Named, it is replaced; where nothing tells of one, a first start passes.
    Ledger::open(plain().known_ledgers([known()]).instead_of(ledger_id))
        .unwrap()
        .close()
        .wait()
        .unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let options = Options::new(fresh.path(), Keyring::new([season_key()]));
    Ledger::open(options.create(other)).unwrap().close().wait().unwrap();
}

/// A ledger that is dropped without a word is closed all the same: its threads end before its lock
/// goes.
#[test]
fn a_dropped_ledger_is_closed() {
    let mut lost = Lost::new();
    let ledger = lost.fixture.ledger.take().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    // The state's thread waits here, and the drop waits for it.
    let asked = ledger.query(move |_| held.recv().is_ok()).unwrap();
    let dropping = std::thread::spawn(move || drop(ledger));
    for _ in 0..40 {
        assert!(WriterLock::take(lost.fixture.path()).is_err(), "the lock went before the threads");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    release.send(()).unwrap();
    dropping.join().unwrap();
    assert!(asked.wait().unwrap());
    let reopened = lost.open(false).unwrap();
    let head = reopened.head();
    reopened.close().wait().unwrap();
    let ledger_id = lost.fixture.ledger_id();
    let signed = lost.newest_head().read(ledger_id).unwrap();
    assert_eq!(signed.map(|known| known.head), Some(head));
}
