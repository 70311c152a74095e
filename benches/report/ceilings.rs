//! What is above us: the same rows written, hashed, synced and read by programs that do nothing
//! else.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use daybook_ledger::ledger_path;
use daybook_schema::chain::{CommandPart, EventHeader};
use daybook_schema::{EventHash, Seq, StreamId, UnixMicros, limits};
use hdrhistogram::Histogram;
use rusqlite::{Connection, Row};

const COLUMNS: &str =
    "seq, recorded_at, stream, stream_prev, kind, version, command, payload, hash";
const TABLE: &str = "CREATE TABLE events (seq INTEGER PRIMARY KEY, recorded_at INTEGER NOT NULL,
   stream BLOB NOT NULL, stream_prev INTEGER NOT NULL, kind INTEGER NOT NULL,
   version INTEGER NOT NULL, command BLOB NOT NULL, payload BLOB NOT NULL,
   hash BLOB NOT NULL) STRICT;";

/// A row as it is stored.
pub struct RawRow {
    header: EventHeader,
    command: Vec<u8>,
    payload: Vec<u8>,
    hash: EventHash,
}

impl RawRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (command, payload): (Vec<u8>, Vec<u8>) = (row.get(6)?, row.get(7)?);
        let stream_prev: i64 = row.get(3)?;
        let broken = |index| rusqlite::Error::InvalidColumnIndex(index);
        let header = EventHeader {
            seq: Seq::new(row.get::<_, i64>(0)?.unsigned_abs()).map_err(|_| broken(0))?,
            recorded_at: UnixMicros::new(row.get(1)?),
            stream: StreamId::from_bytes(row.get(2)?),
            stream_prev: Seq::new(stream_prev.unsigned_abs()).ok(),
            kind: row.get(4)?,
            version: row.get(5)?,
            command: CommandPart::from_bytes(&command).map_err(|_| broken(6))?,
        };
        Ok(Self { header, command, payload, hash: EventHash::new(row.get(8)?) })
    }
}

/// The first rows of a ledger.
pub fn rows(dir: &Path, count: usize) -> Result<Vec<RawRow>> {
    let source = Connection::open(ledger_path(dir))?;
    let mut select =
        source.prepare(&format!("SELECT {COLUMNS} FROM events ORDER BY seq LIMIT ?1"))?;
    let rows = select
        .query_map([i64::try_from(count)?], RawRow::read)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

/// What raw SQLite does beside inserting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Raw {
    /// Nothing: its log grows.
    Inserts,
    /// Its log is folded in beside the work, as ours is.
    Checkpoints,
    /// The same, and each row is hashed into a chain.
    CheckpointsAndChain,
}

/// A new file of raw SQLite's.
struct RawFile {
    connection: Connection,
    checkpoints: Option<SyncSender<()>>,
    /// The newest row's, where rows are hashed into a chain.
    hash: Option<EventHash>,
    _place: tempfile::TempDir,
}

impl RawFile {
    fn create(dir: &Path, raw: Raw) -> Result<Self> {
        let place = tempfile::tempdir_in(dir)?;
        let path = place.path().join("raw.db");
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "page_size", limits::LEDGER_PAGE_BYTES)?;
        let pragmas =
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;";
        connection.execute_batch(&format!("{pragmas} {TABLE}"))?;
        connection.pragma_update(None, "cache_size", -i64::from(limits::CACHE_KIB))?;
        let checkpoints = match raw {
            Raw::Inserts => None,
            Raw::Checkpoints | Raw::CheckpointsAndChain => Some(checkpoints_beside(&path)?),
        };
        let hash = (raw == Raw::CheckpointsAndChain).then_some(EventHash::new([0; 32]));
        Ok(Self { connection, checkpoints, hash, _place: place })
    }

    /// Inserts rows in one transaction.
    fn commit(&mut self, rows: &[RawRow]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let sql = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            let mut statement = transaction.prepare_cached(sql)?;
            for row in rows {
                if let Some(hash) = &mut self.hash {
                    *hash = row.header.hash(hash, &row.payload);
                }
                statement.execute((
                    row.header.seq.get().cast_signed(),
                    row.header.recorded_at.get(),
                    row.header.stream.as_bytes(),
                    row.header.stream_prev.map_or(0, |seq| seq.get().cast_signed()),
                    row.header.kind,
                    row.header.version,
                    &row.command,
                    &row.payload,
                    row.hash.as_bytes(),
                ))?;
            }
        }
        transaction.commit()?;
        if let Some(checkpoints) = &self.checkpoints {
            keep_log_small(&self.connection, checkpoints)?;
        }
        Ok(())
    }
}

/// Inserts rows into a new file with one prepared statement; rows a second. So many rows are one
/// transaction.
pub fn insert(dir: &Path, rows: &[RawRow], per_transaction: f64, raw: Raw) -> Result<f64> {
    let mut file = RawFile::create(dir, raw)?;
    let (mut done, mut next_end) = (0, per_transaction);
    let began = Instant::now();
    while done < rows.len() {
        let end = (next_end.round() as usize).clamp(done + 1, rows.len());
        next_end += per_transaction;
        file.commit(rows.get(done..end).context("rows")?)?;
        done = end;
    }
    let rate = rows.len() as f64 / began.elapsed().as_secs_f64();
    std::hint::black_box(file.hash);
    Ok(rate)
}

/// Inserts rows at their times, all that are due in one transaction, with checkpoints; how long each
/// took from the time that it was due, in microseconds.
pub fn insert_at_rate(dir: &Path, rows: &[RawRow], per_second: f64) -> Result<Histogram<u64>> {
    let mut file = RawFile::create(dir, Raw::Checkpoints)?;
    let mut latency = Histogram::new(3)?;
    let mut done = 0;
    let began = Instant::now();
    while done < rows.len() {
        let due = ((began.elapsed().as_secs_f64() * per_second) as usize).min(rows.len());
        if due == done {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        file.commit(rows.get(done..due).context("rows")?)?;
        let committed_at = began.elapsed().as_secs_f64();
        for number in done..due {
            let micros = (committed_at - number as f64 / per_second) * 1e6;
            latency.record(micros as u64)?;
        }
        done = due;
    }
    Ok(latency)
}

/// A thread that runs a passive checkpoint for each wish.
fn checkpoints_beside(path: &Path) -> Result<SyncSender<()>> {
    let (wish, wished) = sync_channel(1);
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    std::thread::spawn(move || {
        while wished.recv().is_ok() {
            let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    });
    Ok(wish)
}

/// The same rhythm as the engine's.
fn keep_log_small(connection: &Connection, checkpoints: &SyncSender<()>) -> Result<()> {
    let log = |mode: &str| -> Result<(i64, i64)> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        Ok(connection.query_row(&sql, [], |row| Ok((row.get(1)?, row.get(2)?)))?)
    };
    let page = i64::from(limits::LEDGER_PAGE_BYTES);
    let (written, checkpointed) = log("NOOP")?;
    if written * page >= limits::WAL_BYTES_RESTART.cast_signed() {
        log("RESTART")?;
    } else if (written - checkpointed) * page >= limits::WAL_BYTES_CHECKPOINT.cast_signed() {
        let _ = checkpoints.try_send(());
    }
    Ok(())
}

/// BLAKE3 over the same rows, chained; rows a second.
pub fn hash(rows: &[RawRow]) -> f64 {
    let mut hash = EventHash::new([0; 32]);
    let began = Instant::now();
    for row in rows {
        hash = row.header.hash(&hash, &row.payload);
    }
    std::hint::black_box(hash);
    rows.len() as f64 / began.elapsed().as_secs_f64()
}

/// The same bytes in batches to a plain file, each synced: rows a second, and how long a sync takes,
/// in microseconds.
pub fn sync(dir: &Path, rows: &[RawRow], per_batch: f64) -> Result<(f64, Histogram<u64>)> {
    let place = tempfile::tempdir_in(dir)?;
    let mut file = std::fs::File::create(place.path().join("plain"))?;
    let batches = (rows.len() as f64 / per_batch).ceil().max(1.0) as usize;
    let bytes: usize = rows.iter().map(|row| 76 + row.command.len() + row.payload.len() + 32).sum();
    let batch = vec![7_u8; bytes / batches];
    let mut latency = Histogram::new(3)?;
    let began = Instant::now();
    for _ in 0..batches {
        file.write_all(&batch)?;
        let synced = Instant::now();
        file.sync_data()?;
        latency.record(u64::try_from(synced.elapsed().as_micros())?)?;
    }
    Ok((rows.len() as f64 / began.elapsed().as_secs_f64(), latency))
}

/// Reads each row of a ledger with plain rusqlite and hashes it into a chain; rows a second.
pub fn scan_and_hash(dir: &Path) -> Result<f64> {
    let source = Connection::open(ledger_path(dir))?;
    let mut select = source.prepare(&format!("SELECT {COLUMNS} FROM events ORDER BY seq"))?;
    let (mut hash, mut count) = (EventHash::new([0; 32]), 0_u64);
    let began = Instant::now();
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (stream_prev, command) = (row.get::<_, i64>(3)?, row.get_ref(6)?.as_blob()?);
        let header = EventHeader {
            seq: Seq::new(row.get::<_, i64>(0)?.unsigned_abs())?,
            recorded_at: UnixMicros::new(row.get(1)?),
            stream: StreamId::from_bytes(row.get(2)?),
            stream_prev: Seq::new(stream_prev.unsigned_abs()).ok(),
            kind: row.get(4)?,
            version: row.get(5)?,
            command: CommandPart::from_bytes(command)?,
        };
        hash = header.hash(&hash, row.get_ref(7)?.as_blob()?);
        count += 1;
    }
    std::hint::black_box(hash);
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Reads the ledger's file from its beginning to its end; bytes a second.
pub fn read_sequentially(dir: &Path) -> Result<f64> {
    let mut file = std::fs::File::open(ledger_path(dir))?;
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0_usize);
    let began = Instant::now();
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(bytes as f64 / began.elapsed().as_secs_f64());
        }
        bytes += read;
    }
}
