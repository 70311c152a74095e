//! Guards: a client who has no rights can neither lock others out nor hold up the engine, and
//! decisions go by the rules that a season started with.

use daybook_ledger::{
    Keeper, Ledger, NewLedger, Options, Pending, Submission, SubmitError, Time, Verdict,
    VerifyOptions, verify,
};
use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::{
    BetType, Coins, Command, CommandId, DayNumber, EpochNonce, Event, LedgerId, Pot, RulesetNumber,
    SessionEndReason, SessionNumber, Species, SuspicionCode, limits,
};
use daybook_simulator::{Keyring, RULESET_1, Rules, Rulesets, State};

use crate::fixture::{Fixture, START, repeated, season_key, user};

/// An id from as far ahead as may be, another for each number.
fn ahead(fixture: &Fixture, number: u32) -> CommandId {
    let mut random = [0xaa; 10];
    random[6..].copy_from_slice(&number.to_le_bytes());
    let millis = 50_000 + i64::from(number % 9_000);
    CommandId::from_parts(fixture.now.plus_micros(millis * 1_000), random)
}

/// Sends so many commands of one client, with ids from ahead; gives how many were applied.
fn flood(fixture: &Fixture, command: &Command, count: u32) -> usize {
    let mut waiting: Vec<Pending<_>> = Vec::new();
    let mut applied = 0;
    for number in 0..count {
        let submission =
            Submission::new(command.clone()).with_id(ahead(fixture, number)).at(fixture.now);
        waiting.push(fixture.ledger().submit(submission).unwrap());
        if waiting.len() == limits::COMMANDS_PER_BATCH_MAX || number + 1 == count {
            applied += waiting.drain(..).filter_map(|pending| pending.wait().ok()).count();
        }
    }
    applied
}

/// Neither refused commands of somebody who does not exist nor accepted ones of one user keep
/// others' ids from being new, before a restart and after it.
#[test]
fn a_flood_of_one_client_locks_nobody_out() {
    let mut fixture = Fixture::new();
    let (flooder, other) = (fixture.register(1), fixture.register(2));
    let stranger = Command::StartSession { user_id: user(9) };
    assert_eq!(flood(&fixture, &stranger, 300_000), 0);
    let own = limits::APPLIED_IDS_PER_SCOPE_MAX as u32 + 500;
    let start = Command::StartSession { user_id: flooder };
    assert_eq!(flood(&fixture, &start, own), own as usize);
    for restarts in [false, true] {
        if restarts {
            fixture.close();
            fixture.open();
        }
        let id = fixture.next_id();
        let mine = fixture.send(id, start.clone());
        assert!(matches!(mine, Err(SubmitError::Expired { .. })), "the flooder's own: {mine:?}");
        let id = fixture.next_id();
        fixture.send(id, Command::StartSession { user_id: other }).unwrap();
        let id = fixture.next_id();
        let operator = Command::RotateKey { key_id: season_key().key_id(), compromised: false };
        let refused = fixture.send(id, operator);
        assert!(matches!(refused, Err(SubmitError::Rejected { .. })), "{refused:?}");
    }
    fixture.close();
    assert_eq!(fixture.verify(true).verdict, Verdict::Intact);
}

/// Somebody who registers another's id over and over does not lock that user out.
#[test]
fn registering_somebody_elses_id_takes_nothing_from_him() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    assert_eq!(flood(&fixture, &Command::RegisterUser { user_id }, 200), 0);
    let id = fixture.next_id();
    fixture.send(id, Command::StartSession { user_id }).unwrap();
}

/// What a player has refused does not keep the operator from acting on him.
#[test]
fn refusals_of_a_player_take_nothing_from_the_operator() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    let session_number = SessionNumber::new(77).unwrap();
    let reason = SessionEndReason::Logout;
    assert_eq!(flood(&fixture, &Command::EndSession { user_id, session_number, reason }, 200), 0);
    let (day_number, code) = (DayNumber::new(1).unwrap(), SuspicionCode::CoinManipulation);
    let flag = Command::FlagSuspicion { user_id, season_id, day_number, code };
    let id = fixture.next_id();
    let accepted = fixture.send(id, flag.clone()).unwrap();
    assert_eq!(fixture.send(id, flag).unwrap(), repeated(&accepted), "and it is applied once");
    // Nor does what the operator is refused about one user count against another.
    let other = fixture.register(2);
    let abroad = Command::FlagSuspicion { user_id: other, season_id, day_number, code };
    let earlier = fixture.next_id();
    assert_eq!(flood(&fixture, &abroad, 200), 0);
    let code = SuspicionCode::RapidBet;
    let flag = Command::FlagSuspicion { user_id, season_id, day_number, code };
    fixture.send(earlier, flag).unwrap();
}

/// Of what a user had, the newest 256 are told from what never was: who had more does not make a
/// question cost more.
#[test]
fn what_is_searched_for_does_not_grow_with_what_its_asker_did() {
    let fixture = &mut Fixture::new();
    let user_id = fixture.register(1);
    let apply = |fixture: &Fixture, command| {
        let submission = Submission::new(command).at(fixture.now);
        fixture.ledger().submit(submission).unwrap().wait()
    };
    let adopt = Command::AdoptSimulin { user_id, species: Species::ALL[0] };
    let retired: Vec<_> = (0..300)
        .map(|_| {
            let accepted = apply(fixture, adopt.clone()).unwrap();
            let Event::SimulinAdopted(adopted) = &accepted.events[0].event else { panic!() };
            let simulin_id = adopted.simulin_id;
            apply(fixture, Command::RetireSimulin { user_id, simulin_id }).unwrap();
            simulin_id
        })
        .collect();
    let code_of = |fixture: &Fixture, index: usize| {
        let refused =
            apply(fixture, Command::RetireSimulin { user_id, simulin_id: retired[index] });
        let Err(SubmitError::Rejected { rejections, .. }) = refused else { panic!("{refused:?}") };
        rejections.first().code()
    };
    let codes = [0, 43, 44, 299].map(|index| code_of(fixture, index));
    let [unknown, retired] = ["SIMULIN_NOT_FOUND", "SIMULIN_RETIRED"];
    assert_eq!(codes, [unknown, unknown, retired, retired]);
    // Over two epochs each has half of them.
    fixture.must(Command::RestoreLedger { nonce: EpochNonce::new([7; 16]) });
    let codes = [171, 172, 299].map(|index| code_of(fixture, index));
    assert_eq!(codes, [unknown, retired, retired]);
}

/// The engine's own commands wait for their turn where others fill the queue.
#[test]
fn withdrawing_what_is_outdated_waits_for_its_turn() {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    fixture.must(Command::RestoreLedger { nonce: EpochNonce::new([7; 16]) });
    let ledger = fixture.ledger();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    // The state thread waits here, and the queue fills.
    let filled = ledger.query(move |_| held.recv().is_ok()).unwrap();
    let start = Submission::new(Command::StartSession { user_id }).at(fixture.now);
    while ledger.submit(start.clone()).is_ok() {}
    std::thread::scope(|scope| {
        let withdrawing = scope.spawn(|| Keeper::new(ledger).withdraw_outdated());
        hold.send(()).unwrap();
        assert_eq!(withdrawing.join().unwrap().unwrap().commitments_renewed, 1);
    });
    assert!(filled.wait().unwrap());
}

/// Ruleset 1 with other multipliers, another start and another jackpot's share, under the number 2.
fn ruleset_2() -> Rules {
    let mut rules = RULESET_1;
    rules.ruleset = RulesetNumber::new(2).unwrap();
    rules.starting_coins = Coins::new(900).unwrap();
    rules.jackpot_millicoins_per_coin = 20;
    rules.multipliers = daybook_simulator::PerWeather {
        sunny: RULESET_1.multipliers.stormy,
        cloudy: RULESET_1.multipliers.stormy,
        rainy: RULESET_1.multipliers.sunny,
        stormy: RULESET_1.multipliers.sunny,
    };
    rules
}

/// A season that was begun under ruleset 1 is played and audited by it, although ruleset 2 came
/// meanwhile, and one that began after that by ruleset 2.
#[test]
fn a_season_keeps_the_rules_that_it_started_with() {
    let directory = tempfile::tempdir().unwrap();
    let open = |rulesets: Rulesets| {
        let id = LedgerId::from_bytes([0x22; 16]);
        let new = NewLedger { ledger_id: id, created_at: Some(START), is_demo: true };
        let options = Options::new(directory.path(), Keyring::new([season_key()])).create(new);
        Ledger::open(options.time(Time::FromSubmissions).rulesets(rulesets)).unwrap()
    };
    let both = || Rulesets::new(RULESET_1, vec![ruleset_2()]);
    let mut now = START;
    let mut must = |ledger: &Ledger, command| {
        now = now.plus_micros(1_000_000);
        ledger.submit(Submission::new(command).at(now)).unwrap().wait().unwrap().events
    };
    let start = |ledger: &Ledger, user_id| {
        let next = move |state: &State| {
            state.users.get(&user_id).unwrap().next_commitment.unwrap().commitment
        };
        let commitment = ledger.query(next).unwrap().wait().unwrap();
        let client_seed = ClientSeed::from_seed(&[0x33; 32]);
        Command::StartSeason { user_id, commitment, client_seed, simulin_id: None }
    };
    let ledger = open(Rulesets::default());
    must(&ledger, Command::RotateKey { key_id: season_key().key_id(), compromised: false });
    let users = [user(1), user(2)];
    for user_id in users {
        must(&ledger, Command::RegisterUser { user_id });
    }
    let old = must(&ledger, start(&ledger, users[0]))[0].stream.as_season();
    ledger.close().wait().unwrap();

    let ledger = open(both());
    let started = must(&ledger, start(&ledger, users[1]));
    let Event::SeasonStarted(event) = &started[0].event else { panic!("{started:?}") };
    assert_eq!((event.ruleset.get(), event.coins.get()), (2, 900));
    let new = started[0].stream.as_season();
    let mut shares = [0, 0];
    for day in 1..=28 {
        for (index, season_id) in [old, new].into_iter().enumerate() {
            let user_id = users[index];
            let order = BetOrder {
                pot_id: Pot::Water,
                bet_type: BetType::Call,
                amount: Coins::new(1).unwrap(),
            };
            let bets = BetOrders::new(&[order]).unwrap();
            must(&ledger, Command::PlaceBets { user_id, season_id, bets });
            let expected_day = DayNumber::new(day).unwrap();
            let advance = Command::AdvanceDay { user_id, season_id, expected_day };
            for new in must(&ledger, advance) {
                if let Event::BetResolved(bet) = new.event {
                    shares[index] += bet.jackpot_share.get();
                }
            }
        }
    }
    assert_eq!(shares, [28 * 10, 28 * 20], "each season by its own rules");
    ledger.close().wait().unwrap();
    let verdict = |rulesets: Rulesets| {
        let options = VerifyOptions { full: true, rulesets, ..VerifyOptions::default() };
        verify(directory.path(), &options, &mut |_, _| {}).unwrap().verdict
    };
    assert_eq!(verdict(both()), Verdict::Intact);
    // Who does not know ruleset 2 cannot audit it, and says so; who takes another for it is told.
    assert_eq!(verdict(Rulesets::default()), Verdict::OutcomeMismatch);
    let other = Rules { ruleset: RulesetNumber::new(2).unwrap(), ..RULESET_1 };
    assert_eq!(verdict(Rulesets::new(RULESET_1, vec![other])), Verdict::OutcomeMismatch);
}
