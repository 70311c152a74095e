//! Sets of rules: what they consist of. They are an argument of [`crate::decide`], so that recorded
//! bets can be played again under others.

use daybook_schema::{BasisPoints, Coins, PerPot, PotEvent, RulesetNumber, Threshold, Weather};

/// One value for each weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerWeather<T> {
    /// When sunny.
    pub sunny: T,
    /// When cloudy.
    pub cloudy: T,
    /// When rainy.
    pub rainy: T,
    /// When stormy.
    pub stormy: T,
}

impl<T> PerWeather<T> {
    /// The value of one weather.
    #[must_use]
    pub const fn get(&self, weather: Weather) -> &T {
        match weather {
            Weather::Sunny => &self.sunny,
            Weather::Cloudy => &self.cloudy,
            Weather::Rainy => &self.rainy,
            Weather::Stormy => &self.stormy,
        }
    }
}

/// What a won bet multiplies its stake by, for the highest threshold that the level reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThresholdMultipliers {
    /// At 50 to 79.
    pub fifty: BasisPoints,
    /// At 80 to 99.
    pub eighty: BasisPoints,
    /// At 100.
    pub hundred: BasisPoints,
}

impl ThresholdMultipliers {
    pub(crate) const fn from_raw([fifty, eighty, hundred]: [u32; 3]) -> Self {
        Self {
            fifty: BasisPoints::clamped(fifty),
            eighty: BasisPoints::clamped(eighty),
            hundred: BasisPoints::clamped(hundred),
        }
    }

    /// The multiplier of one threshold.
    #[must_use]
    pub const fn get(&self, threshold: Threshold) -> BasisPoints {
        match threshold {
            Threshold::Fifty => self.fifty,
            Threshold::Eighty => self.eighty,
            Threshold::Hundred => self.hundred,
        }
    }
}

/// The multipliers of a pot in a weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BetTypeMultipliers {
    /// Of a call.
    pub call: ThresholdMultipliers,
    /// Of a raise.
    pub raise: ThresholdMultipliers,
    /// Of an all-in.
    pub all_in: ThresholdMultipliers,
}

/// The chances, in percent, of a pot's event of a day, and what each adds to the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PotEventChances {
    /// The events with chance and addition, in the order in which a draw below 100 is matched.
    pub entries: [(PotEvent, u64, i16); 4],
}

/// A set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its number, which seasons keep.
    pub ruleset: RulesetNumber,
    /// The coins that a season starts with.
    pub starting_coins: Coins,
    /// What a lower balance is topped up to at a morning.
    pub stipend_coins: Coins,
    /// The most that a royal flush pays.
    pub jackpot_payment_coins_max: Coins,
    /// Millicoins that go to the jackpot for each coin staked.
    pub jackpot_millicoins_per_coin: u64,
    /// Chances of the next day's weather, in percent, by today's.
    pub weather_percent: PerWeather<PerWeather<u64>>,
    /// What a pot's level starts from.
    pub level_base: PerPot<i16>,
    /// What the weather adds.
    pub level_shift: PerWeather<PerPot<i16>>,
    /// The day events of a pot.
    pub pot_events: PotEventChances,
    /// Multipliers in ten-thousandths.
    pub multipliers: PerWeather<PerPot<BetTypeMultipliers>>,
}

/// The sets of rules that are known: a season is decided by the one that it started with, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rulesets {
    first: Rules,
    /// In the order of their numbers.
    later: Vec<Rules>,
}

impl Rulesets {
    /// A set of rules and those that came after it, in the order of their numbers.
    #[must_use]
    pub const fn new(first: Rules, later: Vec<Rules>) -> Self {
        Self { first, later }
    }

    /// The rules of a number, if they are known.
    #[must_use]
    pub fn get(&self, ruleset: RulesetNumber) -> Option<&Rules> {
        std::iter::once(&self.first).chain(&self.later).find(|rules| rules.ruleset == ruleset)
    }

    /// The rules that new seasons start with.
    #[must_use]
    pub fn newest(&self) -> &Rules {
        self.later.last().unwrap_or(&self.first)
    }
}
