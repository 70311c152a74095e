//! The thread that owns SQLite: one transaction and one sync a batch, then its answers.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daybook_monitor::Metric;
use daybook_schema::{Event, Head, Seq, UnixMicros, limits};
use daybook_simulator::NewEvent;
use rusqlite::{ErrorCode, Row};

use crate::batch::Batch;
use crate::checkpoint::{self, Rhythm, Wish};
use crate::committed_events::CommittedEvents;
use crate::database::{self, LedgerConnection};
use crate::event_row::{COLUMNS, RowView, insert, insert_sql};
use crate::foreign_panics::contain_and_log;
use crate::handed_rows::{CommittedRows, HandOver};
use crate::held_file::HeldFile;
use crate::open_batch::{Ended, ToCommit};
use crate::status::{Failure, LogState, Status};
use crate::submission::{Accepted, Answer, FirstUse, SubmitError};

/// The connection that writes, and the ledger's file with the system's lock: given back when the
/// connection is closed, so the connection stands first.
pub(crate) struct HeldConnection {
    pub(crate) connection: LedgerConnection,
    pub(crate) file: HeldFile,
}

/// A ledger's file as its writer has it.
pub(crate) struct HeldLedger {
    pub(crate) held: HeldConnection,
    pub(crate) path: PathBuf,
}

/// Where what was committed goes.
pub(crate) struct Committed {
    /// To those who follow.
    pub(crate) events: Arc<CommittedEvents>,
    /// To the thread that makes snapshots.
    pub(crate) hand_over: HandOver,
}

struct Writer {
    held: HeldConnection,
    files: Vec<FileInPlace>,
    status: Arc<Status>,
    events: Arc<CommittedEvents>,
    hand_over: HandOver,
    checkpoints: SyncSender<()>,
    /// When the write-ahead log is folded in.
    rhythm: Rhythm,
    /// The log's size, in bytes, from which on it is warned of again.
    warn_at_bytes: u64,
    /// Whether a checkpoint beside the work is under way, which one here would wait for.
    is_checkpointing: Arc<AtomicBool>,
    /// Commits, and their rows, since the log was looked at.
    not_looked_at: (usize, usize),
    /// How long a batch takes: its rows and its commit.
    commit: Metric,
    /// How long the commit alone takes, which is the write to the log and its sync.
    sync: Metric,
}

/// A file as it was when the ledger was opened.
#[derive(Clone)]
struct FileInPlace {
    path: PathBuf,
    identity: (u64, u64),
}

impl FileInPlace {
    fn of(path: PathBuf) -> std::io::Result<Self> {
        let identity = Self::identify(&path)?;
        Ok(Self { path, identity })
    }

    fn identify(path: &Path) -> std::io::Result<(u64, u64)> {
        std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
    }

    fn is_in_its_place(&self) -> bool {
        Self::identify(&self.path).is_ok_and(|identity| identity == self.identity)
    }
}

/// What a page takes in the log, with its header.
const LOG_PAGE_BYTES: u64 = limits::LEDGER_PAGE_BYTES as u64 + 24;
/// The log's size is looked at after so many commits, or so many rows.
const LOG_LOOKED_AT_AFTER_COMMITS: usize = 64;
const LOG_LOOKED_AT_AFTER_ROWS: usize = 2_048;

/// Starts the writer and, beside it, the thread of the passive checkpoints.
pub(crate) fn spawn(
    HeldLedger { held, path }: HeldLedger,
    status: Arc<Status>,
    Committed { events, hand_over }: Committed,
    [commit, sync]: [Metric; 2],
    batches: ToCommit,
    ended: Sender<Ended>,
) -> std::io::Result<JoinHandle<()>> {
    let (checkpoints, wanted) = sync_channel(1);
    let is_checkpointing = Arc::new(AtomicBool::new(false));
    let files = [path.clone(), database::log_path(&path)];
    let files = files.into_iter().map(FileInPlace::of).collect::<std::io::Result<Vec<_>>>()?;
    let checkpointer =
        std::thread::Builder::new().name("daybook-checkpoint".to_owned()).spawn({
            let (files, status) = (files.clone(), Arc::clone(&status));
            let is_checkpointing = Arc::clone(&is_checkpointing);
            move || checkpoint_beside(&path, &files, &status, &is_checkpointing, &wanted)
        })?;
    let mut writer = Writer {
        held,
        files,
        status,
        events,
        hand_over,
        checkpoints,
        rhythm: Rhythm::new(),
        warn_at_bytes: limits::WAL_BYTES_RESTART,
        is_checkpointing,
        not_looked_at: (0, 0),
        commit,
        sync,
    };
    std::thread::Builder::new().name("daybook-writer".to_owned()).spawn(move || {
        let _guard = writer.status.guard();
        while let Some(batch) = batches.next() {
            let Some(sync) = writer.take(batch) else { break };
            // Whoever closed the ledger asks no more.
            let _ = ended.send(Ended { sync, at: Instant::now() });
        }
        let is_sound = writer.status.failure().is_none() && writer.files_are_in_their_place();
        let Writer { held: HeldConnection { connection, file }, checkpoints, hand_over, .. } =
            writer;
        drop(checkpoints);
        if checkpointer.join().is_err() {
            tracing::warn!("the checkpoint thread stopped on a broken invariant");
        }
        // After a failure nothing is folded in: the log may not be the file's any more.
        let folded = if is_sound {
            database::fold_and_close(connection)
        } else {
            drop(connection);
            Ok(())
        };
        if let Err(error) = folded {
            tracing::warn!(%error, "the write-ahead log was left; the next start folds it in");
        }
        // The ledger is whole in its file: the last snapshot may be made.
        drop((file, hand_over));
        // What was decided but not committed is answered `unavailable` as its replies are dropped.
        drop(batches);
    })
}

impl Writer {
    /// Commits a batch and answers. Tells how long its sync took, if it had one; none when the commit
    /// failed, after which nothing goes on.
    #[expect(clippy::option_option, reason = "a batch of questions alone is not synced")]
    fn take(&mut self, mut batch: Batch) -> Option<Option<Duration>> {
        // SQLite would go on writing to a file that nobody finds again; nor may a commit be
        // acknowledged if that happened meanwhile.
        let committed = match self.files_are_in_their_place() {
            true => self.commit(&batch).map_err(|failure| self.status.fail(failure)).ok(),
            false => None,
        };
        let sync = committed.filter(|_| self.files_are_in_their_place())?;
        if !batch.rows.is_empty() {
            // Without anybody who follows nothing is built.
            if self.events.is_followed() {
                self.events.push(batch.runs());
            }
            self.status.publish(batch.head, batch.identity);
        }
        for answer in batch.answers.drain(..) {
            // It wakes whoever waits, or ends with the one who went away.
            contain_and_log(|| self.answer(answer));
        }
        if !batch.rows.is_empty() {
            let rows = std::mem::take(&mut batch.rows);
            let count = rows.len();
            let payloads = std::mem::take(&mut batch.payloads);
            self.hand_over.hand(CommittedRows { previous: batch.previous, rows, payloads });
            self.keep_log_small(count);
        }
        Some(sync)
    }

    fn files_are_in_their_place(&self) -> bool {
        let moved = self.files.iter().find(|file| !file.is_in_its_place());
        if let Some(moved) = moved {
            self.status.fail(Failure::FileMoved { path: moved.path.clone() });
        }
        moved.is_none()
    }

    /// Commits a batch's rows, if it has any, and tells how long the sync took; where that fails the
    /// connection is closed, and what was begun is undone.
    fn commit(&self, batch: &Batch) -> Result<Option<Duration>, Failure> {
        if batch.rows.is_empty() {
            return Ok(None);
        }
        self.begin()?;
        let synced = self.commit.measure(|| self.insert_and_commit(batch));
        synced.map(Some).map_err(|error| failure_of(&error))
    }

    /// Begins a transaction. Another program may hold the file's lock: nothing is written yet, so
    /// the commands that are decided wait for it, and new ones are refused meanwhile.
    fn begin(&self) -> Result<(), Failure> {
        let begin = || self.held.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]);
        match self.while_locked(begin) {
            Ok(_) => Ok(()),
            Err(error) if is_busy(&error) => Err(Failure::LockedToTheEnd),
            Err(error) => Err(failure_of(&error)),
        }
    }

    /// Tries again for as long as another program keeps the file locked and the ledger is not about
    /// to be closed; meanwhile new commands are refused.
    fn while_locked<T>(&self, attempt: impl Fn() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let since = Instant::now();
        let mut is_told = false;
        let outcome = loop {
            match attempt() {
                Err(error) if is_busy(&error) && !self.status.is_closing() => {}
                outcome => break outcome,
            }
            if !is_told {
                is_told = true;
                self.status.set_locked(Some(since));
                tracing::warn!(
                    "another program keeps ledger.db locked: nothing is written until it lets go"
                );
            }
        };
        if is_told {
            self.status.set_locked(None);
            let seconds = since.elapsed().as_secs();
            match &outcome {
                Ok(_) => tracing::info!(seconds, "the lock is gone: writing goes on"),
                Err(error) => tracing::warn!(seconds, %error, "waiting for the lock was given up"),
            }
        }
        outcome
    }

    fn insert_and_commit(&self, batch: &Batch) -> rusqlite::Result<Duration> {
        let mut statement = self.held.connection.prepare_cached(&insert_sql())?;
        for row in &batch.rows {
            let payload = batch.payloads.get(row.payload.clone()).unwrap_or_default();
            insert(&mut statement, &row.header, payload, &row.hash)?;
        }
        let mut commit = self.held.connection.prepare_cached("COMMIT")?;
        let began = Instant::now();
        self.sync.measure(|| commit.execute([]))?;
        Ok(began.elapsed())
    }

    fn answer(&self, answer: Answer) {
        match answer {
            Answer::Command { reply, outcome } => drop(reply.send(outcome)),
            Answer::Repeat { reply, first, size } => {
                let outcome = self.read_answer(first, size).map_err(|reason| {
                    tracing::error!(%reason, seq = first.get(), "an answer cannot be read back");
                    SubmitError::AnswerUnreadable { reason }
                });
                drop(reply.send(outcome));
            }
            Answer::Conflict { reply, first } => {
                // A conflict it is, also where the first event cannot be read back.
                let first = self.read_answer(first, 1).ok().and_then(|accepted| {
                    let kind = accepted.events.first()?.event.kind();
                    Some(FirstUse { kind, seq: first })
                });
                drop(reply.send(Err(SubmitError::Conflict { first })));
            }
            Answer::Query(send) => send(),
        }
    }

    /// The same answer as the first time, from the command's events.
    fn read_answer(&self, first: Seq, size: u8) -> Result<Accepted, String> {
        let read = || -> rusqlite::Result<Result<Vec<_>, String>> {
            let mut statement = self.held.connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2"
            ))?;
            let mut rows = statement.query((first.get().cast_signed(), size))?;
            let mut found = Vec::with_capacity(usize::from(size));
            while let Some(row) = rows.next()? {
                match decoded(row)? {
                    Ok(event) => found.push(event),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
            Ok(Ok(found))
        };
        let found = self.while_locked(read).map_err(|error| error.to_string())??;
        let last = found.last().map(|(head, recorded_at, _)| (*head, *recorded_at));
        let events: Vec<NewEvent> = found.into_iter().map(|(_, _, event)| event).collect();
        match last {
            Some((head, recorded_at)) if events.len() == usize::from(size) => {
                Ok(Accepted { first_seq: first, head, recorded_at, events, repeated: true })
            }
            _ => Err(format!("{} of its {size} events are there", events.len())),
        }
    }

    /// Asks for a checkpoint beside the work, or, when the log has grown past its limit, waits for
    /// one that starts it anew.
    fn keep_log_small(&mut self, rows: usize) {
        // Small commits are looked at together: each look takes as long as some rows.
        self.not_looked_at = (self.not_looked_at.0 + 1, self.not_looked_at.1 + rows);
        let (commits, rows) = self.not_looked_at;
        if commits < LOG_LOOKED_AT_AFTER_COMMITS && rows < LOG_LOOKED_AT_AFTER_ROWS {
            return;
        }
        self.not_looked_at = (0, 0);
        let Ok(pages) = checkpoint::pages(&self.held.connection) else { return };
        let bytes = pages.written * LOG_PAGE_BYTES;
        self.status.set_log(LogState { bytes, is_held: self.rhythm.is_held() });
        match self.rhythm.wish(&pages, self.is_checkpointing.load(Ordering::Acquire)) {
            Wish::Nothing => return,
            Wish::Beside => {
                // A full channel means that one is under way.
                let _ = self.checkpoints.try_send(());
                return;
            }
            Wish::Anew => {}
        }
        let restarted = self
            .held
            .connection
            .busy_timeout(Duration::from_millis(limits::WAL_RESTART_WAIT_MS))
            .and_then(|()| checkpoint::run(&self.held.connection, "RESTART"));
        drop(
            self.held
                .connection
                .busy_timeout(Duration::from_millis(limits::WRITER_BUSY_TIMEOUT_MS)),
        );
        let (is_held, _) =
            restarted.unwrap_or((true, checkpoint::LogPages { written: 0, checkpointed: 0 }));
        if !is_held {
            self.status.set_log(LogState { bytes: 0, is_held });
            (self.rhythm, self.warn_at_bytes) = (Rhythm::new(), limits::WAL_BYTES_RESTART);
            return;
        }
        self.rhythm.was_held(pages.written);
        self.status.set_log(LogState { bytes, is_held: self.rhythm.is_held() });
        if bytes >= self.warn_at_bytes {
            self.warn_at_bytes = bytes * 2;
            tracing::warn!(
                bytes,
                "a reader's open transaction keeps the write-ahead log from being started anew: it grows \
                 until that ends"
            );
        }
    }
}

fn failure_of(error: &rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Failure::DiskFull,
        _ => Failure::CommitFailed { reason: error.to_string() },
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// A row's event, its head and its time; or what is wrong with it.
fn decoded(row: &Row<'_>) -> rusqlite::Result<Result<(Head, UnixMicros, NewEvent), String>> {
    let row = match RowView::read(row, row.get(0)?) {
        Ok(row) => row,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let head = Head { seq: row.header.seq.get(), hash: row.hash };
    let event = Event::decode(row.header.kind, row.header.version, row.payload);
    Ok(event
        .map(|event| (head, row.header.recorded_at, NewEvent { stream: row.header.stream, event }))
        .map_err(|error| format!("event {}: {error}", row.header.seq)))
}

/// Passive checkpoints, one for each wish, on a connection of their own.
fn checkpoint_beside(
    path: &Path,
    files: &[FileInPlace],
    status: &Status,
    is_checkpointing: &AtomicBool,
    wanted: &Receiver<()>,
) {
    let connection = match database::open_writer(path) {
        Ok(connection) => connection,
        Err(error) => {
            tracing::warn!(%error, "no checkpoints beside the work; the writer makes them");
            return;
        }
    };
    while wanted.recv().is_ok() {
        // A log that is not this file's any more would damage it.
        if status.failure().is_some() || !files.iter().all(FileInPlace::is_in_its_place) {
            continue;
        }
        is_checkpointing.store(true, Ordering::Release);
        if let Err(error) = checkpoint::run(&connection, "PASSIVE") {
            tracing::warn!(%error, "a checkpoint failed; the next one tries again");
        }
        is_checkpointing.store(false, Ordering::Release);
    }
}
