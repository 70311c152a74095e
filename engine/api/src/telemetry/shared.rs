//! What the handle and the writer share: settings, amounts, connections that read, counts.

use std::sync::atomic::{AtomicU64, Ordering};

use daybook_projections::sqlx::sqlite::SqlitePool;
use tokio::sync::RwLock;

use super::amounts::Amounts;
use crate::error::{ApiError, Code};
use crate::settings::TelemetrySettings;

/// When the disk has no room, it has none a second later either, in seconds.
const ROOM_LOOKED_FOR_AFTER: u64 = 60;

/// What the handle and the writer share.
pub(crate) struct Shared {
    pub(super) settings: TelemetrySettings,
    pub(super) amounts: Amounts,
    readers: RwLock<Option<SqlitePool>>,
    stored: AtomicU64,
    duplicates: AtomicU64,
    refused_overloaded: AtomicU64,
    refused_full: AtomicU64,
    refused_unavailable: AtomicU64,
    taken_out: AtomicU64,
}

/// What became of events since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TelemetryCounts {
    /// Stored.
    pub stored: u64,
    /// Known already.
    pub duplicates: u64,
    /// Refused, because too many waited.
    pub refused_overloaded: u64,
    /// Refused, because the disk is filling up.
    pub refused_full: u64,
    /// Refused, because the file could not be written.
    pub refused_unavailable: u64,
    /// Taken out, because they were too old or the file was full.
    pub taken_out: u64,
}

/// Why events were not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too many wait.
    #[error("more telemetry comes than can be stored")]
    Overloaded,
    /// The disk is filling up.
    #[error("the disk has no room for telemetry")]
    DiskFull,
    /// The file cannot be written.
    #[error("telemetry.db cannot be written")]
    Unavailable,
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::new(Code::Overloaded),
            StoreError::DiskFull => Self::new(Code::ReadOnly).retry_after(ROOM_LOOKED_FOR_AFTER),
            StoreError::Unavailable => Self::new(Code::Unavailable),
        }
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Shared {
    pub(super) fn new(settings: TelemetrySettings) -> Self {
        Self {
            settings,
            amounts: Amounts::default(),
            readers: RwLock::default(),
            stored: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            refused_overloaded: AtomicU64::new(0),
            refused_full: AtomicU64::new(0),
            refused_unavailable: AtomicU64::new(0),
            taken_out: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> TelemetryCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TelemetryCounts {
            stored: of(&self.stored),
            duplicates: of(&self.duplicates),
            refused_overloaded: of(&self.refused_overloaded),
            refused_full: of(&self.refused_full),
            refused_unavailable: of(&self.refused_unavailable),
            taken_out: of(&self.taken_out),
        }
    }

    /// Connections that read, while the file is open.
    pub(super) async fn readers(&self) -> Option<SqlitePool> {
        self.readers.read().await.clone()
    }

    pub(super) async fn set_readers(&self, readers: Option<SqlitePool>) {
        *self.readers.write().await = readers;
    }

    pub(super) fn stored(&self, rows: usize, new: u64) {
        self.stored.fetch_add(new, Ordering::Relaxed);
        self.duplicates.fetch_add((rows as u64).saturating_sub(new), Ordering::Relaxed);
    }

    pub(super) fn refused(&self, error: StoreError, rows: usize) {
        let count = match error {
            StoreError::Overloaded => &self.refused_overloaded,
            StoreError::DiskFull => &self.refused_full,
            StoreError::Unavailable => &self.refused_unavailable,
        };
        count.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn taken_out(&self, rows: u64) {
        self.taken_out.fetch_add(rows, Ordering::Relaxed);
    }
}
