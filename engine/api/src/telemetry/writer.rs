//! The one task that writes `telemetry.db`: what came within a moment goes into one transaction, and
//! is answered after its commit. Between batches it takes out what is too old or too much.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daybook_ledger::free_bytes;
use daybook_monitor::Metric;
use daybook_projections::sqlx::{self, Connection, SqliteConnection};
use daybook_schema::UserId;
use daybook_schema::limits::{TELEMETRY_EVENTS_PER_BATCH_MAX, TELEMETRY_GATHERED_MS};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::amounts::{Charge, Whose};
use super::event::Row;
use super::file_in_use::FileInUse;
use super::shared::{Shared, StoreError, now_ms};
use super::store::{self, FlagsTaken};
use super::sweep::{Sweep, Swept};

/// How often it looks for what is too old or too much.
const SWEPT_EVERY: Duration = Duration::from_secs(60);
/// While there is more of it, so often: requests that came meanwhile go first.
const SWEPT_ON_AFTER: Duration = Duration::from_millis(10);
/// Erased users, and telemetry sessions of theirs, whose events are not stored: each row is held to
/// all of them.
const ERASED_KNOWN_MAX: usize = 1_000;
/// Telemetry sessions of one of them.
const ERASED_SESSIONS_MAX: usize = 16;

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
    shared: Arc<Shared>,
    write: Metric,
    file: FileInUse,
    sweep: Sweep,
    sweep_at: Instant,
    lacks_room: bool,
    erased: Erased,
}

/// Whose events are not stored any more: those that were under way while she was erased, and those
/// that her page sends when it is left.
#[derive(Default)]
struct Erased {
    /// Each with how many sessions are remembered.
    users: VecDeque<(UserId, usize)>,
    /// Telemetry sessions that no other user used.
    sessions: VecDeque<String>,
}

impl Erased {
    /// Remembers somebody and her newest telemetry sessions, which come the newest first.
    fn add(&mut self, user_id: UserId, sessions: Vec<String>) {
        let mut remembered = match self.users.iter().position(|(known, _)| *known == user_id) {
            Some(index) => self.users.remove(index).map_or(0, |(_, remembered)| remembered),
            None => 0,
        };
        for session in sessions {
            if remembered < ERASED_SESSIONS_MAX && !self.sessions.contains(&session) {
                self.sessions.push_back(session);
                remembered += 1;
            }
        }
        self.users.push_back((user_id, remembered));
        let more = |known: usize| known.saturating_sub(ERASED_KNOWN_MAX);
        self.users.drain(..more(self.users.len()));
        self.sessions.drain(..more(self.sessions.len()));
    }

    fn is_of(&self, row: &Row) -> bool {
        match row.user_id {
            Some(user_id) => self.users.iter().any(|(erased, _)| *erased == user_id),
            None => self.sessions.contains(&row.session_id),
        }
    }
}

impl Writer {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>, write: Metric) -> Self {
        Self {
            file: FileInUse::new(path, Arc::clone(&shared)),
            shared,
            write,
            sweep: Sweep::new(),
            sweep_at: Instant::now(),
            lacks_room: false,
            erased: Erased::default(),
        }
    }

    /// Writes until it is closed. `opened` is told when the file was first tried.
    pub(super) async fn run(
        mut self,
        mut requests: UnboundedReceiver<Request>,
        opened: oneshot::Sender<()>,
    ) {
        if self.file.connection().await.is_err() {
            tracing::warn!("telemetry.db is not open yet; the service goes on without it");
        }
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
                    self.file.close().await;
                    reply.send(()).unwrap_or_default();
                    return;
                }
                Some(Request::Store(_)) | None => {}
            }
            if Instant::now() >= self.sweep_at {
                self.sweep().await;
            }
        }
        self.file.close().await;
    }

    /// Whether the disk has room for more telemetry: what is left is the ledger's.
    fn has_room(&mut self) -> bool {
        // What cannot be told is not held against the disk.
        let Ok(free_bytes) = free_bytes(self.file.directory()) else { return true };
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
            one.rows.retain(|row| !self.erased.is_of(row));
            // Of who was erased no amount is kept either.
            if one.rows.is_empty()
                && let Some(charge) = one.charge.take()
            {
                self.shared.amounts.give_back(charge, charge.events);
            }
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
        let connection = self.file.connection().await?;
        let stored = match write(connection, storing).await {
            Ok(stored) => stored,
            Err(error) => return Err(self.file.failed(error).await),
        };
        // It may have been moved away meanwhile, and the rows with it.
        self.file.check().await?;
        self.file.works();
        Ok(stored)
    }

    /// Takes some of a user's events out; tells whether nothing is left.
    async fn erase(&mut self, user_id: UserId) -> Result<bool, StoreError> {
        self.shared.amounts.forget(Whose::User(user_id));
        let connection = self.file.connection().await?;
        let erased = match erase_some(connection, user_id).await {
            Ok(erased) => erased,
            Err(error) => return Err(self.file.failed(error).await),
        };
        self.file.check().await?;
        self.erased.add(user_id, erased.sessions);
        Ok(erased.is_done)
    }

    /// Takes out a part of what is too old or too much, and clears addresses: also where the disk is
    /// filling up, for it makes room.
    async fn sweep(&mut self) {
        self.shared.amounts.sweep(now_ms());
        let is_more = self.try_sweep().await.unwrap_or(false);
        self.sweep_at = Instant::now() + if is_more { SWEPT_ON_AFTER } else { SWEPT_EVERY };
    }

    async fn try_sweep(&mut self) -> Result<bool, StoreError> {
        let connection = self.file.connection().await?;
        match self.sweep.step(connection, self.shared.settings).await {
            Ok(Swept { gone, is_more }) => {
                self.shared.taken_out(gone);
                Ok(is_more)
            }
            Err(error) => Err(self.file.failed(error).await),
        }
    }
}

/// What one step of an erasure did.
struct ErasedSome {
    /// Telemetry sessions of the user's newest events that no other user used.
    sessions: Vec<String>,
    /// Whether nothing is left in the file or its log.
    is_done: bool,
}

async fn erase_some(
    connection: &mut SqliteConnection,
    user_id: UserId,
) -> Result<ErasedSome, sqlx::Error> {
    let some =
        async |connection: &mut SqliteConnection| store::erase_some(connection, user_id).await;
    if let Some(sessions) = in_transaction(connection, some).await? {
        return Ok(ErasedSome { sessions, is_done: false });
    }
    // What is deleted is overwritten in the file; the log still has it.
    let (is_busy, _, _): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await?;
    Ok(ErasedSome { sessions: Vec::new(), is_done: is_busy == 0 })
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
