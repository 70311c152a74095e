//! Everything random in a season: Xoshiro256++ from a day's seeds, and one bounded draw.

use daybook_schema::{
    PerPot, Pot, PotEvent, PotLevel, Severity, Threshold, TroubleKind, Weather, digest, limits,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::ruleset_1::{LEVEL_DIE_SIDES, TROUBLE_COUNTS_PERCENT};
use crate::rulesets::{PerWeather, Rules};

/// A generator of draws: Xoshiro256++, its state the seed's 32 bytes as four little-endian words.
#[derive(Clone, Debug)]
pub struct Generator(Xoshiro256PlusPlus);

impl Generator {
    /// The generator of a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Xoshiro256PlusPlus::from_seed(seed))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform draw from `0..bound`: Lemire's widening multiply with rejection. A bound of 0
    /// draws nothing and gives 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let [low, high] = [product as u64, (product >> 64) as u64];
            if low >= threshold {
                return high;
            }
        }
    }
}

/// What a pot drew on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PotDraw {
    /// Its event.
    pub event: PotEvent,
    /// a + b + e: what the draw added to the pot's base and the weather's shift.
    pub sum: i64,
    /// The level, clamped to 0..=100.
    pub level: PotLevel,
}

/// Everything drawn for a day: levels and troubles. No bet changes any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayDraw {
    /// The pots.
    pub pots: PerPot<PotDraw>,
    /// Kind and severity of each trouble, in drawn order.
    pub troubles: Vec<(TroubleKind, Severity)>,
}

/// The highest threshold that a level reaches.
pub(crate) const fn threshold_reached(level: i64) -> Option<Threshold> {
    match level {
        100.. => Some(Threshold::Hundred),
        80.. => Some(Threshold::Eighty),
        50.. => Some(Threshold::Fifty),
        _ => None,
    }
}

/// The first value whose cumulative chance lies above `draw`, which is below the sum of all.
fn matched<T>(chances: impl IntoIterator<Item = (T, u64)>, draw: u64) -> Option<T> {
    let mut cumulative = 0;
    chances.into_iter().find_map(|(value, percent)| {
        cumulative += percent;
        (draw < cumulative).then_some(value)
    })
}

/// The weather after a day of this weather, from that day's seed.
#[must_use]
pub fn draw_weather(rules: &Rules, today: Weather, day_seed: &[u8; 32]) -> Weather {
    let mut generator = Generator::from_seed(digest::WEATHER_STREAM.derive(&[day_seed]));
    let chances: &PerWeather<u64> = rules.weather_percent.get(today);
    let draw = generator.below(100);
    matched(Weather::ALL.iter().map(|&weather| (weather, *chances.get(weather))), draw)
        .unwrap_or(Weather::Stormy)
}

/// A day's levels and troubles, from its seed.
#[must_use]
pub fn draw_day(rules: &Rules, weather: Weather, day_seed: &[u8; 32]) -> DayDraw {
    let mut generator = Generator::from_seed(digest::FILL_STREAM.derive(&[day_seed]));
    let pots = PerPot::from_fn(|pot| draw_pot(rules, weather, pot, &mut generator));
    let [none, one, two] = TROUBLE_COUNTS_PERCENT;
    let draw = generator.below(100);
    let count = matched([(0, none), (1, one), (2, two)], draw).unwrap_or(0);
    let troubles = (0..count.min(limits::TROUBLES_PER_DAY_MAX))
        .map(|_| {
            let kind = u8::try_from(generator.below(4)).ok().and_then(TroubleKind::from_number);
            let severity = u8::try_from(1 + generator.below(5)).unwrap_or(1);
            (kind.unwrap_or(TroubleKind::Drought), Severity::clamped(severity))
        })
        .collect();
    DayDraw { pots, troubles }
}

fn draw_pot(rules: &Rules, weather: Weather, pot: Pot, generator: &mut Generator) -> PotDraw {
    let first = generator.below(LEVEL_DIE_SIDES);
    let second = generator.below(LEVEL_DIE_SIDES);
    let draw = generator.below(100);
    let events = rules.pot_events.entries.map(|(event, percent, add)| ((event, add), percent));
    let (event, addition) = matched(events, draw).unwrap_or((PotEvent::None, 0));
    let sum = i64::try_from(first + second).unwrap_or(0) + i64::from(addition);
    let start =
        i64::from(*rules.level_base.get(pot)) + i64::from(*rules.level_shift.get(weather).get(pot));
    let level = u8::try_from((start + sum).clamp(0, 100)).unwrap_or(0);
    PotDraw { event, sum, level: PotLevel::clamped(level) }
}
