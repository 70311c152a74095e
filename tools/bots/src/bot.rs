//! The bots: who they are, when they come, and what they do next.
//!
//! | temperament | of 100 | bets |
//! |---|---|---|
//! | idle | 15 | folds, or a call of 10 now and then |
//! | timid | 25 | one or two small calls, folds the rest |
//! | caller | 30 | calls a tenth on every pot, each bet a command of its own now and then |
//! | raiser | 20 | raises two pots by a quarter, calls the rest |
//! | all-in | 10 | everything on one pot now and then, else calls |
//!
//! | habit | of 100 | comes |
//! |---|---|---|
//! | devoted | 6 | every day, up to four seasons a day, with a simulin that it leads to its path |
//! | regular | 20 | seven days of ten, half a season to a whole one |
//! | fading | 54 | on fewer and fewer days, a few days of its season each |
//! | vanishing | 10 | two or three times, then never again: its season expires |
//! | fickle | 6 | as a regular one, but abandons every other season |
//! | leaving | 4 | a few days, then abandons and has itself erased |
//!
//! One bot in forty is too fast for a person: its second bet command is refused, and flagged.

use daybook_ledger::Accepted;
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, BondLevel, ClientSeedSource, Coins, Command, CommandId, Commitment, DayNumber, Event,
    Pot, SeasonId, SessionEndReason, SessionNumber, SimulinId, SimulinPath, SimulinStage, Species,
    UnixMicros, UserId, commands,
};
use daybook_simulator::{Generator, bet_bounds};

/// How a bot bets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temperament {
    Idle,
    Timid,
    Caller,
    Raiser,
    AllIn,
}

/// When a bot comes, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Devoted,
    Regular,
    Fading,
    Vanishing,
    Fickle,
    Leaving,
}

struct OwnSimulin {
    id: SimulinId,
    species: Species,
    level: BondLevel,
    has_path: bool,
}

struct OpenSeason {
    id: SeasonId,
    day: DayNumber,
    balance: u64,
    decided: Vec<Pot>,
    species: Option<Species>,
}

/// What a visit still has ahead.
#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    days_left: u32,
    seasons_left: u32,
    abandons: bool,
    leaves_for_good: bool,
}

/// What a bot does next.
pub(crate) enum Step {
    /// Sends a command.
    Send(Command),
    /// Has seen enough for today.
    Rest,
    /// Never comes again.
    Gone,
}

/// A bot: what it knows of its own affairs, as answered by the engine.
pub(crate) struct Bot {
    generator: Generator,
    pub(crate) user_id: UserId,
    temperament: Temperament,
    habit: Habit,
    is_rapid: bool,
    registered: bool,
    erased: bool,
    commitment: Option<Commitment>,
    pub(crate) session: Option<(SessionNumber, UnixMicros)>,
    season: Option<OpenSeason>,
    seasons_started: u32,
    visits: u32,
    simulins: Vec<OwnSimulin>,
    visit: Visit,
}

impl Bot {
    pub(crate) fn new(mut generator: Generator, index: u32, joins_at: UnixMicros) -> Self {
        let temperament = match generator.below(100) {
            0..15 => Temperament::Idle,
            15..40 => Temperament::Timid,
            40..70 => Temperament::Caller,
            70..90 => Temperament::Raiser,
            _ => Temperament::AllIn,
        };
        // The first few show every habit, however few players there are.
        let habit = match (index, generator.below(100)) {
            (0, _) | (6.., 0..6) => Habit::Devoted,
            (1, _) | (6.., 6..26) => Habit::Regular,
            (2, _) | (6.., 26..80) => Habit::Fading,
            (3, _) | (6.., 80..90) => Habit::Vanishing,
            (4, _) | (6.., 90..96) => Habit::Fickle,
            _ => Habit::Leaving,
        };
        let user_id = UserId::from_bytes(*new_id(&mut generator, joins_at).as_bytes());
        Self {
            generator,
            user_id,
            temperament,
            habit,
            is_rapid: index % 40 == 1,
            registered: false,
            erased: false,
            commitment: None,
            session: None,
            season: None,
            seasons_started: 0,
            visits: 0,
            simulins: Vec::new(),
            visit: Visit::default(),
        }
    }

    /// A command's id at a time, from the bot's own randomness.
    pub(crate) fn command_id(&mut self, at: UnixMicros) -> CommandId {
        new_id(&mut self.generator, at)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.generator.below(100) < percent
    }

    fn between(&mut self, least: u64, most: u64) -> u32 {
        u32::try_from(least + self.generator.below(most - least + 1)).unwrap_or(0)
    }

    /// Whether the bot comes on the day with this number since it joined, and when in the day, in
    /// seconds.
    pub(crate) fn comes_on(&mut self, day: u32) -> Option<u64> {
        let comes = day == 0
            || match self.habit {
                Habit::Devoted => true,
                Habit::Regular | Habit::Fickle => self.chance(70),
                Habit::Fading => self.chance(90_u64.saturating_sub(u64::from(day) * 5).max(3)),
                Habit::Vanishing => self.visits < 3 && self.chance(60),
                Habit::Leaving => self.chance(80),
            };
        let second = 18 * 3_600 + self.generator.below(1_800);
        (comes && !self.erased).then_some(second)
    }

    /// Begins a visit: how much of a season it will last.
    pub(crate) fn begin_visit(&mut self) {
        self.visits += 1;
        let (days_left, seasons_left) = match self.habit {
            Habit::Devoted => (112, self.between(3, 4)),
            Habit::Regular => (self.between(14, 30), 1),
            Habit::Fickle => (self.between(8, 20), 2),
            Habit::Fading => (self.between(3, 14), 1),
            Habit::Vanishing => (self.between(2, 6), 1),
            Habit::Leaving => (self.between(4, 9), 1),
        };
        self.visit = Visit {
            days_left,
            seasons_left,
            abandons: self.habit == Habit::Fickle && self.visits.is_multiple_of(2),
            leaves_for_good: self.habit == Habit::Leaving && self.visits >= 4,
        };
    }

    /// The time until the bot's next step, in microseconds.
    pub(crate) fn think(&mut self) -> i64 {
        let slow = 2_000_000 + self.generator.below(6_000_000);
        let hurries =
            self.is_rapid && self.season.as_ref().is_some_and(|season| season.decided.len() == 1);
        if hurries { 40_000 } else { i64::try_from(slow).unwrap_or(2_000_000) }
    }

    /// The next step at this time.
    pub(crate) fn step(&mut self, now: UnixMicros) -> Step {
        let user_id = self.user_id;
        if self.erased {
            return Step::Gone;
        }
        if !self.registered {
            return Step::Send(Command::RegisterUser { user_id });
        }
        if self.session.is_none() {
            return Step::Send(Command::StartSession { user_id });
        }
        if let Some(command) = self.parting().or_else(|| self.tend_simulins()) {
            return Step::Send(command);
        }
        if self.visit.days_left == 0 {
            return self.end_visit();
        }
        let Some((season_id, expected_day)) = self.season_and_day() else {
            return self.start_season(now).map_or_else(|| self.end_visit(), Step::Send);
        };
        Step::Send(self.place_bets().unwrap_or_else(|| {
            self.visit.days_left -= 1;
            Command::AdvanceDay { user_id, season_id, expected_day }
        }))
    }

    /// Abandoning, or leaving for good.
    fn parting(&mut self) -> Option<Command> {
        let user_id = self.user_id;
        if !self.visit.abandons && !self.visit.leaves_for_good {
            return None;
        }
        match (&self.season, self.visit.leaves_for_good) {
            (Some(season), _) => {
                self.visit.abandons = false;
                Some(Command::AbandonSeason { user_id, season_id: season.id })
            }
            (None, true) => Some(Command::EraseUser { user_id }),
            (None, false) => None,
        }
    }

    fn tend_simulins(&mut self) -> Option<Command> {
        let user_id = self.user_id;
        let wants_one = matches!(self.habit, Habit::Devoted)
            || (self.temperament == Temperament::Raiser && self.visits == 2);
        if wants_one && self.simulins.is_empty() {
            let species = self.draw_species();
            return Some(Command::AdoptSimulin { user_id, species });
        }
        // Now and then a second one comes, and goes again after a season.
        if self.habit == Habit::Devoted && self.season.is_none() {
            if self.simulins.len() == 1 && self.seasons_started % 9 == 4 {
                let species = self.draw_species();
                return Some(Command::AdoptSimulin { user_id, species });
            }
            if let Some(second) = self.simulins.get(1)
                && self.seasons_started % 9 == 6
            {
                return Some(Command::RetireSimulin { user_id, simulin_id: second.id });
            }
        }
        let grown = self.simulins.iter().find(|simulin| {
            !simulin.has_path && simulin.level.stage() != SimulinStage::Sproutling
        })?;
        let paths = [SimulinPath::Tender, SimulinPath::Watcher, SimulinPath::Lucky];
        let simulin_id = grown.id;
        let drawn = self.between(0, 2);
        let path = paths.into_iter().nth(drawn as usize)?;
        Some(Command::ChooseSimulinPath { user_id, simulin_id, path })
    }

    fn draw_species(&mut self) -> Species {
        let number = u8::try_from(self.generator.below(4)).unwrap_or(0);
        Species::from_number(number).unwrap_or(Species::Dewdrop)
    }

    fn start_season(&mut self, now: UnixMicros) -> Option<Command> {
        if self.visit.seasons_left == 0 {
            return None;
        }
        self.visit.seasons_left -= 1;
        let client_seed = if self.chance(50) {
            ClientSeed::CommandId
        } else {
            let id = self.command_id(now);
            ClientSeed::Digest(commands::client_digest(ClientSeedSource::ClientSeed, id.as_bytes()))
        };
        Some(Command::StartSeason {
            user_id: self.user_id,
            commitment: self.commitment?,
            client_seed,
            simulin_id: self.simulins.first().map(|simulin| simulin.id),
        })
    }

    fn end_visit(&mut self) -> Step {
        // One visit in five ends without a logout; the session expires a week later.
        let logs_out = self.chance(80);
        match self.session {
            Some((session_number, _)) if logs_out => Step::Send(Command::EndSession {
                user_id: self.user_id,
                session_number,
                reason: SessionEndReason::Logout,
            }),
            _ => Step::Rest,
        }
    }

    /// The day's bets, or what is left of them; `None` when all pots are decided.
    fn place_bets(&mut self) -> Option<Command> {
        let season = self.season.as_ref()?;
        let (season_id, mut balance) = (season.id, season.balance);
        let (species, decided) = (season.species, season.decided.clone());
        let open: Vec<Pot> =
            Pot::ALL.iter().copied().filter(|pot| !decided.contains(pot)).collect();
        let favourite = species.map_or(Pot::Water, Species::attuned_pot);
        let one_by_one =
            self.is_rapid || (self.temperament == Temperament::Caller && self.chance(10));
        let mut orders = Vec::new();
        for &pot_id in &open {
            let (bet_type, divisor) = self.wants(pot_id, favourite);
            let order = order(pot_id, bet_type, divisor, balance);
            balance -= order.amount.get();
            orders.push(order);
            if one_by_one {
                break;
            }
        }
        // An idle bot does not even fold on most days.
        if self.temperament == Temperament::Idle && self.habit != Habit::Devoted && self.chance(60)
        {
            return None;
        }
        let bets = BetOrders::new(&orders).ok()?;
        Some(Command::PlaceBets { user_id: self.user_id, season_id, bets })
    }

    /// The bet that the bot would like to place on a pot, and the divisor of its balance.
    fn wants(&mut self, pot: Pot, favourite: Pot) -> (BetType, u64) {
        let boldly = self.chance(20);
        match self.temperament {
            _ if pot == favourite && self.habit == Habit::Devoted => (BetType::Call, 10),
            Temperament::Idle => (if boldly { BetType::Call } else { BetType::Fold }, 40),
            Temperament::Timid => match pot {
                Pot::Water | Pot::Sun => (BetType::Call, 30),
                _ => (BetType::Fold, 1),
            },
            Temperament::Caller => (BetType::Call, 10),
            Temperament::Raiser if matches!(pot, Pot::Water | Pot::Growth) => (BetType::Raise, 4),
            Temperament::AllIn if pot == Pot::Pest && boldly => (BetType::AllIn, 1),
            Temperament::Raiser | Temperament::AllIn => (BetType::Call, 20),
        }
    }

    /// Learns from an accepted command.
    pub(crate) fn learn(&mut self, accepted: &Accepted) {
        for new in &accepted.events {
            match &new.event {
                Event::UserRegistered(_) => self.registered = true,
                Event::UserErased(_) => self.erased = true,
                Event::SessionStarted(event) => {
                    self.session = Some((event.session_number, accepted.recorded_at));
                }
                Event::SessionEnded(_) => {
                    self.session = None;
                    self.visit.days_left = 0;
                }
                Event::CommitmentPublished(event) => self.commitment = Some(event.commitment),
                Event::SimulinAdopted(event) => self.simulins.push(OwnSimulin {
                    id: event.simulin_id,
                    species: event.species,
                    level: BondLevel::MIN,
                    has_path: false,
                }),
                Event::SimulinRetired(event) => {
                    self.simulins.retain(|simulin| simulin.id != event.simulin_id);
                }
                Event::SimulinPathChosen(event) => {
                    let own = self.simulins.iter_mut().find(|own| own.id == event.simulin_id);
                    own.into_iter().for_each(|own| own.has_path = true);
                }
                Event::SimulinLevelReached(event) => {
                    let own = self.simulins.iter_mut().find(|own| own.id == event.simulin_id);
                    own.into_iter().for_each(|own| own.level = event.bond_level);
                }
                event => self.learn_of_season(new.stream.as_season(), event),
            }
        }
    }

    fn learn_of_season(&mut self, id: SeasonId, event: &Event) {
        if let Event::SeasonStarted(event) = event {
            self.seasons_started += 1;
            let balance = event.coins.get();
            let species = self.simulins.first().map(|simulin| simulin.species);
            let (day, decided) = (DayNumber::MIN, Vec::new());
            self.season = Some(OpenSeason { id, day, balance, decided, species });
            return;
        }
        let Some(season) = &mut self.season else { return };
        match event {
            Event::DayOpened(event) => {
                season.day = event.day_number;
                season.decided.clear();
            }
            Event::BetPlaced(event) => {
                season.balance -= event.amount.get();
                season.decided.push(event.pot_id);
            }
            Event::BetResolved(event) => season.balance += event.payout.get(),
            Event::StipendGranted(event) => season.balance += event.amount.get(),
            Event::JackpotPaid(event) => season.balance += event.amount.get(),
            Event::SeasonCompleted(_) | Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => {
                self.season = None;
            }
            _ => {}
        }
    }

    /// The season and day that a refused bet of a bot that is too fast concerns.
    pub(crate) fn season_and_day(&self) -> Option<(SeasonId, DayNumber)> {
        self.season.as_ref().map(|season| (season.id, season.day))
    }

    /// A refused step is not tried again: the bot goes on to its next visit.
    pub(crate) fn give_up_visit(&mut self) {
        self.visit = Visit::default();
    }

    /// After a refused bet that came too fast, the bot bets on at a person's pace.
    pub(crate) fn slow_down(&mut self) {
        self.is_rapid = false;
    }

    /// The engine ended the session.
    pub(crate) fn session_expired(&mut self) {
        self.session = None;
    }

    /// The engine published another commitment.
    pub(crate) fn renew(&mut self, accepted: &Accepted) {
        self.learn(accepted);
    }
}

pub(crate) fn new_id(generator: &mut Generator, at: UnixMicros) -> CommandId {
    let mut random = [0; 10];
    let (low, high) = random.split_at_mut(8);
    low.copy_from_slice(&generator.next_u64().to_le_bytes());
    high.copy_from_slice(generator.next_u64().to_le_bytes().split_at(2).0);
    CommandId::from_parts(at, random)
}

/// The nearest bet to the one that is wanted that the balance allows.
fn order(pot_id: Pot, bet_type: BetType, divisor: u64, balance: u64) -> BetOrder {
    let wanted = if bet_type == BetType::AllIn { balance } else { balance / divisor.max(1) };
    match bet_bounds(bet_type, Coins::clamped(balance)) {
        Some((least, most)) => {
            let amount = Coins::clamped(wanted.clamp(least.get(), most.get()));
            BetOrder { pot_id, bet_type, amount }
        }
        None => BetOrder { pot_id, bet_type: BetType::Fold, amount: Coins::ZERO },
    }
}
