//! How long things may take.

use std::collections::BTreeMap;
use std::str::FromStr;

/// The seed's budgets, in milliseconds: 60 frames a second, half a frame, and round times.
const SEEDS: [(&str, f64); 5] = [
    ("render_frame", 16.67),
    ("game_tick", 8.0),
    ("api_response", 200.0),
    ("db_query", 50.0),
    ("state_update", 5.0),
];
/// What every other metric may take, in milliseconds.
const OTHERS_MS: f64 = 100.0;

/// How long a metric may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The metric's name.
    pub metric: String,
    /// In milliseconds.
    pub ms: f64,
}

/// A text is no budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a budget is a metric and its milliseconds, such as db_query=50, got `{0}`")]
pub struct BudgetError(String);

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(metric, ms)| {
            let ms = ms.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms > 0.0)?;
            let is_name = !metric.is_empty()
                && metric.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            is_name.then(|| Self { metric: metric.to_owned(), ms })
        });
        parsed.ok_or_else(|| BudgetError(text.to_owned()))
    }
}

/// How long each metric may take: the seed's budgets, 100 ms for others, and what was set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budgets(BTreeMap<String, f64>);

impl Budgets {
    /// With a budget of one's own.
    #[must_use]
    pub fn with(mut self, budget: Budget) -> Self {
        self.0.insert(budget.metric, budget.ms);
        self
    }

    /// How long a metric may take, in milliseconds.
    #[must_use]
    pub fn of(&self, metric: &str) -> f64 {
        let seeds = || SEEDS.iter().find(|(name, _)| *name == metric).map(|(_, ms)| *ms);
        self.0.get(metric).copied().or_else(seeds).unwrap_or(OTHERS_MS)
    }
}

impl FromIterator<Budget> for Budgets {
    fn from_iter<T: IntoIterator<Item = Budget>>(budgets: T) -> Self {
        budgets.into_iter().fold(Self::default(), Self::with)
    }
}
