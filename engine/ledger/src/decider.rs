//! Deciding a command: its id looked up, the rules asked, its events encoded, chained and applied.

use std::ops::Range;

use daybook_schema::chain::{CommandMark, CommandPart, EventHeader};
use daybook_schema::{CommandHash, CommandId, Event, Head, Seq, UnixMicros, limits};
use daybook_simulator::{Context, NewEvent, Rulesets, State, decide, evolve, streams};

use crate::batch::{Batch, Room};
use crate::clock::LedgerClock;
use crate::command_ids::{Applied, CommandIds, Lookup, first_above};
use crate::day_keys::DayKeys;
use crate::event_row::NewRow;
use crate::free_disk::FreeDisk;
use crate::options::{Options, Time};
use crate::recovery::Recovery;
use crate::stream_heads::StreamHeads;
use crate::submission::{Accepted, Question, SendAnswer, Submission, SubmitError};

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
    keys: DayKeys,
    rulesets: Rulesets,
    clock: CommandClock,
    newest_recorded_at: UnixMicros,
    started_at: UnixMicros,
    /// Where the payloads of the command lie that is being recorded.
    payload_ranges: Vec<Range<usize>>,
    made_ids: MadeIds,
    pub(crate) disk: FreeDisk,
}

impl Decider {
    /// Goes on from what a start recovered.
    pub(crate) fn new(Recovery { fold, ids }: Recovery, options: Options) -> Self {
        let Options { data_dir, keys, rulesets, time, .. } = options;
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
        let disk = FreeDisk::new(data_dir);
        Self {
            state,
            heads,
            head,
            ids,
            keys: DayKeys::new(keys),
            rulesets,
            clock,
            newest_recorded_at,
            started_at,
            payload_ranges: Vec::new(),
            made_ids: MadeIds::new(),
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
    pub(crate) fn answer(&mut self, submission: &Submission, batch: &mut Batch) -> Decided {
        let now = self.now(submission);
        let hash = submission.command.to_stored().hash();
        if let Some(known) = self.known(submission, now, hash) {
            return known;
        }
        if submission.is_late() {
            return Decided::Outcome(Err(SubmitError::TooLate));
        }
        Decided::Outcome(self.decide_and_record(submission, now, hash, batch))
    }

    /// Whether a command is past its deadline, and its id tells of no other answer.
    pub(crate) fn is_too_late(&mut self, submission: &Submission) -> bool {
        submission.is_late() && {
            let now = self.now(submission);
            let hash = submission.command.to_stored().hash();
            self.known(submission, now, hash).is_none()
        }
    }

    /// What a command's id alone answers it with.
    fn known(
        &mut self,
        submission: &Submission,
        now: UnixMicros,
        hash: CommandHash,
    ) -> Option<Decided> {
        let id = submission.id?;
        let latest = self.latest(now);
        match self.ids.look_up((&submission.command).into(), id, hash, latest) {
            Lookup::New => None,
            Lookup::Applied(Applied { first, size, .. }) => Some(Decided::Repeat { first, size }),
            Lookup::Refused(rejections) => {
                let rejections = Box::new(rejections.clone());
                let refused = SubmitError::Rejected { rejections, repeated: true };
                Some(Decided::Outcome(Err(refused)))
            }
            Lookup::Conflict { first: Some(first) } => Some(Decided::Conflict { first }),
            Lookup::Conflict { first: None } => {
                Some(Decided::Outcome(Err(SubmitError::Conflict { first: None })))
            }
            Lookup::Expired { floor } => {
                let (server_time, new_id_time) = (latest, first_above(floor, latest));
                let expired = SubmitError::Expired { server_time, floor, new_id_time };
                Some(Decided::Outcome(Err(expired)))
            }
        }
    }

    fn decide_and_record(
        &mut self,
        submission: &Submission,
        now: UnixMicros,
        hash: CommandHash,
        batch: &mut Batch,
    ) -> Result<Accepted, SubmitError> {
        if let Some(free_bytes) = self.disk.lacks_room {
            return Err(SubmitError::ReadOnly { free_bytes });
        }
        let command = &submission.command;
        let context = Context {
            client_command_id: submission.id,
            expected_day: submission.expected_day,
            idle_expiry_from: self.started_at.plus_micros(limits::EXPIRY_GRACE_MICROS),
            ..Context::new(now, &self.keys)
        };
        let decided = decide(&self.rulesets, &self.state, command, &context);
        let scope = command.user_id();
        match decided {
            Ok(events) => {
                let id = match submission.id {
                    Some(id) => id,
                    None => self.made_ids.next(now)?,
                };
                let first = Seq::clamped(self.head.seq + 1);
                let size = checked_size(&events)?;
                self.encode(&events, &mut batch.payloads)?;
                self.record(&events, size, CommandMark { id, hash }, now, batch);
                if let Some(user_id) = scope
                    && events.iter().any(|new| streams::ends_stream(&new.event))
                {
                    self.keys.forget(&user_id);
                }
                self.ids.remember_applied(scope, id, Applied { hash, first, size }, now);
                let (head, recorded_at) = (self.head, now);
                Ok(Accepted { first_seq: first, head, recorded_at, events, repeated: false })
            }
            Err(rejections) => {
                let rejections = Box::new(rejections);
                if let Some(id) = submission.id
                    && !rejections.are_passing()
                    && streams::is_refusal_kept(&self.state, command)
                {
                    self.ids.remember_refused(command.into(), id, hash, rejections.clone(), now);
                }
                Err(SubmitError::Rejected { rejections, repeated: false })
            }
        }
    }

    /// Encodes a command's events, before any of them is applied: a payload that is too long would
    /// be a fault of the rules, and nothing of its command is recorded.
    fn encode(&mut self, events: &[NewEvent], payloads: &mut Vec<u8>) -> Result<(), SubmitError> {
        let before = payloads.len();
        self.payload_ranges.clear();
        for NewEvent { event, .. } in events {
            let start = payloads.len();
            event.encode(payloads);
            let range = start..payloads.len();
            if let Err(error) = check_payload(event, range.len()) {
                payloads.truncate(before);
                return Err(error);
            }
            self.payload_ranges.push(range);
        }
        Ok(())
    }

    /// Chains a command's events, whose payloads are encoded, applies them and puts them into the
    /// batch.
    fn record(
        &mut self,
        events: &[NewEvent],
        size: u8,
        mark: CommandMark,
        now: UnixMicros,
        batch: &mut Batch,
    ) {
        let payloads = self.payload_ranges.drain(..);
        for (place, (NewEvent { stream, event }, payload)) in
            (0..size).zip(events.iter().zip(payloads))
        {
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
            let bytes = batch.payloads.get(payload.clone()).unwrap_or_default();
            let hash = header.hash(&self.head.hash, bytes);
            self.head = Head { seq: seq.get(), hash };
            self.heads.record(seq, *stream, event);
            evolve(&mut self.state, &header, hash, event);
            batch.rows.push(NewRow { header, payload, hash });
        }
        self.newest_recorded_at = now;
        (batch.head, batch.identity) = (self.head, self.state.identity());
    }

    /// An empty batch after all that was decided.
    pub(crate) fn begin_batch(&self, room: Room) -> Batch {
        Batch::new(self.head, self.state.identity(), room)
    }

    /// Asks a question of the state as decided.
    pub(crate) fn ask(&self, question: Question) -> SendAnswer {
        question(&self.state, &self.heads)
    }
}

/// What became of a command.
pub(crate) enum Decided {
    /// Its outcome; the answer leaves after the commit of all that was looked at.
    Outcome(Result<Accepted, SubmitError>),
    /// It was applied before; the answer is read back from its events.
    Repeat { first: Seq, size: u8 },
    /// Its id is another command's; what that one was is read back from its first event.
    Conflict { first: Seq },
}

/// How many events a command gives. More than there may be would be a fault of the rules: nothing
/// of it is recorded.
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

/// Holds a payload to the bound that every reader relies on.
fn check_payload(event: &Event, bytes: usize) -> Result<(), SubmitError> {
    if bytes <= limits::PAYLOAD_BYTES_MAX {
        return Ok(());
    }
    let (kind, most) = (event.kind(), limits::PAYLOAD_BYTES_MAX);
    let reason = format!("a {kind} takes {bytes} bytes, expected at most {most}");
    Err(SubmitError::Undecided { reason })
}

/// Ids for commands whose clients made none: without their random bits, whoever sees two published
/// hashes could guess what lies between. The system is asked for the bits of many at a time: a call
/// for each took a tenth of the thread.
struct MadeIds {
    random: [[u8; 10]; 128],
    used: usize,
}

impl MadeIds {
    const fn new() -> Self {
        Self { random: [[0; 10]; 128], used: 128 }
    }

    fn next(&mut self, now: UnixMicros) -> Result<CommandId, SubmitError> {
        if self.used >= self.random.len() {
            let filled = getrandom::fill(self.random.as_flattened_mut());
            filled.map_err(|error| SubmitError::Undecided {
                reason: format!("the system gave no random bytes: {error}"),
            })?;
            self.used = 0;
        }
        let random = self.random.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        Ok(CommandId::from_parts(now, random))
    }
}

#[cfg(test)]
mod tests {
    use daybook_schema::UserId;
    use daybook_schema::events::UserRegistered;

    use super::*;

    #[test]
    fn made_ids_are_all_different() {
        let (mut made, now) = (MadeIds::new(), UnixMicros::new(1_000));
        let ids: std::collections::BTreeSet<_> =
            (0..1_000).map(|_| made.next(now).unwrap()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.time() == now));
    }

    /// Guards: no payload is written that no reader would take.
    #[test]
    fn a_payload_that_is_too_long_is_not_recorded() {
        let event = UserRegistered {}.into();
        assert_eq!(check_payload(&event, limits::PAYLOAD_BYTES_MAX), Ok(()));
        let refused = check_payload(&event, limits::PAYLOAD_BYTES_MAX + 1);
        assert!(matches!(refused, Err(SubmitError::Undecided { .. })), "{refused:?}");
    }

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
