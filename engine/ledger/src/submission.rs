//! A command on its way to the engine, and what comes back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use daybook_schema::{Command, CommandId, DayNumber, EventKind, Head, Seq, UnixMicros, limits};
use daybook_simulator::{NewEvent, Rejections, State};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::status::{Refusal, Status, Stopped};
use crate::stream_heads::StreamHeads;

/// A command on its way to the engine.
#[derive(Clone, Debug)]
pub struct Submission {
    pub(crate) command: Command,
    pub(crate) id: Option<CommandId>,
    pub(crate) expected_day: Option<DayNumber>,
    pub(crate) at: Option<UnixMicros>,
    pub(crate) deadline: Option<Instant>,
}

impl Submission {
    /// A command without an id of its own: sent again, it is another command.
    #[must_use]
    pub const fn new(command: Command) -> Self {
        Self { command, id: None, expected_day: None, at: None, deadline: None }
    }

    /// With the id that the client made (`Idempotency-Key`): sent again, it gets the same answer.
    #[must_use]
    pub fn with_id(self, id: CommandId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// For bets that are meant for this day: on another they are refused as `WRONG_DAY`, so that a
    /// copy that comes late does not bet on the next one. The day is checked and not recorded; only
    /// [`Command::PlaceBets`] looks at it.
    #[must_use]
    pub fn on_day(self, expected_day: DayNumber) -> Self {
        Self { expected_day: Some(expected_day), ..self }
    }

    /// At a time, for a ledger that was opened with
    /// [`Time::FromSubmissions`](crate::Time::FromSubmissions).
    #[must_use]
    pub fn at(self, at: UnixMicros) -> Self {
        Self { at: Some(at), ..self }
    }

    /// Not after this. Once the engine has taken the command in time it is committed, however long
    /// that takes. If it comes to it later, or still waits for a slow disk then, the answer is
    /// [`SubmitError::TooLate`]. A repeat of an applied command gets the first answer, late or not.
    #[must_use]
    pub fn before(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Whether its deadline has passed.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline < Instant::now())
    }
}

/// A command was applied: its events are on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The seq of its first event.
    pub first_seq: Seq,
    /// Seq and hash of its last event.
    pub head: Head,
    /// The time of its events; in JSON, where fields named `…At` are in seconds, it is
    /// `recordedMicros`.
    #[serde(rename = "recordedMicros")]
    pub recorded_at: UnixMicros,
    /// Its events.
    pub events: Vec<NewEvent>,
    /// Whether it was applied before, and this is the first answer once more.
    pub repeated: bool,
}

/// What was done under a command's id before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstUse {
    /// The kind of the command's first event.
    pub kind: EventKind,
    /// That event's seq.
    pub seq: Seq,
}

/// A command was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The rules refuse it.
    #[error("{rejections}")]
    Rejected {
        /// All rules that it breaks.
        rejections: Box<Rejections>,
        /// Whether it was refused before, and this is the first answer once more.
        repeated: bool,
    },
    /// Its id was used for another command.
    #[error("this command id was used for another command, {}; make a new id for a new command", first.map_or(
        "which was refused".to_owned(),
        |first| format!("whose first event is {} ({})", first.seq, first.kind)
    ))]
    Conflict {
        /// What was done under the id; none where it was refused.
        first: Option<FirstUse>,
    },
    /// Its id is too old to be known, or too far ahead: certainly not applied now, though an
    /// earlier sending may have been. [`Reader::find_command`](crate::Reader::find_command) tells.
    #[error(
        "command id is expired: its time must lie {}at most a minute after {} ms (server time)",
        floor.map_or(String::new(), |floor| format!("after {} ms and ", floor.millis())),
        server_time.millis()
    )]
    Expired {
        /// The server's time.
        server_time: UnixMicros,
        /// Ids of this time or before are refused, where there is such a time.
        floor: Option<UnixMicros>,
        /// The time for a new id: one that is made with it is not expired.
        new_id_time: UnixMicros,
    },
    /// Too many commands are waiting; try again later. The command was certainly not applied.
    #[error("too many commands are waiting, at most {} may", limits::COMMANDS_WAITING_MAX)]
    Overloaded,
    /// The engine came to the command after its deadline. It was certainly not applied.
    #[error("the command waited past its deadline and was not applied; try again later")]
    TooLate,
    /// The disk is all but full: reading goes on, writing does when there is room again. The
    /// command was certainly not applied.
    #[error(
        "the ledger is read-only: its disk has {free_bytes} bytes left and needs {}; make room",
        limits::DISK_FREE_BYTES_MIN
    )]
    ReadOnly {
        /// What is left.
        free_bytes: u64,
    },
    /// Another program keeps `ledger.db` locked. The command was certainly not applied; play goes
    /// on by itself when the lock is gone.
    #[error(
        "another program has kept ledger.db locked for {for_seconds} s: nothing is written until it lets go"
    )]
    Locked {
        /// How long.
        for_seconds: u64,
    },
    /// The question panicked; the engine goes on.
    #[error("the question panicked: {reason}")]
    Panicked {
        /// What it panicked with.
        reason: String,
    },
    /// The engine could not decide the command. It was certainly not applied.
    #[error("the command cannot be decided: {reason}")]
    Undecided {
        /// Why.
        reason: String,
    },
    /// The command was applied before, but its events cannot be read back.
    #[error("the command was applied, but its answer cannot be read back: {reason}")]
    AnswerUnreadable {
        /// Why.
        reason: String,
    },
    /// The engine stopped; whether the command was applied is told by a retry with the same id.
    #[error("ledger is unavailable: {0}")]
    Unavailable(Stopped),
}

impl SubmitError {
    /// Its stable code: the one that the HTTP service answers with. Of a refusal by the rules it is
    /// the first rejection's.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rejected { rejections, .. } => rejections.first().code(),
            Self::Conflict { .. } => "IDEMPOTENCY_CONFLICT",
            Self::Expired { .. } => "EXPIRED",
            Self::Overloaded | Self::TooLate => "OVERLOADED",
            Self::ReadOnly { .. } => "READ_ONLY",
            Self::Locked { .. }
            | Self::Panicked { .. }
            | Self::Undecided { .. }
            | Self::AnswerUnreadable { .. }
            | Self::Unavailable(_) => "UNAVAILABLE",
        }
    }
}

impl From<Refusal> for SubmitError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stopped(stopped) => Self::Unavailable(stopped),
            Refusal::Locked(since) => Self::Locked { for_seconds: since.as_secs() },
        }
    }
}

/// An answer on its way: await it in async code, or [`wait`](Self::wait) for it elsewhere.
///
/// Dropping it cancels nothing: the command is decided all the same.
#[derive(Debug)]
pub struct Pending<T> {
    receiver: oneshot::Receiver<Result<T, SubmitError>>,
    status: Arc<Status>,
}

impl<T> Pending<T> {
    pub(crate) fn new(
        receiver: oneshot::Receiver<Result<T, SubmitError>>,
        status: &Arc<Status>,
    ) -> Self {
        Self { receiver, status: Arc::clone(status) }
    }

    /// Blocks until the answer is there. In async code await the value instead; there this panics.
    ///
    /// # Errors
    /// [`SubmitError`] when the command was not applied.
    pub fn wait(self) -> Result<T, SubmitError> {
        self.receiver.blocking_recv().unwrap_or_else(|_| Err(unavailable(&self.status)))
    }

    /// The answer if it is there already; it is given once.
    pub fn try_wait(&mut self) -> Option<Result<T, SubmitError>> {
        match self.receiver.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(unavailable(&self.status))),
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|received| received.unwrap_or_else(|_| Err(unavailable(&self.status))))
    }
}

pub(crate) fn unavailable(status: &Status) -> SubmitError {
    SubmitError::Unavailable(status.why_stopped())
}

/// Sends an answer that was found.
pub(crate) type SendAnswer = Box<dyn FnOnce() + Send>;
/// Looks at the state, and at the newest events of the streams in use, and finds an answer.
pub(crate) type Question = Box<dyn FnOnce(&State, &StreamHeads) -> SendAnswer + Send>;
/// Where a command's answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Accepted, SubmitError>>;

/// What the state thread is asked.
pub(crate) enum Request {
    /// To decide a command.
    Command { submission: Submission, reply: Reply },
    /// To look at the state; what comes back is run when everything seen is committed.
    Query(Question),
    /// To end.
    Close,
}

/// An answer that waits for the commit of all that it has seen.
pub(crate) enum Answer {
    Command { reply: Reply, outcome: Result<Accepted, SubmitError> },
    Repeat { reply: Reply, first: Seq, size: u8 },
    Conflict { reply: Reply, first: Seq },
    Query(SendAnswer),
}
