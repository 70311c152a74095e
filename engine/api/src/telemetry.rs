//! Telemetry: what clients tell of themselves, in `telemetry.db`. It may be lost, forged or blocked;
//! nothing of play rests on it, and nothing of play waits for it.

mod amounts;
mod compare;
mod event;
mod file;
mod file_in_use;
mod intake;
mod schemas;
mod shared;
mod store;
mod sweep;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daybook_monitor::Monitor;
use daybook_projections::sqlx::Sqlite;
use daybook_projections::sqlx::pool::PoolConnection;
use daybook_projections::sqlx::sqlite::SqlitePool;
use daybook_schema::limits::TELEMETRY_WAITING_BYTES_MAX;
use daybook_schema::{LedgerIdentity, UserId};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::amounts::DAY_MS;
pub(crate) use self::amounts::{Charge, Whose};
pub use self::compare::{Compared, ComparedDay, compare};
pub use self::event::ClientEvent;
pub(crate) use self::event::Row;
pub use self::file::TelemetryError;
pub(crate) use self::intake::{Fault, Sender, invalid, read};
pub(crate) use self::schemas::TelemetryEvent;
use self::shared::Shared;
pub(crate) use self::shared::now_ms;
pub use self::shared::{StoreError, TelemetryCounts};
pub(crate) use self::store::{FlagsTaken, OwnEvent};
use self::writer::{Request, Storing, Writer};
use crate::error::{ApiError, Code};
use crate::settings::TelemetrySettings;

/// How long an erasure waits for its part: the file may be busy, or not open yet.
const ERASED_WITHIN: Duration = Duration::from_secs(2);
/// How long the end of a process waits for the writer.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// `telemetry.db`, open, with the task that writes it.
#[derive(Clone)]
pub struct Telemetry {
    requests: UnboundedSender<Request>,
    shared: Arc<Shared>,
    /// Bytes that may wait.
    room: Arc<Semaphore>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Opens the file, making it where there is none, and begins to write it. What is damaged is set
    /// aside. A file that cannot be opened now is tried again: until then events are refused.
    ///
    /// # Errors
    /// [`TelemetryError`] where it is of a later version, or somebody else's.
    pub async fn open(
        path: &Path,
        settings: TelemetrySettings,
        monitor: &Monitor,
    ) -> Result<Self, TelemetryError> {
        file::refuse_foreign(path).await?;
        // Where it really lies: SQLite keeps the log there.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let shared = Arc::new(Shared::new(settings));
        // Its own breaches would be events that it has to write.
        let write = monitor.untold_metric("telemetry_write");
        let writer = Writer::new(path, Arc::clone(&shared), write);
        let (requests, incoming) = unbounded_channel();
        let (opened, is_opened) = oneshot::channel();
        tokio::spawn(writer.run(incoming, opened));
        // A large file of an earlier version takes longer than that; nobody waits for it.
        drop(is_opened.await);
        let room = Arc::new(Semaphore::new(TELEMETRY_WAITING_BYTES_MAX));
        Ok(Self { requests, shared, room })
    }

    /// What became of events since the start.
    #[must_use]
    pub fn counts(&self) -> TelemetryCounts {
        self.shared.counts()
    }

    /// Counts rows of somebody's for the day.
    ///
    /// # Errors
    /// [`Code::TelemetryLimit`] where there were as many as there may be.
    pub(crate) fn charge(
        &self,
        whose: Whose,
        now_ms: i64,
        rows: &[Row],
    ) -> Result<Charge, ApiError> {
        let settings = &self.shared.settings;
        let most = match whose {
            Whose::User(_) => settings.events_per_user_day_max,
            Whose::Client(_) => settings.events_per_client_day_max,
        };
        let events = rows.iter().map(Row::weight).sum();
        self.shared.amounts.charge(whose, now_ms, events, most).ok_or_else(|| {
            let left_ms = DAY_MS - now_ms.rem_euclid(DAY_MS);
            let seconds = u64::try_from(left_ms / 1_000 + 1).unwrap_or(1);
            ApiError::new(Code::TelemetryLimit).retry_after(seconds)
        })
    }

    /// Stores rows: when this returns they are committed.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of them is stored then.
    pub(crate) async fn store(&self, rows: Vec<Row>, charge: Charge) -> Result<(), StoreError> {
        let Some(room) = self.room_for(&rows) else {
            self.shared.refused(StoreError::Overloaded, rows.len());
            self.shared.amounts.give_back(charge, charge.events);
            return Err(StoreError::Overloaded);
        };
        self.send(rows, Some(charge), None, room).await
    }

    fn room_for(&self, rows: &[Row]) -> Option<OwnedSemaphorePermit> {
        let bytes: usize = rows.iter().map(Row::bytes).sum();
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()
    }

    async fn send(
        &self,
        rows: Vec<Row>,
        charge: Option<Charge>,
        flags_taken: Option<FlagsTaken>,
        room: OwnedSemaphorePermit,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let storing = Storing { rows, charge, flags_taken, room, reply };
        let sent = self.requests.send(Request::Store(storing));
        sent.map_err(|_| StoreError::Unavailable)?;
        answer.await.map_err(|_| StoreError::Unavailable)?
    }

    /// Stores what the service tells of itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn store_own(
        &self,
        rows: Vec<Row>,
        flags_taken: Option<FlagsTaken>,
    ) -> Result<(), StoreError> {
        let room = self.room_for(&rows).ok_or(StoreError::Overloaded)?;
        self.send(rows, None, flags_taken, room).await
    }

    /// Stores events that this process made itself, with their own times and without limit; they are
    /// committed when this returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn store_made(&self, events: Vec<ClientEvent>) -> Result<(), StoreError> {
        let rows: Vec<Row> = events.into_iter().map(Row::from).collect();
        let bytes: usize = rows.iter().map(Row::bytes).sum();
        let bytes = u32::try_from(bytes.min(TELEMETRY_WAITING_BYTES_MAX)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        self.send(rows, None, None, room.map_err(|_| StoreError::Unavailable)?).await
    }

    /// Takes a user's events out, and those of her telemetry sessions without user, where no other
    /// user used these. Tells whether all of it is gone; if not, it is to be called again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn erase(&self, user_id: UserId) -> Result<bool, StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Erase { user_id, reply });
        sent.map_err(|_| StoreError::Unavailable)?;
        let answer = tokio::time::timeout(ERASED_WITHIN, answer).await;
        answer.map_err(|_| StoreError::Unavailable)?.map_err(|_| StoreError::Unavailable)?
    }

    async fn readers(&self) -> Result<SqlitePool, ApiError> {
        self.shared.readers().await.ok_or_else(|| ApiError::new(Code::Unavailable))
    }

    /// A connection that reads.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Sqlite>, ApiError> {
        self.readers().await?.acquire().await.map_err(unread)
    }

    /// Up to which flag of a ledger's epoch the flags were taken over.
    pub(crate) async fn flags_taken(&self, identity: LedgerIdentity) -> Result<i64, ApiError> {
        store::flags_taken(&self.readers().await?, identity).await.map_err(unread)
    }

    /// A page of a user's own events, the newest first: those before a place.
    pub(crate) async fn own_events(
        &self,
        user_id: UserId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<OwnEvent>, ApiError> {
        store::own_events(&self.readers().await?, user_id, before, limit).await.map_err(unread)
    }

    /// Writes what waits, and closes the file: for the end of a process.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).is_ok() {
            drop(tokio::time::timeout(CLOSED_WITHIN, closed).await);
        }
    }
}

fn unread(error: daybook_projections::sqlx::Error) -> ApiError {
    tracing::error!(%error, "telemetry.db cannot be read");
    ApiError::new(Code::Unavailable)
}
