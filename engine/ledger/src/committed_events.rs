//! The committed events of an engine, for all who follow it: each is shared as the writer committed
//! it.
//!
//! The writer puts each batch into a ring of the newest events. One thread, the dispatcher, wakes
//! those who wait. Who has fallen behind the ring has the file read, by two threads that all share.
//! So a thousand who follow cost no thread, no connection and no second decoding each, and none of
//! them can hold up the engine or another.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daybook_schema::{Head, LedgerId, Seq, limits};
use tokio::sync::{oneshot, watch};

use crate::database::DatabaseError;
use crate::event_cut::{Cut, Run};
use crate::foreign_panics::{contain, contain_and_log};
use crate::reader::{ReadError, Reader};
use crate::status::{Status, Stopped};

/// Where somebody goes on: after an event, whose hash is held to if it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub(crate) next: Seq,
    pub(crate) after: Option<Head>,
}

impl Cursor {
    /// From a seq on, whatever comes before it.
    pub(crate) const fn from(next: Seq) -> Self {
        Self { next, after: None }
    }

    /// After a head.
    pub(crate) fn after(head: Head) -> Self {
        Self { next: Seq::clamped(head.seq.saturating_add(1)), after: Some(head) }
    }
}

/// The answer of a reading thread.
type Answer = oneshot::Receiver<Result<Cut, ReadError>>;

/// Somebody's wish to have the file read.
struct Wish {
    cursor: Cursor,
    reply: oneshot::Sender<Result<Cut, ReadError>>,
}

/// Tells the listeners of an engine apart.
pub(crate) type ListenerNumber = u64;

/// What there is for somebody who goes on from a cursor.
pub(crate) enum Found {
    /// These events.
    Events(Cut),
    /// They lie further back: the file is being read.
    Asked(Answer),
    /// Nothing yet.
    NotYet,
    /// Nothing, and nothing will come.
    Ended,
}

/// The newest events, in runs as they were committed.
#[derive(Debug, Default)]
struct Ring {
    runs: VecDeque<Arc<Run>>,
    events: usize,
    listeners: usize,
    /// The number of the listener that came last.
    newest_listener: ListenerNumber,
    /// Of the listeners that wait without blocking.
    wakers: BTreeMap<ListenerNumber, Waker>,
    wishes: Option<Sender<Wish>>,
}

/// The committed events of an engine, as they come.
#[derive(Debug)]
pub(crate) struct CommittedEvents {
    data_dir: PathBuf,
    pub(crate) ledger_id: LedgerId,
    status: Arc<Status>,
    /// Those who follow, the engine's own thread for snapshots among them: without them nothing is
    /// shared.
    followers: AtomicUsize,
    ring: Mutex<Ring>,
    /// For those who block; those who do not leave a waker in the ring.
    changed: Condvar,
    head: watch::Sender<Head>,
    stopped: watch::Sender<Option<Stopped>>,
}

impl CommittedEvents {
    pub(crate) fn new(data_dir: &Path, ledger_id: LedgerId, status: Arc<Status>) -> Self {
        let head = watch::Sender::new(status.head());
        Self {
            data_dir: data_dir.to_owned(),
            ledger_id,
            status,
            followers: AtomicUsize::new(0),
            ring: Mutex::default(),
            changed: Condvar::new(),
            head,
            stopped: watch::Sender::new(None),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody follows: else nothing need be shared.
    pub(crate) fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Shares what was committed; the head is published afterwards.
    pub(crate) fn push(&self, runs: Vec<Run>) {
        let mut ring = self.ring();
        for run in runs {
            ring.push(run);
        }
    }

    /// Starts the dispatcher, which wakes those who wait; it ends with the ledger.
    pub(crate) fn start_dispatcher(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let events = Arc::clone(self);
        std::thread::Builder::new().name("daybook-dispatch".to_owned()).spawn(move || {
            let (mut woken_for, mut is_over) = (events.status.head().seq, false);
            while !is_over {
                if events.head.receiver_count() > 0 {
                    events.status.want_dispatch();
                }
                is_over = events.status.wait_for_dispatch(woken_for);
                woken_for = events.wake_all();
            }
            let stopped = events.status.why_stopped();
            contain_and_log(|| drop(events.stopped.send_replace(Some(stopped))));
        })
    }

    /// Wakes all who wait; tells the head that they will find, or a newer one.
    fn wake_all(&self) -> u64 {
        let head = self.status.head();
        let wakers = std::mem::take(&mut self.ring().wakers);
        self.changed.notify_all();
        // Each on its own: it is foreign code, and must not keep the others from being woken.
        for waker in wakers.into_values() {
            contain_and_log(move || waker.wake());
        }
        contain_and_log(|| {
            self.head.send_replace(head);
        });
        head.seq
    }

    /// The newest committed head, for whoever watches it.
    pub(crate) fn watch_head(&self) -> watch::Receiver<Head> {
        let receiver = self.head.subscribe();
        self.status.want_dispatch();
        // What was committed before it came.
        let head = self.status.head();
        self.head.send_if_modified(|newest| {
            let is_newer = newest.seq < head.seq;
            if is_newer {
                *newest = head;
            }
            is_newer
        });
        receiver
    }

    /// Why the engine stopped, once it did.
    pub(crate) fn watch_stopped(&self) -> watch::Receiver<Option<Stopped>> {
        self.stopped.subscribe()
    }

    /// Counts one who follows by itself, with a reader of its own.
    pub(crate) fn add_follower(&self) {
        self.followers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_follower(&self) {
        if self.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            let mut ring = self.ring();
            (ring.runs, ring.events) = (VecDeque::new(), 0);
        }
    }

    /// Counts a listener, and numbers it; the first one starts the reading threads.
    pub(crate) fn add_listener(&self) -> Result<ListenerNumber, DatabaseError> {
        let mut ring = self.ring();
        if ring.wishes.is_none() {
            ring.wishes = Some(self.start_reading_threads()?);
        }
        ring.listeners += 1;
        ring.newest_listener += 1;
        self.add_follower();
        Ok(ring.newest_listener)
    }

    pub(crate) fn remove_listener(&self, number: ListenerNumber) {
        self.forget_waker(number);
        let mut ring = self.ring();
        ring.listeners -= 1;
        if ring.listeners == 0 {
            // The threads that read the file end: nobody can ask any more.
            ring.wishes = None;
        }
        drop(ring);
        self.remove_follower();
    }

    /// A listener waits no more.
    pub(crate) fn forget_waker(&self, number: ListenerNumber) {
        let waker = self.ring().wakers.remove(&number);
        // A waker is foreign code: it ends when the ring was given back.
        drop(waker);
    }

    /// Starts the threads that read the file for those who are behind; each has a reader of its
    /// own.
    fn start_reading_threads(&self) -> Result<Sender<Wish>, DatabaseError> {
        let (wishes, wished) = channel();
        let wished = Arc::new(Mutex::new(wished));
        for number in 1..=limits::CATCH_UP_THREADS {
            let (reader, wished) = (Reader::open(&self.data_dir)?, Arc::clone(&wished));
            let thread = std::thread::Builder::new().name(format!("daybook-read-{number}"));
            thread
                .spawn(move || answer_wishes(&reader, &wished))
                .map_err(|source| DatabaseError::Io { path: self.data_dir.clone(), source })?;
        }
        Ok(wishes)
    }

    /// What there is from a cursor on.
    pub(crate) fn find(&self, cursor: Cursor) -> Found {
        // Looked at first: what was committed before the end is found after it.
        let is_over = self.status.is_over();
        let committed = self.status.head();
        let is_to_come = cursor.next.get() > committed.seq;
        let ring = self.ring();
        // Who stands at a newest head that is not ours has the file asked, which says so. What is
        // in the ring is committed, though its head may be published a moment later.
        let is_ours =
            cursor.after.is_none_or(|after| after == committed || Some(after) == ring.head());
        if is_to_come && is_ours {
            return if is_over { Found::Ended } else { Found::NotYet };
        }
        if let Some(cut) = ring.cut_at(cursor.next)
            && cursor.after.is_none_or(|after| after == cut.previous())
        {
            return Found::Events(cut);
        }
        let Some(wishes) = &ring.wishes else { return Found::Ended };
        let (reply, answer) = oneshot::channel();
        // The threads outlive every channel to them.
        drop(wishes.send(Wish { cursor, reply }));
        Found::Asked(answer)
    }

    /// Waits until there may be something from a seq on; false when the time is over.
    pub(crate) fn wait_for(&self, next: Seq, deadline: Option<Instant>) -> bool {
        let mut ring = self.ring();
        loop {
            self.status.want_dispatch();
            if self.is_there(next) {
                return true;
            }
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            ring = self.changed.wait_timeout(ring, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ready when there may be something from a seq on.
    pub(crate) fn poll_for(
        &self,
        next: Seq,
        number: ListenerNumber,
        context: &Context<'_>,
    ) -> Poll<()> {
        // Foreign code runs while the ring is not held.
        let waker = context.waker().clone();
        let before = self.ring().wakers.insert(number, waker);
        drop(before);
        // Said before the head is looked at: one that is published afterwards wakes the waker.
        self.status.want_dispatch();
        if self.is_there(next) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_there(&self, next: Seq) -> bool {
        self.status.head().seq >= next.get() || self.status.is_over()
    }
}

impl Ring {
    /// The newest event that is in it.
    fn head(&self) -> Option<Head> {
        self.runs.back().map(|run| run.head())
    }

    /// The run that holds an event, from it on.
    fn cut_at(&self, next: Seq) -> Option<Cut> {
        let begins_before = |run: &Arc<Run>| run.previous.seq < next.get();
        let index = self.runs.partition_point(begins_before).checked_sub(1)?;
        let run = self.runs.get(index)?;
        if next.get() > run.head().seq {
            return None;
        }
        let first = usize::try_from(next.get() - run.previous.seq - 1).ok()?;
        Some(Cut::new(Arc::clone(run), first))
    }

    fn push(&mut self, mut run: Run) {
        self.events += run.events.len();
        // Small batches are put together where nobody reads the newest run at this moment.
        let newest = self.runs.back_mut().filter(|newest| newest.head() == run.previous);
        match newest.and_then(Arc::get_mut) {
            Some(newest)
                if newest.events.len() + run.events.len() <= limits::EVENTS_PER_CUT_MAX =>
            {
                newest.events.append(&mut run.events);
            }
            _ => {
                run.events.shrink_to_fit();
                self.runs.push_back(Arc::new(run));
            }
        }
        while self.events > limits::EVENTS_IN_RING_MAX
            && let Some(oldest) = self.runs.pop_front()
        {
            self.events -= oldest.events.len();
        }
    }
}

fn answer_wishes(reader: &Reader, wished: &Mutex<Receiver<Wish>>) {
    loop {
        let wish = wished.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Wish { cursor, reply }) = wish else { return };
        if !reply.is_closed() {
            let found = contain(|| read(reader, cursor));
            let found = found.unwrap_or_else(|reason| Err(ReadError::BrokeOff { reason }));
            // It wakes whoever waits, or ends with the one who went away.
            contain_and_log(move || drop(reply.send(found)));
        }
    }
}

fn read(reader: &Reader, Cursor { next, after }: Cursor) -> Result<Cut, ReadError> {
    if let Some(after) = after
        && !reader.has(after)?
    {
        return Err(ReadError::UnknownHead { after });
    }
    let until = Seq::clamped(next.get().saturating_add(limits::EVENTS_PER_CATCH_UP_MAX - 1));
    reader.run(next, until).map(Cut::whole)
}
