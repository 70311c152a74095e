//! Proving a ledger: its chain, its links, its guards, and every outcome by the rules.

use std::path::Path;
use std::time::{Duration, Instant};

use daybook_schema::{
    CommandHash, Event, EventHash, Genesis, Head, SeasonId, Seq, StoredEvent, StreamId, StreamKind,
    limits,
};
use daybook_simulator::streams::ends_unrevealed;
use daybook_simulator::{AuditKeys, Context, NewEvent, Rulesets, decide, reconstruct};
use rusqlite::Connection;

use crate::chain_check::ChainCheck;
use crate::database::{self, DatabaseError, LedgerConnection};
use crate::lost_heads::{self, KnownHead, Standing};
use crate::read_ahead::{flow, read_ahead};
use crate::reader::ReadError;
use crate::replay::{Fold, ReplayError, unreadable_page};
use crate::verdict::{Finding, Verdict};

use crate::scan::scan_after;
use crate::snapshot;

/// How thoroughly a ledger is verified.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Decide every command again, balance the accounts, and let SQLite check the file's structure.
    pub full: bool,
    /// Heads that were noted elsewhere and that the ledger must still have.
    pub heads: Vec<KnownHead>,
    /// Heads that what belongs to the ledger tells of: the signed newest head, positions of read
    /// models. It must have them too, unless their loss was accepted. It is always held to those of
    /// its snapshots.
    pub witnesses: Vec<KnownHead>,
    /// The sets of rules, where they are others than RULEBOOK.md's.
    pub rulesets: Rulesets,
}

/// A season that ended without its secret, because the season key was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnrevealedSeason {
    /// The season.
    pub season_id: SeasonId,
    /// The event that ended it.
    pub seq: Seq,
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// Which ledger it is; none where its genesis cannot be read or is not what its hash says.
    pub genesis: Option<Genesis>,
    /// The heads that it was held to, of its snapshots and those that were given; none where its
    /// rows do not hold, which is found first.
    pub held_to: Vec<KnownHead>,
    /// Heads whose loss was accepted, and the event that accepted it.
    pub accepted_losses: Vec<(KnownHead, Seq)>,
    /// How many events were checked.
    pub events: u64,
    /// The newest event that was checked.
    pub head: Head,
    /// The smallest seq at which a check fails, if one fails at a seq.
    pub first_bad_seq: Option<i64>,
    /// What was expected and found; empty when everything holds.
    pub detail: String,
    /// The state's hash, after a full verification in which everything holds.
    pub state_hash: Option<EventHash>,
    /// Seasons that ended without a reveal: the first of them, in order.
    pub unrevealed: Vec<UnrevealedSeason>,
    /// How many ended without a reveal.
    pub unrevealed_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// A ledger could not be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file is not there, is not a ledger of this format, or what it is to be held to cannot be
    /// read.
    #[error(transparent)]
    Open(#[from] DatabaseError),
}

const PROGRESS_EVENTS: u64 = 65_536;

/// Verifies the ledger of a data directory, beside a writer or without one. It reads only, and its
/// memory is bounded by users and seasons in play, not by events.
///
/// `progress` is told now and then how many events were checked, of how many.
///
/// # Errors
/// [`VerifyError`] when there is nothing to verify. What is found wrong is in the report.
pub fn verify(
    data_dir: &Path,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, VerifyError> {
    let started = Instant::now();
    let mut report = Report {
        verdict: Verdict::Intact,
        genesis: None,
        held_to: Vec::new(),
        accepted_losses: Vec::new(),
        events: 0,
        head: Head { seq: 0, hash: EventHash::new([0; 32]) },
        first_bad_seq: None,
        detail: String::new(),
        state_hash: None,
        unrevealed: Vec::new(),
        unrevealed_count: 0,
        duration: Duration::ZERO,
    };
    let examined = match database::open_reader(&database::ledger_path(data_dir)) {
        Ok(connection) => examine(data_dir, &connection, options, &mut report, progress),
        Err(DatabaseError::Sqlite { source, .. }) if is_damage(&source) => {
            Err(Broken::Found(unreadable(&source)))
        }
        Err(error) => Err(Broken::Off(error)),
    };
    match examined {
        Ok(()) => {}
        Err(Broken::Off(error)) => return Err(error.into()),
        Err(Broken::Found(finding)) => {
            report.verdict = finding.verdict;
            report.first_bad_seq = finding.first_bad_seq;
            report.detail = finding.detail;
            report.state_hash = None;
        }
    }
    report.duration = started.elapsed();
    Ok(report)
}

/// Why an examination ended before its end.
enum Broken {
    /// Something does not hold.
    Found(Finding),
    /// What the ledger is to be held to cannot be had: that says nothing of the ledger.
    Off(DatabaseError),
}

impl From<Finding> for Broken {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

/// Whether SQLite says that the file itself is damaged.
fn is_damage(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt)
}

/// Damage that concerns no one row.
fn unreadable(error: &dyn std::error::Error) -> Finding {
    let detail = format!("SQLite cannot read the file: {error}");
    Finding { verdict: Verdict::Unreadable, first_bad_seq: None, detail }
}

fn examine(
    data_dir: &Path,
    connection: &LedgerConnection,
    options: &VerifyOptions,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Broken> {
    let check = match RowCheck::start(connection, options) {
        Ok(check) => check,
        Err(ReplayError::Damaged(finding)) => return Err(finding.into()),
        Err(ReplayError::Open(error)) => return Err(Broken::Off(error)),
        Err(ReplayError::Sqlite(error)) => {
            let detail = format!("the genesis cannot be read: {error}");
            return Err(Finding::at(Verdict::Unreadable, 0, detail).into());
        }
    };
    // Listed before the rows are read: a writer may be at work, and its newer ones are not meant.
    let stored = database::read_genesis(connection).map_err(|error| unreadable(&error))?;
    report.genesis = stored.map(|stored| stored.genesis);
    let known = report.genesis.as_ref().map(|genesis| snapshot::known_heads(data_dir, genesis));
    let mut witnesses = known.transpose().map_err(Broken::Off)?.unwrap_or_default();
    witnesses.extend_from_slice(&options.witnesses);
    let path = database::ledger_path(data_dir);
    check_rows(&path, connection, check, &mut *report, progress)?;
    report.held_to = options.heads.clone();
    for witness in witnesses {
        match lost_heads::standing(connection, witness.head, witness.epoch) {
            Ok(Standing::Accepted { at }) => report.accepted_losses.push((witness, at)),
            Ok(_) => report.held_to.push(witness),
            Err(ReadError::Damaged(finding)) => return Err(finding.into()),
            Err(error) => return Err(unreadable(&error).into()),
        }
    }
    report.held_to.sort_by_key(|known| known.head.seq);
    check_heads(connection, &report.held_to, report.head)?;
    if options.full {
        check_structure(connection)?;
    }
    match database::guard_difference(connection).map_err(|error| unreadable(&error))? {
        None => Ok(()),
        Some(detail) => {
            let verdict = Verdict::GuardsMissing;
            Err(Finding { verdict, first_bad_seq: None, detail }.into())
        }
    }
}

fn check_rows(
    path: &Path,
    connection: &LedgerConnection,
    mut check: RowCheck,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Finding> {
    report.head = check.chain().head();
    // An estimate for the progress alone: a writer may be at work.
    let total: i64 = connection
        .query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))
        .unwrap_or(0);
    let total = u64::try_from(total).unwrap_or(0);
    let mut audit = |check: &mut RowCheck, report: &mut Report, stored: StoredEvent| {
        note_unrevealed(report, &stored);
        report.events += 1;
        report.head = Head { seq: stored.header.seq.get(), hash: stored.hash };
        if report.events.is_multiple_of(PROGRESS_EVENTS) {
            progress(report.events, total);
        }
        check.audit(stored)
    };
    let broken = read_ahead(connection, path, report.head, None, |stored| {
        let held = check.chain_mut().next_read_ahead(&stored);
        flow(held.and_then(|()| audit(&mut check, report, stored)))
    });
    let outcome = match broken {
        Some(finding) => Ok(Some(finding)),
        None => scan_after(connection, 0, report.head.seq.cast_signed(), |seen| {
            let held = check.chain_mut().next(seen);
            flow(held.and_then(|stored| audit(&mut check, report, stored)))
        }),
    };
    progress(report.events, total);
    match outcome {
        Ok(None) => check.chain().finish()?,
        Ok(Some(finding)) => return Err(finding),
        Err(error) => return Err(unreadable_page(&error, report.head)),
    }
    report.state_hash = check.state_hash();
    Ok(())
}

fn note_unrevealed(report: &mut Report, stored: &StoredEvent) {
    if !ends_unrevealed(&stored.event) {
        return;
    }
    report.unrevealed_count += 1;
    if report.unrevealed.len() < limits::UNREVEALED_LISTED_MAX {
        let season_id = stored.header.stream.as_season();
        report.unrevealed.push(UnrevealedSeason { season_id, seq: stored.header.seq });
    }
}

/// SQLite's own check of the file: a walk can be whole where a search would go astray.
fn check_structure(connection: &Connection) -> Result<(), Finding> {
    let found: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| unreadable(&error))?;
    if found == "ok" {
        return Ok(());
    }
    let detail = format!("SQLite's integrity check says: {found}");
    Err(Finding { verdict: Verdict::Unreadable, first_bad_seq: None, detail })
}

/// Holds the ledger to heads from elsewhere: that it is long enough for all, then their hashes.
fn check_heads(connection: &Connection, heads: &[KnownHead], newest: Head) -> Result<(), Finding> {
    if let Some(beyond) = heads.iter().find(|known| known.head.seq > newest.seq) {
        let detail = format!("the ledger ends at {}, there was a head {beyond}", newest.seq);
        return Err(Finding::at(Verdict::Truncated, newest.seq.cast_signed() + 1, detail));
    }
    heads.iter().try_for_each(|known| check_head(connection, known))
}

fn check_head(connection: &Connection, known: &KnownHead) -> Result<(), Finding> {
    let expected = known.head;
    let found = database::hash_at(connection, expected.seq).map_err(|error| unreadable(&error))?;
    if found == Some(expected.hash) {
        return Ok(());
    }
    let found = found.map_or_else(|| "nothing".to_owned(), |hash| hash.to_string());
    let detail = format!("expected {} ({}), found {found}", expected.hash, known.source);
    Err(Finding::at(Verdict::HeadMismatch, expected.seq.cast_signed(), detail))
}

/// The check of rows: of the chain alone, or of every outcome too.
enum RowCheck {
    Chain(ChainCheck),
    Full { fold: Box<Fold>, rulesets: Box<Rulesets>, command: Vec<StoredEvent> },
}

impl RowCheck {
    fn start(connection: &Connection, options: &VerifyOptions) -> Result<Self, ReplayError> {
        let fold = Fold::start(connection)?;
        Ok(if options.full {
            let rulesets = Box::new(options.rulesets.clone());
            Self::Full { fold: Box::new(fold), rulesets, command: Vec::new() }
        } else {
            Self::Chain(fold.check)
        })
    }

    fn chain(&self) -> &ChainCheck {
        match self {
            Self::Chain(check) => check,
            Self::Full { fold, .. } => &fold.check,
        }
    }

    fn chain_mut(&mut self) -> &mut ChainCheck {
        match self {
            Self::Chain(check) => check,
            Self::Full { fold, .. } => &mut fold.check,
        }
    }

    /// Decides a command again once its last event is there.
    fn audit(&mut self, stored: StoredEvent) -> Result<(), Finding> {
        let Self::Full { fold, rulesets, command } = self else { return Ok(()) };
        let part = stored.header.command;
        command.push(stored);
        if part.place + 1 < part.size {
            return Ok(());
        }
        let outcome = audit_command(fold, rulesets, command);
        command.clear();
        outcome
    }

    fn state_hash(&self) -> Option<EventHash> {
        match self {
            Self::Chain(_) => None,
            Self::Full { fold, .. } => Some(fold.state.hash()),
        }
    }
}

/// Decides a command again from its events and compares, then applies them and balances.
fn audit_command(
    fold: &mut Fold,
    rulesets: &Rulesets,
    command: &[StoredEvent],
) -> Result<(), Finding> {
    compare(fold, rulesets, command)?;
    for stored in command {
        fold.evolve(stored);
        let season = stored.event.kind().stream() == StreamKind::Season;
        let touched = season.then(|| stored.header.stream.as_season());
        fold.state.check_accounts(touched).map_err(|error| {
            let seq = stored.header.seq.get().cast_signed();
            Finding::at(Verdict::Unbalanced, seq, error.to_string())
        })?;
    }
    Ok(())
}

fn compare(fold: &Fold, rulesets: &Rulesets, command: &[StoredEvent]) -> Result<(), Finding> {
    let Some(first) = command.first() else { return Ok(()) };
    let first_seq = first.header.seq.get().cast_signed();
    let mismatch = |seq, detail: String| Finding::at(Verdict::OutcomeMismatch, seq, detail);
    let events: Vec<(StreamId, Event)> =
        command.iter().map(|stored| (stored.header.stream, stored.event.clone())).collect();
    let rebuilt = reconstruct(&fold.state, &events)
        .map_err(|error| mismatch(first_seq, error.to_string()))?;
    let mark = first.header.command.mark;
    let hash: CommandHash = rebuilt.to_stored().hash();
    if mark.is_none_or(|mark| mark.hash != hash) {
        let detail = format!("the events are those of a command with hash {hash}");
        return Err(mismatch(first_seq, detail));
    }
    let keys = AuditKeys::from_events(&fold.state, &events);
    let context = Context {
        client_command_id: mark.map(|mark| mark.id),
        starting_ruleset: match &first.event {
            Event::SeasonStarted(started) => Some(started.ruleset),
            _ => None,
        },
        ..Context::new(first.header.recorded_at, &keys)
    };
    let decided = decide(rulesets, &fold.state, &rebuilt, &context).map_err(|rejections| {
        mismatch(first_seq, format!("the rules refuse {}: {rejections}", rebuilt.name()))
    })?;
    for (index, stored) in command.iter().enumerate() {
        let seq = stored.header.seq.get().cast_signed();
        let holds = decided.get(index).is_some_and(|NewEvent { stream, event }| {
            *stream == stored.header.stream && *event == stored.event
        });
        if !holds {
            let expected = decided.get(index).map_or("nothing".to_owned(), |expected| {
                format!("{} {:?}", expected.event.kind(), expected.event)
            });
            let found = stored.event.kind();
            let detail = format!("the rules give {expected}, found {found} {:?}", stored.event);
            return Err(mismatch(seq, detail));
        }
    }
    if decided.len() > command.len() {
        let last = command.last().map_or(first_seq, |last| last.header.seq.get().cast_signed());
        let detail = format!("the rules give {} events, found {}", decided.len(), command.len());
        return Err(mismatch(last, detail));
    }
    Ok(())
}
