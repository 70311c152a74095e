//! Guards the multiplier table: constants that are derived here again.

use daybook_schema::{BetType, Pot, Threshold, Weather};
use daybook_simulator::odds::{WAYS, return_billionths, threshold_ways};
use daybook_simulator::{RULESET_1, multiplier};

const TARGET_PERCENT: [u64; 4] = [96, 94, 92, 90];
const WIN_PERCENT: [(u64, u64); 4] = [(45, 65), (35, 55), (25, 45), (15, 35)];
const SHAPES: [(BetType, [u64; 3]); 3] = [
    (BetType::Call, [100, 150, 250]),
    (BetType::Raise, [80, 220, 500]),
    (BetType::AllIn, [60, 260, 1_000]),
];

/// The ways of each threshold by rolling every pair of dice: the library counts sums instead.
fn roll_all(weather: Weather, pot: Pot) -> [u64; 3] {
    let start = RULESET_1.level_base.get(pot) + RULESET_1.level_shift.get(weather).get(pot);
    let mut ways = [0; 3];
    for a in 0..=60 {
        for b in 0..=60 {
            for (percent, event) in [(80, 0), (8, 15), (8, -15), (4, 45)] {
                match (start + a + b + event).clamp(0, 100) {
                    100 => ways[2] += percent,
                    80.. => ways[1] += percent,
                    50.. => ways[0] += percent,
                    _ => {}
                }
            }
        }
    }
    ways
}

#[test]
fn every_multiplier_is_derived_from_the_exact_chances() {
    for &weather in Weather::ALL {
        for (index, &pot) in Pot::ALL.iter().enumerate() {
            let ways = roll_all(weather, pot);
            let counted = threshold_ways(&RULESET_1, weather, pot);
            assert_eq!(ways, [counted.fifty, counted.eighty, counted.hundred]);
            for (bet_type, shape) in SHAPES {
                let weighed: u64 = ways.iter().zip(shape).map(|(ways, part)| ways * part).sum();
                for (&threshold, part) in Threshold::ALL.iter().zip(shape) {
                    let expected = 10_000 * TARGET_PERCENT[index] * part * WAYS / (100 * weighed);
                    let found = multiplier(&RULESET_1, weather, pot, bet_type, threshold);
                    assert_eq!(u64::from(found.unwrap().get()), expected);
                }
                let exact = return_billionths(&RULESET_1, weather, pot, bet_type);
                let target = TARGET_PERCENT[index] * 10_000_000;
                assert!(exact <= target && target - exact < 100_000, "within 0.01 points: {exact}");
            }
        }
    }
}

#[test]
fn the_chance_of_a_win_lies_in_its_bounds_in_every_weather() {
    for &weather in Weather::ALL {
        for (&pot, (least, most)) in Pot::ALL.iter().zip(WIN_PERCENT) {
            let won = threshold_ways(&RULESET_1, weather, pot).won();
            assert!(
                won * 100 >= least * WAYS && won * 100 <= most * WAYS,
                "{weather} {pot}: {won}"
            );
        }
    }
}

#[test]
fn the_rulebooks_three_cells() {
    let cell = |weather, pot, bet_type| -> Vec<u32> {
        let at = |t: &Threshold| multiplier(&RULESET_1, weather, pot, bet_type, *t).unwrap().get();
        Threshold::ALL.iter().map(at).collect()
    };
    assert_eq!(cell(Weather::Cloudy, Pot::Water, BetType::Call), [13862, 20794, 34657]);
    assert_eq!(cell(Weather::Sunny, Pot::Growth, BetType::Raise), [20520, 56430, 128251]);
    assert_eq!(cell(Weather::Stormy, Pot::Growth, BetType::AllIn), [22451, 97288, 374185]);
}

/// Guards: weather chances are percentages.
#[test]
fn weather_chances_sum_to_a_hundred() {
    for &today in Weather::ALL {
        let row = RULESET_1.weather_percent.get(today);
        assert_eq!(Weather::ALL.iter().map(|&next| row.get(next)).sum::<u64>(), 100);
    }
}
