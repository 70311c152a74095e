//! One tail for the workers of a process: each event is read, checked and decoded once for all.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daybook_schema::{Block, Head, LedgerIdentity, limits};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::feed::{Feed, FeedError, Past, Tail, deadline};

/// Events that are kept at most for workers that come later.
const EVENTS_KEPT_MAX: usize = 4 * limits::EVENTS_PER_APPLY_MAX;
/// Nothing is read beyond them as long as the slowest worker asked within this time; later it reads
/// for itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Blocks are kept for a worker that asked within this time. It is shorter than what a stopped one
/// waits before it tries again.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// How often it is looked whether there are new events.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A tail that several workers follow at about the same pace.
///
/// Whoever comes first reads, and the others are given what was read. One that stands elsewhere,
/// for it was made anew or had stopped, reads by a tail of its own until it has caught up.
#[derive(Debug)]
pub(crate) struct SharedTail {
    shared: Arc<Shared>,
    worker: usize,
    own: Tail,
}

#[derive(Debug)]
struct Shared {
    read: Mutex<Read>,
    /// Held by the worker that reads.
    tail: tokio::sync::Mutex<Tail>,
}

/// What was read, and who may still ask for it.
#[derive(Debug, Default)]
struct Read {
    /// Each follows the one before it.
    blocks: VecDeque<Block>,
    events: usize,
    /// What the tail goes on after, once it has begun.
    after: Option<Head>,
    /// Of each worker: the seq after which it asked last, and when.
    asked: Vec<Option<(u64, Instant)>>,
    /// Events that are kept at most.
    kept_max: usize,
}

enum Looked {
    Found(Block),
    Nothing,
    /// A slower worker has to go on first.
    Full,
    /// The tail has left that head behind.
    Elsewhere,
}

impl SharedTail {
    /// Tails of a ledger for so many workers.
    pub(crate) fn several(data_dir: &Path, workers: usize) -> Vec<Self> {
        Self::keeping(EVENTS_KEPT_MAX, data_dir, workers)
    }

    fn keeping(kept_max: usize, data_dir: &Path, workers: usize) -> Vec<Self> {
        // Each is waited for at the beginning, wherever it will go on.
        let asked = vec![Some((0, Instant::now())); workers];
        let read = Mutex::new(Read { asked, kept_max, ..Read::default() });
        let tail = tokio::sync::Mutex::new(Tail::new(data_dir));
        let shared = Arc::new(Shared { read, tail });
        let one = |worker| Self { shared: Arc::clone(&shared), worker, own: Tail::new(data_dir) };
        (0..workers).map(one).collect()
    }

    async fn follow(&mut self, after: Head, timeout: Duration) -> Result<Option<Block>, FeedError> {
        let deadline = deadline(timeout);
        loop {
            let looked = self.look(after).await?;
            let now = Instant::now();
            match looked {
                Looked::Found(block) => return Ok(Some(block)),
                Looked::Nothing if now >= deadline => return Ok(None),
                Looked::Nothing => {
                    tokio::time::sleep_until(deadline.min(now + LOOK_EVERY)).await;
                }
                // There is more, so the timeout says nothing.
                Looked::Full => tokio::time::sleep(LOOK_EVERY / 4).await,
                Looked::Elsewhere => return self.own.next(after, timeout).await,
            }
        }
    }

    /// Takes what another worker read, or reads what is there; nothing is waited for but another's
    /// reading.
    async fn look(&self, after: Head) -> Result<Looked, FeedError> {
        if let Some(block) = self.shared.read().take(after, self.worker) {
            return Ok(Looked::Found(block));
        }
        let mut tail = self.shared.tail.lock().await;
        {
            let mut read = self.shared.read();
            // Whoever read meanwhile may have read just this.
            if let Some(block) = read.take(after, self.worker) {
                return Ok(Looked::Found(block));
            }
            if read.is_elsewhere(after) {
                // What it asks for tells nothing of how long blocks are to be kept.
                read.forget(self.worker);
                return Ok(Looked::Elsewhere);
            }
            if read.is_full() {
                return Ok(Looked::Full);
            }
        }
        let looked = tail.next(after, Duration::ZERO).await;
        let mut read = self.shared.read();
        match looked {
            Ok(Some(block)) => {
                read.keep(after, &block);
                Ok(Looked::Found(block))
            }
            Ok(None) => Ok(Looked::Nothing),
            Err(error) => {
                read.clear();
                Err(error)
            }
        }
    }
}

impl Shared {
    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    /// Whether the tail is not to go on from a head: it has left that behind, or others follow it
    /// from further back.
    fn is_elsewhere(&self, after: Head) -> bool {
        let Some(at) = self.after.filter(|at| *at != after) else { return false };
        let follows = |(seq, when): &(u64, Instant)| *seq <= at.seq && when.elapsed() < KEPT_FOR;
        at.seq >= after.seq || self.asked.iter().flatten().any(follows)
    }

    /// What is kept of the block after a head, if anything. What every worker is beyond is dropped.
    fn take(&mut self, after: Head, worker: usize) -> Option<Block> {
        if let Some(asked) = self.asked.get_mut(worker) {
            *asked = Some((after.seq, Instant::now()));
        }
        let follow = self.asked.iter().flatten().filter(|(_, when)| when.elapsed() < KEPT_FOR);
        let least = follow.map(|(seq, _)| *seq).min().unwrap_or(0);
        while self.blocks.front().is_some_and(|block| block.last().seq <= least) {
            self.drop_oldest();
        }
        let has_next =
            |block: &&Block| block.previous.seq <= after.seq && after.seq < block.last().seq;
        rest_of(self.blocks.iter().find(has_next)?, after)
    }

    /// Whether as much is kept as may be, and somebody is about to ask for the oldest of it.
    fn is_full(&mut self) -> bool {
        while self.events >= self.kept_max
            && let Some(oldest) = self.blocks.front().map(|block| block.last().seq)
        {
            let lacks_it = |(seq, at): &(u64, Instant)| *seq < oldest && at.elapsed() < PATIENCE;
            if self.asked.iter().flatten().any(lacks_it) {
                return true;
            }
            self.drop_oldest();
        }
        false
    }

    fn drop_oldest(&mut self) {
        if let Some(block) = self.blocks.pop_front() {
            self.events -= block.events.len();
        }
    }

    fn keep(&mut self, after: Head, block: &Block) {
        if self.after.is_some_and(|at| at != after) {
            // It goes on elsewhere: what was kept does not lead there.
            self.clear();
        }
        self.after = Some(block.last());
        self.events += block.events.len();
        self.blocks.push_back(block.clone());
    }

    fn forget(&mut self, worker: usize) {
        if let Some(asked) = self.asked.get_mut(worker) {
            *asked = None;
        }
    }

    fn clear(&mut self) {
        self.blocks.clear();
        (self.events, self.after) = (0, None);
    }
}

/// What a block has after a head, if the head is its own or the one before it.
fn rest_of(block: &Block, after: Head) -> Option<Block> {
    if after == block.previous || after.seq == 0 {
        return Some(block.clone());
    }
    let place = block.events.iter().position(|event| event.head() == after)?;
    let events = block.events.get(place + 1..)?.to_vec();
    Some(Block { ledger_id: block.ledger_id, previous: after, events })
}

impl Drop for SharedTail {
    fn drop(&mut self) {
        self.shared.read().forget(self.worker);
    }
}

impl Feed for SharedTail {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(self.follow(after, timeout))
    }

    fn past(
        &mut self,
        head: Head,
        identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        self.own.past(head, identity)
    }
}

#[cfg(test)]
mod tests {
    use daybook_bots::Play;
    use daybook_ledger::{Reader, ledger_path};
    use daybook_schema::Seq;

    use super::*;

    /// A ledger of several blocks, and its heads.
    fn played() -> (tempfile::TempDir, Vec<Head>) {
        let directory = tempfile::tempdir().unwrap();
        let play = Play { players: 20, days: 8, seed: 5 };
        std::thread::scope(|scope| {
            scope.spawn(|| play.into_new_ledger(directory.path()).unwrap()).join().unwrap();
        });
        let reader = Reader::open(directory.path()).unwrap();
        let heads = reader.events_from(Seq::MIN).map(|event| event.unwrap().head()).collect();
        (directory, heads)
    }

    /// Takes one block; gives the heads of its events.
    async fn take(tail: &mut SharedTail, after: &mut Head) -> Vec<Head> {
        let block = tail.next(*after, Duration::ZERO).await.unwrap();
        let heads: Vec<Head> =
            block.iter().flat_map(|block| &block.events).map(|event| event.head()).collect();
        *after = heads.last().copied().unwrap_or(*after);
        heads
    }

    async fn take_all(tail: &mut SharedTail, mut after: Head) -> Vec<Head> {
        let mut all = Vec::new();
        loop {
            let heads = take(tail, &mut after).await;
            if heads.is_empty() {
                return all;
            }
            all.extend(heads);
        }
    }

    const BEGINNING: Head = Head { seq: 0, hash: daybook_schema::EventHash::new([0; 32]) };

    #[tokio::test]
    async fn what_one_read_the_others_are_given() {
        let (directory, heads) = played();
        let mut tails = SharedTail::several(directory.path(), 3);
        assert_eq!(take_all(&mut tails[0], BEGINNING).await, heads);
        // There is nothing left to be read.
        std::fs::remove_file(ledger_path(directory.path())).unwrap();
        for tail in &mut tails[1..] {
            let mut given = Vec::new();
            let mut after = BEGINNING;
            while given.len() < heads.len() {
                given.extend(take(tail, &mut after).await);
            }
            assert_eq!(given, heads);
        }
    }

    #[tokio::test]
    async fn whoever_stands_elsewhere_reads_for_itself() {
        let (directory, heads) = played();
        let mut tails = SharedTail::several(directory.path(), 2);
        assert_eq!(take_all(&mut tails[0], BEGINNING).await, heads);
        for place in [heads.len() / 2, heads.len() / 3] {
            let given = take_all(&mut tails[1], heads[place]).await;
            assert_eq!(given, heads[place + 1..]);
        }
        // It was put back to the beginning, as for a rebuild.
        assert_eq!(take_all(&mut tails[1], BEGINNING).await, heads);
        assert_eq!(take_all(&mut tails[0], BEGINNING).await, heads);
    }

    #[tokio::test]
    async fn one_that_never_asks_holds_the_others_up_for_a_while_only() {
        let (directory, heads) = played();
        let mut tails = SharedTail::keeping(1, directory.path(), 3);
        let (mut first, mut second) = (BEGINNING, BEGINNING);
        let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
        let [one, two, _stuck] = tails.as_mut_slice() else { panic!("three") };
        // The second lags by a block.
        of_first.extend(take(one, &mut first).await);
        while of_second.len() < heads.len() {
            let (given, later) = tokio::join!(take(one, &mut first), take(two, &mut second));
            of_first.extend(given);
            of_second.extend(later);
        }
        assert_eq!(of_first, heads);
        assert_eq!(of_second, heads);
    }
}
