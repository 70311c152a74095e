//! A ledger's file as a start finds it: locked, held to every head that is known of it, and read to
//! its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_schema::{Game, Genesis, Head, LedgerFormat, LedgerId, UnixMicros, limits};
use rusqlite::Connection;

use crate::chain_check::ChainCheck;
use crate::checkpoint;
use crate::clock::{SystemTimeSource, TimeSource};
use crate::database::{self, DatabaseError};
use crate::files::create_directories;
use crate::held_file::HeldFile;
use crate::lock::WriterLock;
use crate::lost_heads::{self, KnownHead, Standing};
use crate::lost_ledgers;
use crate::open_error::OpenError;
use crate::options::{Options, Time};
use crate::recovery::Recovery;
use crate::restored::{Restored, RestoredError};
use crate::snapshot;
use crate::verdict::{Finding, Verdict};
use crate::writer_thread::HeldConnection;

/// A ledger's file, locked and opened for writing.
pub(crate) struct LedgerFile {
    pub(crate) held: HeldConnection,
    pub(crate) path: PathBuf,
    pub(crate) genesis: Genesis,
    pub(crate) lock: WriterLock,
}

/// A ledger as it is found.
pub(crate) struct Recovered {
    pub(crate) recovery: Recovery,
    /// The seq of the newest snapshot that the ledger confirms, 0 if there is none.
    pub(crate) newest_snapshot_seq: u64,
    /// Heads that are known of and that the ledger does not have: their loss is accepted.
    pub(crate) missing: Vec<KnownHead>,
    /// What a restore left here, where a new epoch is to begin for it.
    pub(crate) restored: Option<Restored>,
    /// Snapshots of events whose loss was accepted before; that start was interrupted.
    pub(crate) outlived_snapshots: Vec<PathBuf>,
}

impl LedgerFile {
    pub(crate) fn open(options: &mut Options) -> Result<Self, OpenError> {
        let path = database::ledger_path(&options.data_dir);
        let lock = prepare_file(options, &path)?;
        // Where it really lies: SQLite keeps the log there.
        let path = path.canonicalize()?;
        database::check_file(&path)?;
        let file = HeldFile::take(&path)?;
        let held = HeldConnection { connection: database::open_writer(&path)?, file };
        let genesis = stored_genesis(&path, &held.connection)?;
        if matches!(options.time, Time::FromSubmissions) && !genesis.is_demo {
            return Err(OpenError::NotADemo);
        }
        if !genesis.is_demo {
            check_clock(&held.connection, &mut options.time, options.accept_clock)?;
        }
        Ok(Self { held, path, genesis, lock })
    }

    /// Holds the ledger to every head that is known of it, syncs it, and rebuilds its state.
    pub(crate) fn recover(&self, options: &mut Options) -> Result<Recovered, OpenError> {
        let Self { held: HeldConnection { connection, file }, genesis, .. } = self;
        let found = snapshot::newest_confirmed(connection, &options.data_dir, genesis)?;
        let restored = restored_here(connection, &options.data_dir, genesis.ledger_id)?;
        let mut known = std::mem::take(&mut options.known_heads);
        let is_shown = restored.as_ref().is_some_and(|restored| {
            !restored.is_cut && known.iter().any(|known| known.head == restored.head)
        });
        // What an operator says that the ledger must have is not taken for lost by the mark of a restore.
        let said = known.len();
        known.append(&mut options.witnesses);
        if let Some(newest_head) = &options.newest_head {
            known.extend(newest_head.read(genesis.ledger_id)?);
        }
        let mut outlived_snapshots = Vec::new();
        let mut missing = Vec::new();
        for lacking in found.lacking {
            match lost_heads::standing(connection, lacking.head, lacking.epoch)? {
                Standing::Accepted { .. } => outlived_snapshots.push(PathBuf::from(lacking.source)),
                _ => missing.push(lacking),
            }
        }
        let mut is_said_missing = false;
        for (index, known) in known.into_iter().enumerate() {
            let standing = lost_heads::standing(connection, known.head, known.epoch)?;
            if matches!(standing, Standing::Lost { .. }) {
                is_said_missing |= index < said;
                missing.push(known);
            }
        }
        if let Some(newest_missing) = missing.iter().max_by_key(|known| known.head.seq)
            && !options.accept_loss
            && (restored.is_none() || is_said_missing)
        {
            let newest = database::newest_head(connection)?;
            return Err(OpenError::Behind { newest, missing: Box::new(newest_missing.clone()) });
        }

        // Nothing is trusted that only the page cache held.
        sync_log(&self.path)?;
        checkpoint::fold_in_whole(connection)?;
        file.sync()?;
        let newest_snapshot_seq =
            found.snapshot.as_ref().map_or(0, |found| found.fold.check.head().seq);
        let mut recovery = match found.snapshot {
            Some(recovery) => recovery,
            None => Recovery::from_genesis(connection)?,
        };
        recovery.go_to_end(connection, &self.path)?;
        if newest_snapshot_seq == 0 {
            recovery.ids.forget_before_start(recovery.fold.check.newest_recorded_at());
        }
        check_appendable(connection, recovery.fold.check.head())?;
        connection.busy_timeout(Duration::from_millis(limits::WRITER_BUSY_TIMEOUT_MS))?;
        let restored = restored.filter(|_| !is_shown || !missing.is_empty());
        if restored.is_none() {
            Restored::remove(&options.data_dir)?;
        }
        Ok(Recovered { recovery, newest_snapshot_seq, missing, restored, outlived_snapshots })
    }
}

/// Makes the directory and, where it is asked for, the ledger; gives the writer's lock.
fn prepare_file(options: &mut Options, path: &Path) -> Result<WriterLock, OpenError> {
    let data_dir = &options.data_dir;
    match (options.create.is_some(), path.exists()) {
        (false, false) => return Err(DatabaseError::Missing { path: path.to_owned() }.into()),
        (true, false) => {
            let lost = lost_ledgers::find::<OpenError>(options)?;
            if !lost.is_empty() {
                return Err(OpenError::Lost { path: path.to_owned(), lost });
            }
            create_directories(data_dir)
                .map_err(|source| OpenError::Directory { path: data_dir.clone(), source })?;
        }
        (_, true) => {}
    }
    let lock = options.lock.take().map_or_else(|| WriterLock::take(data_dir), Ok)?;
    if let (Some(new), false) = (options.create, path.exists()) {
        let created_at = new.created_at.unwrap_or_else(|| SystemTimeSource::default().wall());
        let genesis = Genesis {
            ledger_id: new.ledger_id,
            format: LedgerFormat::NEWEST,
            created_at,
            is_demo: new.is_demo,
            game: Game::FarmingSeason,
        };
        database::create(path, &genesis)?;
    }
    Ok(lock)
}

/// The mark of a restore, if there is one whose new epoch did not begin yet.
fn restored_here(
    connection: &Connection,
    data_dir: &Path,
    ledger_id: LedgerId,
) -> Result<Option<Restored>, OpenError> {
    let Some(restored) = Restored::read(data_dir)? else { return Ok(None) };
    if restored.ledger_id != ledger_id {
        let path = Restored::path(data_dir);
        let error =
            RestoredError::AnotherLedger { path, restored: restored.ledger_id, found: ledger_id };
        return Err(error.into());
    }
    // A start was interrupted after its epoch had begun.
    let has_begun = lost_heads::has_epoch_begun_after(connection, restored.head.seq)?;
    Ok(Some(restored).filter(|_| !has_begun))
}

/// What an interrupted process left in the log is synced before anybody is told of it: a reader may
/// keep the checkpoint from doing so. (SQLite has no locks on the log that closing this descriptor
/// could give back.)
fn sync_log(path: &Path) -> std::io::Result<()> {
    match std::fs::File::open(database::log_path(path)) {
        Ok(log) => log.sync_all(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses a wall clock that is far ahead of the newest event, unless somebody says that it is
/// right.
fn check_clock(
    connection: &Connection,
    time: &mut Time,
    accept_clock: Option<UnixMicros>,
) -> Result<(), OpenError> {
    let wall = match time {
        Time::FromSubmissions => return Ok(()),
        Time::System => SystemTimeSource::default().wall(),
        Time::Source(source) => source.wall(),
    };
    let Some(newest) = database::newest_recorded_at(connection)? else { return Ok(()) };
    let is_ahead = wall.micros_since(newest) > limits::CLOCK_AHEAD_MICROS_MAX;
    let is_accepted = accept_clock.is_some_and(|about| {
        wall.micros_since(about).saturating_abs() <= limits::CLOCK_ACCEPTED_MICROS
    });
    match is_ahead && !is_accepted {
        true => Err(OpenError::ClockAhead { wall, newest }),
        false => Ok(()),
    }
}

/// The genesis, held to its own hash.
fn stored_genesis(path: &Path, connection: &Connection) -> Result<Genesis, OpenError> {
    let stored = database::read_genesis(connection)
        .map_err(|source| DatabaseError::Sqlite { path: path.to_owned(), source })?;
    let (_, stored) = ChainCheck::start(stored).map_err(OpenError::Damaged)?;
    Ok(stored.genesis)
}

/// What a writer relies on beyond what it has read: that tables and triggers are the format's own,
/// and that an event after the newest goes after the newest.
fn check_appendable(connection: &Connection, head: Head) -> Result<(), OpenError> {
    if let Some(detail) = database::guard_difference(connection)? {
        let finding = Finding { verdict: Verdict::GuardsMissing, first_bad_seq: None, detail };
        return Err(OpenError::Damaged(finding));
    }
    // In a damaged tree a search from beyond the end comes out among earlier rows.
    let beyond: i64 = connection.query_row(
        "SELECT count(*) FROM (SELECT 1 FROM events WHERE seq > ?1 LIMIT 1)",
        [head.seq.cast_signed()],
        |row| row.get(0),
    )?;
    if beyond == 0 {
        return Ok(());
    }
    let detail =
        "a search for the next event comes out among earlier ones: the file's tree is damaged";
    let finding = Finding::at(Verdict::Unreadable, head.seq.cast_signed() + 1, detail);
    Err(OpenError::Damaged(finding))
}
