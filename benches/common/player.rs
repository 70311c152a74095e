//! A player for the benches, and a clock that hurries.

use std::time::Duration;

use daybook_ledger::{Accepted, SystemTimeSource, TimeSource};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, Commitment, DayNumber, Event, Pot, SeasonId, SessionEndReason,
    SessionNumber, SimulinId, Species, UnixMicros, UserId, limits,
};

/// Somebody who plays one season after registering: bets on every pot, then advances.
pub struct Player {
    user_id: UserId,
    commitment: Commitment,
    season_id: SeasonId,
    day: DayNumber,
    balance: u64,
    bets_placed: bool,
    seasons_begun: u32,
    is_over: bool,
    /// Whether every fourth command begins or ends a session, and a simulin goes along.
    mixes: bool,
    turn: u32,
    session: Option<SessionNumber>,
    simulin_id: Option<SimulinId>,
}

impl Player {
    pub fn new() -> Self {
        Self {
            user_id: UserId::random(),
            commitment: Commitment::new([0; 32]),
            season_id: SeasonId::from_bytes([0; 16]),
            day: DayNumber::MIN,
            balance: 0,
            bets_placed: false,
            seasons_begun: 0,
            is_over: false,
            mixes: false,
            turn: 0,
            session: None,
            simulin_id: None,
        }
    }

    /// One who also logs in and out, and has a simulin.
    pub fn with_sessions_and_simulin() -> Self {
        Self { mixes: true, ..Self::new() }
    }

    /// How many seasons the player began.
    pub const fn seasons_begun(&self) -> u32 {
        self.seasons_begun
    }

    pub const fn register(&self) -> Command {
        Command::RegisterUser { user_id: self.user_id }
    }

    pub fn start(&self) -> Command {
        Command::StartSeason {
            user_id: self.user_id,
            commitment: self.commitment,
            client_seed: ClientSeed::from_seed(&[1; 32]),
            simulin_id: self.simulin_id,
        }
    }

    /// What a player of mixed commands does before the first season.
    pub fn adopt(&self) -> Option<Command> {
        let adopt = Command::AdoptSimulin { user_id: self.user_id, species: Species::Dewdrop };
        self.mixes.then_some(adopt)
    }

    /// Bets and advances in turn, and begins another season when one is over.
    pub fn command(&self) -> Command {
        let (user_id, season_id) = (self.user_id, self.season_id);
        if self.mixes && self.turn % 4 == 3 {
            let reason = SessionEndReason::Logout;
            return match self.session {
                None => Command::StartSession { user_id },
                Some(session_number) => Command::EndSession { user_id, session_number, reason },
            };
        }
        if self.is_over {
            return self.start();
        }
        if self.bets_placed {
            return Command::AdvanceDay { user_id, season_id, expected_day: self.day };
        }
        let mut balance = self.balance;
        let bets: Vec<BetOrder> = Pot::ALL
            .iter()
            .map(|&pot_id| {
                let amount = Coins::clamped((balance / 10).clamp(1, limits::BET_COINS_MAX));
                balance -= amount.get();
                BetOrder { pot_id, bet_type: BetType::Call, amount }
            })
            .collect();
        let bets = BetOrders::new(&bets).unwrap_or_else(|_| BetOrders::single(fold()));
        Command::PlaceBets { user_id, season_id, bets }
    }

    pub fn learn(&mut self, accepted: &Accepted) {
        self.turn += 1;
        for new in &accepted.events {
            match &new.event {
                Event::CommitmentPublished(event) => self.commitment = event.commitment,
                Event::SeasonStarted(event) => {
                    self.season_id = new.stream.as_season();
                    self.balance = event.coins.get();
                    self.seasons_begun += 1;
                    self.is_over = false;
                }
                Event::BetPlaced(event) => {
                    self.balance -= event.amount.get();
                    self.bets_placed = true;
                }
                Event::BetResolved(event) => self.balance += event.payout.get(),
                Event::StipendGranted(event) => self.balance += event.amount.get(),
                Event::JackpotPaid(event) => self.balance += event.amount.get(),
                Event::DayOpened(event) => {
                    self.day = event.day_number;
                    self.bets_placed = false;
                }
                Event::SeasonCompleted(_) => self.is_over = true,
                Event::SessionStarted(event) => self.session = Some(event.session_number),
                Event::SessionEnded(_) => self.session = None,
                Event::SimulinAdopted(event) => self.simulin_id = Some(event.simulin_id),
                _ => {}
            }
        }
    }
}

/// The system's clocks, a thousand times as fast or more: so that no bet comes too soon for the
/// rules, however few seasons are played.
pub struct HurriedClock {
    started: Option<UnixMicros>,
    clock: SystemTimeSource,
    factor: u32,
}

impl Default for HurriedClock {
    fn default() -> Self {
        Self::times(1_000)
    }
}

impl HurriedClock {
    /// So many times as fast.
    pub fn times(factor: u32) -> Self {
        Self { started: None, clock: SystemTimeSource::default(), factor }
    }
}

impl TimeSource for HurriedClock {
    fn wall(&mut self) -> UnixMicros {
        let now = self.clock.wall();
        let started = *self.started.get_or_insert(now);
        started.plus_micros(now.micros_since(started).saturating_mul(self.factor.into()))
    }

    fn monotonic(&mut self) -> Duration {
        self.clock.monotonic().saturating_mul(self.factor)
    }
}

const fn fold() -> BetOrder {
    BetOrder { pot_id: Pot::Water, bet_type: BetType::Fold, amount: Coins::ZERO }
}
