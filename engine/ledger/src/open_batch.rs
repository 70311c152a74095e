//! What is decided while the writer is at work: one batch, which grows until the writer takes it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;

/// How often commands that wait for a slow sync are held to their deadlines.
pub(crate) const DEADLINES_LOOKED_AT_EVERY: Duration = Duration::from_millis(10);

/// That the writer is done with a batch.
pub(crate) struct Ended {
    /// How long its sync took, if it had one.
    pub(crate) sync: Option<Duration>,
    pub(crate) at: Instant,
}

/// The place of a batch between the two threads.
#[derive(Default)]
struct Place {
    batch: Option<Batch>,
    /// Whether the writer was woken for the batch, and is on its way.
    is_promised: bool,
    /// Whether one of the two waits: the writer for a batch, or the other for a free place.
    is_awaited: bool,
    /// Whether one of the two has ended.
    is_over: bool,
}

#[derive(Default)]
struct Shared {
    place: Mutex<Place>,
    changed: Condvar,
}

impl Shared {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place, when there is a batch in it, or when one of the two has ended.
    fn wait_for_batch(&self) -> MutexGuard<'_, Place> {
        let mut place = self.place();
        while place.batch.is_none() && !place.is_over {
            place.is_awaited = true;
            place = self.changed.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
        place
    }

    /// The place, when there is no batch in it, or when one of the two has ended. None after a short
    /// time.
    fn wait_for_free_place(&self) -> Option<MutexGuard<'_, Place>> {
        let mut place = self.place();
        while place.batch.is_some() && !place.is_over {
            place.is_awaited = true;
            let waited = self.changed.wait_timeout(place, DEADLINES_LOOKED_AT_EVERY);
            let (waited, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            place = waited;
            if timeout.timed_out() && place.batch.is_some() {
                place.is_awaited = false;
                return None;
            }
        }
        Some(place)
    }

    fn tell(&self, mut place: MutexGuard<'_, Place>) {
        let is_awaited = std::mem::take(&mut place.is_awaited);
        drop(place);
        if is_awaited {
            self.changed.notify_one();
        }
    }

    fn end(&self) {
        let mut place = self.place();
        place.is_over = true;
        self.tell(place);
    }
}

/// The end of whoever decides.
pub(crate) struct OpenBatch(Arc<Shared>);

/// The writer's end.
pub(crate) struct ToCommit(Arc<Shared>);

pub(crate) fn channel() -> (OpenBatch, ToCommit) {
    let shared = Arc::new(Shared::default());
    (OpenBatch(Arc::clone(&shared)), ToCommit(shared))
}

impl OpenBatch {
    /// Takes back what was put there last, if there is room in it and the writer was not woken for
    /// it. If the thread that has it ends by a panic, what is in it is answered `unavailable`, as if
    /// it had never been put there.
    pub(crate) fn take_back(&self) -> Option<Batch> {
        let mut place = self.0.place();
        let is_promised = place.is_promised;
        place.batch.take_if(|batch| !is_promised && !batch.is_full())
    }

    /// Puts a batch there for the writer, when one that could not be taken back is gone; until then
    /// `meanwhile` is done again and again. False when the writer has ended.
    pub(crate) fn put(&self, batch: Batch, mut meanwhile: impl FnMut()) -> bool {
        let mut place = loop {
            match self.0.wait_for_free_place() {
                Some(place) => break place,
                None => meanwhile(),
            }
        };
        if place.is_over {
            // The batch is dropped after the lock: its answers wake others.
            drop(place);
            return false;
        }
        place.batch = Some(batch);
        place.is_promised = place.is_awaited;
        self.0.tell(place);
        true
    }
}

impl Drop for OpenBatch {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl ToCommit {
    /// The next batch, when there is one; none when no other will come.
    pub(crate) fn next(&self) -> Option<Batch> {
        let mut place = self.0.wait_for_batch();
        let batch = place.batch.take();
        self.0.tell(place);
        batch
    }
}

impl Drop for ToCommit {
    fn drop(&mut self) {
        self.0.end();
        // What nobody commits any more, dropped after the lock: its answers wake others.
        let left = self.0.place().batch.take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use daybook_schema::{Epoch, EventHash, Head, LedgerId, LedgerIdentity, limits};

    use super::*;
    use crate::batch::Room;
    use crate::submission::Answer;

    fn batch(answers: usize) -> Batch {
        let identity =
            LedgerIdentity { ledger_id: LedgerId::from_bytes([1; 16]), epoch: Epoch::FIRST };
        let mut batch =
            Batch::new(Head { seq: 1, hash: EventHash::new([0; 32]) }, identity, Room::default());
        let question = || Answer::Query(Box::new(|| {}));
        batch.answers.extend(std::iter::repeat_with(question).take(answers));
        batch
    }

    fn not_waited() {}

    /// Guards: what is decided while the writer is at work is one batch, with one sync.
    #[test]
    fn a_batch_grows_until_the_writer_takes_it() {
        let (open, to_commit) = channel();
        assert!(open.take_back().is_none());
        assert!(open.put(batch(1), not_waited));
        let mut grown = open.take_back().unwrap();
        grown.answers.append(&mut batch(2).answers);
        assert!(open.put(grown, not_waited));
        assert_eq!(to_commit.next().map(|got| got.answers.len()), Some(3));
        assert!(open.take_back().is_none());
    }

    /// Guards: a writer that waits is woken.
    #[test]
    fn a_writer_that_waits_gets_what_is_put() {
        let (open, to_commit) = channel();
        let writer = std::thread::spawn(move || to_commit.next().map(|got| got.answers.len()));
        while !open.0.place().is_awaited {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(open.put(batch(1), not_waited));
        assert_eq!(writer.join().unwrap(), Some(1));
    }

    /// Guards: commands that come one after another do not keep a batch from a writer that was woken
    /// for it.
    #[test]
    fn what_a_writer_was_woken_for_is_not_taken_back() {
        let (open, to_commit) = channel();
        // It waits, and takes its time to wake.
        open.0.place().is_awaited = true;
        assert!(open.put(batch(1), not_waited));
        assert!(open.take_back().is_none());
        assert_eq!(to_commit.next().map(|got| got.answers.len()), Some(1));
        assert!(open.put(batch(2), not_waited));
        assert!(open.take_back().is_some(), "nobody was woken for this one");
    }

    /// Guards: no batch grows beyond its bound, and the next waits for its place.
    #[test]
    fn a_full_batch_is_not_taken_back() {
        let (open, to_commit) = channel();
        assert!(open.put(batch(limits::COMMANDS_PER_BATCH_MAX), not_waited));
        assert!(open.take_back().is_none());
        let putting = std::thread::spawn(move || open.put(batch(1), not_waited));
        let sizes = [(); 2].map(|()| to_commit.next().map(|got| got.answers.len()));
        assert_eq!(sizes, [Some(limits::COMMANDS_PER_BATCH_MAX), Some(1)]);
        assert!(putting.join().unwrap());
        assert!(to_commit.next().is_none(), "nobody decides any more");
    }

    /// Guards: whoever waits for a place looks after deadlines meanwhile.
    #[test]
    fn who_waits_for_a_place_does_something_else_meanwhile() {
        let (open, to_commit) = channel();
        assert!(open.put(batch(limits::COMMANDS_PER_BATCH_MAX), not_waited));
        let mut times = 0;
        let meanwhile = || {
            times += 1;
            if times == 2 {
                assert!(to_commit.next().is_some());
            }
        };
        assert!(open.put(batch(1), meanwhile));
        assert_eq!(times, 2);
    }

    /// Guards: whatever the two threads do at the same time, each batch is committed once, after the
    /// one before it.
    #[test]
    fn batches_follow_each_other_however_the_threads_fall() {
        const LAST: u64 = 30_000;
        let (open, to_commit) = channel();
        let writer = std::thread::spawn(move || {
            let mut seq = 0;
            while let Some(batch) = to_commit.next() {
                assert_eq!(batch.previous.seq, seq);
                assert_eq!(batch.answers.len() as u64, batch.head.seq - seq);
                seq = batch.head.seq;
                if seq % 7 == 0 {
                    std::thread::yield_now();
                }
            }
            seq
        });
        for seq in 1..=LAST {
            let mut open_batch = open.take_back().unwrap_or_else(|| {
                let mut new = batch(0);
                (new.previous.seq, new.head.seq) = (seq - 1, seq - 1);
                new
            });
            open_batch.head.seq = seq;
            open_batch.answers.append(&mut batch(1).answers);
            assert!(open.put(open_batch, not_waited));
            if seq % 11 == 0 {
                std::thread::yield_now();
            }
        }
        drop(open);
        assert_eq!(writer.join().unwrap(), LAST);
    }

    /// Guards: the thread that decides ends with the writer, and commands that wait are answered.
    #[test]
    fn nothing_is_kept_for_a_writer_that_ended() {
        let (open, to_commit) = channel();
        let (reply, answer) = tokio::sync::oneshot::channel::<Result<(), ()>>();
        let mut last = batch(0);
        last.answers.push(Answer::Query(Box::new(move || reply.send(Ok(())).unwrap_or_default())));
        assert!(open.put(last, not_waited));
        drop(to_commit);
        assert!(answer.blocking_recv().is_err(), "its answer is dropped");
        assert!(!open.put(batch(1), not_waited));
    }
}
