//! Guards what holds whatever is played: the accounts, the audit, and that order does not matter.

use daybook_schema::{
    BetType, Command, Event, Pot, SeasonId, SessionEndReason, SimulinPath, Species, StreamKind,
    SuspicionCode, UserId,
};
use proptest::prelude::*;

use crate::world::{DAY, SECOND, World, user};

/// A step of random play; what does not apply is refused, which is part of the test.
#[derive(Clone, Debug)]
enum Step {
    Register(u8),
    Session(u8, bool),
    Adopt(u8, u8),
    Path(u8, u8),
    Retire(u8),
    Start(u8, bool),
    Bet(u8, Vec<(u8, u8, u64)>),
    Advance(u8),
    Abandon(u8),
    Expire(u8),
    Flag(u8, u8),
    Erase(u8),
    Rotate(bool),
    Restore(u8),
    Renew(u8),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0_u8..3;
    let bet = (0_u8..4, 0_u8..4, prop_oneof![0_u64..60, 0_u64..600, 9_990_u64..10_010]);
    prop_oneof![
        2 => who.clone().prop_map(Step::Register),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, begin)| Step::Session(who, begin)),
        2 => (who.clone(), 0_u8..4).prop_map(|(who, kind)| Step::Adopt(who, kind)),
        1 => (who.clone(), 0_u8..3).prop_map(|(who, path)| Step::Path(who, path)),
        1 => who.clone().prop_map(Step::Retire),
        4 => (who.clone(), any::<bool>()).prop_map(|(who, with)| Step::Start(who, with)),
        12 => (who.clone(), prop::collection::vec(bet, 1..5))
            .prop_map(|(who, bets)| Step::Bet(who, bets)),
        16 => who.clone().prop_map(Step::Advance),
        1 => who.clone().prop_map(Step::Abandon),
        1 => who.clone().prop_map(Step::Expire),
        1 => (who.clone(), 0_u8..3).prop_map(|(who, code)| Step::Flag(who, code)),
        1 => who.clone().prop_map(Step::Erase),
        1 => any::<bool>().prop_map(Step::Rotate),
        1 => any::<u8>().prop_map(Step::Restore),
        2 => who.prop_map(Step::Renew),
        6 => prop_oneof![Just(50_000), Just(SECOND), Just(DAY), Just(31 * DAY)]
            .prop_map(Step::Wait),
    ]
}

fn season_of(world: &World, user_id: UserId) -> SeasonId {
    let user = world.state.users.get(&user_id);
    let ended = user.and_then(|user| user.newest_ended).map(|ended| ended.season_id);
    let in_play = user.and_then(|user| user.season_in_play);
    in_play.or(ended).unwrap_or(SeasonId::from_bytes([77; 16]))
}

fn command_of(world: &World, step: &Step, rotations: &mut u8) -> Option<Command> {
    let simulin_of = |user_id: UserId| {
        let first = world.state.users.get(&user_id)?.simulins.first()?;
        Some(first.simulin_id)
    };
    let id = |who: &u8| user(who + 1);
    Some(match step {
        Step::Register(who) => Command::RegisterUser { user_id: id(who) },
        Step::Session(who, true) => Command::StartSession { user_id: id(who) },
        Step::Session(who, false) => Command::EndSession {
            user_id: id(who),
            session_number: *world.state.users.get(&id(who))?.open_sessions.first()?,
            reason: SessionEndReason::Logout,
        },
        Step::Adopt(who, species) => {
            Command::AdoptSimulin { user_id: id(who), species: Species::from_number(*species)? }
        }
        Step::Path(who, path) => Command::ChooseSimulinPath {
            user_id: id(who),
            simulin_id: simulin_of(id(who))?,
            path: SimulinPath::from_number(*path)?,
        },
        Step::Retire(who) => {
            Command::RetireSimulin { user_id: id(who), simulin_id: simulin_of(id(who))? }
        }
        Step::Start(who, with) => {
            world.state.users.get(&id(who))?.next_commitment?;
            world.start_command(id(who), simulin_of(id(who)).filter(|_| *with))
        }
        Step::Bet(who, bets) => {
            let bets: Vec<(Pot, BetType, u64)> = bets
                .iter()
                .map(|&(pot, kind, amount)| {
                    let kind = BetType::from_number(kind).unwrap();
                    (Pot::from_number(pot).unwrap(), kind, amount)
                })
                .collect();
            world.bet_command((id(who), season_of(world, id(who))), &bets)
        }
        Step::Advance(who) => world.advance_command((id(who), season_of(world, id(who)))),
        Step::Abandon(who) => {
            Command::AbandonSeason { user_id: id(who), season_id: season_of(world, id(who)) }
        }
        Step::Expire(who) => {
            Command::ExpireSeason { user_id: id(who), season_id: season_of(world, id(who)) }
        }
        Step::Flag(who, code) => Command::FlagSuspicion {
            user_id: id(who),
            season_id: season_of(world, id(who)),
            day_number: daybook_schema::DayNumber::MIN,
            code: SuspicionCode::from_number(*code)?,
        },
        Step::Erase(who) => Command::EraseUser { user_id: id(who) },
        Step::Rotate(compromised) => {
            // Key 1 is in force from the start; key 2 is the only other one that there is.
            *rotations += 1;
            let key_id = crate::world::season_key(2).key_id();
            Command::RotateKey { key_id, compromised: *compromised }
        }
        Step::Restore(nonce) => {
            Command::RestoreLedger { nonce: daybook_schema::EpochNonce::new([*nonce; 16]) }
        }
        Step::Renew(who) => Command::RenewCommitment { user_id: id(who) },
        Step::Wait(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// After every event the accounts, counted afresh, sum to zero and none but mint and house is
    /// below zero; every accepted command changes the state and is decided alike from its events
    /// alone; a refused one leaves the state as it was.
    #[test]
    fn random_play_balances_and_can_be_audited(script in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        let mut rotations = 0;
        for step in &script {
            if let Step::Wait(micros) = step {
                world.wait(*micros);
            }
            if let Some(command) = command_of(&world, step, &mut rotations) {
                let before = world.state.clone();
                match world.run(&command) {
                    Ok(_) => prop_assert_ne!(before.hash(), world.state.hash()),
                    Err(_) => prop_assert_eq!(before, world.state.clone()),
                }
            }
        }
    }

    /// n bets in one command equal n single ones, B falling after each.
    #[test]
    fn bets_together_equal_bets_one_by_one(
        bets in prop::collection::vec(
            (0_u8..4, 0_u8..4, prop_oneof![0_u64..60, 0_u64..600]), 1..5),
    ) {
        let bets: Vec<(Pot, BetType, u64)> = bets
            .iter()
            .map(|&(pot, kind, amount)| {
                (Pot::from_number(pot).unwrap(), BetType::from_number(kind).unwrap(), amount)
            })
            .collect();
        let (mut together, mut singly) = (World::new(), World::new());
        let season = together.season(1);
        prop_assert_eq!(season, singly.season(1));
        let command = together.bet_command(season, &bets);
        let at_once = together.run(&command);
        let mut one_by_one = Vec::new();
        let mut refused = Vec::new();
        for bet in &bets {
            singly.wait(SECOND);
            let command = singly.bet_command(season, std::slice::from_ref(bet));
            match singly.run(&command) {
                Ok(events) => one_by_one.extend(events),
                Err(rejections) => refused.extend(rejections.iter().cloned()),
            }
        }
        match at_once {
            Ok(events) => {
                prop_assert_eq!(refused.len(), 0);
                prop_assert_eq!(events, one_by_one);
                let season_of = |world: &World| world.state.seasons.get(&season.1).unwrap().clone();
                let [left, right] = [&together, &singly].map(season_of);
                let right = daybook_simulator::Season { last_bet_at: left.last_bet_at, ..right };
                prop_assert_eq!(left, right);
            }
            Err(rejections) => {
                prop_assert_eq!(rejections.iter().cloned().collect::<Vec<_>>(), refused);
                prop_assert_eq!(together.balance(season.1), 500, "none is placed");
            }
        }
    }

    /// Seasons of different users come out the same in whatever order their commands interleave:
    /// jackpot payments, seqs and hashes aside.
    #[test]
    fn order_between_users_does_not_matter(
        order in prop::collection::vec(0_u8..3, 0..400),
    ) {
        let (mut interleaved, mut in_turn) = (Three::new(), Three::new());
        for who in order {
            interleaved.step(who);
        }
        for who in 0..3 {
            while interleaved.step(who) {}
            while in_turn.step(who) {}
        }
        prop_assert_eq!(interleaved.outcomes(), in_turn.outcomes());
    }
}

/// Three users who play by fixed habits, each by a clock of its own.
struct Three {
    world: World,
    steps: [u32; 3],
}

impl Three {
    fn new() -> Self {
        Self { world: World::new(), steps: [0; 3] }
    }

    /// The user's next step; false when there is none.
    fn step(&mut self, who: u8) -> bool {
        let step = &mut self.steps[usize::from(who)];
        let number = *step;
        *step += 1;
        let user_id = user(who + 1);
        self.world.now = crate::world::START.plus_micros(i64::from(number) * SECOND);
        let season = (user_id, season_of(&self.world, user_id));
        let command = match number {
            0 => Command::RegisterUser { user_id },
            1 => {
                let species = Species::from_number(who).unwrap();
                Command::AdoptSimulin { user_id, species }
            }
            2 => {
                let simulin = self.world.state.users.get(&user_id).unwrap().simulins.first();
                self.world.start_command(user_id, simulin.map(|own| own.simulin_id))
            }
            58.. => return false,
            _ if number.is_multiple_of(2) => self.world.advance_command(season),
            _ => {
                let amount = u64::from(who) * 4 + 3;
                self.world.bet_command(
                    season,
                    &[
                        (Pot::Water, BetType::Call, amount),
                        (Pot::Growth, BetType::Raise, amount),
                        (Pot::Pest, BetType::Fold, 0),
                    ],
                )
            }
        };
        // A stake may be more than a tenth of a small balance: then the day goes without.
        let _ = self.world.run(&command);
        true
    }

    /// The events of each user and season, without seqs, hashes and jackpot payments.
    fn outcomes(&self) -> Vec<(String, Vec<Event>)> {
        let mut streams = std::collections::BTreeMap::<_, Vec<Event>>::new();
        for logged in &self.world.log {
            let mut event = logged.event.clone();
            match &mut event {
                Event::JackpotPaid(_) => continue,
                Event::SeasonStarted(started) => {
                    started.commitment_seq = daybook_schema::Seq::MIN;
                    started.commitment_hash = daybook_schema::EventHash::new([0; 32]);
                }
                _ => {}
            }
            if event.kind().stream() != StreamKind::Ledger {
                streams.entry(logged.stream.to_string()).or_default().push(event);
            }
        }
        streams.into_iter().collect()
    }
}

/// Guards: what is held of a user and of a season in play stays within the limits that are
/// promised. A B-tree's nodes are at least half full, so that an entry takes at most twice its
/// size.
#[test]
fn users_and_seasons_take_no_more_memory_than_promised() {
    use std::mem::size_of;

    use daybook_schema::{DayNumber, SeasonId, Seq, SessionNumber, StreamId, UserId, limits};
    use daybook_simulator::{Season, Simulin, User};

    let stream = 2 * size_of::<(StreamId, Seq)>();
    let lists = limits::OPEN_SESSIONS_PER_USER_MAX * size_of::<SessionNumber>()
        + (limits::SIMULINS_PER_USER_MAX + 1) * size_of::<Simulin>();
    let user = 2 * size_of::<(UserId, User)>() + 2 * size_of::<(UserId, u32)>() + lists + stream;
    assert!(user <= limits::USER_MEMORY_BYTES, "{user}");
    // Suspicions of all its days.
    let days = usize::from(limits::DAYS_PER_SEASON);
    let suspicions = 2 * days * size_of::<(DayNumber, u8)>() + 512;
    let season = 2 * size_of::<(SeasonId, Season)>() + suspicions + stream;
    assert!(season <= limits::SEASON_MEMORY_BYTES, "{season}");
}

/// Guards: accounts that do not balance are told, each way in which they may not. In a ledger this
/// can hardly come alone, because the rules move coins in pairs; so the check is tested by itself.
#[test]
fn accounts_that_do_not_balance_are_told() {
    use daybook_simulator::{Accounts, Unbalanced};

    let sound =
        Accounts { mint: -500_000, house: -70, jackpot: 70, balances: 400_000, escrows: 100_000 };
    assert_eq!(sound.check(), Ok(()));
    type Change = fn(&mut Accounts);
    let changes: [Change; 5] = [
        |accounts| accounts.mint += 1,
        |accounts| accounts.house += 1,
        |accounts| accounts.jackpot += 1,
        |accounts| accounts.balances += 1,
        |accounts| accounts.escrows += 1,
    ];
    for change in changes {
        let mut accounts = sound;
        change(&mut accounts);
        assert_eq!(accounts.check(), Err(Unbalanced::Sum { sum: 1 }));
    }
    let taken: [(&str, Change); 3] = [
        ("jackpot", |accounts| (accounts.jackpot, accounts.house) = (-1, 1)),
        ("balances", |accounts| (accounts.balances, accounts.escrows) = (-1, 500_001)),
        ("escrows", |accounts| (accounts.escrows, accounts.balances) = (-1, 500_001)),
    ];
    for (account, change) in taken {
        let mut accounts = sound;
        change(&mut accounts);
        let told = Err(Unbalanced::Negative { account, millicoins: -1 });
        assert_eq!(accounts.check(), told, "{account}");
    }
    // A season's own, while the sums hold.
    let mut world = World::new();
    let (_, season_id) = world.season(1);
    if let Some(season) = world.state.seasons.get_mut(&season_id) {
        season.balance = -1;
    }
    assert!(world.state.check_accounts(Some(season_id)).is_err());
}
