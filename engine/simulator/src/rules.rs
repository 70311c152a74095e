//! The tables of a set of rules. They are an argument of [`crate::decide`], so that recorded bets can
//! be played again under others.

use daybook_schema::{
    BasisPoints, BetType, Coins, PerPot, Pot, PotEvent, RulesetNumber, Threshold, Weather, limits,
};

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
    const fn from_raw([fifty, eighty, hundred]: [u32; 3]) -> Self {
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

impl Default for Rulesets {
    /// Those of RULEBOOK.md.
    fn default() -> Self {
        Self::new(RULESET_1, Vec::new())
    }
}

/// The two dice of a level show 0 to 60 each.
pub(crate) const LEVEL_DIE_SIDES: u64 = 61;

/// Chances, in percent, of no, one and two troubles.
pub const TROUBLE_COUNTS_PERCENT: [u64; 3] = [50, 35, 15];

const fn cell(call: [u32; 3], raise: [u32; 3], all_in: [u32; 3]) -> BetTypeMultipliers {
    BetTypeMultipliers {
        call: ThresholdMultipliers::from_raw(call),
        raise: ThresholdMultipliers::from_raw(raise),
        all_in: ThresholdMultipliers::from_raw(all_in),
    }
}

/// Ruleset 1, as RULEBOOK.md prints it.
pub const RULESET_1: Rules = Rules {
    ruleset: RulesetNumber::MIN,
    starting_coins: Coins::clamped(500),
    stipend_coins: Coins::clamped(50),
    jackpot_payment_coins_max: Coins::clamped(1_000),
    jackpot_millicoins_per_coin: 10,
    weather_percent: PerWeather {
        sunny: PerWeather { sunny: 45, cloudy: 30, rainy: 20, stormy: 5 },
        cloudy: PerWeather { sunny: 30, cloudy: 30, rainy: 30, stormy: 10 },
        rainy: PerWeather { sunny: 20, cloudy: 35, rainy: 30, stormy: 15 },
        stormy: PerWeather { sunny: 25, cloudy: 35, rainy: 30, stormy: 10 },
    },
    level_base: PerPot { water: -8, sun: -14, pest: -21, growth: -29 },
    level_shift: PerWeather {
        sunny: PerPot { water: -3, sun: 4, pest: 1, growth: 3 },
        cloudy: PerPot { water: 0, sun: 0, pest: 0, growth: 0 },
        rainy: PerPot { water: 5, sun: -4, pest: 3, growth: 2 },
        stormy: PerPot { water: 3, sun: -5, pest: -4, growth: -4 },
    },
    pot_events: PotEventChances {
        entries: [
            (PotEvent::None, 80, 0),
            (PotEvent::Boon, 8, 15),
            (PotEvent::Bane, 8, -15),
            (PotEvent::Windfall, 4, 45),
        ],
    },
    multipliers: PerWeather {
        sunny: PerPot {
            water: cell([15410, 23115, 38526], [10633, 29240, 66456], [6585, 28536, 109754]),
            sun: cell([14551, 21827, 36378], [9943, 27345, 62148], [6084, 26367, 101411]),
            pest: cell([20838, 31257, 52095], [15639, 43009, 97747], [10725, 46477, 178758]),
            growth: cell([26142, 39214, 65357], [20520, 56430, 128251], [14640, 63442, 244010]),
        },
        cloudy: PerPot {
            water: cell([13862, 20794, 34657], [9289, 25545, 58057], [5549, 24047, 92489]),
            sun: cell([16867, 25300, 42168], [11982, 32952, 74892], [7698, 33358, 128300]),
            pest: cell([21687, 32530, 54217], [16405, 45113, 102531], [11337, 49128, 188954]),
            growth: cell([29909, 44864, 74774], [24023, 66064, 150146], [17500, 75837, 291681]),
        },
        rainy: PerPot {
            water: cell([11831, 17747, 29579], [7542, 20741, 47138], [4253, 18429, 70884]),
            sun: cell([19673, 29510, 49184], [14514, 39913, 90713], [9765, 42317, 162760]),
            pest: cell([19255, 28882, 48137], [14205, 39064, 88783], [9557, 41417, 159297]),
            growth: cell([27321, 40982, 68304], [21609, 59426, 135060], [15523, 67268, 258723]),
        },
        stormy: PerPot {
            water: cell([12575, 18863, 31439], [8178, 22490, 51115], [4717, 20440, 78618]),
            sun: cell([20463, 30694, 51158], [15230, 41883, 95188], [10350, 44854, 172516]),
            pest: cell([25588, 38383, 63971], [19933, 54817, 124584], [14127, 61217, 235453]),
            growth: cell([36183, 54274, 90458], [29954, 82375, 187216], [22451, 97288, 374185]),
        },
    },
};

/// The multiplier of a bet; a fold has none.
#[must_use]
pub fn multiplier(
    rules: &Rules,
    weather: Weather,
    pot: Pot,
    bet_type: BetType,
    threshold: Threshold,
) -> Option<BasisPoints> {
    let cell = rules.multipliers.get(weather).get(pot);
    let multipliers = match bet_type {
        BetType::Fold => return None,
        BetType::Call => cell.call,
        BetType::Raise => cell.raise,
        BetType::AllIn => cell.all_in,
    };
    Some(multipliers.get(threshold))
}

/// What a won bet pays: `amount × multiplier div 10,000`.
#[must_use]
pub fn pays(amount: Coins, multiplier: BasisPoints) -> Coins {
    let product = u128::from(amount.get()) * u128::from(multiplier.get()) / 10_000;
    Coins::clamped(u64::try_from(product).unwrap_or(u64::MAX))
}

/// The amounts, smallest and largest, that a type of bet allows with a balance; `None` where it is
/// no bet at all (any but a fold with a balance of 0).
#[must_use]
pub fn bet_bounds(bet_type: BetType, balance: Coins) -> Option<(Coins, Coins)> {
    let balance = balance.get();
    let most = balance.min(limits::BET_COINS_MAX);
    let bounds = match bet_type {
        BetType::Fold => return Some((Coins::ZERO, Coins::ZERO)),
        _ if balance == 0 => return None,
        BetType::Call => (1, (balance / 10).max(1).min(most)),
        BetType::Raise => (1, (balance / 2).max(1).min(most)),
        BetType::AllIn => (most, most),
    };
    Some((Coins::clamped(bounds.0), Coins::clamped(bounds.1)))
}
