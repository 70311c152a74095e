//! The thread that owns the game's state: decides, encodes and chains, a batch at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Instant;

use daybook_schema::chain::{CommandMark, CommandPart, EventHeader};
use daybook_schema::{Command, CommandHash, CommandId, Head, Seq, UnixMicros, limits};
use daybook_simulator::{
    Context, NewEvent, Recorded, Rejection, Rulesets, SeasonKeys, State, decide, evolve,
};

use crate::batch::Batch;
use crate::check::StreamHeads;
use crate::clock::LedgerClock;
use crate::command_ids::{Applied, CommandIds, Lookup, first_above};
use crate::containment::contain_and_log;
use crate::files::lacks_room;
use crate::options::Time;
use crate::recovery::Recovery;
use crate::row::NewRow;
use crate::status::Status;
use crate::submission::{Accepted, Answer, Request, Submission, SubmitError};

/// The time of commands.
enum CommandClock {
    Ledger(LedgerClock),
    Submissions(UnixMicros),
}

/// The state and all that deciding needs beside it.
pub(crate) struct Decider {
    state: State,
    heads: StreamHeads,
    head: Head,
    ids: CommandIds,
    keys: Box<dyn SeasonKeys + Send>,
    rulesets: Rulesets,
    clock: CommandClock,
    newest_recorded_at: UnixMicros,
    started_at: UnixMicros,
    disk: Disk,
}

/// The room on the ledger's disk.
struct Disk {
    data_dir: PathBuf,
    /// The free bytes where they are too few.
    lacks_room: Option<u64>,
}

impl Disk {
    /// Looks at the room that is left; what cannot be told is not held against the disk.
    fn look(&mut self) {
        let Ok(lacks_room) = lacks_room(&self.data_dir) else { return };
        match (self.lacks_room, lacks_room) {
            (None, Some(free_bytes)) => {
                tracing::warn!(
                    free_bytes,
                    "the disk is all but full: read-only until there is room"
                );
            }
            (Some(_), None) => tracing::info!("there is room again: writing goes on"),
            _ => {}
        }
        self.lacks_room = lacks_room;
    }
}

/// What decisions rest on beside the state.
pub(crate) struct Grounds {
    pub(crate) keys: Box<dyn SeasonKeys + Send>,
    pub(crate) rulesets: Rulesets,
    pub(crate) time: Time,
}

impl Decider {
    pub(crate) fn new(
        Recovery { fold, ids }: Recovery,
        data_dir: PathBuf,
        Grounds { keys, rulesets, time }: Grounds,
    ) -> Self {
        let head = fold.check.head();
        let newest_recorded_at = fold.check.newest_recorded_at();
        let (state, heads) = fold.into_parts();
        let mut clock = match time {
            Time::System => {
                let source = Box::new(crate::clock::SystemTimeSource::default());
                CommandClock::Ledger(LedgerClock::start(source, newest_recorded_at))
            }
            Time::Source(source) => {
                CommandClock::Ledger(LedgerClock::start(source, newest_recorded_at))
            }
            Time::FromSubmissions => CommandClock::Submissions(newest_recorded_at),
        };
        let started_at = match &mut clock {
            CommandClock::Ledger(clock) => clock.now(),
            CommandClock::Submissions(newest) => *newest,
        };
        let disk = Disk { data_dir, lacks_room: None };
        Self {
            state,
            heads,
            head,
            ids,
            keys,
            rulesets,
            clock,
            newest_recorded_at,
            started_at,
            disk,
        }
    }

    /// The time that a submission is decided at.
    fn now(&mut self, submission: &Submission) -> UnixMicros {
        let now = match &mut self.clock {
            CommandClock::Ledger(clock) => clock.now(),
            CommandClock::Submissions(newest) => {
                *newest = submission.at.map_or(*newest, |at| at.max(*newest));
                *newest
            }
        };
        now.max(self.newest_recorded_at)
    }

    /// The later of wall clock and ledger time.
    fn latest(&mut self, now: UnixMicros) -> UnixMicros {
        match &mut self.clock {
            CommandClock::Ledger(clock) => clock.latest().max(now),
            CommandClock::Submissions(_) => now,
        }
    }

    /// Decides a command and, if it is accepted, adds its events to the batch.
    fn handle(&mut self, submission: &Submission, batch: &mut Batch) -> Decided {
        let now = self.now(submission);
        let command = &submission.command;
        let hash = command.to_stored().hash();
        if let Some(id) = submission.id {
            let latest = self.latest(now);
            match self.ids.look_up((command.into(), id), hash, latest) {
                Lookup::New => {}
                Lookup::Applied(Applied { first, size, .. }) => {
                    return Decided::Repeat { first, size };
                }
                Lookup::Refused(rejections) => {
                    let rejections = Box::new(rejections.clone());
                    return Decided::Now(Err(SubmitError::Rejected(rejections)));
                }
                Lookup::Conflict => return Decided::Now(Err(SubmitError::Conflict)),
                Lookup::Expired { floor } => {
                    let server_time = latest;
                    let new_id_time = first_above(floor, latest);
                    let expired = SubmitError::Expired { server_time, floor, new_id_time };
                    return Decided::Now(Err(expired));
                }
            }
        }
        if submission.deadline.is_some_and(|deadline| deadline < Instant::now()) {
            return Decided::Now(Err(SubmitError::TooLate));
        }
        Decided::Now(self.decide(submission, (now, hash), batch))
    }

    fn decide(
        &mut self,
        submission: &Submission,
        (now, hash): (UnixMicros, CommandHash),
        batch: &mut Batch,
    ) -> Result<Accepted, SubmitError> {
        if let Some(free_bytes) = self.disk.lacks_room {
            return Err(SubmitError::ReadOnly { free_bytes });
        }
        let command = &submission.command;
        let context = Context {
            client_command_id: submission.id,
            expected_day: submission.expected_day,
            ..Context::new(now, self.keys.as_ref())
        };
        let decided = match self.refuse_early_expiry(command, now) {
            Some(rejection) => Err(rejection.into()),
            None => decide(&self.rulesets, &self.state, command, &context),
        };
        let scope = command.user_id();
        match decided {
            Ok(events) => {
                let id = match submission.id {
                    Some(id) => id,
                    None => made_id(now)?,
                };
                let first = Seq::clamped(self.head.seq + 1);
                let size = checked_size(&events)?;
                self.record(&events, (now, CommandMark { id, hash }, size), batch);
                self.ids.remember_applied((scope, id), Applied { hash, first, size }, now);
                Ok(Accepted { first_seq: first, head: self.head, recorded_at: now, events })
            }
            Err(rejections) => {
                let rejections = Box::new(rejections);
                if let Some(id) = submission.id
                    && !rejections.are_passing()
                    && self.is_remembered_when_refused(command)
                {
                    self.ids.remember_refused(
                        (command.into(), id),
                        (hash, rejections.clone()),
                        now,
                    );
                }
                Err(SubmitError::Rejected(rejections))
            }
        }
    }

    /// Whether refusals of a command are remembered: a registered user's, and the operator's. Of others there
    /// could be any number. A registration may be anybody's, who must not fill what belongs to the user; refused
    /// once it is refused for ever.
    fn is_remembered_when_refused(&self, command: &Command) -> bool {
        let is_registered = |user_id| self.state.users.contains_key(&user_id);
        !matches!(command, Command::RegisterUser { .. })
            && command.user_id().is_none_or(is_registered)
    }

    /// For an hour after the start no idle season is expired: its player may have been kept away by
    /// the same outage.
    fn refuse_early_expiry(&self, command: &Command, now: UnixMicros) -> Option<Rejection> {
        let Command::ExpireSeason { season_id, .. } = command else { return None };
        let season = self.state.seasons.get(season_id)?;
        let withdrawn = !self.state.is_good(season.key_id, season.epoch_number);
        let grace_ends = self.started_at.plus_micros(limits::EXPIRY_GRACE_MICROS);
        let expirable_at = self.state.expirable_at(season).max(grace_ends);
        (!withdrawn && now < grace_ends).then_some(Rejection::SeasonNotIdle { expirable_at })
    }

    /// Chains a command's events, applies them and puts them into the batch.
    fn record(
        &mut self,
        events: &[NewEvent],
        (now, mark, size): (UnixMicros, CommandMark, u8),
        batch: &mut Batch,
    ) {
        for (place, NewEvent { stream, event }) in (0..size).zip(events) {
            let seq = Seq::clamped(self.head.seq + 1);
            let header = EventHeader {
                seq,
                recorded_at: now,
                stream: *stream,
                stream_prev: self.heads.previous(*stream),
                kind: u16::from(event.kind().number()),
                version: event.version(),
                command: CommandPart { place, size, mark: (place == 0).then_some(mark) },
            };
            let start = batch.payloads.len();
            event.encode(&mut batch.payloads);
            let payload = start..batch.payloads.len();
            let bytes = batch.payloads.get(payload.clone()).unwrap_or_default();
            let hash = header.hash(&self.head.hash, bytes);
            self.head = Head { seq: seq.get(), hash };
            self.heads.record(seq, *stream, event);
            let recorded = Recorded { seq, hash, recorded_at: now, stream: *stream, event };
            evolve(&mut self.state, &recorded);
            batch.rows.push(NewRow { header, payload, hash });
        }
        self.newest_recorded_at = now;
        (batch.head, batch.identity) = (self.head, self.state.identity());
    }
}

/// What became of a command.
enum Decided {
    /// It is decided; the answer leaves after the commit.
    Now(Result<Accepted, SubmitError>),
    /// It was applied before; the answer is read back from its events.
    Repeat { first: Seq, size: u8 },
}

/// How many events a command gives. More than there may be would be a fault of the rules: nothing of it is
/// recorded.
fn checked_size(events: &[NewEvent]) -> Result<u8, SubmitError> {
    let size = u8::try_from(events.len()).ok();
    let size =
        size.filter(|size| (1..=limits::EVENTS_PER_COMMAND_MAX).contains(&usize::from(*size)));
    size.ok_or_else(|| SubmitError::Undecided {
        reason: format!(
            "it gives {} events, expected 1 to {}",
            events.len(),
            limits::EVENTS_PER_COMMAND_MAX
        ),
    })
}

/// An id for a command whose client made none: without its random bits, whoever sees two published
/// hashes could guess what lies between.
fn made_id(now: UnixMicros) -> Result<CommandId, SubmitError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| SubmitError::Undecided {
        reason: format!("the system gave no random bytes: {error}"),
    })?;
    Ok(CommandId::from_parts(now, random))
}

/// What the thread has beside its decider.
pub(crate) struct StateThread {
    pub(crate) decider: Decider,
    pub(crate) status: Arc<Status>,
    /// Requests that wait.
    pub(crate) waiting: Arc<AtomicUsize>,
}

/// Starts the thread; it ends when it is told to, or when the writer stopped.
pub(crate) fn spawn(
    mut thread: StateThread,
    requests: Receiver<Request>,
    batches: SyncSender<Batch>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("daybook-state".to_owned()).spawn(move || {
        let _guard = thread.status.guard();
        let mut is_closed = false;
        while !is_closed && let Ok(first) = requests.recv() {
            thread.decider.disk.look();
            let mut batch = thread.begin_batch();
            is_closed = thread.take(first, &mut batch);
            while !is_closed
                && !batch.is_full()
                && let Ok(next) = requests.try_recv()
            {
                is_closed = thread.take(next, &mut batch);
            }
            thread.waiting.fetch_sub(batch.answers.len(), Ordering::Relaxed);
            if batches.send(batch).is_err() {
                break;
            }
        }
        // What nobody takes any more: questions hold what their askers captured.
        for request in requests.try_iter() {
            contain_and_log(move || drop(request));
        }
        contain_and_log(move || drop(requests));
    })
}

impl StateThread {
    fn begin_batch(&self) -> Batch {
        let Decider { head, state, .. } = &self.decider;
        Batch::new(*head, state.identity())
    }

    /// Takes a request; true when it is the end.
    fn take(&mut self, request: Request, batch: &mut Batch) -> bool {
        let decider = &mut self.decider;
        let answer = match request {
            Request::Close => return true,
            Request::Query(question) => Answer::Query(question(&decider.state, &decider.heads)),
            Request::Command { submission, reply } => match decider.handle(&submission, batch) {
                Decided::Now(outcome) => Answer::Command { reply, outcome },
                Decided::Repeat { first, size } => Answer::Repeat { reply, first, size },
            },
        };
        batch.answers.push(answer);
        false
    }
}

#[cfg(test)]
mod tests {
    use daybook_schema::UserId;
    use daybook_schema::events::UserRegistered;

    use super::*;

    /// Guards: no event of a command is left out, whatever the rules give.
    #[test]
    fn a_command_with_more_events_than_it_may_have_is_not_decided() {
        let stream = UserId::from_bytes([1; 16]).into();
        let event = || NewEvent { stream, event: UserRegistered {}.into() };
        let events = |count: usize| std::iter::repeat_with(event).take(count).collect::<Vec<_>>();
        let most = limits::EVENTS_PER_COMMAND_MAX;
        assert_eq!(checked_size(&events(most)).map(usize::from), Ok(most));
        for count in [0, most + 1, 256, 257] {
            let refused = checked_size(&events(count));
            assert!(matches!(refused, Err(SubmitError::Undecided { .. })), "{count}: {refused:?}");
        }
    }
}
