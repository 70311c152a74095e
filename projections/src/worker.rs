//! One worker a projection: follows a feed and keeps the projection's tables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use daybook_schema::{Head, limits};
use sqlx::Connection;
use tokio::sync::watch;

use crate::applier::{self, Fetched, Refused};
use crate::database::{FileError, GameDatabase, WriterConnection};
use crate::feed::{Feed, FeedError, is_outlived};
use crate::folded_log;
use crate::game_file::FileLost;
use crate::position::Position;
use crate::projection::{ApplyError, ProjectedEvent, Projection, is_passing};
use crate::rebuild::{self, RebuildError};
use crate::sqlite::{CORRUPT, NOT_A_DATABASE, result_code};
use crate::status::{self, Stopped};

/// How long a worker waits for events before it looks whether it shall stop.
const WAIT: Duration = Duration::from_millis(500);
/// After a failure a worker tries again this soon, and later and later up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// A projection that an event stopped tries that event again so often: somebody may have mended it.
const RETRY_STOPPED: Duration = Duration::from_secs(10);
/// How long a worker that catches up waits for what follows a full transaction.
const MORE: Duration = Duration::from_millis(2);
/// How long events are gathered that come one by one and that nobody waits for.
const GATHER: Duration = Duration::from_millis(20);
/// How often the same reason to wait is said again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// How often the rate is written down.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It applied so many events.
    Applied(usize),
    /// There were none.
    Idle,
    /// An event could not be applied; nothing after it was.
    Stopped,
}

/// A worker could not go on; it may later.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The events could not be had.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The database could not take them for now.
    #[error("game.db cannot be written")]
    Database(#[from] sqlx::Error),
    /// The tables could not be made anew.
    #[error(transparent)]
    Rebuild(#[from] Box<RebuildError>),
    /// The file is lost: it was removed, another is in its place, it is malformed, or its tables
    /// are gone.
    #[error(transparent)]
    Lost(#[from] FileLost),
    /// The feed, or the worker itself, panicked.
    #[error("the worker panicked: {0}")]
    Panicked(String),
}

impl WorkerError {
    /// Whether the file is lost to this process: it ends, and the next one makes the tables anew.
    #[must_use]
    pub fn is_file_lost(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Rebuild(error) => matches!(**error, RebuildError::Lost(_)),
            _ => false,
        }
    }
}

impl From<FileError> for WorkerError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Lost(lost) => Self::Lost(lost),
            FileError::Sqlite(error) | FileError::Accounts(error) => Self::Database(error),
        }
    }
}

/// Keeps one projection's tables up to the newest event.
pub struct Worker {
    projection: Arc<dyn Projection>,
    feed: Box<dyn Feed>,
    database: GameDatabase,
    /// The connection, and the position as it was committed.
    open: Option<(WriterConnection, Position)>,
    /// The version of the file's schema when it was opened, or when nothing came last.
    schema: Option<i64>,
    /// What was fetched ahead.
    fetched: Option<Fetched>,
    rate: Rate,
}

/// Events a second, as they were applied lately.
struct Rate {
    since: Instant,
    events: usize,
    /// Whether it was written down already: until then the file may say that an event stopped us.
    is_told: bool,
}

/// Why a projection waits, as it was said last.
#[derive(Default)]
struct LastReason {
    reason: String,
    at: Option<Instant>,
}

impl LastReason {
    /// Says why a projection waits, the same again only now and then.
    fn tell(&mut self, projection: &'static str, reason: String) {
        let is_due = self.at.is_none_or(|at| at.elapsed() >= TOLD_AGAIN);
        if is_due || reason != self.reason {
            tracing::warn!(projection, reason, "the projection waits; tried again");
            *self = Self { reason, at: Some(Instant::now()) };
        }
    }
}

impl Worker {
    /// A worker that has not begun yet.
    #[must_use]
    pub fn new(
        projection: Arc<dyn Projection>,
        feed: Box<dyn Feed>,
        database: &GameDatabase,
    ) -> Self {
        let rate = Rate { since: Instant::now(), events: 0, is_told: false };
        Self {
            projection,
            feed,
            database: database.clone(),
            open: None,
            schema: None,
            fetched: None,
            rate,
        }
    }

    /// Follows until it is told to stop; what it is applying then is committed first. Whatever
    /// fails is tried again, later and later.
    ///
    /// # Errors
    /// When the file is lost to this process.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), FileLost> {
        let name = self.projection.name();
        let backoff = || {
            let builder = backon::ExponentialBuilder::default().with_min_delay(RETRY_FIRST);
            builder.with_max_delay(RETRY_LONGEST).with_jitter().without_max_times().build()
        };
        let mut delays = backoff();
        let mut last_reason = LastReason::default();
        while !*stop.borrow() {
            let stepped = applier::contained(self.step(WAIT)).await;
            let delay = match stepped.unwrap_or_else(|reason| Err(WorkerError::Panicked(reason))) {
                Ok(Step::Applied(_) | Step::Idle) => {
                    self.database.file.say_goes_on(name);
                    delays = backoff();
                    continue;
                }
                Ok(Step::Stopped) => RETRY_STOPPED,
                Err(error) => {
                    self.database.file.check()?;
                    let reason = chain_of(&error);
                    self.database.file.say_waits(name, &reason);
                    last_reason.tell(name, reason);
                    (self.open, self.fetched) = (None, None);
                    delays.next().unwrap_or(RETRY_LONGEST)
                }
            };
            self.database.file.check()?;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = stop.changed() => break,
            }
        }
        self.close().await;
        Ok(())
    }

    /// Closes its connection: dropped, it would be closed in the background.
    pub(crate) async fn close(&mut self) {
        let _folded = self.database.folding.lock().await;
        if let Some((connection, _)) = self.open.take()
            && let Err(error) = connection.close().await
        {
            let name = self.projection.name();
            tracing::warn!(projection = name, %error, "the file of the read models was not closed");
        }
    }

    /// Applies all that there is, and returns when there is nothing more.
    ///
    /// # Errors
    /// [`WorkerError`], what was applied before it stays.
    pub async fn catch_up(&mut self) -> Result<Step, WorkerError> {
        let mut applied = 0;
        loop {
            match self.step(Duration::ZERO).await? {
                Step::Applied(events) => applied += events,
                Step::Idle => return Ok(Step::Applied(applied)),
                Step::Stopped => return Ok(Step::Stopped),
            }
        }
    }

    /// How far it has come, once it has begun.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.open.as_ref().map(|(_, position)| *position)
    }

    /// Waits for events and applies them; while it does, the next are fetched if there are many.
    ///
    /// # Errors
    /// [`WorkerError`]; then nothing was changed.
    pub async fn step(&mut self, timeout: Duration) -> Result<Step, WorkerError> {
        let stepped = self.step_once(timeout).await;
        if let Err(WorkerError::Database(error)) = &stepped {
            self.database.judge(error).await?;
        }
        stepped
    }

    async fn step_once(&mut self, timeout: Duration) -> Result<Step, WorkerError> {
        let (mut connection, position) = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let fetched = match self.fetched.take() {
            Some(fetched) if fetched.after == position.head => Ok(fetched),
            _ => self.fetch(position.head, timeout).await,
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(FeedError::UnknownHead { after }) => {
                let name = self.projection.name();
                if is_outlived(self.feed.as_mut(), name, &position).await? {
                    tracing::warn!(projection = name, %after, "the loss was accepted: rebuilding");
                    self.rebuild().await?;
                }
                return Ok(Step::Applied(0));
            }
            Err(error) => return Err(error.into()),
        };
        let (head, is_full) = (fetched.last(), fetched.is_full);
        let events = applier::projected(&position, fetched.blocks);
        if events.is_empty() {
            // While nothing comes, somebody may have changed the file, or put another in its place.
            self.database.file.check()?;
            let name = self.projection.name();
            let committed = Position::load(&mut connection, name).await?;
            let schema = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut *connection);
            let schema: i64 = schema.await?;
            if self.schema.replace(schema).is_some_and(|known| known != schema) {
                self.database.check_tables().await?;
                // A migration may have added what the connection has to heed.
                connection.close().await?;
                self.open = Some(self.connect().await?);
                return Ok(Step::Idle);
            }
            let is_same = committed.unwrap_or(Position::start(position.version)) == position;
            if is_same {
                self.open = Some((connection, position));
            }
            return Ok(Step::Idle);
        }
        let Self { projection, feed, database, rate, .. } = self;
        let mut applying = Applying { projection, database, rate, connection: &mut connection };
        let (applied, ahead) = tokio::join!(applying.apply(position, &events), async {
            // What cannot be fetched now is asked for again, and told then.
            let ahead = is_full.then(|| Fetched::next(feed.as_mut(), head, timeout.min(MORE)));
            match ahead {
                Some(ahead) => ahead.await.ok(),
                None => None,
            }
        });
        self.fetched = ahead;
        let (position, step) = applied?;
        // A position that somebody else moved is looked up again.
        self.open = position.map(|position| (connection, position));
        Ok(step)
    }

    /// Fetches what comes next. Where it comes one by one some of it is gathered, unless somebody
    /// waits for it: a transaction for each command would slow the writer of the ledger.
    async fn fetch(&mut self, after: Head, timeout: Duration) -> Result<Fetched, FeedError> {
        let Self { projection, feed, database, .. } = self;
        if !feed.is_immediate() {
            // Few, so that there is soon something to apply: more are fetched meanwhile.
            let few = limits::EVENTS_PER_APPLY_MAX / 8;
            return Fetched::up_to(few, feed.as_mut(), after, timeout).await;
        }
        let mut fetched = Fetched::next_ready(feed.as_mut(), after, timeout).await?;
        let gathered_until = tokio::time::Instant::now() + GATHER;
        while !fetched.is_full && !fetched.blocks.is_empty() {
            let wanted = database.applied.wanted();
            let left = gathered_until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() || database.applied.is_wanted(projection.name(), fetched.last().seq) {
                break;
            }
            tokio::select! {
                more = fetched.add(feed.as_mut(), left) => {
                    if !more? { break }
                }
                () = wanted => {}
            }
        }
        Ok(fetched)
    }

    /// Opens the database; tables of another version of the projection are made anew first.
    async fn connect(&mut self) -> Result<(WriterConnection, Position), WorkerError> {
        let (name, version) = (self.projection.name(), self.projection.version());
        loop {
            let mut connection = self.database.connect_writer().await?;
            rebuild::make_tables(&mut connection, self.projection.as_ref()).await?;
            // To look up a parent of every row would cost a quarter of the work. What rows refer to
            // is there: a projection's own rows by its order of writing, `users` by a look of its
            // own. A rebuild checks whole tables, and so does `daybook migrate verify`. Tables of a
            // team's own that refer to these rely on what cascades.
            if !rebuild::have_foreign_children(&mut connection, self.projection.tables()).await? {
                sqlx::query("PRAGMA foreign_keys = OFF").execute(&mut *connection).await?;
            }
            let schema = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut *connection);
            self.schema = Some(schema.await?);
            // Both as they are at one moment: somebody else may be about to commit the first rows.
            let mut reading = connection.begin().await?;
            let position = Position::load(&mut reading, name).await?;
            let is_empty = rebuild::are_empty(&mut reading, self.projection.tables()).await?;
            reading.rollback().await?;
            match position {
                Some(position) if position.version == version => return Ok((connection, position)),
                None if is_empty => return Ok((connection, Position::start(version))),
                Some(_) => {
                    tracing::info!(projection = name, version, "of another version: rebuilding")
                }
                None => tracing::info!(projection = name, "rows without a position: rebuilding"),
            }
            self.rebuild().await?;
        }
    }

    async fn rebuild(&mut self) -> Result<(), WorkerError> {
        let projections = std::slice::from_ref(&self.projection);
        let rebuilt = rebuild::rebuild(&self.database, projections, self.feed.as_mut()).await;
        rebuilt.map(drop).map_err(|error| Box::new(error).into())
    }
}

/// Applies events for a worker.
struct Applying<'a> {
    projection: &'a Arc<dyn Projection>,
    database: &'a GameDatabase,
    rate: &'a mut Rate,
    connection: &'a mut WriterConnection,
}

impl Applying<'_> {
    /// Applies events, in halves where they cannot be applied as one, until the one is found that
    /// cannot. No position is given where somebody else moved it.
    async fn apply(
        &mut self,
        mut position: Position,
        events: &[ProjectedEvent],
    ) -> Result<(Option<Position>, Step), WorkerError> {
        let mut done = 0;
        let mut size = events.len();
        while done < events.len() {
            let part = events.get(done..(done + size).min(events.len())).unwrap_or_default();
            let applied = self.apply_part(&position, part).await?;
            self.database.file.check()?;
            match applied {
                Ok(after) => {
                    position = after;
                    done += part.len();
                    self.tell(&position, part.len()).await?;
                    folded_log::keep_short(self.database, self.connection).await?;
                }
                Err(Refused::Moved) => return Ok((None, Step::Applied(done))),
                Err(Refused::AnotherLedger(holds)) => {
                    let name = self.projection.name().to_owned();
                    let given = part.first().map_or(holds, |event| event.identity.ledger_id);
                    return Err(FeedError::AnotherLedger { name, holds, given }.into());
                }
                Err(Refused::Failed(ApplyError::Database(error))) if is_passing(&error) => {
                    return Err(error.into());
                }
                Err(Refused::Failed(ApplyError::Database(error)))
                    if self.is_files(&error).await? =>
                {
                    return Err(error.into());
                }
                Err(Refused::Failed(error)) if part.len() == 1 => {
                    self.stop_at(part, &error).await?;
                    return Ok((Some(position), Step::Stopped));
                }
                Err(Refused::Failed(_)) => size = part.len().div_ceil(2),
            }
        }
        Ok((Some(position), Step::Applied(done)))
    }

    /// Applies events as one. While they are folded the others may write.
    async fn apply_part(
        &mut self,
        position: &Position,
        part: &[ProjectedEvent],
    ) -> Result<Result<Position, Refused>, FileLost> {
        let projection = self.projection.as_ref();
        let began = Instant::now();
        let folded = match applier::fold(self.connection, projection, position, part).await {
            Ok(folded) => folded,
            Err(refused) => return Ok(Err(refused)),
        };
        let folding = began.elapsed();
        let _writing = self.database.writing.lock().await;
        self.database.file.check()?;
        let began = Instant::now();
        let applied = applier::write(self.connection, projection.name(), folded).await;
        let taken = folding + began.elapsed();
        self.database.monitor().record("project", taken.as_secs_f64() * 1_000.0);
        Ok(applied)
    }

    /// Whether an error is the file's own and says nothing of an event; where that means that the
    /// file is lost, that is the error.
    async fn is_files(&self, error: &sqlx::Error) -> Result<bool, FileLost> {
        self.database.judge(error).await?;
        Ok(matches!(result_code(error), Some(CORRUPT | NOT_A_DATABASE)))
    }

    /// Tells readers of a commit, and now and then how fast it goes.
    async fn tell(&mut self, position: &Position, events: usize) -> Result<(), WorkerError> {
        let name = self.projection.name();
        self.database.file.say_applied(name, position);
        self.database.applied.advance(name, position.head.seq);
        self.rate.events += events;
        let elapsed = self.rate.since.elapsed();
        if elapsed >= RATE_INTERVAL || !self.rate.is_told {
            let _writing = self.database.writing.lock().await;
            let rate = self.rate.events as f64 / elapsed.as_secs_f64();
            status::store_going(self.connection, name, rate).await?;
            *self.rate = Rate { since: Instant::now(), events: 0, is_told: true };
        }
        Ok(())
    }

    async fn stop_at(
        &mut self,
        part: &[ProjectedEvent],
        error: &ApplyError,
    ) -> Result<(), WorkerError> {
        let Some(event) = part.first() else { return Ok(()) };
        let (name, seq) = (self.projection.name(), event.stored.header.seq);
        let reason = match error {
            ApplyError::Event { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        let kind = event.stored.event.kind();
        self.rate.is_told = false;
        tracing::error!(projection = name, %seq, %kind, reason, "an event cannot be applied; stopped");
        let stopped = Stopped { seq: seq.get(), kind: kind.to_string(), reason };
        let _writing = self.database.writing.lock().await;
        Ok(status::store_stopped(self.connection, name, &stopped).await?)
    }
}

/// An error and what it comes from, in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
