//! Closing an engine, once, for all who have a handle.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};

use daybook_schema::Head;
use tokio::sync::oneshot;

use crate::foreign_panics::contain_and_log;
use crate::lock::WriterLock;
use crate::status::Status;
use crate::submission::{Request, SubmitError, unavailable};

/// The engine's threads, and the lock that is held as long as they run.
#[derive(Debug)]
pub(crate) struct Threads {
    /// The state's and the writer's, which end when they are told to.
    pub(crate) deciding: Vec<JoinHandle<()>>,
    /// Those beside the work, which end when nothing is committed any more.
    pub(crate) beside: Vec<JoinHandle<()>>,
    pub(crate) lock: WriterLock,
}

/// Where somebody waits to be told that the engine is closed.
type ClosedReply = oneshot::Sender<Result<Head, SubmitError>>;

#[derive(Debug)]
struct Running {
    /// Until somebody closes them.
    threads: Option<Threads>,
    /// Those threads, also while they are being closed: none of them may wait for its own end.
    own: Vec<ThreadId>,
    is_closed: bool,
    waiting: Vec<ClosedReply>,
}

/// Closes an engine.
#[derive(Debug)]
pub(crate) struct Closing {
    running: Mutex<Running>,
    closed: Condvar,
    requests: SyncSender<Request>,
    status: Arc<Status>,
}

impl Closing {
    pub(crate) fn new(
        threads: Threads,
        requests: SyncSender<Request>,
        status: Arc<Status>,
    ) -> Self {
        let own = threads.deciding.iter().chain(&threads.beside);
        let own = own.map(|thread| thread.thread().id()).collect();
        let (threads, waiting) = (Some(threads), Vec::new());
        let running = Running { threads, own, is_closed: false, waiting };
        Self { running: Mutex::new(running), closed: Condvar::new(), requests, status }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more thread beside the work.
    pub(crate) fn add(&self, thread: JoinHandle<()>) {
        let mut running = self.running();
        running.own.push(thread.thread().id());
        if let Some(threads) = &mut running.threads {
            threads.beside.push(thread);
        }
    }

    /// Begins to close; what comes back tells when it is done.
    pub(crate) fn begin(self: &Arc<Self>) -> oneshot::Receiver<Result<Head, SubmitError>> {
        let (told, receiver) = oneshot::channel();
        let mut running = self.running();
        if running.is_closed {
            drop(running);
            drop(told.send(self.outcome()));
            return receiver;
        }
        running.waiting.push(told);
        drop(running);
        if self.status.begin_close() {
            self.close_in_a_thread();
        }
        receiver
    }

    /// Closes, and waits until it is done; a thread of the engine itself does not wait.
    pub(crate) fn begin_and_wait(self: &Arc<Self>) {
        let is_own = self.running().own.contains(&std::thread::current().id());
        match (self.status.begin_close(), is_own) {
            (true, true) => self.close_in_a_thread(),
            (true, false) => self.close(),
            (false, true) => {}
            (false, false) => {
                let is_on = |running: &mut Running| !running.is_closed;
                drop(self.closed.wait_while(self.running(), is_on));
            }
        }
    }

    fn close_in_a_thread(self: &Arc<Self>) {
        let closing = Arc::clone(self);
        let thread = std::thread::Builder::new().name("daybook-close".to_owned());
        if thread.spawn(move || closing.close()).is_err() {
            self.close();
        }
    }

    /// Answers what was accepted, ends the threads, and gives the lock back.
    fn close(&self) {
        // Behind all that was accepted. Where nobody takes it the state thread has ended already.
        drop(self.requests.send(Request::Close));
        let threads = self.running().threads.take();
        if let Some(Threads { deciding, beside, lock }) = threads {
            // A thread that panicked has told so by its guard.
            deciding.into_iter().for_each(|thread| drop(thread.join()));
            self.status.close();
            beside.into_iter().for_each(|thread| drop(thread.join()));
            drop(lock);
        }
        let mut running = self.running();
        running.is_closed = true;
        let waiting = std::mem::take(&mut running.waiting);
        drop(running);
        self.closed.notify_all();
        for told in waiting {
            // It wakes whoever waits.
            contain_and_log(|| drop(told.send(self.outcome())));
        }
    }

    fn outcome(&self) -> Result<Head, SubmitError> {
        match self.status.failure() {
            Some(_) => Err(unavailable(&self.status)),
            None => Ok(self.status.head()),
        }
    }
}
