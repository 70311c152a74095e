//! The thread that owns the game's state: it decides a batch at a time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daybook_monitor::Metric;
use daybook_schema::limits;
use foldhash::fast::RandomState;

use crate::batch::{Batch, Room};
use crate::decider::{Decided, Decider};
use crate::foreign_panics::contain_and_log;
use crate::open_batch::{DEADLINES_LOOKED_AT_EVERY, Ended, OpenBatch};
use crate::status::Status;
use crate::submission::{Answer, Request, SendAnswer, SubmitError};

/// What the thread has beside its decider.
pub(crate) struct StateThread {
    pub(crate) decider: Decider,
    pub(crate) status: Arc<Status>,
    /// Requests that wait.
    pub(crate) waiting: Arc<AtomicUsize>,
    /// How long it takes to decide what has come.
    pub(crate) decide: Metric,
    pub(crate) writing: Writing,
}

/// How far the writer is with what it was given.
pub(crate) struct Writing {
    /// Told of each batch that is at its end.
    ended: Receiver<Ended>,
    /// Batches that were given to the writer, not taken back, and are not known to be at their end.
    under_way: usize,
    /// Since when the writer has been at the first of them.
    since: Instant,
    last_sync: Duration,
}

/// A writer that waits is given what was decided after so many requests, and their multiples.
const HANDED_OVER_AFTER: usize = 64;
/// A sync that takes so long is slow.
const SYNC_SLOW: Duration = Duration::from_millis(limits::SYNC_SLOW_MS);

impl Writing {
    pub(crate) fn new(ended: Receiver<Ended>) -> Self {
        Self { ended, under_way: 0, since: Instant::now(), last_sync: Duration::ZERO }
    }

    /// Notes a batch that the writer is about to be given.
    fn begin(&mut self) {
        if self.is_idle() {
            self.since = Instant::now();
        }
        self.under_way += 1;
    }

    /// Notes one that was taken back from the writer.
    fn take_back(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Waits until nothing is under way, where syncs are slow. Who is decided now would wait for two
    /// of them. Who waits in the queue is refused when the deadline passes: `meanwhile` does that,
    /// again and again.
    fn wait_where_slow(&mut self, mut meanwhile: impl FnMut()) {
        while !self.is_idle() && self.is_slow() {
            match self.ended.recv_timeout(DEADLINES_LOOKED_AT_EVERY) {
                Ok(ended) => self.note(&ended),
                Err(RecvTimeoutError::Timeout) => meanwhile(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether the last sync was slow, or the one that is under way is by now.
    fn is_slow(&self) -> bool {
        self.last_sync >= SYNC_SLOW || self.under_way > 0 && self.since.elapsed() >= SYNC_SLOW
    }

    /// Whether the writer waits for a batch.
    fn is_idle(&mut self) -> bool {
        while let Ok(ended) = self.ended.try_recv() {
            self.note(&ended);
        }
        self.under_way == 0
    }

    fn note(&mut self, ended: &Ended) {
        self.under_way = self.under_way.saturating_sub(1);
        // It goes on with the next at once.
        self.since = ended.at;
        self.last_sync = ended.sync.unwrap_or(self.last_sync);
    }
}

/// Requests in the order in which they came.
struct Queue {
    requests: Receiver<Request>,
    /// Those that were looked at before their turn.
    looked_at: VecDeque<Request>,
}

impl Queue {
    /// The next one; none when nobody can send another.
    fn next(&mut self) -> Option<Request> {
        self.looked_at.pop_front().or_else(|| self.requests.recv().ok())
    }

    /// The next one, if there is one by now.
    fn next_by_now(&mut self) -> Option<Request> {
        self.looked_at.pop_front().or_else(|| self.requests.try_recv().ok())
    }
}

/// Starts the thread; it ends when it is told to, or when the writer stopped.
pub(crate) fn spawn(
    mut thread: StateThread,
    requests: Receiver<Request>,
    batches: OpenBatch,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("daybook-state".to_owned()).spawn(move || {
        let _guard = thread.status.guard();
        let mut queue = Queue { requests, looked_at: VecDeque::new() };
        let (mut is_closed, mut room) = (false, Room::default());
        while !is_closed {
            let Some(first) = queue.next() else { break };
            queue.looked_at.push_front(first);
            let StateThread { decider, waiting, writing, .. } = &mut thread;
            writing.wait_where_slow(|| refuse_late(decider, waiting, &mut queue));
            let Some(first) = queue.next_by_now() else { continue };
            let deciding = thread.decide.start();
            // While a question is looked into the writer may begin what was put down.
            let first = match first {
                Request::Query(question) => First::Asked(thread.decider.ask(question)),
                other => First::Request(other),
            };
            let mut batch = thread.open_batch(&batches, room);
            let answered_before = batch.answers.len();
            match first {
                First::Asked(answer) => batch.answers.push(Answer::Query(answer)),
                First::Request(request) => is_closed = thread.take(request, &mut batch),
            }
            while !is_closed
                && !batch.is_full()
                && !thread.is_writer_kept_waiting(&batch)
                && let Some(next) = queue.next_by_now()
            {
                is_closed = thread.take(next, &mut batch);
            }
            drop(deciding);
            room = batch.room();
            thread.waiting.fetch_sub(batch.answers.len() - answered_before, Ordering::Relaxed);
            let StateThread { decider, waiting, writing, .. } = &mut thread;
            writing.begin();
            if !batches.put(batch, || refuse_late(decider, waiting, &mut queue)) {
                break;
            }
        }
        // What nobody takes any more: questions hold what their askers captured.
        while let Some(request) = queue.next_by_now() {
            contain_and_log(move || drop(request));
        }
        contain_and_log(move || drop(queue));
    })
}

/// Refuses the commands that are too late, while nothing is decided: their answers wait for no
/// commit, and do not come all at once when it is over. One that was sent before and still waits is
/// not refused under its id: that sending may be applied.
fn refuse_late(decider: &mut Decider, waiting: &AtomicUsize, queue: &mut Queue) {
    queue.looked_at.extend(queue.requests.try_iter());
    let mut sent_before = HashSet::with_hasher(RandomState::default());
    for _ in 0..queue.looked_at.len() {
        let Some(request) = queue.looked_at.pop_front() else { return };
        let Request::Command { submission, reply } = request else {
            queue.looked_at.push_back(request);
            continue;
        };
        let id = submission.id.map(|id| (submission.command.user_id(), id));
        let may_be_applied = id.is_some_and(|id| sent_before.contains(&id));
        if may_be_applied || !decider.is_too_late(&submission) {
            sent_before.extend(id);
            queue.looked_at.push_back(Request::Command { submission, reply });
            continue;
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
        contain_and_log(move || drop(reply.send(Err(SubmitError::TooLate))));
    }
}

/// What a round begins with.
enum First {
    Asked(SendAnswer),
    Request(Request),
}

impl StateThread {
    /// The batch that goes on: what the writer has not begun is committed with one sync.
    fn open_batch(&mut self, batches: &OpenBatch, room: Room) -> Batch {
        if let Some(batch) = batches.take_back() {
            self.writing.take_back();
            return batch;
        }
        self.decider.disk.look();
        self.decider.begin_batch(room)
    }

    /// Whether the writer has nothing to do while this batch grows. Both work at the same time then,
    /// on what is decided and on what comes, however many wait for their answers. Where syncs are
    /// slow nothing is decided beside them, and the batch takes what waits until it is full.
    fn is_writer_kept_waiting(&mut self, batch: &Batch) -> bool {
        batch.answers.len().is_multiple_of(HANDED_OVER_AFTER)
            && self.writing.is_idle()
            && !self.writing.is_slow()
    }

    /// Takes a request; true when it is the end.
    fn take(&mut self, request: Request, batch: &mut Batch) -> bool {
        let decider = &mut self.decider;
        let answer = match request {
            Request::Close => return true,
            Request::Query(question) => Answer::Query(decider.ask(question)),
            Request::Command { submission, reply } => match decider.answer(&submission, batch) {
                Decided::Outcome(outcome) => Answer::Command { reply, outcome },
                Decided::Repeat { first, size } => Answer::Repeat { reply, first, size },
                Decided::Conflict { first } => Answer::Conflict { reply, first },
            },
        };
        batch.answers.push(answer);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const QUICK: Duration = Duration::from_millis(limits::SYNC_SLOW_MS / 2);

    fn ended(sync: Option<Duration>) -> Ended {
        Ended { sync, at: Instant::now() }
    }

    #[test]
    fn nothing_is_decided_ahead_of_a_slow_sync() {
        let (end, told) = channel();
        let mut writing = Writing::new(told);
        // Quick syncs hold nothing up.
        writing.begin();
        writing.begin();
        end.send(ended(Some(QUICK))).unwrap();
        writing.wait_where_slow(|| panic!("it is not waited for"));
        assert_eq!(writing.under_way, 1);
        // After a slow one the batch that is under way is waited for; questions alone say nothing.
        writing.begin();
        end.send(ended(Some(SYNC_SLOW))).unwrap();
        let mut looked = 0;
        writing.wait_where_slow(|| {
            looked += 1;
            end.send(ended(None)).unwrap();
        });
        assert_eq!((looked, writing.under_way, writing.last_sync), (1, 0, SYNC_SLOW));
        // A writer that stopped is waited for no longer.
        writing.begin();
        drop(end);
        writing.wait_where_slow(|| {});
    }

    /// Guards: a sync counts from when the writer began, not from when its batch was noticed.
    #[test]
    fn nothing_is_decided_ahead_of_a_sync_that_turns_out_slow() {
        let (end, told) = channel();
        let mut writing = Writing::new(told);
        writing.begin();
        writing.begin();
        let long_ago = Instant::now().checked_sub(SYNC_SLOW).unwrap();
        end.send(Ended { sync: Some(QUICK), at: long_ago }).unwrap();
        let mut looked = 0;
        writing.wait_where_slow(|| {
            looked += 1;
            end.send(ended(Some(QUICK))).unwrap();
        });
        assert_eq!((looked, writing.under_way), (1, 0), "the second is slow by now");
        // One that is given after a rest begins then.
        writing.since = long_ago;
        writing.begin();
        writing.wait_where_slow(|| panic!("it has just begun"));
    }
}
