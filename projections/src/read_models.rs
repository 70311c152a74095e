//! Daybook's own read models.

mod analytics;
pub(crate) mod calendar;
mod leaderboards;
mod seasons;
mod simulins;
pub(crate) mod users;

pub use analytics::{Analytics, LARGE_WIN_MIN};
pub use seasons::{DayEvent, Seasons};
pub use simulins::Simulins;

use std::sync::Arc;

use crate::projection::Projection;

/// All of Daybook's own projections: `seasons`, `simulins` and `analytics`.
#[must_use]
pub fn all() -> Vec<Arc<dyn Projection>> {
    vec![Arc::new(Seasons), Arc::new(Simulins), Arc::new(Analytics)]
}
