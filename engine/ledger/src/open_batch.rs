//! What is decided while the writer is at work: one batch, which grows until the writer takes it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::batch::Batch;

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

    /// The place, when there is a batch in it or none, as is asked for, or when one of the two has
    /// ended.
    fn wait(&self, has_batch: bool) -> MutexGuard<'_, Place> {
        let mut place = self.place();
        while place.batch.is_some() != has_batch && !place.is_over {
            place.is_awaited = true;
            place = self.changed.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
        place
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
    /// Takes back what was put there last, if there is room in it and the writer is still at work
    /// on another.
    pub(crate) fn take_back(&self) -> Option<Batch> {
        let mut place = self.0.place();
        let is_promised = place.is_promised;
        place.batch.take_if(|batch| !is_promised && !batch.is_full())
    }

    /// Puts a batch there for the writer, when one that could not be taken back is gone. False when
    /// the writer has ended.
    pub(crate) fn put(&self, batch: Batch) -> bool {
        let mut place = self.0.wait(false);
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
        let mut place = self.0.wait(true);
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
    use std::time::Duration;

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

    /// Guards: what is decided while the writer is at work is one batch, with one sync.
    #[test]
    fn a_batch_grows_until_the_writer_takes_it() {
        let (open, to_commit) = channel();
        assert!(open.take_back().is_none());
        assert!(open.put(batch(1)));
        let mut grown = open.take_back().unwrap();
        grown.answers.append(&mut batch(2).answers);
        assert!(open.put(grown));
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
        assert!(open.put(batch(1)));
        assert_eq!(writer.join().unwrap(), Some(1));
    }

    /// Guards: commands that come one after another do not keep a batch from a writer that was woken
    /// for it.
    #[test]
    fn what_a_writer_was_woken_for_is_not_taken_back() {
        let (open, to_commit) = channel();
        // It waits, and takes its time to wake.
        open.0.place().is_awaited = true;
        assert!(open.put(batch(1)));
        assert!(open.take_back().is_none());
        assert_eq!(to_commit.next().map(|got| got.answers.len()), Some(1));
        assert!(open.put(batch(2)));
        assert!(open.take_back().is_some(), "nobody was woken for this one");
    }

    /// Guards: no batch grows beyond its bound, and the next waits for its place.
    #[test]
    fn a_full_batch_is_not_taken_back() {
        let (open, to_commit) = channel();
        assert!(open.put(batch(limits::COMMANDS_PER_BATCH_MAX)));
        assert!(open.take_back().is_none());
        let putting = std::thread::spawn(move || open.put(batch(1)));
        let sizes = [(); 2].map(|()| to_commit.next().map(|got| got.answers.len()));
        assert_eq!(sizes, [Some(limits::COMMANDS_PER_BATCH_MAX), Some(1)]);
        assert!(putting.join().unwrap());
        assert!(to_commit.next().is_none(), "nobody decides any more");
    }

    /// Guards: the thread that decides ends with the writer, and commands that wait are answered.
    #[test]
    fn nothing_is_kept_for_a_writer_that_ended() {
        let (open, to_commit) = channel();
        let (reply, answer) = tokio::sync::oneshot::channel::<Result<(), ()>>();
        let mut last = batch(0);
        last.answers.push(Answer::Query(Box::new(move || reply.send(Ok(())).unwrap_or_default())));
        assert!(open.put(last));
        drop(to_commit);
        assert!(answer.blocking_recv().is_err(), "its answer is dropped");
        assert!(!open.put(batch(1)));
    }
}
