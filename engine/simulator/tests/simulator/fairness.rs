//! Guards: nobody learns the future, and returns are what the odds say.

use daybook_schema::{
    BetType, Command, Commitment, DayKey, Event, Pot, Threshold, Weather, digest,
};
use daybook_simulator::odds::{WAYS, threshold_ways};
use daybook_simulator::{RULESET_1, SeasonKeyRequest, SeasonKeys, bet_bounds, multiplier, pays};
use proptest::prelude::*;

use crate::world::{SECOND, World, season_key, user};

/// Keys that are no hash chain: two of these with one `until` agree up to that day and, with
/// different branches, on nothing after it.
struct BranchingKeys {
    until: u8,
    branch: u8,
}

impl SeasonKeys for BranchingKeys {
    fn day_key(&self, season: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        let branch = if day <= self.until { 0 } else { self.branch };
        let number = season.season_number.get().to_le_bytes();
        Some(DayKey::new(digest::DAY_KEY.derive(&[
            season.user_id.as_bytes(),
            &number,
            &[day, branch],
        ])))
    }

    fn commitment(&self, season: &SeasonKeyRequest) -> Option<Commitment> {
        let number = season.season_number.get().to_le_bytes();
        Some(Commitment::new(digest::COMMITMENT.derive(&[season.user_id.as_bytes(), &number])))
    }
}

fn world_until(until: u8, branch: u8) -> World {
    let mut world = World::with_keys(Box::new(BranchingKeys { until, branch }));
    world.audited = false;
    world.rotate(1, false);
    let companion_of = user(1);
    world.register(companion_of);
    let species = daybook_schema::Species::Sprig;
    world.must(Command::AdoptSimulin { user_id: companion_of, species });
    world
}

/// What a player sees of a command: the events' bytes, or every rejection with its values.
fn seen(world: &mut World, command: &Command) -> String {
    match world.run(command) {
        Ok(events) => {
            let mut bytes = Vec::new();
            events.iter().for_each(|new| new.event.encode(&mut bytes));
            format!("{bytes:?} {:?}", world.log.last().map(|last| last.hash))
        }
        Err(rejections) => format!("{rejections:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two operators that have promised the same and whose keys agree up to day d cannot be told
    /// apart before day d + 1 resolves: whatever a player tries, accepted or refused.
    #[test]
    fn nobody_learns_the_future(
        until in 1_u8..28,
        script in prop::collection::vec((0_u8..8, 0_u8..4, 0_u8..4, 0_u64..12_000), 40..160),
    ) {
        let mut worlds = [world_until(until, 1), world_until(until, 2)];
        let simulin = worlds[0].state.users.get(&user(1)).unwrap().simulins.first().map(|s| s.simulin_id);
        let mut season = None;
        for (kind, pot, bet_type, amount) in script {
            let world = &mut worlds[0];
            let user_id = user(1);
            let command = match (season, kind) {
                (None, _) => world.start_command(user_id, simulin),
                (Some(season), 0..=2) => world.advance_command(season),
                (Some(season), _) => {
                    let pot = Pot::from_number(pot).unwrap();
                    let bet_type = BetType::from_number(bet_type).unwrap();
                    world.bet_command(season, &[(pot, bet_type, amount)])
                }
            };
            let [first, second] = &mut worlds;
            prop_assert_eq!(seen(first, &command), seen(second, &command));
            first.wait(SECOND);
            second.wait(SECOND);
            season = first.state.seasons.ordered().first().map(|(id, _)| (user_id, *id));
            let day = season.and_then(|(_, id)| first.state.seasons.get(&id)).map(|s| s.day_number);
            if day.is_some_and(|day| day.get() > until) {
                break;
            }
        }
    }
}

/// Expectation and variance of a bet's floored payout, exactly.
fn payout_moments(weather: Weather, pot: Pot, bet_type: BetType, amount: u64) -> (f64, f64) {
    let ways = threshold_ways(&RULESET_1, weather, pot);
    let amount = daybook_schema::Coins::new(amount).unwrap();
    let (mut mean, mut square) = (0.0, 0.0);
    for &threshold in Threshold::ALL {
        let multiplier = multiplier(&RULESET_1, weather, pot, bet_type, threshold).unwrap();
        let chance = ways.get(threshold) as f64 / WAYS as f64;
        let payout = pays(amount, multiplier).get() as f64;
        mean += chance * payout;
        square += chance * payout * payout;
    }
    (mean, square - mean * mean)
}

/// Guards: over many seasons every pot and type of bet returns what its floored payouts promise,
/// within four standard errors.
#[test]
fn returns_agree_with_the_exact_expectation() {
    let mut world = World::new();
    world.audited = false;
    let types = [BetType::Call, BetType::Raise, BetType::AllIn];
    let mut sums = vec![(0.0, 0.0, 0_u64); 12];
    for number in 0..250_u8 {
        let season = world.season(number);
        for day in 0..28_usize {
            let mut bets = Vec::new();
            let mut balance = world.balance(season.1);
            // The day's first three pots are called or raised, the last one gets all that is left.
            for index in 0..4 {
                let pot = Pot::ALL[(day + index) % 4];
                let kind = if index == 3 { 2 } else { (usize::from(number) + day + index) % 2 };
                let coins = daybook_schema::Coins::new(balance).unwrap();
                let Some((_, most)) = bet_bounds(types[kind], coins) else { continue };
                balance -= most.get();
                bets.push((pot, types[kind], most.get()));
            }
            let weather = world.state.seasons.get(&season.1).unwrap().weather;
            let command = world.bet_command(season, &bets);
            world.must(command);
            let events = world.advance(season);
            for (pot, bet_type, amount) in bets {
                let payout = events.iter().find_map(|new| match &new.event {
                    Event::BetResolved(event) if event.pot_id == pot => Some(event.payout.get()),
                    _ => None,
                });
                let (mean, variance) = payout_moments(weather, pot, bet_type, amount);
                let kind = types.iter().position(|t| *t == bet_type).unwrap();
                // Each bet counts alike, however large.
                let stake = amount as f64;
                let sum = &mut sums[usize::from(pot.number()) * 3 + kind];
                sum.0 += (payout.unwrap() as f64 - mean) / stake;
                sum.1 += variance / (stake * stake);
                sum.2 += 1;
            }
        }
    }
    for (index, (difference, variance, bets)) in sums.iter().enumerate() {
        assert!(*bets > 500, "cell {index} has {bets} bets");
        let standard_errors = difference / variance.sqrt();
        assert!(standard_errors.abs() < 4.0, "cell {index}: {standard_errors} standard errors");
    }
}

/// Guards: the operator's keys are a hash chain that ends in the commitment.
#[test]
fn day_keys_hash_down_to_the_commitment() {
    let mut world = World::new();
    let season = world.season(1);
    let started = world.log.iter().find_map(|logged| match &logged.event {
        Event::SeasonStarted(event) => Some(event.clone()),
        _ => None,
    });
    let started = started.unwrap();
    assert_eq!(daybook_simulator::commitment_of(&started.day_key_zero), started.commitment);
    let mut known = started.day_key_zero;
    while world.state.seasons.contains_key(&season.1) {
        for new in world.advance(season) {
            if let Event::DayResolved(event) = &new.event {
                assert_eq!(daybook_simulator::previous_key(&event.day_key), known);
                known = event.day_key;
            }
        }
    }
    assert_eq!(season_key(1).key_id(), started.key_id);
}
