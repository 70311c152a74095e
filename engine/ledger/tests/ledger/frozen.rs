//! Guards: a ledger that an earlier version wrote is opened, verified, replayed and gone on with,
//! to the same hashes, for ever. The fixtures lie in `engine/ledger/fixtures/`, one directory each;
//! they are never changed. `tools/make-fixture NAME` adds one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use daybook_ledger::{
    Accepted, KnownHead, Ledger, NewLedger, Options, Reader, Submission, Time, Verdict,
    VerifyOptions, keys, make_snapshot, replay, snapshots_path, verify,
};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, CommandId, DayNumber, EpochNonce, EventKind, LedgerFormat, LedgerId,
    Pot, SeasonId, Seq, SessionEndReason, SessionNumber, SimulinId, SimulinPath, Species,
    SuspicionCode, UnixMicros, UserId,
};
use daybook_simulator::{Keyring, SeasonKey};

use crate::fixture::{START, user};
use crate::royal::{Royal, find_royal};

/// Names the fixture to be made.
const MAKE: &str = "DAYBOOK_MAKE_FIXTURE";
const DAY_MICROS: i64 = 86_400_000_000;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn season_keys() -> [SeasonKey; 2] {
    [SeasonKey::new([0x31; 32]), SeasonKey::new([0x32; 32])]
}

/// Plays with ids and times that follow from the number of the command.
struct Player {
    ledger: Ledger,
    now: UnixMicros,
    commands: u32,
}

impl Player {
    fn must(&mut self, command: Command) -> Accepted {
        self.now = self.now.plus_micros(1_000_000);
        self.commands += 1;
        let mut random = [0x5f; 10];
        random[..4].copy_from_slice(&self.commands.to_le_bytes());
        let id = CommandId::from_parts(self.now, random);
        let submission = Submission::new(command).with_id(id).at(self.now);
        self.ledger.submit(submission).unwrap().wait().unwrap()
    }

    fn start(
        &mut self,
        user_id: UserId,
        (seed, simulin_id): ([u8; 32], Option<SimulinId>),
    ) -> SeasonId {
        let next = move |state: &daybook_simulator::State| {
            state.users.get(&user_id).unwrap().next_commitment
        };
        let commitment = self.ledger.query(next).unwrap().wait().unwrap().unwrap().commitment;
        let client_seed = ClientSeed::from_seed(&seed);
        let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id };
        self.must(start).events[0].stream.as_season()
    }

    fn bet(&mut self, (user_id, season_id): (UserId, SeasonId), bets: &[(Pot, BetType, u64)]) {
        let orders: Vec<BetOrder> = bets
            .iter()
            .map(|&(pot_id, bet_type, amount)| BetOrder {
                pot_id,
                bet_type,
                amount: Coins::new(amount).unwrap(),
            })
            .collect();
        if let Ok(bets) = BetOrders::new(&orders) {
            self.must(Command::PlaceBets { user_id, season_id, bets });
        }
    }

    fn advance(&mut self, (user_id, season_id): (UserId, SeasonId), day: u8) {
        let expected_day = DayNumber::new(day).unwrap();
        self.must(Command::AdvanceDay { user_id, season_id, expected_day });
    }

    fn level(&self, user_id: UserId) -> u8 {
        let level = move |state: &daybook_simulator::State| {
            state
                .users
                .get(&user_id)
                .unwrap()
                .simulins
                .first()
                .map_or(0, |own| own.bond_level.get())
        };
        self.ledger.query(level).unwrap().wait().unwrap()
    }

    /// Every kind of event, in some three thousand events.
    fn play(&mut self) {
        let [first_key, second_key] = season_keys();
        self.must(Command::RotateKey { key_id: first_key.key_id(), compromised: false });
        let (rich, lucky, idle, waiting) = (user(1), user(2), user(3), user(4));
        for user_id in [rich, lucky, idle, waiting] {
            self.must(Command::RegisterUser { user_id });
        }
        let filled = (rich, self.start(rich, ([1; 32], None)));
        let (user_id, season_id) = filled;
        let code = SuspicionCode::RapidBet;
        let day_number = DayNumber::MIN;
        self.must(Command::FlagSuspicion { user_id, season_id, day_number, code });
        // Everything on growth until it is lost: that fills the jackpot, and brings a stipend.
        for day in 1.. {
            let balance = move |state: &daybook_simulator::State| {
                state.seasons.get(&season_id).unwrap().balance
            };
            let balance = self.ledger.query(balance).unwrap().wait().unwrap();
            if day > 1 && balance == 50 {
                break;
            }
            let amount = u64::try_from(balance).unwrap().min(10_000);
            self.bet(filled, &[(Pot::Growth, BetType::AllIn, amount)]);
            self.advance(filled, day);
        }
        self.must(Command::AbandonSeason { user_id, season_id });
        self.must(Command::StartSession { user_id: lucky });
        self.play_lucky(lucky);
        let left = (idle, self.start(idle, ([3; 32], None)));
        self.bet(left, &[(Pot::Sun, BetType::Raise, 50), (Pot::Pest, BetType::Fold, 0)]);
        self.must(Command::RotateKey { key_id: second_key.key_id(), compromised: false });
        self.must(Command::RenewCommitment { user_id: waiting });
        self.now = self.now.plus_micros(31 * DAY_MICROS);
        self.must(Command::ExpireSeason { user_id: left.0, season_id: left.1 });
        self.must(Command::RestoreLedger { nonce: EpochNonce::new([0xaa; 16]) });
        for user_id in [rich, lucky, idle, waiting] {
            self.must(Command::RenewCommitment { user_id });
        }
        let session_number = SessionNumber::MIN;
        let reason = SessionEndReason::Expired;
        self.must(Command::EndSession { user_id: lucky, session_number, reason });
        self.must(Command::EraseUser { user_id: idle });
    }

    /// Seasons with a companion until it has chosen its path, the first with a royal flush.
    fn play_lucky(&mut self, user_id: UserId) {
        let adopt = Command::AdoptSimulin { user_id, species: Species::Dewdrop };
        self.must(adopt);
        let own = move |state: &daybook_simulator::State| {
            state.users.get(&user_id).unwrap().simulins[0].simulin_id
        };
        let simulin_id = self.ledger.query(own).unwrap().wait().unwrap();
        let search = move |state: &daybook_simulator::State| {
            find_royal((state, &Keyring::new(season_keys())), user_id)
        };
        let Royal { seed, draws, week, plan } = self.ledger.query(search).unwrap().wait().unwrap();
        assert_eq!(draws.len(), 28);
        let usual = [(Pot::Water, BetType::Call, 10), (Pot::Growth, BetType::Fold, 0)];
        let mut royal = Some((seed, week, plan));
        while self.level(user_id) < 8 {
            let (seed, week, plan) = royal.take().unwrap_or(([2; 32], 9, Vec::new()));
            let season = (user_id, self.start(user_id, (seed, Some(simulin_id))));
            for day in 1..=28 {
                let of_week = usize::from(day - 1) / 7 == week;
                match plan.get(usize::from(day - 1) % 7).filter(|_| of_week) {
                    Some(bets) => self.bet(season, bets),
                    None => self.bet(season, &usual),
                }
                self.advance(season, day);
            }
            self.now = self.now.plus_micros(DAY_MICROS);
        }
        let path = SimulinPath::Tender;
        self.must(Command::ChooseSimulinPath { user_id, simulin_id, path });
        self.must(Command::RetireSimulin { user_id, simulin_id });
    }

    /// What goes on in a fixture after it was opened: the same for ever.
    fn go_on(&mut self) {
        let user_id = user(9);
        self.must(Command::RegisterUser { user_id });
        let season = (user_id, self.start(user_id, ([9; 32], None)));
        for day in 1..=28 {
            self.bet(season, &[(Pot::Sun, BetType::Call, 1), (Pot::Pest, BetType::Call, 1)]);
            self.advance(season, day);
        }
        let waiting = user(4);
        let season = (waiting, self.start(waiting, ([4; 32], None)));
        self.bet(season, &[(Pot::Growth, BetType::Call, 10)]);
    }
}

fn open(directory: &Path) -> Player {
    let keys = keys::load(&directory.join("keys")).unwrap();
    let new = NewLedger {
        ledger_id: LedgerId::from_bytes([0x66; 16]),
        created_at: Some(START),
        is_demo: true,
    };
    let options = Options::new(directory, keys.season_keys).time(Time::FromSubmissions);
    let ledger = Ledger::open(options.newest_head(keys.newest_head).create(new)).unwrap();
    let newest = ledger.query(|state| state.users.len() as u32).unwrap().wait().unwrap();
    let reader = ledger.reader().unwrap();
    let now = match Seq::new(ledger.head().seq) {
        Ok(seq) => reader.event(seq).unwrap().header.recorded_at,
        Err(_) => START,
    };
    Player { ledger, now, commands: newest * 100_000 }
}

/// The hashes that a fixture must have: as it lies there, and after it was gone on with. It keeps
/// its format.
fn hashes(directory: &Path) -> String {
    let as_it_is = replay(directory, None, |_, _| {}).unwrap();
    let genesis = *Reader::open(directory).unwrap().genesis();
    let mut player = open(directory);
    player.go_on();
    player.ledger.close().wait().unwrap();
    assert_eq!(*Reader::open(directory).unwrap().genesis(), genesis);
    let after = replay(directory, None, |_, _| {}).unwrap();
    format!(
        "head {}\nstate {}\nhead after {}\nstate after {}\n",
        as_it_is.head,
        as_it_is.state_hash(),
        after.head,
        after.state_hash()
    )
}

/// Copies a fixture, with the rights that keys have.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o700)).unwrap();
        } else {
            std::fs::copy(&path, &target).unwrap();
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Not a test: makes the fixture that is named, for `tools/make-fixture`.
#[test]
fn make_a_fixture() {
    let Ok(name) = std::env::var(MAKE) else { return };
    let directory = fixtures().join(&name);
    assert!(!directory.exists(), "a fixture is never changed");
    let [first_key, second_key] = season_keys();
    let keys_dir = directory.join("keys");
    keys::init(&keys_dir, &first_key).unwrap();
    keys::add_season_key(&keys_dir, &second_key).unwrap();
    let mut player = open(&directory);
    player.play();
    // Closing makes the snapshot.
    player.ledger.close().wait().unwrap();
    std::fs::remove_file(directory.join("ledger.lock")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    copy(&directory, scratch.path());
    std::fs::write(directory.join("hashes.txt"), hashes(scratch.path())).unwrap();
}

#[test]
fn every_fixture_opens_verifies_replays_and_goes_on_as_ever() {
    let entries = std::fs::read_dir(fixtures()).unwrap();
    let names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let (mut snapshot_versions, mut formats) = (Vec::new(), Vec::new());
    for fixture in names {
        let expected = std::fs::read_to_string(fixture.join("hashes.txt")).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        copy(&fixture, scratch.path());
        let kept = keys::load(&scratch.path().join("keys")).unwrap();
        let reader = Reader::open(scratch.path()).unwrap();
        let signed = kept.newest_head.read(reader.genesis().ledger_id).unwrap().unwrap();
        assert_eq!(signed.head, reader.head().unwrap());
        formats.push(reader.genesis().format);
        for kind in EventKind::ALL {
            let kinds = [*kind];
            let found = reader.events_of_kinds(&kinds, Seq::MIN).next().is_some();
            assert!(found, "{kind} is in {}", fixture.display());
        }
        drop(reader);
        let heads: Vec<KnownHead> = vec![signed];
        let options = VerifyOptions { full: true, heads, ..VerifyOptions::default() };
        let report = verify(scratch.path(), &options, &mut |_, _| {}).unwrap();
        assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
        let state = report.state_hash.unwrap().to_string();
        assert!(expected.contains(&format!("state {state}\n")));
        assert_eq!(hashes(scratch.path()), expected, "{}", fixture.display());
        expect_snapshot_is_used(&fixture);
        snapshot_versions.extend(expect_snapshot_as_it_is_made_now(&fixture));
    }
    assert!(snapshot_versions.contains(&2), "one was written as this version writes it");
    assert!(formats.contains(&LedgerFormat::V1) && formats.contains(&LedgerFormat::NEWEST));
}

/// A snapshot of the newest event that has today's version is made again to the same bytes; gives
/// its version.
fn expect_snapshot_as_it_is_made_now(fixture: &Path) -> Option<u8> {
    let scratch = tempfile::tempdir().unwrap();
    copy(fixture, scratch.path());
    let head = Reader::open(scratch.path()).unwrap().head().unwrap();
    let path = snapshots_path(scratch.path()).join(format!("{:020}.snapshot", head.seq));
    let written = std::fs::read(&path).ok()?;
    std::fs::remove_dir_all(snapshots_path(scratch.path())).unwrap();
    assert_eq!(make_snapshot(scratch.path()).unwrap(), head);
    assert_eq!(std::fs::read(&path).unwrap(), written, "{}", fixture.display());
    Some(written[16])
}

/// The snapshot is used: with it a start does not come upon a damaged row.
fn expect_snapshot_is_used(fixture: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    copy(fixture, scratch.path());
    let path = daybook_ledger::ledger_path(scratch.path());
    let connection = rusqlite::Connection::open(path).unwrap();
    let guard = LedgerFormat::NEWEST
        .sql()
        .split("\n\n")
        .find(|part| part.contains("CREATE TRIGGER events_refuse_update"))
        .unwrap();
    connection
        .execute_batch(&format!(
            "DROP TRIGGER events_refuse_update; UPDATE events SET payload = x'' WHERE seq = 9; {guard}"
        ))
        .unwrap();
    drop(connection);
    let mut player = open(scratch.path());
    player.go_on();
    assert_eq!(std::fs::read_dir(snapshots_path(scratch.path())).unwrap().count(), 1);
    player.ledger.close().wait().unwrap();
}
