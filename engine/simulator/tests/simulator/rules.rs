//! Guards single rules of the rulebook: given a state, when a command comes, then this.

use daybook_schema::commands::ClientSeed;
use daybook_schema::{
    BetType, Command, Commitment, DayNumber, EpochNonce, Event, Hand, Pot, SessionEndReason,
    SessionNumber, SimulinPath, Species, SuspicionCode, Trigger, UserId,
};
use daybook_simulator::{Rejection, WeekTriggers, evaluate_hand, hand_multiplier};

use crate::world::{DAY, SECOND, World, season_key, user};

#[test]
fn bets_keep_to_the_table_of_amounts() {
    let cases = [
        // With 500 coins: type, amount, what is refused.
        (BetType::Fold, 0, None),
        (BetType::Fold, 1, Some("AMOUNT_NOT_ALLOWED")),
        (BetType::Call, 0, Some("AMOUNT_NOT_ALLOWED")),
        (BetType::Call, 1, None),
        (BetType::Call, 50, None),
        (BetType::Call, 51, Some("AMOUNT_NOT_ALLOWED")),
        (BetType::Raise, 250, None),
        (BetType::Raise, 251, Some("AMOUNT_NOT_ALLOWED")),
        (BetType::AllIn, 499, Some("AMOUNT_NOT_ALLOWED")),
        (BetType::AllIn, 500, None),
        (BetType::AllIn, 501, Some("INSUFFICIENT_BALANCE")),
        (BetType::Call, 501, Some("INSUFFICIENT_BALANCE")),
    ];
    for (bet_type, amount, refused) in cases {
        let mut world = World::new();
        let season = world.season(1);
        let command = world.bet_command(season, &[(Pot::Water, bet_type, amount)]);
        match refused {
            None => drop(world.must(command)),
            Some(code) => assert_eq!(world.refused(command), [code], "{bet_type} of {amount}"),
        }
    }
    let mut world = World::new();
    let season = world.season(1);
    let command = world.bet_command(season, &[(Pot::Water, BetType::AllIn, 10_001)]);
    assert_eq!(world.refused(command), ["INSUFFICIENT_BALANCE", "AMOUNT_NOT_ALLOWED"]);
}

#[test]
fn with_no_coins_a_fold_is_the_only_bet() {
    let mut world = World::new();
    let season = world.season(1);
    let all_in = world.bet_command(season, &[(Pot::Water, BetType::AllIn, 500)]);
    world.must(all_in);
    world.wait(SECOND);
    let again = world.bet_command(season, &[(Pot::Sun, BetType::AllIn, 0)]);
    assert_eq!(world.refused(again), ["AMOUNT_NOT_ALLOWED"]);
    let call = world.bet_command(season, &[(Pot::Sun, BetType::Call, 1)]);
    assert_eq!(world.refused(call), ["INSUFFICIENT_BALANCE"]);
    let fold = world.bet_command(season, &[(Pot::Sun, BetType::Fold, 0)]);
    world.must(fold);
}

#[test]
fn all_that_is_wrong_with_a_bet_is_said_in_the_seeds_sentences() {
    let mut world = World::new();
    let season = world.season(1);
    let first = world.bet_command(season, &[(Pot::Water, BetType::Call, 10)]);
    world.must(first);
    world.wait(99_999);
    let second = world.bet_command(season, &[(Pot::Water, BetType::Raise, 20_000)]);
    let rejections = world.run(&second).unwrap_err();
    let sentences: Vec<String> = rejections.iter().map(ToString::to_string).collect();
    assert_eq!(
        sentences,
        [
            "Suspicious rapid betting detected",
            "Duplicate bet on pot",
            "Insufficient server-validated balance",
            "Bet amount out of bounds",
        ]
    );
    world.wait(1);
    let later = world.bet_command(season, &[(Pot::Sun, BetType::Call, 10)]);
    world.must(later);
    world.wait(SECOND);
    world.must(Command::AbandonSeason { user_id: season.0, season_id: season.1 });
    let over = world.bet_command(season, &[(Pot::Sun, BetType::Call, 10)]);
    let rejections = world.run(&over).unwrap_err();
    assert_eq!(rejections.to_string(), "Cannot bet outside action phase");
}

#[test]
fn a_season_is_28_days_and_then_nothing_about_it_changes() {
    let mut world = World::new();
    let season = world.season(1);
    let wrong = DayNumber::new(2).unwrap();
    let (user_id, season_id) = season;
    let ahead = Command::AdvanceDay { user_id, season_id, expected_day: wrong };
    assert_eq!(world.refused(ahead), ["WRONG_DAY"]);
    for day in 1..=28 {
        let events = world.advance(season);
        let last = &events.last().unwrap().event;
        match day {
            28 => assert!(matches!(last, Event::CommitmentPublished(_))),
            _ => assert!(matches!(last, Event::DayOpened(_))),
        }
        let evaluated = events.iter().any(|new| matches!(new.event, Event::WeekEvaluated(_)));
        assert_eq!(evaluated, day % 7 == 0);
    }
    assert!(world.state.seasons.is_empty(), "a finished season leaves memory");
    let advance = world.advance_command(season);
    assert_eq!(world.refused(advance.clone()), ["SEASON_COMPLETE"]);
    // Still so when the next season has begun.
    world.start(user_id);
    assert_eq!(world.refused(advance), ["SEASON_COMPLETE"]);
    let other = Command::AbandonSeason { user_id: user(1), season_id: season.1 };
    assert_eq!(world.refused(other), ["SEASON_COMPLETE"]);
    world.register(user(2));
    let foreign = Command::AbandonSeason { user_id: user(2), season_id: season.1 };
    assert_eq!(world.refused(foreign), ["SEASON_NOT_FOUND"]);
}

#[test]
fn one_season_at_a_time_and_four_starts_a_utc_day() {
    let mut world = World::new();
    let season = world.season(1);
    let command = Command::StartSeason {
        user_id: season.0,
        commitment: Commitment::new([0; 32]),
        client_seed: ClientSeed::CommandId,
        simulin_id: None,
    };
    assert_eq!(world.refused(command), ["SEASON_IN_PROGRESS"]);
    for _ in 0..3 {
        let id = world.state.users.get(&season.0).unwrap().season_in_play.unwrap();
        world.must(Command::AbandonSeason { user_id: season.0, season_id: id });
        world.start(season.0);
    }
    let id = world.state.users.get(&season.0).unwrap().season_in_play.unwrap();
    world.must(Command::AbandonSeason { user_id: season.0, season_id: id });
    let fifth = world.start_command(season.0, None);
    assert_eq!(world.refused(fifth.clone()), ["SEASON_LIMIT"]);
    world.wait(DAY);
    world.must(fifth);
}

#[test]
fn a_start_names_the_commitment_and_the_players_part() {
    let mut world = World::new();
    world.register(user(1));
    let Command::StartSeason { user_id, commitment, .. } = world.start_command(user(1), None)
    else {
        panic!("a start")
    };
    let start = |commitment, client_seed| Command::StartSeason {
        user_id,
        commitment,
        client_seed,
        simulin_id: None,
    };
    let other = Commitment::new([1; 32]);
    let changed = world.run(&start(other, ClientSeed::CommandId)).unwrap_err();
    assert_eq!(
        *changed.first(),
        Rejection::CommitmentChanged { given: other, current: commitment }
    );
    let keys = daybook_simulator::Keyring::new([season_key(1)]);
    let context = daybook_simulator::Context::new(world.now, &keys);
    let command = start(commitment, ClientSeed::CommandId);
    let without_id = daybook_simulator::decide(&world.rulesets, &world.state, &command, &context);
    assert_eq!(without_id.unwrap_err().first().code(), "CLIENT_SEED_REQUIRED");
    world.must(start(commitment, ClientSeed::CommandId));
}

#[test]
fn an_idle_season_expires_after_30_days_and_says_so() {
    let mut world = World::new();
    let season = world.season(1);
    let (user_id, season_id) = season;
    let bet = world.bet_command(season, &[(Pot::Water, BetType::Call, 50)]);
    world.must(bet);
    let expire = Command::ExpireSeason { user_id, season_id };
    world.wait(30 * DAY - 1);
    assert_eq!(world.refused(expire.clone()), ["SEASON_NOT_IDLE"]);
    world.wait(1);
    let events = world.must(expire);
    let Event::SeasonExpired(expired) = &events[0].event else { panic!("expired") };
    assert_eq!((expired.escrow_returned.get(), expired.coins.get()), (50, 500));
    assert!(expired.season_secret.is_some());
    let advance = world.advance_command(season);
    assert_eq!(world.refused(advance.clone()), ["SEASON_EXPIRED"]);
    world.start(user_id);
    assert_eq!(world.refused(advance), ["SEASON_COMPLETE"]);
}

#[test]
fn a_compromised_key_withdraws_its_seasons_and_commitments() {
    let mut world = World::new();
    let (user_id, season_id) = world.season(1);
    world.register(user(2));
    world.rotate(2, true);
    let advance = world.advance_command((user_id, season_id));
    assert_eq!(world.refused(advance), ["SEASON_WITHDRAWN"]);
    let stale = world.start_command(user(2), None);
    assert_eq!(world.refused(stale), ["COMMITMENT_OUTDATED"]);
    world.must(Command::ExpireSeason { user_id, season_id });
    world.must(Command::RenewCommitment { user_id: user(2) });
    assert_eq!(
        world.refused(Command::RenewCommitment { user_id: user(2) }),
        ["COMMITMENT_IN_FORCE"]
    );
    world.start(user(2));
    let again = Command::RotateKey { key_id: season_key(2).key_id(), compromised: false };
    assert_eq!(world.refused(again), ["KEY_ALREADY_USED"]);
}

#[test]
fn a_restore_withdraws_seasons_and_gives_other_keys() {
    let mut world = World::new();
    let (user_id, season_id) = world.season(1);
    world.register(user(2));
    let before = world.state.users.get(&user(2)).unwrap().next_commitment.unwrap().commitment;
    world.must(Command::RestoreLedger { nonce: EpochNonce::new([5; 16]) });
    let advance = world.advance_command((user_id, season_id));
    assert_eq!(world.refused(advance), ["SEASON_WITHDRAWN"]);
    world.must(Command::ExpireSeason { user_id, season_id });
    world.must(Command::RenewCommitment { user_id: user(2) });
    let after = world.state.users.get(&user(2)).unwrap().next_commitment.unwrap().commitment;
    assert_ne!(before, after, "the epoch goes into the keys");
}

#[test]
fn simulins_are_adopted_devoted_and_retired() {
    let mut world = World::new();
    let user_id = user(1);
    world.register(user_id);
    for species in [Species::Dewdrop, Species::Sprig, Species::Ladybot] {
        world.must(Command::AdoptSimulin { user_id, species });
        world.wait(SECOND);
    }
    let fourth = Command::AdoptSimulin { user_id, species: Species::Sunpetal };
    assert_eq!(world.refused(fourth.clone()), ["SIMULIN_LIMIT"]);
    let simulin_id = world.state.users.get(&user_id).unwrap().simulins[0].simulin_id;
    let path = Command::ChooseSimulinPath { user_id, simulin_id, path: SimulinPath::Lucky };
    assert_eq!(world.refused(path), ["SIMULIN_TOO_YOUNG"]);
    world.must(Command::RetireSimulin { user_id, simulin_id });
    let again = Command::RetireSimulin { user_id, simulin_id };
    assert_eq!(world.refused(again), ["SIMULIN_RETIRED"]);
    let unknown = daybook_schema::SimulinId::from_bytes([1; 16]);
    let unknown = Command::RetireSimulin { user_id, simulin_id: unknown };
    assert_eq!(world.refused(unknown), ["SIMULIN_NOT_FOUND"]);
    world.must(fourth);
}

#[test]
fn sessions_are_bounded_and_end_with_the_account() {
    let mut world = World::new();
    let user_id = user(1);
    world.register(user_id);
    for _ in 0..8 {
        world.must(Command::StartSession { user_id });
    }
    let ninth = world.must(Command::StartSession { user_id });
    let Event::SessionEnded(ended) = &ninth[0].event else { panic!("the oldest ends") };
    assert_eq!((ended.session_number.get(), ended.reason), (1, SessionEndReason::Replaced));
    let gone = SessionNumber::MIN;
    let reason = SessionEndReason::Logout;
    let logout = Command::EndSession { user_id, session_number: gone, reason };
    assert_eq!(world.refused(logout), ["SESSION_NOT_OPEN"]);
    let erased = world.must(Command::EraseUser { user_id });
    assert_eq!(erased.len(), 9, "eight sessions end with the account");
    assert_eq!(world.refused(Command::StartSession { user_id }), ["USER_ERASED"]);
    assert_eq!(world.refused(Command::RegisterUser { user_id }), ["USER_ERASED"]);
}

#[test]
fn a_suspicion_is_flagged_once_a_season_day_and_code() {
    let mut world = World::new();
    let (user_id, season_id) = world.season(1);
    let flag = |day: u8, code| Command::FlagSuspicion {
        user_id,
        season_id,
        day_number: DayNumber::new(day).unwrap(),
        code,
    };
    world.must(flag(1, SuspicionCode::RapidBet));
    assert_eq!(world.refused(flag(1, SuspicionCode::RapidBet)), ["ALREADY_FLAGGED"]);
    world.must(flag(1, SuspicionCode::CoinManipulation));
    assert_eq!(world.refused(flag(2, SuspicionCode::RapidBet)), ["WRONG_DAY"]);
}

/// A week from the triggers of its days, by initials in the table's order: f, p, t, g, s.
fn week(days: [&str; 7]) -> WeekTriggers {
    let mut week = WeekTriggers::default();
    for (index, day) in (0..).zip(days) {
        for initial in day.chars() {
            let position = "fptgs".find(initial).unwrap();
            week.insert(index, Trigger::ALL[position]);
        }
    }
    week
}

#[test]
fn the_first_line_of_the_hands_that_fits_counts() {
    let cases = [
        (["f", "g", "t", "p", "s", "", ""], Hand::RoyalFlush),
        (["", "fs", "gs", "tg", "ps", "", "s"], Hand::RoyalFlush),
        (["f", "g", "t", "p", "s", "s", ""], Hand::Straight),
        (["f", "p", "f", "p", "f", "", ""], Hand::StraightFlush),
        (["f", "p", "f", "p", "f", "", "g"], Hand::FullHouse),
        (["s", "p", "t", "g", "f", "", ""], Hand::Straight),
        (["f", "p", "f", "p", "", "f", ""], Hand::Flush),
        (["ft", "t", "f", "f", "", "", ""], Hand::FullHouse),
        (["f", "f", "f", "f", "s", "t", ""], Hand::FourOfAKind),
        (["f", "f", "f", "s", "", "", ""], Hand::ThreeOfAKind),
        (["f", "f", "s", "s", "", "", ""], Hand::TwoPair),
        (["f", "f", "s", "", "", "", ""], Hand::Pair),
        (["f", "s", "", "", "", "", ""], Hand::None),
        ([""; 7], Hand::None),
    ];
    for (days, hand) in cases {
        assert_eq!(evaluate_hand(&week(days)), hand, "{days:?}");
    }
    let multipliers: Vec<u16> = Hand::ALL.iter().map(|hand| hand_multiplier(*hand).get()).collect();
    assert_eq!(multipliers, [100, 50, 25, 20, 15, 10, 5, 3, 2, 1]);
}

/// The rulebook's table of refusals and the code say the same.
#[test]
fn the_refusals_are_those_of_the_rulebook() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("RULEBOOK.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("## Refusals").nth(1).unwrap();
    let documented: Vec<(u16, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let number = cells.next()?.parse().ok()?;
            Some((number, cells.next()?.trim_matches('`')))
        })
        .collect();
    assert_eq!(documented, Rejection::CODES);
}

/// A user may not be registered under the id of another stream: its events would go into that
/// stream.
#[test]
fn a_user_cannot_have_the_id_of_a_season_or_of_the_ledger() {
    let mut world = World::new();
    let (_, season_id) = world.season(1);
    let ledger_id = world.state.identity().ledger_id;
    for taken in [*season_id.as_bytes(), *ledger_id.as_bytes()] {
        let register = Command::RegisterUser { user_id: UserId::from_bytes(taken) };
        assert_eq!(world.refused(register), ["USER_ALREADY_REGISTERED"]);
    }
}
