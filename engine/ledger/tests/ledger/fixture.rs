//! A small demo ledger whose time is in the tests' hands.

use std::path::{Path, PathBuf};

use daybook_ledger::{
    Accepted, Ledger, NewLedger, Options, Report, Submission, SubmitError, Time, VerifyOptions,
    ledger_path, snapshots_path, verify,
};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, CommandId, DayNumber, LedgerId, Pot, SeasonId, UnixMicros, UserId,
};
use daybook_simulator::{Keyring, SeasonKey};

const LEDGER: [u8; 16] = [0x22; 16];

pub const START: UnixMicros = UnixMicros::from_seconds(1_767_571_200);

pub fn season_key() -> SeasonKey {
    SeasonKey::new([0x11; 32])
}

pub fn user(number: u8) -> UserId {
    let mut bytes = [number; 16];
    // The ledger's own id is no user's.
    bytes[15] = if bytes == LEDGER { 0 } else { number };
    UserId::from_bytes(bytes)
}

/// An answer as a repeat gets it.
pub fn repeated(first: &Accepted) -> Accepted {
    Accepted { repeated: true, ..first.clone() }
}

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub ledger: Option<Ledger>,
    pub now: UnixMicros,
    ledger_id: LedgerId,
    commands: u8,
}

impl Fixture {
    pub fn new() -> Self {
        Self::of(LedgerId::from_bytes(LEDGER))
    }

    fn of(ledger_id: LedgerId) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut fixture = Self { directory, ledger: None, ledger_id, now: START, commands: 0 };
        fixture.open();
        let key_id = season_key().key_id();
        fixture.must(Command::RotateKey { key_id, compromised: false });
        fixture
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn ledger_id(&self) -> LedgerId {
        self.ledger_id
    }

    pub fn database(&self) -> PathBuf {
        ledger_path(self.path())
    }

    pub fn options(&self) -> Options {
        let new = NewLedger { ledger_id: self.ledger_id, created_at: Some(START), is_demo: true };
        Options::new(self.path(), Keyring::new([season_key()]))
            .create(new)
            .time(Time::FromSubmissions)
    }

    pub fn open(&mut self) {
        self.ledger = Some(Ledger::open(self.options()).unwrap());
    }

    pub fn close(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.close().wait().unwrap();
        }
    }

    pub fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().expect("an open ledger")
    }

    /// An id that no command had before.
    pub fn next_id(&mut self) -> CommandId {
        self.commands += 1;
        CommandId::from_parts(self.now, [self.commands; 10])
    }

    pub fn send(&self, id: CommandId, command: Command) -> Result<Accepted, SubmitError> {
        let submission = Submission::new(command).with_id(id).at(self.now);
        self.ledger().submit(submission).unwrap().wait()
    }

    pub fn must(&mut self, command: Command) -> Accepted {
        self.now = self.now.plus_micros(1_000_000);
        let id = self.next_id();
        self.send(id, command).unwrap()
    }

    pub fn register(&mut self, number: u8) -> UserId {
        let user_id = user(number);
        self.must(Command::RegisterUser { user_id });
        user_id
    }

    pub fn start(&mut self, user_id: UserId) -> SeasonId {
        let commitment = self
            .ledger()
            .query(move |state| {
                state.users.get(&user_id).unwrap().next_commitment.unwrap().commitment
            })
            .unwrap()
            .wait()
            .unwrap();
        let client_seed = ClientSeed::from_seed(&[0x33; 32]);
        let start = Command::StartSeason { user_id, commitment, client_seed, simulin_id: None };
        self.must(start).events[0].stream.as_season()
    }

    pub fn bets(&mut self, user_id: UserId, season_id: SeasonId) -> Accepted {
        let call = |pot_id, amount| BetOrder {
            pot_id,
            bet_type: BetType::Call,
            amount: Coins::new(amount).unwrap(),
        };
        let bets = BetOrders::new(&[call(Pot::Water, 20), call(Pot::Growth, 10)]).unwrap();
        self.must(Command::PlaceBets { user_id, season_id, bets })
    }

    pub fn advance(&mut self, user_id: UserId, season_id: SeasonId, day: u8) -> Accepted {
        let expected_day = DayNumber::new(day).unwrap();
        self.must(Command::AdvanceDay { user_id, season_id, expected_day })
    }

    /// A start then reads the ledger from its first event on.
    pub fn remove_snapshots(&self) {
        drop(std::fs::remove_dir_all(snapshots_path(self.path())));
    }

    /// Two users, one with a few days of a season, one with a whole one; no snapshot tells of its
    /// rows.
    pub fn played() -> Self {
        Self::played_as(LedgerId::from_bytes(LEDGER))
    }

    /// The same, in a ledger of another id.
    pub fn played_as(ledger_id: LedgerId) -> Self {
        let mut fixture = Self::of(ledger_id);
        let first = fixture.register(1);
        let second = fixture.register(2);
        fixture.must(Command::StartSession { user_id: first });
        let short = fixture.start(first);
        let whole = fixture.start(second);
        for day in 1..=28 {
            if day <= 3 {
                fixture.bets(first, short);
                fixture.advance(first, short, day);
            }
            fixture.bets(second, whole);
            fixture.advance(second, whole, day);
        }
        fixture.close();
        fixture.remove_snapshots();
        fixture
    }

    pub fn verify(&self, full: bool) -> Report {
        let options = VerifyOptions { full, ..VerifyOptions::default() };
        verify(self.path(), &options, &mut |_, _| {}).unwrap()
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How often a test that draws its cases at random repeats them: as often as `DAYBOOK_LONG` says
/// where it is set, else a number that suits every run.
pub fn repeats(in_every_run: u64) -> u64 {
    std::env::var("DAYBOOK_LONG").map_or(in_every_run, |text| text.parse().unwrap())
}
