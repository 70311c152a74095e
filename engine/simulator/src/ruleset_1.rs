//! The tables of ruleset 1, as RULEBOOK.md prints them: starting coins, weather, levels,
//! multipliers.

use daybook_schema::{Coins, PerPot, PotEvent, RulesetNumber};

use crate::rulesets::{
    BetTypeMultipliers, PerWeather, PotEventChances, Rules, Rulesets, ThresholdMultipliers,
};

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

impl Default for Rulesets {
    /// Those of RULEBOOK.md.
    fn default() -> Self {
        Self::new(RULESET_1, Vec::new())
    }
}
