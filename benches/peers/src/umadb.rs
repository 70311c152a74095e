//! UmaDB, embedded, with its own writer thread, which commits together what waits.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::writer_thread_blocking::writer_thread_blocking;
use umadb_core::writer_thread_request::WriterThreadRequest;
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbQuery, DcbQueryItem, DcbResult};

use crate::LENGTH;
use crate::commands::{Command, Commands};

/// Events of one commit at most, as its server has it.
const BATCH_EVENTS_MAX: usize = 2_048;

/// Each event is tagged with its season, and nothing is appended to a season that went on.
pub fn tagged(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    run(dir, commands, waiting, true)
}

/// Events without tags and without a guard.
pub fn untagged(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    run(dir, commands, waiting, false)
}

fn events(command: &Command, tag: Option<&str>) -> Vec<DcbEvent> {
    let event = |event: &crate::commands::Event| {
        let made = DcbEvent::new().event_type(event.kind.to_string()).data(event.payload.clone());
        match tag {
            Some(tag) => made.tags([tag]),
            None => made,
        }
    };
    command.events.iter().map(event).collect()
}

fn run(dir: &Path, commands: &Commands, waiting: usize, is_tagged: bool) -> Result<f64> {
    let options = StorageOptions::default().db_path(dir.join("umadb"));
    let mvcc = Arc::new(Mvcc::new(false, options).map_err(|error| anyhow!("{error}"))?);
    let (send, receive) = mpsc::channel(waiting.max(1));
    let (head, _heads) = watch::channel(None);
    let writer =
        std::thread::spawn(move || writer_thread_blocking(mvcc, receive, head, BATCH_EVENTS_MAX));
    // The newest position of each season.
    let mut newest = vec![0_u64; commands.seasons];
    let mut sent: VecDeque<(usize, u64, oneshot::Receiver<DcbResult<u64>>)> = VecDeque::new();
    let (mut count, began) = (0, Instant::now());
    let mut next = commands.all.iter();
    loop {
        let command = next.next().filter(|_| began.elapsed() < LENGTH);
        if sent.len() >= waiting || command.is_none() {
            let Some((season, events, answer)) = sent.pop_front() else { break };
            newest[season] = answer.blocking_recv()?.map_err(|error| anyhow!("{error}"))?;
            count += events;
        }
        let Some(command) = command else { continue };
        let tag = format!("season:{}", command.season);
        let (tag, condition) = match is_tagged {
            true => {
                let query = DcbQuery::new().item(DcbQueryItem::new().tags([tag.as_str()]));
                let after = Some(newest[command.season]);
                (Some(tag.as_str()), Some(DcbAppendCondition::new(query).after(after)))
            }
            false => (None, None),
        };
        let (response_tx, answer) = oneshot::channel();
        let request = WriterThreadRequest::Append {
            events: events(command, tag),
            condition,
            tracking_info: None,
            response_tx,
            cancel: None,
        };
        send.blocking_send(request).map_err(|_| anyhow!("the writer ended"))?;
        sent.push_back((command.season, command.events.len() as u64, answer));
    }
    let seconds = began.elapsed().as_secs_f64();
    send.blocking_send(WriterThreadRequest::Shutdown).map_err(|_| anyhow!("the writer ended"))?;
    writer.join().map_err(|_| anyhow!("the writer panicked"))?;
    Ok(count as f64 / seconds)
}
