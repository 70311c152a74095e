//! How far projections have come, and who waits for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, futures::Notified, oneshot};

/// Tells waiters of one seq apart.
type WaiterNumber = u64;

#[derive(Debug)]
struct Waiter {
    projections: Vec<&'static str>,
    reached: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The seqs up to which projections have applied the ledger, by name.
    applied: BTreeMap<String, u64>,
    /// Those that workers of this process keep.
    own: BTreeSet<String>,
    /// By the seq that each waits for.
    waiters: BTreeMap<(u64, WaiterNumber), Waiter>,
    newest_waiter: WaiterNumber,
}

impl Known {
    /// The least of some projections' seqs, if all of them are known of.
    fn least(&self, projections: &[&'static str]) -> Option<u64> {
        let seqs = projections.iter().map(|name| self.applied.get(*name).copied());
        seqs.collect::<Option<Vec<u64>>>()?.into_iter().min()
    }
}

/// How far the projections of a file have come, as far as this process knows, and who waits for
/// them.
#[derive(Debug, Default)]
pub(crate) struct AppliedSeqs {
    known: Mutex<Known>,
    /// Somebody has begun to wait.
    wanted: Notify,
    /// Of all who wait one looks into the file, in case another process writes it.
    pub(crate) looking: tokio::sync::Mutex<()>,
}

/// Somebody waits; dropped, it leaves nothing behind.
pub(crate) struct Waiting<'a> {
    all: &'a AppliedSeqs,
    key: (u64, WaiterNumber),
    pub(crate) reached: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.known().waiters.remove(&self.key);
    }
}

impl AppliedSeqs {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The least of some projections' seqs, if all of them are known of.
    pub(crate) fn least(&self, projections: &[&'static str]) -> Option<u64> {
        self.known().least(projections)
    }

    /// A worker of this process has come so far: wakes those who waited for that, and nobody else.
    pub(crate) fn advance(&self, name: &str, seq: u64) {
        let mut known = self.known();
        known.own.insert(name.to_owned());
        Self::set(known, name, seq);
    }

    /// The file says so. A worker of this process may have gone on since it was read.
    pub(crate) fn observe(&self, name: &str, seq: u64) {
        let known = self.known();
        let said = known.applied.get(name).copied().filter(|_| known.own.contains(name));
        Self::set(known, name, seq.max(said.unwrap_or(0)));
    }

    fn set(mut known: MutexGuard<'_, Known>, name: &str, seq: u64) {
        known.applied.insert(name.to_owned(), seq);
        let reached: Vec<(u64, WaiterNumber)> = known
            .waiters
            .range(..=(seq, WaiterNumber::MAX))
            .filter(|((at_least, _), waiter)| {
                known.least(&waiter.projections).is_some_and(|least| least >= *at_least)
            })
            .map(|(key, _)| *key)
            .collect();
        let woken: Vec<Waiter> =
            reached.iter().filter_map(|key| known.waiters.remove(key)).collect();
        drop(known);
        for waiter in woken {
            // Who waited may have gone.
            let _ = waiter.reached.send(());
        }
    }

    /// Waits until some projections have come to a seq.
    pub(crate) fn wait_for(&self, projections: &[&'static str], at_least: u64) -> Waiting<'_> {
        let (reached, receiver) = oneshot::channel();
        let mut known = self.known();
        known.newest_waiter += 1;
        let key = (at_least, known.newest_waiter);
        known.waiters.insert(key, Waiter { projections: projections.to_vec(), reached });
        drop(known);
        self.wanted.notify_waiters();
        Waiting { all: self, key, reached: receiver }
    }

    /// Ready when somebody begins to wait.
    pub(crate) fn wanted(&self) -> Notified<'_> {
        self.wanted.notified()
    }

    /// Whether somebody waits for a projection to come to a seq that is no later than this.
    pub(crate) fn is_wanted(&self, name: &str, until: u64) -> bool {
        let known = self.known();
        let applied = known.applied.get(name).copied().unwrap_or(0);
        let mut waiters = known.waiters.range(..=(until, WaiterNumber::MAX));
        waiters.any(|((at_least, _), waiter)| {
            *at_least > applied && waiter.projections.contains(&name)
        })
    }
}
