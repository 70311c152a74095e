//! Seasons with a royal flush, found by one who knows the keys: what no player can do.

use daybook_schema::commands::client_digest;
use daybook_schema::{BetType, ClientSeedSource, Pot, UserId, Weather};
use daybook_simulator::{
    DayDraw, RULESET_1, SeasonKeyRequest, SeasonKeys, State, day_seed, draw_day, draw_weather,
};

/// What each day of a season will draw: known to the one who has the key.
pub fn foresee(
    (state, keys): (&State, &dyn SeasonKeys),
    user_id: UserId,
    seed: &[u8; 32],
) -> Vec<(Weather, DayDraw)> {
    let next = state.users.get(&user_id).unwrap().next_commitment.unwrap();
    let request = SeasonKeyRequest {
        key_id: next.key_id,
        identity: state.identity(),
        user_id,
        season_number: next.season_number,
    };
    let digest = client_digest(ClientSeedSource::ClientSeed, seed);
    let seed_of = |day: u8| day_seed(&keys.day_key(&request, day).unwrap(), &digest, day);
    let mut weather = draw_weather(&RULESET_1, Weather::Cloudy, &seed_of(0));
    (1..=28)
        .map(|day| {
            let today = weather;
            weather = draw_weather(&RULESET_1, today, &seed_of(day));
            (today, draw_day(&RULESET_1, today, &seed_of(day)))
        })
        .collect()
}

/// Whether all troubles of a day are cleared with no bets.
fn slays(draw: &DayDraw) -> bool {
    !draw.troubles.is_empty()
        && draw.troubles.iter().all(|(kind, severity)| {
            draw.pots.get(kind.pot()).level.get() >= 40 + 8 * severity.get()
        })
}

fn level(draw: &DayDraw, pot: Pot) -> u8 {
    draw.pots.get(pot).level.get()
}

/// The bets that make the wanted trigger the day's first, if any do; `None` stands for no trigger.
fn bets_for(draw: &DayDraw, wanted: Option<usize>) -> Option<Vec<(Pot, BetType, u64)>> {
    let quiet = !slays(draw) && level(draw, Pot::Growth) < 80;
    let bet = |pot| vec![(pot, BetType::Call, 10)];
    // A qualifying bet lowers what clears a trouble of its pot.
    let troubled = |pot: Pot| draw.troubles.iter().any(|(kind, _)| kind.pot() == pot);
    match wanted {
        None => quiet.then(Vec::new),
        Some(0) => (level(draw, Pot::Growth) >= 50).then(|| bet(Pot::Growth)),
        Some(1) => (level(draw, Pot::Growth) >= 80 && !slays(draw)).then(Vec::new),
        Some(2) => slays(draw).then(Vec::new),
        Some(3) => {
            let won = |pot: &Pot| level(draw, *pot) >= 50;
            let good = [Pot::Water, Pot::Sun, Pot::Pest].iter().filter(|pot| won(pot)).count();
            let bets = Pot::ALL.iter().map(|pot| match (won(pot), *pot) {
                (false, _) => (*pot, BetType::Fold, 0),
                // Too small to qualify, so that no first_bloom comes before.
                (true, Pot::Growth) => (*pot, BetType::Call, 1),
                (true, _) => (*pot, BetType::Call, 10),
            });
            (good >= 2).then(|| bets.collect())
        }
        _ => {
            let own = draw.pots.get(Pot::Water).sum;
            let best = Pot::ALL.iter().all(|p| *p == Pot::Water || draw.pots.get(*p).sum < own);
            (best && quiet && !troubled(Pot::Water)).then(|| bet(Pot::Water))
        }
    }
}

/// A plan of a week's bets that makes a royal flush, if one does: two of its days stay quiet.
pub fn royal_plan(week: &[(Weather, DayDraw)]) -> Option<Vec<Vec<(Pot, BetType, u64)>>> {
    (0..7).flat_map(|a| (a + 1..7).map(move |b| (a, b))).find_map(|(first, second)| {
        let mut trigger = 0;
        week.iter()
            .enumerate()
            .map(|(day, (_, draw))| {
                let quiet = day == first || day == second;
                let bets = bets_for(draw, (!quiet).then_some(trigger))?;
                trigger += usize::from(!quiet);
                Some(bets)
            })
            .collect()
    })
}

/// What a season draws, which of its weeks can end in a royal flush, and by which bets.
pub struct Royal {
    /// The player's seed.
    pub seed: [u8; 32],
    /// Weather and draw of each day.
    pub draws: Vec<(Weather, DayDraw)>,
    /// The week, from 0.
    pub week: usize,
    /// The bets of each of its days.
    pub plan: Vec<Vec<(Pot, BetType, u64)>>,
}

/// A player's seed with which the next season has such a week.
pub fn find_royal(state_and_keys: (&State, &dyn SeasonKeys), user_id: UserId) -> Royal {
    (0_u32..)
        .find_map(|number| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            let draws = foresee(state_and_keys, user_id, &seed);
            let (week, plan) = draws
                .chunks(7)
                .enumerate()
                .find_map(|(week, days)| Some((week, royal_plan(days)?)))?;
            Some(Royal { seed, draws, week, plan })
        })
        .unwrap()
}
