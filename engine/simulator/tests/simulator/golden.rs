//! Guards: the golden seasons come out as they did when their files were written, byte for byte.
//! They show the rarest events, a jackpot's payment, a restore, a lost key: their maker knows the
//! keys and bets by them.
//!
//! A file that is missing is written; one that is there is never changed.

use std::fmt::Write;
use std::path::Path;

use daybook_schema::commands::ClientSeed;
use daybook_schema::{
    BetType, Command, EpochNonce, Event, Hand, Pot, SeasonId, SessionEndReason, Species,
    SuspicionCode, UserId,
};
use daybook_simulator::Keyring;

use crate::royal::find_royal;
use crate::world::{DAY, SECOND, World, season_key, user};

fn golden(name: &str, world: &World) {
    let mut text = String::new();
    for (index, logged) in world.log.iter().enumerate() {
        let kind = logged.event.kind();
        let payload = serde_json::to_string(&logged.event).unwrap();
        let (stream, hash, seq) = (logged.stream, logged.hash, index + 1);
        writeln!(text, "{seq} {stream} {kind} {payload} {hash}").unwrap();
    }
    writeln!(text, "state {}", world.state.hash()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (expected, found) in expected.lines().zip(text.lines()) {
        assert_eq!(expected, found, "in {name}");
    }
    assert_eq!(expected.lines().count(), text.lines().count(), "lines of {name}");
}

fn play_days(world: &mut World, season: (UserId, SeasonId), days: &[Vec<(Pot, BetType, u64)>]) {
    for bets in days {
        world.wait(SECOND);
        if !bets.is_empty() {
            let command = world.bet_command(season, bets);
            world.must(command);
        }
        world.advance(season);
    }
}

/// A whole season that ends a week in a royal flush, after another that filled the jackpot.
#[test]
fn golden_season_with_a_jackpot() {
    let mut world = World::new();
    let rich = world.season(1);
    let everything = world.bet_command(rich, &[(Pot::Water, BetType::AllIn, 500)]);
    world.must(everything);
    world.advance(rich);

    let user_id = user(2);
    world.register(user_id);
    world.must(Command::StartSession { user_id });
    world.must(Command::AdoptSimulin { user_id, species: Species::Dewdrop });
    let simulin_id =
        world.state.users.get(&user_id).unwrap().simulins.first().map(|own| own.simulin_id);
    let royal = find_royal((&world.state, world.keys.as_ref()), user_id);
    let Command::StartSeason { commitment, .. } = world.start_command(user_id, None) else {
        panic!("a start")
    };
    let client_seed = ClientSeed::from_seed(&royal.seed);
    let events = world.must(Command::StartSeason { user_id, commitment, client_seed, simulin_id });
    let season = (user_id, events[0].stream.as_season());
    let other = vec![
        (Pot::Water, BetType::Call, 12),
        (Pot::Sun, BetType::Raise, 20),
        (Pot::Pest, BetType::Fold, 0),
        (Pot::Growth, BetType::Call, 10),
    ];
    for week in 0..4 {
        let bets = if week == royal.week { royal.plan.clone() } else { vec![other.clone(); 7] };
        play_days(&mut world, season, &bets);
    }
    // What was foreseen is what was drawn.
    let resolved = world.log.iter().filter(|logged| logged.stream == season.1.into());
    let levels: Vec<_> = resolved
        .filter_map(|logged| match &logged.event {
            Event::DayResolved(event) => Some(event.pot_levels),
            _ => None,
        })
        .collect();
    let foreseen: Vec<_> = royal
        .draws
        .iter()
        .map(|(_, draw)| daybook_schema::PerPot::from_fn(|pot| draw.pots.get(pot).level))
        .collect();
    assert_eq!(levels, foreseen);
    let has = |found: &dyn Fn(&Event) -> bool| world.log.iter().any(|logged| found(&logged.event));
    assert!(has(&|event| matches!(event, Event::WeekEvaluated(w) if w.hand == Hand::RoyalFlush)));
    assert!(has(&|event| matches!(event, Event::JackpotPaid(_))));
    golden("season-with-a-jackpot.txt", &world);
}

/// A restore, a key that was lost, an erasure: what a ledger lives to see.
#[test]
fn golden_restore_and_lost_key() {
    let mut world = World::new();
    let first = world.season(1);
    let bet = world.bet_command(first, &[(Pot::Sun, BetType::Call, 30)]);
    world.must(bet);
    world.must(Command::FlagSuspicion {
        user_id: first.0,
        season_id: first.1,
        day_number: daybook_schema::DayNumber::MIN,
        code: SuspicionCode::RapidBet,
    });
    world.advance(first);
    let second = world.season(2);
    world.register(user(3));
    world.must(Command::RestoreLedger { nonce: EpochNonce::new([0xaa; 16]) });
    world.must(Command::ExpireSeason { user_id: first.0, season_id: first.1 });
    world.must(Command::ExpireSeason { user_id: second.0, season_id: second.1 });
    world.must(Command::RenewCommitment { user_id: user(3) });
    let third = world.start(user(3));

    // The key of the third season is lost; another one is put in force.
    world.keys = Box::new(Keyring::new([season_key(2)]));
    world.rotate(2, false);
    let advance = world.advance_command(third);
    assert_eq!(world.refused(advance), ["KEY_UNAVAILABLE"]);
    let events = world.must(Command::AbandonSeason { user_id: third.0, season_id: third.1 });
    let Event::SeasonAbandoned(abandoned) = &events[0].event else { panic!("abandoned") };
    assert_eq!(abandoned.season_secret, None, "a lost key reveals nothing");
    world.must(Command::StartSession { user_id: third.0 });
    world.must(Command::EraseUser { user_id: third.0 });
    world.wait(DAY);
    world.must(Command::StartSession { user_id: first.0 });
    let session_number = world.state.users.get(&first.0).unwrap().open_sessions[0];
    let reason = SessionEndReason::Expired;
    world.must(Command::EndSession { user_id: first.0, session_number, reason });
    golden("restore-and-lost-key.txt", &world);
}
