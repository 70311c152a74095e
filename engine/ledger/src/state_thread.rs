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
use crate::open_batch::OpenBatch;
use crate::status::Status;
use crate::submission::{Answer, Request, SubmitError};

/// What the thread has beside its decider.
pub(crate) struct StateThread {
    pub(crate) decider: Decider,
    pub(crate) status: Arc<Status>,
    /// Requests that wait.
    pub(crate) waiting: Arc<AtomicUsize>,
    /// How long batches take.
    pub(crate) decide: Metric,
    pub(crate) writing: Writing,
}

/// How far the writer is with what it was given.
pub(crate) struct Writing {
    /// Told of each batch that is at its end: how long its sync took, if it had one.
    pub(crate) ended: Receiver<Option<Duration>>,
    /// Batches that the writer has, or waits to be given.
    under_way: usize,
    /// Since when the writer has been at the first of them.
    since: Instant,
    last_sync: Duration,
}

/// A writer that waits is given what was decided after so many requests, and their multiples.
const HANDED_OVER_AFTER: usize = 64;
/// How often commands that wait for a slow sync are held to their deadlines.
const DEADLINES_LOOKED_AT_EVERY: Duration = Duration::from_millis(10);

impl Writing {
    pub(crate) fn new(ended: Receiver<Option<Duration>>) -> Self {
        Self { ended, under_way: 0, since: Instant::now(), last_sync: Duration::ZERO }
    }

    /// Notes a batch that was given to the writer.
    fn begin(&mut self) {
        if self.under_way == 0 {
            self.since = Instant::now();
        }
        self.under_way += 1;
    }

    /// Waits until nothing is under way, where syncs are slow: the one before was, or this one is by
    /// now. What is decided ahead would wait for two of them and more. In the queue it waits no longer than its deadline: `meanwhile` is done
    /// again and again.
    fn wait_where_slow(&mut self, mut meanwhile: impl FnMut()) {
        loop {
            let slow = Duration::from_millis(limits::SYNC_SLOW_MS);
            let is_under_way = self.under_way > 0;
            let is_slow = self.last_sync >= slow || is_under_way && self.since.elapsed() >= slow;
            let ended = match is_slow && is_under_way {
                true => match self.ended.recv_timeout(DEADLINES_LOOKED_AT_EVERY) {
                    Err(RecvTimeoutError::Timeout) => {
                        meanwhile();
                        continue;
                    }
                    ended => ended.ok(),
                },
                false => self.ended.try_recv().ok(),
            };
            let Some(sync) = ended else { return };
            self.note(sync);
        }
    }

    fn note(&mut self, sync: Option<Duration>) {
        self.under_way = self.under_way.saturating_sub(1);
        self.since = Instant::now();
        self.last_sync = sync.unwrap_or(self.last_sync);
    }

    /// Whether the writer waits for a batch.
    fn is_idle(&mut self) -> bool {
        while let Ok(sync) = self.ended.try_recv() {
            self.note(sync);
        }
        self.under_way == 0
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
            let (decider, waiting) = (&mut thread.decider, &thread.waiting);
            thread.writing.wait_where_slow(|| refuse_late(decider, waiting, &mut queue));
            let Some(first) = queue.next() else { break };
            thread.decider.disk.look();
            let deciding = thread.decide.start();
            // What the writer has not begun grows: it is committed with one sync.
            let taken_back = batches.take_back();
            thread.writing.under_way -= usize::from(taken_back.is_some());
            let mut batch = taken_back.unwrap_or_else(|| thread.decider.begin_batch(room));
            let answered_before = batch.answers.len();
            is_closed = thread.take(first, &mut batch);
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
            if !batches.put(batch) {
                break;
            }
            thread.writing.begin();
        }
        // What nobody takes any more: questions hold what their askers captured.
        while let Some(request) = queue.next_by_now() {
            contain_and_log(move || drop(request));
        }
        contain_and_log(move || drop(queue));
    })
}

/// Refuses the commands that are too late, while nothing is decided: their answers wait for no commit,
/// and do not come all at once when it is over. One that was sent before and still waits is not
/// refused under its id: that sending may be applied.
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

impl StateThread {
    /// Whether the writer has nothing to do while this batch grows. Both work at the same time then, on
    /// what is decided and on what comes, however many wait for their answers.
    fn is_writer_kept_waiting(&mut self, batch: &Batch) -> bool {
        batch.answers.len().is_multiple_of(HANDED_OVER_AFTER) && self.writing.is_idle()
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
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn nothing_is_decided_ahead_of_a_slow_sync() {
        let (ended, told) = channel();
        let slow = Duration::from_millis(limits::SYNC_SLOW_MS);
        let mut writing = Writing::new(told);
        // Quick syncs hold nothing up.
        writing.under_way = 2;
        ended.send(Some(slow / 2)).unwrap();
        writing.wait_where_slow(|| {});
        assert_eq!(writing.under_way, 1);
        // After a slow one the batch that is under way is waited for; questions alone say nothing.
        writing.under_way = 2;
        ended.send(Some(slow)).unwrap();
        let (is_late, ended_late) = (Arc::new(AtomicBool::new(false)), ended.clone());
        let late = std::thread::spawn({
            let is_late = Arc::clone(&is_late);
            move || {
                is_late.store(true, Ordering::SeqCst);
                ended_late.send(None).unwrap();
            }
        });
        writing.wait_where_slow(|| {});
        assert!(is_late.load(Ordering::SeqCst), "it is waited for");
        assert_eq!((writing.under_way, writing.last_sync), (0, slow));
        late.join().unwrap();
        // Nor while one that began with quick ones before it turns out to be slow.
        (writing.last_sync, writing.under_way) = (Duration::ZERO, 0);
        writing.begin();
        writing.since = Instant::now().checked_sub(slow).unwrap();
        let mut looked = 0;
        writing.wait_where_slow(|| {
            looked += 1;
            ended.send(None).unwrap();
        });
        assert_eq!((looked, writing.under_way), (1, 0));
        // A writer that stopped is waited for no longer.
        writing.under_way = 1;
        drop(ended);
        writing.wait_where_slow(|| {});
    }
}
