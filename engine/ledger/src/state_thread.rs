//! The thread that owns the game's state: it decides a batch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;

use daybook_monitor::Metric;

use crate::batch::Batch;
use crate::decider::{Decided, Decider};
use crate::foreign_panics::contain_and_log;
use crate::status::Status;
use crate::submission::{Answer, Request};

/// What the thread has beside its decider.
pub(crate) struct StateThread {
    pub(crate) decider: Decider,
    pub(crate) status: Arc<Status>,
    /// Requests that wait.
    pub(crate) waiting: Arc<AtomicUsize>,
    /// How long batches take.
    pub(crate) decide: Metric,
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
            let deciding = thread.decide.start();
            let mut batch = thread.decider.begin_batch();
            is_closed = thread.take(first, &mut batch);
            while !is_closed
                && !batch.is_full()
                && let Ok(next) = requests.try_recv()
            {
                is_closed = thread.take(next, &mut batch);
            }
            drop(deciding);
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
