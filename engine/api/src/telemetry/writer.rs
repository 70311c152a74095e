//! The one task that writes `telemetry.db`: what came within a moment goes into one transaction, and
//! is answered after its commit. Between batches it takes out what is too old or too much.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daybook_ledger::free_bytes;
use daybook_monitor::Metric;
use daybook_projections::DatabaseFiles;
use daybook_projections::sqlx::{self, Connection, SqliteConnection};
use daybook_schema::UserId;
use daybook_schema::limits::{
    TELEMETRY_EVENTS_PER_BATCH_MAX, TELEMETRY_GATHERED_MS, TELEMETRY_IP_KEPT_MS,
    TELEMETRY_ROWS_PER_SWEEP,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::amounts::{Charge, DAY_MS, day_of};
use super::event::Row;
use super::file::{self, Means, OpenFile, meaning};
use super::shared::{Shared, StoreError, now_ms};
use super::store::{self, FlagsTaken};

/// How often it looks for what is too old or too much.
const SWEPT_EVERY: Duration = Duration::from_secs(60);
/// While there is more of it, so often: requests that came meanwhile go first.
const SWEPT_ON_AFTER: Duration = Duration::from_millis(10);
/// A file that could not be opened is tried again after so long.
const OPENED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Users whose events are refused because they were erased: those that were under way meanwhile.
const ERASED_KNOWN_MAX: usize = 10_000;

/// Rows to store, and who waits for that.
pub(super) struct Storing {
    pub(super) rows: Vec<Row>,
    pub(super) charge: Option<Charge>,
    pub(super) flags_taken: Option<FlagsTaken>,
    /// The room that they take in the queue.
    pub(super) room: OwnedSemaphorePermit,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

pub(super) enum Request {
    Store(Storing),
    /// Whether it is done: nothing is left in the file or its log.
    Erase {
        user_id: UserId,
        reply: oneshot::Sender<Result<bool, StoreError>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) write: Metric,
    file: Option<OpenFile>,
    open_again_at: Instant,
    sweep_at: Instant,
    lacks_room: bool,
    /// The wall clock and the other one at the start: a clock that jumps ahead makes nothing old.
    began: (i64, Instant),
    /// Events that came before this go: their day is being taken out.
    taken_out_before_ms: i64,
    erased: Vec<UserId>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>, write: Metric) -> Self {
        let now = Instant::now();
        Self {
            path,
            shared,
            write,
            file: None,
            open_again_at: now,
            sweep_at: now,
            lacks_room: false,
            began: (now_ms(), now),
            taken_out_before_ms: i64::MIN,
            erased: Vec::new(),
        }
    }

    /// Writes until it is closed. `opened` is told when the file was first tried.
    pub(super) async fn run(
        mut self,
        mut requests: UnboundedReceiver<Request>,
        opened: oneshot::Sender<()>,
    ) {
        self.open_if_due().await;
        // Whoever does not wait any more is told nothing.
        opened.send(()).unwrap_or_default();
        loop {
            let wait = self.sweep_at.saturating_duration_since(Instant::now());
            let first = match timeout(wait, requests.recv()).await {
                Ok(Some(first)) => first,
                Ok(None) => break,
                Err(_) => {
                    self.sweep().await;
                    continue;
                }
            };
            let (storing, other) = gather(first, &mut requests).await;
            if !storing.is_empty() {
                self.store(storing).await;
            }
            match other {
                Some(Request::Erase { user_id, reply }) => {
                    let erased = self.erase(user_id).await;
                    reply.send(erased).unwrap_or_default();
                }
                Some(Request::Close { reply }) => {
                    self.close().await;
                    reply.send(()).unwrap_or_default();
                    return;
                }
                Some(Request::Store(_)) | None => {}
            }
            if Instant::now() >= self.sweep_at {
                self.sweep().await;
            }
        }
        self.close().await;
    }

    async fn close(&mut self) {
        self.shared.set_readers(None).await;
        let Some(OpenFile { connection, files, readers }) = self.file.take() else { return };
        if files.difference(&DatabaseFiles::of(&self.path), &self.path).is_some() {
            // SQLite would fold a log into what is no longer ours.
            std::mem::forget((connection, readers));
            return;
        }
        readers.close().await;
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "telemetry.db was not closed; the next start folds its log in");
        }
    }

    async fn open_if_due(&mut self) {
        if self.file.is_some() || Instant::now() < self.open_again_at {
            return;
        }
        self.open_again_at = Instant::now() + OPENED_AGAIN_AFTER;
        match file::open(&self.path).await {
            Ok(mut file) => {
                let day = day_of(now_ms());
                let amounts = &self.shared.amounts;
                let loaded = store::load_amounts(&mut file.connection, amounts, day).await;
                if let Err(error) = loaded {
                    tracing::warn!(%error, "what was stored today cannot be read");
                }
                self.shared.set_readers(Some(file.readers.clone())).await;
                self.file = Some(file);
            }
            Err(error) => tracing::warn!(%error, "telemetry.db cannot be opened; tried again"),
        }
    }

    /// The file, if it is still the one that was opened. One that was moved away is left, and
    /// another is opened in its place.
    async fn file(&mut self) -> Result<&mut OpenFile, StoreError> {
        let now = DatabaseFiles::of(&self.path);
        if let Some(reason) =
            self.file.as_ref().and_then(|file| file.files.difference(&now, &self.path))
        {
            tracing::error!(reason, "telemetry.db was moved; another is opened in its place");
            self.leave().await;
        }
        self.open_if_due().await;
        self.file.as_mut().ok_or(StoreError::Unavailable)
    }

    /// Leaves a file without closing it: SQLite would fold a log into what is no longer ours.
    async fn leave(&mut self) {
        self.shared.set_readers(None).await;
        if let Some(OpenFile { connection, readers, .. }) = self.file.take() {
            std::mem::forget((connection, readers));
        }
        self.open_again_at = Instant::now();
    }

    /// What is to be done after an error, and what whoever waited is told.
    async fn failed(&mut self, error: sqlx::Error) -> StoreError {
        tracing::warn!(%error, "telemetry.db could not be written");
        match meaning(&error) {
            Means::Passing => {}
            Means::Lost => self.leave().await,
            Means::Damaged => {
                self.leave().await;
                if let Err(error) = file::set_aside(&self.path, &error.to_string()) {
                    tracing::error!(%error, "telemetry.db is damaged and cannot be set aside");
                }
            }
        }
        StoreError::Unavailable
    }

    /// Whether the disk has room for more telemetry: what is left is the ledger's.
    fn has_room(&mut self) -> bool {
        let directory = self.path.parent().unwrap_or(&self.path);
        // What cannot be told is not held against the disk.
        let Ok(free_bytes) = free_bytes(directory) else { return true };
        let lacks_room = free_bytes < self.shared.settings.disk_free_bytes_min;
        if lacks_room != self.lacks_room {
            self.lacks_room = lacks_room;
            match lacks_room {
                true => {
                    tracing::warn!(free_bytes, "the disk is filling up: no telemetry is stored")
                }
                false => tracing::info!(free_bytes, "there is room again: telemetry is stored"),
            }
        }
        !lacks_room
    }

    async fn store(&mut self, mut storing: Vec<Storing>) {
        for one in &mut storing {
            let erased = &self.erased;
            one.rows.retain(|row| row.user_id.is_none_or(|user_id| !erased.contains(&user_id)));
        }
        let outcome = match self.has_room() {
            true => {
                let measured = self.write.start();
                let outcome = self.try_store(&storing).await;
                drop(measured);
                outcome
            }
            false => Err(StoreError::DiskFull),
        };
        match outcome {
            Ok(stored) => {
                for (one, stored) in storing.into_iter().zip(stored) {
                    self.shared.stored(one.rows.len(), stored);
                    if let Some(charge) = one.charge {
                        self.shared.amounts.give_back(charge, unstored(&one.rows, stored));
                    }
                    one.reply.send(Ok(())).unwrap_or_default();
                    drop(one.room);
                }
            }
            Err(error) => {
                for one in storing {
                    self.shared.refused(error, one.rows.len());
                    if let Some(charge) = one.charge {
                        self.shared.amounts.give_back(charge, charge.events);
                    }
                    one.reply.send(Err(error)).unwrap_or_default();
                    drop(one.room);
                }
            }
        }
    }

    /// Stores all in one transaction, and tells of each how many rows were new.
    async fn try_store(&mut self, storing: &[Storing]) -> Result<Vec<u64>, StoreError> {
        let file = self.file().await?;
        let written = write(&mut file.connection, storing).await;
        let stored = match written {
            Ok(stored) => stored,
            Err(error) => return Err(self.failed(error).await),
        };
        // It may have been moved away meanwhile, and the rows with it.
        self.file().await?;
        Ok(stored)
    }

    async fn erase(&mut self, user_id: UserId) -> Result<bool, StoreError> {
        if !self.erased.contains(&user_id) {
            let surplus = (self.erased.len() + 1).saturating_sub(ERASED_KNOWN_MAX);
            self.erased.drain(..surplus);
            self.erased.push(user_id);
        }
        let connection = &mut self.file().await?.connection;
        let erased = async {
            let some = async |connection: &mut SqliteConnection| {
                store::erase_some(connection, user_id).await
            };
            if in_transaction(connection, some).await? {
                return Ok(false);
            }
            // What is deleted is overwritten in the file; the log still has it.
            let (is_busy, _, _): (i64, i64, i64) =
                sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await?;
            Ok::<_, sqlx::Error>(is_busy == 0)
        };
        match erased.await {
            Ok(is_done) => Ok(is_done),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// Now, but never later than the time that has passed since the start allows.
    fn cautious_now_ms(&self) -> i64 {
        let (wall_ms, at) = self.began;
        let passed = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        now_ms().min(wall_ms.saturating_add(passed))
    }

    /// Takes out a part of what is too old or too much, and clears addresses.
    async fn sweep(&mut self) {
        let now = now_ms();
        self.shared.amounts.sweep(now);
        let outcome = match self.has_room() {
            true => self.try_sweep(now).await,
            false => Ok(false),
        };
        let is_more = outcome.unwrap_or(false);
        self.sweep_at = Instant::now() + if is_more { SWEPT_ON_AFTER } else { SWEPT_EVERY };
    }

    async fn try_sweep(&mut self, now: i64) -> Result<bool, StoreError> {
        let settings = self.shared.settings;
        let old_ms = self.cautious_now_ms() - i64::from(settings.kept_days) * DAY_MS;
        let before_ms = self.taken_out_before_ms.max(old_ms);
        let connection = &mut self.file().await?.connection;
        let swept = async {
            store::forget_amounts(connection, day_of(now)).await?;
            let cleared = store::clear_addresses(connection, now - TELEMETRY_IP_KEPT_MS).await?;
            let gone = store::take_out(connection, before_ms).await?;
            let rows_max = u64::from(TELEMETRY_ROWS_PER_SWEEP);
            let is_more = cleared >= rows_max || gone >= rows_max;
            if is_more || store::used_bytes(connection).await? <= settings.bytes_max {
                return Ok((is_more, gone, None));
            }
            let days_end_ms = store::oldest_days_end_ms(connection).await?;
            Ok::<_, sqlx::Error>((days_end_ms.is_some(), gone, days_end_ms))
        };
        let (is_more, gone, days_end_ms) = match swept.await {
            Ok(swept) => swept,
            Err(error) => return Err(self.failed(error).await),
        };
        self.shared.taken_out(gone);
        let Some(days_end_ms) = days_end_ms else { return Ok(is_more) };
        // The oldest day goes whole; of today only what must.
        if days_end_ms <= day_of(now) * DAY_MS {
            tracing::warn!(day = %day_text(days_end_ms - DAY_MS), "telemetry.db is full: its oldest day goes");
            self.taken_out_before_ms = days_end_ms;
            return Ok(true);
        }
        let connection = &mut self.file().await?.connection;
        match store::take_out(connection, i64::MAX).await {
            Ok(gone) => {
                tracing::warn!(gone, "telemetry.db is full: events of today go");
                self.shared.taken_out(gone);
                Ok(gone > 0)
            }
            Err(error) => Err(self.failed(error).await),
        }
    }
}

fn day_text(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d").to_string()
}

/// What counts of rows that were not new. Which these are is not known: as much as the lightest
/// weigh.
fn unstored(rows: &[Row], stored: u64) -> u32 {
    let known = rows.len().saturating_sub(usize::try_from(stored).unwrap_or(usize::MAX));
    let mut weights: Vec<u32> = rows.iter().map(Row::weight).collect();
    weights.sort_unstable();
    weights.iter().take(known).sum()
}

/// What comes within a moment, up to the first request that is something else.
async fn gather(
    first: Request,
    requests: &mut UnboundedReceiver<Request>,
) -> (Vec<Storing>, Option<Request>) {
    let until = Instant::now() + Duration::from_millis(TELEMETRY_GATHERED_MS);
    let (mut storing, mut events, mut next) = (Vec::new(), 0, Some(first));
    loop {
        match next {
            Some(Request::Store(one)) => {
                events += one.rows.len();
                storing.push(one);
            }
            other => return (storing, other),
        }
        if events >= TELEMETRY_EVENTS_PER_BATCH_MAX {
            return (storing, None);
        }
        match timeout_at(until, requests.recv()).await {
            Ok(received) => next = received,
            Err(_) => return (storing, None),
        }
    }
}

async fn write(
    connection: &mut SqliteConnection,
    storing: &[Storing],
) -> Result<Vec<u64>, sqlx::Error> {
    in_transaction(connection, async |connection| {
        let mut stored = Vec::with_capacity(storing.len());
        for one in storing {
            let new = store::insert(connection, &one.rows).await?;
            stored.push(new);
            if let Some(charge) = one.charge {
                let events = charge.events.saturating_sub(unstored(&one.rows, new));
                store::add_amount(connection, charge.whose, charge.day, events).await?;
            }
            if let Some(taken) = one.flags_taken {
                store::note_flags_taken(connection, taken).await?;
            }
        }
        Ok(stored)
    })
    .await
}

/// Does something in one transaction; what fails is rolled back.
async fn in_transaction<T>(
    connection: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = work(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done)
}
