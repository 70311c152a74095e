//! Opening a ledger for writing, step by step.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{channel, sync_channel};

use daybook_schema::limits;

use crate::accept_loss::Restore;
use crate::committed_events::CommittedEvents;
use crate::decider::Decider;
use crate::handed_rows::{self, HandOver};
use crate::ledger::{Ledger, Started};
use crate::ledger_file::{LedgerFile, Recovered};
use crate::newest_head;
use crate::open_batch;
use crate::open_error::OpenError;
use crate::options::Options;
use crate::recovery::Recovery;
use crate::snapshot_thread::{self, Beginning};
use crate::state_thread::{self, StateThread, Writing};
use crate::status::Status;
use crate::writer_thread::{self, Committed, HeldLedger};

impl Ledger {
    /// Opens a ledger for writing: takes its lock, holds it to every head that is known of it,
    /// syncs what is on disk, and rebuilds the state from the newest snapshot and the events after
    /// it, every link checked.
    ///
    /// # Errors
    /// [`OpenError`]; then nothing was changed but, at most, a write-ahead log folded in.
    pub fn open(mut options: Options) -> Result<Self, OpenError> {
        let file = LedgerFile::open(&mut options)?;
        let Recovered { recovery, newest_snapshot_seq, missing, restored, outlived_snapshots } =
            file.recover(&mut options)?;
        let (genesis, newest_head) = (file.genesis, options.newest_head.take());
        let has_older_epochs_left = recovery.fold.state.has_older_epochs_left();
        let beginning = Beginning { recovery: recovery.clone(), newest_snapshot_seq };
        let (hand_over, handed) = handed_rows::channel();

        let ledger = Self::start_engine(file, recovery, options, hand_over)?;
        if !missing.is_empty() || restored.is_some() || has_older_epochs_left {
            let newest_head = newest_head.as_ref();
            Restore { ledger: &ledger, genesis: &genesis, newest_head }.run(&missing, restored)?;
        }
        outlived_snapshots.iter().try_for_each(std::fs::remove_file)?;
        // Both begin after the loss was accepted: until then what they would replace tells of it.
        ledger.run_beside(snapshot_thread::spawn(&ledger, beginning, handed)?);
        if let Some(newest_head) = newest_head {
            ledger.run_beside(newest_head::spawn(newest_head, ledger.status())?);
        }
        Ok(ledger)
    }

    /// Starts the threads that decide, write, and wake those who follow.
    fn start_engine(
        file: LedgerFile,
        recovery: Recovery,
        options: Options,
        hand_over: HandOver,
    ) -> Result<Self, OpenError> {
        let LedgerFile { held, path, genesis, lock } = file;
        let data_dir = options.data_dir.clone();
        let identity = recovery.fold.state.identity();
        let status = Arc::new(Status::new(recovery.fold.check.head(), identity));
        let events = CommittedEvents::new(&data_dir, genesis.ledger_id, Arc::clone(&status));
        let events = Arc::new(events);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (requests, incoming) = sync_channel(limits::COMMANDS_WAITING_MAX);
        let (batches, to_commit) = open_batch::channel();
        // No more than there are batches: it is not bounded, so that the writer never waits.
        let (ended, told) = channel();
        let held = HeldLedger { held, path };
        let commit = [options.monitor.metric("commit"), options.monitor.untold_metric("sync")];
        let decide = options.monitor.metric("decide");
        let writer = writer_thread::spawn(
            held,
            Arc::clone(&status),
            Committed { events: Arc::clone(&events), hand_over },
            commit,
            to_commit,
            ended,
        )?;
        let decider = Decider::new(recovery, options);
        let (status_too, waiting_too) = (Arc::clone(&status), Arc::clone(&waiting));
        let thread = StateThread {
            decider,
            status: status_too,
            waiting: waiting_too,
            decide,
            writing: Writing::new(told),
        };
        let state = state_thread::spawn(thread, incoming, batches)?;
        let dispatcher = events.start_dispatcher()?;
        let deciding = vec![state, writer];
        let started = Started { data_dir, status, requests, waiting, events, deciding, lock };
        let ledger = Self::start(started);
        ledger.run_beside(dispatcher);
        Ok(ledger)
    }
}
