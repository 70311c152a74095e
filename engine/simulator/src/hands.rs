//! The week's hand, from its triggers.

use bincode::{Decode, Encode};
use daybook_schema::{Hand, HandMultiplier, Trigger, TriggerCategory, limits};

const DAYS: usize = limits::DAYS_PER_WEEK as usize;

/// The first trigger of each of a royal flush's five days.
const ROYAL_ORDER: [Trigger; 5] = [
    Trigger::FirstBloom,
    Trigger::GrowthSpurt,
    Trigger::TroubleSlayer,
    Trigger::PerfectRead,
    Trigger::SimulinSync,
];

/// The triggers of a week: a set for each of its seven days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct WeekTriggers([u8; DAYS]);

impl WeekTriggers {
    /// Adds a trigger to a day of the week, counted from 0.
    pub fn insert(&mut self, day_index: u8, trigger: Trigger) {
        if let Some(day) = self.0.get_mut(usize::from(day_index)) {
            *day |= 1 << trigger.number();
        }
    }

    fn contains(day: u8, trigger: Trigger) -> bool {
        day & (1 << trigger.number()) != 0
    }

    fn days_with(&self, trigger: Trigger) -> usize {
        self.0.iter().filter(|&&day| Self::contains(day, trigger)).count()
    }

    fn total(&self) -> usize {
        Trigger::ALL.iter().map(|&trigger| self.days_with(trigger)).sum()
    }

    fn of_category(&self, category: TriggerCategory) -> usize {
        Trigger::ALL
            .iter()
            .filter(|trigger| trigger.category() == category)
            .map(|&trigger| self.days_with(trigger))
            .sum()
    }

    fn of_one_category(&self) -> bool {
        [TriggerCategory::Betting, TriggerCategory::Farming, TriggerCategory::Companion]
            .into_iter()
            .any(|category| self.of_category(category) == self.total())
    }

    fn is_royal(&self) -> bool {
        let days: Vec<u8> = self.0.iter().copied().filter(|&day| day != 0).collect();
        let firsts = days.iter().filter_map(|&day| {
            Trigger::ALL.iter().copied().find(|&trigger| Self::contains(day, trigger))
        });
        days.len() == ROYAL_ORDER.len() && firsts.eq(ROYAL_ORDER)
    }

    /// The windows of five days in a row that all have a trigger, each as the types it has.
    fn runs_of_five(&self) -> impl Iterator<Item = u8> {
        self.0
            .windows(5)
            .filter(|days| days.iter().all(|&day| day != 0))
            .map(|days| days.iter().fold(0, |types, day| types | day))
    }
}

/// The first line of the table that fits.
#[must_use]
pub fn evaluate_hand(week: &WeekTriggers) -> Hand {
    let all_types = Trigger::ALL.iter().fold(0, |types, trigger| types | (1 << trigger.number()));
    let has_run = week.runs_of_five().next().is_some();
    let one_category = week.of_one_category();
    let mut counts = [0; 5];
    for (count, &trigger) in counts.iter_mut().zip(Trigger::ALL) {
        *count = week.days_with(trigger);
    }
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let [most, second, ..] = counts;

    if week.is_royal() {
        Hand::RoyalFlush
    } else if has_run && one_category {
        Hand::StraightFlush
    } else if week.runs_of_five().any(|types| types == all_types) {
        Hand::Straight
    } else if week.total() >= 5 && one_category {
        Hand::Flush
    } else if most >= 3 && second >= 2 {
        Hand::FullHouse
    } else if most >= 4 {
        Hand::FourOfAKind
    } else if most >= 3 {
        Hand::ThreeOfAKind
    } else if most >= 2 && second >= 2 {
        Hand::TwoPair
    } else if most >= 2 {
        Hand::Pair
    } else {
        Hand::None
    }
}

/// What a hand multiplies the week's score by.
#[must_use]
pub const fn hand_multiplier(hand: Hand) -> HandMultiplier {
    HandMultiplier::clamped(match hand {
        Hand::RoyalFlush => 100,
        Hand::StraightFlush => 50,
        Hand::Straight => 25,
        Hand::Flush => 20,
        Hand::FullHouse => 15,
        Hand::FourOfAKind => 10,
        Hand::ThreeOfAKind => 5,
        Hand::TwoPair => 3,
        Hand::Pair => 2,
        Hand::None => 1,
    })
}
