//! A ledger in memory: decides, chains and applies commands, and audits each one on the way.

use daybook_schema::chain::{CommandMark, CommandPart, EventHeader};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, CommandId, DayNumber, Event, EventHash, Game, Genesis, LedgerFormat,
    LedgerId, Pot, SeasonId, Seq, SimulinId, StreamId, UnixMicros, UserId,
};
use daybook_simulator::{
    AuditKeys, Context, Keyring, NewEvent, Rejections, Rulesets, SeasonKey, SeasonKeys, State,
    decide, evolve, reconstruct,
};

pub const START: UnixMicros = UnixMicros::from_seconds(1_767_571_200);
pub const SECOND: i64 = 1_000_000;
pub const DAY: i64 = 86_400 * SECOND;

pub struct World {
    pub state: State,
    pub keys: Box<dyn SeasonKeys>,
    /// Whether every command is decided again from its events: needs keys that are hash chains.
    pub audited: bool,
    pub rulesets: Rulesets,
    pub now: UnixMicros,
    pub log: Vec<Logged>,
    head: (u64, EventHash),
    commands: u64,
}

pub struct Logged {
    pub stream: StreamId,
    pub event: Event,
    pub hash: EventHash,
}

const LEDGER: [u8; 16] = [9; 16];

pub fn season_key(number: u8) -> SeasonKey {
    SeasonKey::new([number; 32])
}

pub fn user(number: u8) -> UserId {
    let mut bytes = [number; 16];
    // The ledger's own id is no user's.
    bytes[15] = if bytes == LEDGER { 0 } else { number };
    UserId::from_bytes(bytes)
}

impl World {
    /// A ledger with key 1 in force.
    pub fn new() -> Self {
        let mut world = Self::with_keys(Box::new(Keyring::new([season_key(1), season_key(2)])));
        world.rotate(1, false);
        world
    }

    pub fn with_keys(keys: Box<dyn SeasonKeys>) -> Self {
        let genesis = Genesis {
            ledger_id: LedgerId::from_bytes(LEDGER),
            // The golden seasons' draws rest on hash(0): they are those of the first format.
            format: LedgerFormat::V1,
            created_at: START,
            is_demo: false,
            game: Game::FarmingSeason,
        };
        let head = (0, genesis.hash());
        let state = State::new(genesis);
        let (rulesets, log) = (Rulesets::default(), Vec::new());
        Self { state, keys, audited: true, rulesets, now: START, log, head, commands: 0 }
    }

    pub fn rotate(&mut self, key: u8, compromised: bool) {
        let key_id = season_key(key).key_id();
        self.must(Command::RotateKey { key_id, compromised });
    }

    pub fn decide(&self, command: &Command) -> Result<Vec<NewEvent>, Rejections> {
        let id = self.command_id();
        let keys = self.keys.as_ref();
        let context = Context { client_command_id: Some(id), ..Context::new(self.now, keys) };
        decide(&self.rulesets, &self.state, command, &context)
    }

    fn command_id(&self) -> CommandId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.commands.to_le_bytes());
        CommandId::from_parts(self.now, random)
    }

    /// Runs a command: it is refused, or it changes the state.
    pub fn run(&mut self, command: &Command) -> Result<Vec<NewEvent>, Rejections> {
        let events = self.decide(command)?;
        assert!(!events.is_empty(), "an accepted command has events");
        if self.audited {
            self.audit(command, &events);
        }
        let id = self.command_id();
        self.commands += 1;
        let mark = CommandMark { id, hash: command.to_stored().hash() };
        let size = u8::try_from(events.len()).unwrap();
        for (place, new) in (0..size).zip(&events) {
            self.apply(new, CommandPart { place, size, mark: (place == 0).then_some(mark) });
        }
        Ok(events)
    }

    pub fn must(&mut self, command: Command) -> Vec<NewEvent> {
        self.run(&command).unwrap_or_else(|rejections| panic!("{command:?}: {rejections}"))
    }

    /// The codes of the rejections that a command meets.
    pub fn refused(&mut self, command: Command) -> Vec<&'static str> {
        let rejections = self.run(&command).expect_err("the command must be refused");
        rejections.iter().map(daybook_simulator::Rejection::code).collect()
    }

    fn apply(&mut self, new: &NewEvent, command: CommandPart) {
        let seq = Seq::new(self.head.0 + 1).unwrap();
        let header = EventHeader {
            seq,
            recorded_at: self.now,
            stream: new.stream,
            stream_prev: None,
            kind: new.event.kind().number().into(),
            version: new.event.version(),
            command,
        };
        let mut payload = Vec::new();
        new.event.encode(&mut payload);
        let hash = header.hash(&self.head.1, &payload);
        self.head = (seq.get(), hash);
        evolve(&mut self.state, &header, hash, &new.event);
        self.log.push(Logged { stream: new.stream, event: new.event.clone(), hash });
        self.check_accounts();
    }

    /// The accounts, counted afresh from the seasons in play.
    fn check_accounts(&self) {
        let seasons = self.state.seasons.ordered();
        let accounts = self.state.accounts;
        let count = |coins: &dyn Fn(&daybook_simulator::Season) -> i64| -> i128 {
            seasons.iter().map(|(_, season)| i128::from(coins(season)) * 1_000).sum()
        };
        assert_eq!(accounts.balances, count(&|season| season.balance));
        assert_eq!(accounts.escrows, count(&|season| season.escrow));
        assert_eq!(accounts.sum(), 0);
        for (id, _) in seasons {
            self.state.check_accounts(Some(id)).unwrap();
        }
    }

    /// Decides a command again from its events alone.
    fn audit(&self, command: &Command, events: &[NewEvent]) {
        let rebuilt = reconstruct(&self.state, events).unwrap();
        assert_eq!(rebuilt.to_stored(), command.to_stored(), "a command can be made again");
        let keys = AuditKeys::from_events(&self.state, events);
        let starting_ruleset = events.iter().find_map(|new| match &new.event {
            Event::SeasonStarted(started) => Some(started.ruleset),
            _ => None,
        });
        let client_command_id = Some(self.command_id());
        let context =
            Context { client_command_id, starting_ruleset, ..Context::new(self.now, &keys) };
        let again = decide(&self.rulesets, &self.state, &rebuilt, &context);
        assert_eq!(again.as_deref(), Ok(events), "an audit needs no secret");
    }

    pub fn wait(&mut self, micros: i64) {
        self.now = self.now.plus_micros(micros);
    }

    pub fn register(&mut self, user_id: UserId) {
        self.must(Command::RegisterUser { user_id });
    }

    pub fn start_command(&self, user_id: UserId, simulin_id: Option<SimulinId>) -> Command {
        let next = self.state.users.get(&user_id).unwrap().next_commitment.expect("a commitment");
        let client_seed = ClientSeed::from_seed(&[3; 32]);
        Command::StartSeason { user_id, commitment: next.commitment, client_seed, simulin_id }
    }

    /// Registers a user and starts a season.
    pub fn season(&mut self, number: u8) -> (UserId, SeasonId) {
        let user_id = user(number);
        self.register(user_id);
        self.start(user_id)
    }

    pub fn start(&mut self, user_id: UserId) -> (UserId, SeasonId) {
        let start = self.start_command(user_id, None);
        let events = self.must(start);
        (user_id, events[0].stream.as_season())
    }

    pub fn advance_command(&self, (user_id, season_id): (UserId, SeasonId)) -> Command {
        let expected_day =
            self.state.seasons.get(&season_id).map_or(DayNumber::MIN, |season| season.day_number);
        Command::AdvanceDay { user_id, season_id, expected_day }
    }

    pub fn advance(&mut self, season: (UserId, SeasonId)) -> Vec<NewEvent> {
        self.wait(SECOND);
        let command = self.advance_command(season);
        self.must(command)
    }

    pub fn bet_command(
        &self,
        (user_id, season_id): (UserId, SeasonId),
        bets: &[(Pot, BetType, u64)],
    ) -> Command {
        let orders: Vec<BetOrder> = bets
            .iter()
            .map(|&(pot_id, bet_type, amount)| BetOrder {
                pot_id,
                bet_type,
                amount: Coins::new(amount).unwrap(),
            })
            .collect();
        Command::PlaceBets { user_id, season_id, bets: BetOrders::new(&orders).unwrap() }
    }

    pub fn balance(&self, season_id: SeasonId) -> u64 {
        self.state.seasons.get(&season_id).unwrap().coins().get()
    }
}
