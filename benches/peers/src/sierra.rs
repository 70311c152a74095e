//! SierraDB, embedded: a stream for each season, with exact versions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use sierradb::StreamId;
use sierradb::database::{DatabaseBuilder, ExpectedVersion, NewEvent, Transaction};
use sierradb::id::{uuid_to_partition_hash, uuid_v7_with_partition_hash};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::LENGTH;
use crate::commands::{Command, Commands};

pub fn run(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(append(dir, commands, waiting))
}

/// As its settings are meant: one waiting is synced at once; many are gathered until they are as many
/// as wait, or five milliseconds have passed.
async fn append(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    let mut builder = DatabaseBuilder::new();
    builder.total_buckets(1).bucket_ids_from_range(0..1).writer_threads(1).reader_threads(1);
    match waiting {
        1 => builder.sync_interval(Duration::ZERO),
        _ => builder
            .sync_interval(Duration::from_millis(5))
            .max_batch_size(waiting * 6)
            .min_sync_bytes(usize::MAX),
    };
    let database = builder.open(dir.join("sierradb")).map_err(|error| anyhow!("{error}"))?;
    let key = Uuid::new_v4();
    let hash = uuid_to_partition_hash(key);
    let transaction = |command: &Command| -> Result<Transaction> {
        let stream = StreamId::new(format!("season-{}", command.season))
            .map_err(|error| anyhow!("{error}"))?;
        let events: SmallVec<[NewEvent; 4]> = (command.version..)
            .zip(&command.events)
            .map(|(version, event)| NewEvent {
                event_id: uuid_v7_with_partition_hash(hash),
                stream_id: stream.clone(),
                stream_version: match version.checked_sub(1) {
                    None => ExpectedVersion::Empty,
                    Some(before) => ExpectedVersion::Exact(before),
                },
                event_name: event.kind.to_string(),
                timestamp: event.stored.header.recorded_at.get() as u64 * 1_000,
                metadata: Vec::new(),
                payload: event.payload.clone(),
            })
            .collect();
        Transaction::new(key, 0, events).map_err(|error| anyhow!("{error}"))
    };
    let (mut count, began) = (0, Instant::now());
    let mut sent = FuturesOrdered::new();
    let mut next = commands.all.iter();
    loop {
        let command = next.next().filter(|_| began.elapsed() < LENGTH);
        if sent.len() >= waiting || command.is_none() {
            let Some(answer) = sent.next().await else { break };
            let answered: Result<usize> = answer;
            count += answered?;
        }
        let Some(command) = command else { continue };
        let (transaction, events) = (transaction(command)?, command.events.len());
        let database = database.clone();
        sent.push_back(async move {
            let appended = database.append_events(transaction).await;
            appended.map(|_| events).map_err(|error| anyhow!("{error}"))
        });
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    database.shutdown().await;
    Ok(rate)
}
