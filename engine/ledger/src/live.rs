//! Committed events for all who follow an engine: each is read from the file once, and shared.
//!
//! A thread reads what is committed and keeps the newest of it in cuts. Who has fallen behind these has the file
//! read for it, by two threads that all share. So a thousand who follow cost no thread, no connection and no
//! second decoding each, and none of them can hold up the engine or another.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use daybook_schema::{Seq, StoredEvent, limits};
use tokio::sync::oneshot;

use crate::containment::{contain, contain_and_log};
use crate::database::DatabaseError;
use crate::reader::{ReadError, Reader};
use crate::shared::Shared;
use crate::subscription::Cut;

/// How often the reading thread looks whether anybody listens still.
const LISTENERS_LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// The answer of a reading thread.
type Answer = oneshot::Receiver<Result<Vec<StoredEvent>, ReadError>>;

/// Somebody's wish to have the file read from a seq on.
struct Wish {
    from: Seq,
    reply: oneshot::Sender<Result<Vec<StoredEvent>, ReadError>>,
}

/// Tells the listeners of an engine apart.
pub(crate) type ListenerNumber = u64;

/// What there is for somebody who goes on from a seq.
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

/// The newest events in cuts.
#[derive(Debug, Default)]
struct Ring {
    cuts: VecDeque<Arc<[StoredEvent]>>,
    events: usize,
    /// The newest seq that is in it, or was committed when the first listener came.
    newest: u64,
    listeners: usize,
    /// The number of the listener that came last.
    newest_listener: ListenerNumber,
    /// Of the listeners that wait without blocking.
    wakers: BTreeMap<ListenerNumber, Waker>,
    wishes: Option<Sender<Wish>>,
    /// Whether a thread reads what is committed into it.
    is_reading: bool,
}

/// The committed events of an engine, as they come.
#[derive(Debug)]
pub(crate) struct Live {
    data_dir: PathBuf,
    shared: Arc<Shared>,
    ring: Mutex<Ring>,
    /// For those who block; those who do not leave a waker in the ring.
    changed: Condvar,
}

impl Live {
    pub(crate) fn new(data_dir: &Path, shared: Arc<Shared>) -> Self {
        let (ring, changed) = (Mutex::default(), Condvar::new());
        Self { data_dir: data_dir.to_owned(), shared, ring, changed }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a listener, and numbers it; the first one starts the threads.
    pub(crate) fn add_listener(self: &Arc<Self>) -> Result<ListenerNumber, DatabaseError> {
        let mut ring = self.ring();
        let started = self.start_threads(&mut ring);
        // Whoever could not be served is none.
        if started.is_ok() {
            ring.listeners += 1;
            ring.newest_listener += 1;
        }
        ring.stop_reading_threads();
        started.map(|()| ring.newest_listener)
    }

    /// Starts the threads that are not there yet.
    fn start_threads(self: &Arc<Self>, ring: &mut Ring) -> Result<(), DatabaseError> {
        if ring.wishes.is_none() {
            ring.wishes = Some(self.start_reading_threads()?);
        }
        if !ring.is_reading && !self.shared.is_over() {
            let (live, reader) = (Arc::clone(self), Reader::open(&self.data_dir)?);
            self.spawn("daybook-live", move || {
                while let Err(reason) = contain(|| live.read_along(&reader)) {
                    tracing::error!(reason, "reading for those who follow broke off; begun again");
                    live.skip_to(live.shared.head().seq);
                }
            })?;
            (ring.is_reading, ring.newest) = (true, self.shared.head().seq);
        }
        Ok(())
    }

    pub(crate) fn remove_listener(&self, number: ListenerNumber) {
        self.forget_waker(number);
        let mut ring = self.ring();
        ring.listeners -= 1;
        ring.stop_reading_threads();
    }

    /// A listener waits no more.
    pub(crate) fn forget_waker(&self, number: ListenerNumber) {
        let mut ring = self.ring();
        let waker = ring.wakers.remove(&number);
        // A waker is foreign code: it ends when the ring is given back.
        drop(ring);
        drop(waker);
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), DatabaseError> {
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let failed = |source| DatabaseError::Io { path: self.data_dir.clone(), source };
        spawned.map(drop).map_err(failed)
    }

    /// Starts the threads that read the file for those who are behind; each has a reader of its own.
    fn start_reading_threads(&self) -> Result<Sender<Wish>, DatabaseError> {
        let (wishes, wished) = channel();
        let wished = Arc::new(Mutex::new(wished));
        for number in 1..=limits::CATCH_UP_THREADS {
            let (reader, wished) = (Reader::open(&self.data_dir)?, Arc::clone(&wished));
            let name = format!("daybook-read-{number}");
            self.spawn(&name, move || answer_wishes(&reader, &wished))?;
        }
        Ok(wishes)
    }

    /// What there is from a seq on.
    pub(crate) fn find(&self, from: Seq) -> Result<Found, ReadError> {
        // Looked at first: what was committed before the end is found after it.
        let is_over = self.shared.is_over();
        let committed = self.shared.head().seq;
        let ring = self.ring();
        if let Some(cut) = ring.cut_from(from) {
            return Ok(Found::Events(cut));
        }
        let is_in_file = from.get() <= if ring.is_reading { ring.newest } else { committed };
        if is_in_file && let Some(wishes) = &ring.wishes {
            let (reply, answer) = oneshot::channel();
            // The threads outlive every channel to them.
            drop(wishes.send(Wish { from, reply }));
            return Ok(Found::Asked(answer));
        }
        if is_over && from.get() > committed {
            return Ok(Found::Ended);
        }
        Ok(Found::NotYet)
    }

    /// Waits until there may be something from a seq on; false when the time is over.
    pub(crate) fn wait_for(&self, from: Seq, deadline: Option<Instant>) -> bool {
        let mut ring = self.ring();
        loop {
            if ring.newest >= from.get() || !ring.is_reading {
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
        from: Seq,
        (number, context): (ListenerNumber, &Context<'_>),
    ) -> Poll<()> {
        // Foreign code runs while the ring is not held.
        let waker = context.waker().clone();
        let mut ring = self.ring();
        if ring.newest >= from.get() || !ring.is_reading {
            return Poll::Ready(());
        }
        let before = ring.wakers.insert(number, waker);
        drop(ring);
        drop(before);
        Poll::Pending
    }

    /// Reads what is committed, as long as anybody listens and the ledger is open.
    fn read_along(&self, reader: &Reader) {
        loop {
            // Looked at before the head: what was committed before the end is read.
            let is_over = self.shared.is_over();
            let committed = self.shared.head().seq;
            let newest = match self.newest_or_end(is_over, committed) {
                Some(newest) => newest,
                None => return,
            };
            if newest >= committed {
                self.shared.wait_beyond(newest, LISTENERS_LOOKED_AT_EVERY);
                continue;
            }
            match reader.range(Seq::clamped(newest + 1), Seq::clamped(committed)) {
                Ok(events) if !events.is_empty() => self.push(&events),
                // Who follows has the file read from here on, and meets the same.
                _ => self.skip_to(committed),
            }
        }
    }

    /// The newest event in the ring; none when nothing more is to be read, which is then known to all.
    fn newest_or_end(&self, is_over: bool, committed: u64) -> Option<u64> {
        let mut ring = self.ring();
        if ring.newest < committed || !is_over && ring.listeners > 0 {
            return Some(ring.newest);
        }
        (ring.is_reading, ring.events) = (false, 0);
        ring.cuts.clear();
        self.tell(ring);
        None
    }

    /// Leaves out of the ring what cannot be read into it.
    fn skip_to(&self, committed: u64) {
        let mut ring = self.ring();
        ring.newest = committed;
        self.tell(ring);
    }

    fn tell(&self, mut ring: MutexGuard<'_, Ring>) {
        let wakers = std::mem::take(&mut ring.wakers);
        drop(ring);
        self.changed.notify_all();
        // Each on its own: it is foreign code, and must not keep the others from being woken.
        for waker in wakers.into_values() {
            contain_and_log(move || waker.wake());
        }
    }

    fn push(&self, events: &[StoredEvent]) {
        let mut ring = self.ring();
        for cut in events.chunks(limits::EVENTS_PER_CUT_MAX) {
            ring.push(cut.into());
        }
        self.tell(ring);
    }
}

impl Ring {
    /// The threads that read the file end when nobody can ask any more.
    fn stop_reading_threads(&mut self) {
        if self.listeners == 0 {
            self.wishes = None;
        }
    }

    /// The cut that holds an event, from it on.
    fn cut_from(&self, from: Seq) -> Option<Cut> {
        let starts_before =
            |cut: &Arc<[StoredEvent]>| cut.first().is_some_and(|first| first.header.seq <= from);
        let index = self.cuts.partition_point(starts_before).checked_sub(1)?;
        let cut = self.cuts.get(index)?;
        let first = from.get() - cut.first()?.header.seq.get();
        let first = usize::try_from(first).ok().filter(|first| *first < cut.len())?;
        Some(Cut::new(Arc::clone(cut), first))
    }

    fn push(&mut self, cut: Arc<[StoredEvent]>) {
        let Some(last) = cut.last() else { return };
        self.newest = last.header.seq.get();
        self.events += cut.len();
        self.cuts.push_back(cut);
        while self.events > limits::EVENTS_IN_RING_MAX
            && let Some(oldest) = self.cuts.pop_front()
        {
            self.events -= oldest.len();
        }
    }
}

fn answer_wishes(reader: &Reader, wished: &Mutex<Receiver<Wish>>) {
    loop {
        let wish = wished.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Wish { from, reply }) = wish else { return };
        if !reply.is_closed() {
            let until =
                Seq::clamped(from.get().saturating_add(limits::EVENTS_PER_CATCH_UP_MAX - 1));
            let found = contain(|| reader.range(from, until));
            let found = found.unwrap_or_else(|reason| Err(ReadError::BrokeOff { reason }));
            // It wakes whoever waits, or ends with the one who went away.
            contain_and_log(move || drop(reply.send(found)));
        }
    }
}
