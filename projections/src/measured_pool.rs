//! Connections whose use is measured.

use std::ops::Deref;

use daybook_monitor::{Metric, Timer};
use sqlx::SqlitePool;

/// Connections for one query, or a few that belong together: how long they take is recorded when
/// this is dropped.
pub struct MeasuredPool<'a> {
    pool: &'a SqlitePool,
    _measured: Timer,
}

impl<'a> MeasuredPool<'a> {
    /// Begins to measure.
    #[must_use]
    pub fn new(pool: &'a SqlitePool, metric: &Metric) -> Self {
        Self { pool, _measured: metric.start() }
    }
}

impl Deref for MeasuredPool<'_> {
    type Target = SqlitePool;

    fn deref(&self) -> &SqlitePool {
        self.pool
    }
}
