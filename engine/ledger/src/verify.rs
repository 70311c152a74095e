//! Proving a ledger: its chain, its links, its guards, and every outcome by the rules.

use std::path::Path;
use std::time::{Duration, Instant};

use daybook_schema::{
    CommandHash, Event, EventHash, EventHeader, Genesis, Head, SeasonId, Seq, StoredEvent,
    StreamKind, limits,
};
use daybook_simulator::streams::ends_unrevealed;
use daybook_simulator::{
    AuditKeys, Context, NewEvent, Rulesets, State, decide, evolve, reconstruct,
};
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
use crate::structure_check::check_beside;

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
            Err(Broken::Found(Finding::unreadable_file(&source)))
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
    let stored =
        database::read_genesis(connection).map_err(|error| Finding::unreadable_file(&error))?;
    report.genesis = stored.map(|stored| stored.genesis);
    let known = report.genesis.as_ref().map(|genesis| snapshot::known_heads(data_dir, genesis));
    let mut witnesses = known.transpose().map_err(Broken::Off)?.unwrap_or_default();
    witnesses.extend_from_slice(&options.witnesses);
    let path = database::ledger_path(data_dir);
    let held = || {
        check_rows(&path, connection, check, &mut *report, progress)?;
        hold_to(connection, &options.heads, witnesses, report)
    };
    match options.full {
        true => check_beside(&path, connection, held)?,
        false => held()?,
    }
    match database::guard_difference(connection)
        .map_err(|error| Finding::unreadable_file(&error))?
    {
        None => Ok(()),
        Some(detail) => {
            let verdict = Verdict::GuardsMissing;
            Err(Finding { verdict, first_bad_seq: None, detail }.into())
        }
    }
}

/// Holds the ledger to heads that were given, and to witnesses whose loss was not accepted.
fn hold_to(
    connection: &Connection,
    given: &[KnownHead],
    witnesses: Vec<KnownHead>,
    report: &mut Report,
) -> Result<(), Broken> {
    report.held_to = given.to_vec();
    for witness in witnesses {
        match lost_heads::standing(connection, witness.head, witness.epoch) {
            Ok(Standing::Accepted { at }) => report.accepted_losses.push((witness, at)),
            Ok(_) => report.held_to.push(witness),
            Err(ReadError::Damaged(finding)) => return Err(finding.into()),
            Err(error) => return Err(Finding::unreadable_file(&error).into()),
        }
    }
    report.held_to.sort_by_key(|known| known.head.seq);
    Ok(check_heads(connection, &report.held_to, report.head)?)
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
    let mut count = |report: &mut Report, header: &EventHeader, event: &Event| {
        note_unrevealed(report, header, event);
        report.events += 1;
        if report.events.is_multiple_of(PROGRESS_EVENTS) {
            progress(report.events, total);
        }
    };
    let broken = read_ahead(connection, path, report.head, None, |stored| {
        let StoredEvent { header, event, hash } = stored;
        let held = check.chain_mut().next_read_ahead(&header, &hash, &event);
        flow(held.and_then(|()| {
            count(report, &header, &event);
            check.audit(&header, &hash, event)
        }))
    });
    report.head = check.chain().head();
    let outcome = match broken {
        Some(finding) => Ok(Some(finding)),
        None => scan_after(connection, 0, report.head.seq.cast_signed(), |seen| {
            let held = check.chain_mut().next(&seen);
            flow(held.and_then(|(row, event)| {
                count(report, &row.header, &event);
                check.audit(&row.header, &row.hash, event)
            }))
        }),
    };
    report.head = check.chain().head();
    progress(report.events, total);
    match outcome {
        Ok(None) => check.chain().finish()?,
        Ok(Some(finding)) => return Err(finding),
        Err(error) => return Err(unreadable_page(&error, report.head)),
    }
    report.state_hash = check.state_hash();
    Ok(())
}

fn note_unrevealed(report: &mut Report, header: &EventHeader, event: &Event) {
    if !ends_unrevealed(event) {
        return;
    }
    report.unrevealed_count += 1;
    if report.unrevealed.len() < limits::UNREVEALED_LISTED_MAX {
        let season_id = header.stream.as_season();
        report.unrevealed.push(UnrevealedSeason { season_id, seq: header.seq });
    }
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
    let found = database::hash_at(connection, expected.seq)
        .map_err(|error| Finding::unreadable_file(&error))?;
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
    Full { fold: Box<Fold>, rulesets: Box<Rulesets>, command: CommandRows },
}

impl RowCheck {
    fn start(connection: &Connection, options: &VerifyOptions) -> Result<Self, ReplayError> {
        let fold = Fold::start(connection)?;
        Ok(if options.full {
            let rulesets = Box::new(options.rulesets.clone());
            Self::Full { fold: Box::new(fold), rulesets, command: CommandRows::default() }
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
    fn audit(
        &mut self,
        header: &EventHeader,
        hash: &EventHash,
        event: Event,
    ) -> Result<(), Finding> {
        let Self::Full { fold, rulesets, command } = self else { return Ok(()) };
        let part = header.command;
        command.events.push(NewEvent { stream: header.stream, event });
        command.rows.push((*header, *hash));
        if part.place + 1 < part.size {
            return Ok(());
        }
        let outcome = audit_command(fold, rulesets, command);
        command.events.clear();
        command.rows.clear();
        outcome
    }

    fn state_hash(&self) -> Option<EventHash> {
        match self {
            Self::Chain(_) => None,
            Self::Full { fold, .. } => Some(fold.state.hash()),
        }
    }
}

/// The events of a command, and the rows that hold them, in the same order.
#[derive(Default)]
struct CommandRows {
    events: Vec<NewEvent>,
    rows: Vec<(EventHeader, EventHash)>,
}

/// Decides a command again from its events and compares, then applies them and balances.
fn audit_command(
    fold: &mut Fold,
    rulesets: &Rulesets,
    command: &CommandRows,
) -> Result<(), Finding> {
    compare(&fold.state, rulesets, command)?;
    for (NewEvent { stream, event }, (header, hash)) in command.events.iter().zip(&command.rows) {
        evolve(&mut fold.state, header, *hash, event);
        let season = event.kind().stream() == StreamKind::Season;
        let touched = season.then(|| stream.as_season());
        fold.state.check_accounts(touched).map_err(|error| {
            let seq = header.seq.get().cast_signed();
            Finding::at(Verdict::Unbalanced, seq, error.to_string())
        })?;
    }
    Ok(())
}

fn compare(state: &State, rulesets: &Rulesets, command: &CommandRows) -> Result<(), Finding> {
    let CommandRows { events, rows } = command;
    let (Some(first), Some((header, _))) = (events.first(), rows.first()) else { return Ok(()) };
    let first_seq = header.seq.get().cast_signed();
    let mismatch = |seq, detail: String| Finding::at(Verdict::OutcomeMismatch, seq, detail);
    let rebuilt =
        reconstruct(state, events).map_err(|error| mismatch(first_seq, error.to_string()))?;
    let mark = header.command.mark;
    let hash: CommandHash = rebuilt.to_stored().hash();
    if mark.is_none_or(|mark| mark.hash != hash) {
        let detail = format!("the events are those of a command with hash {hash}");
        return Err(mismatch(first_seq, detail));
    }
    let keys = AuditKeys::from_events(state, events);
    let context = Context {
        client_command_id: mark.map(|mark| mark.id),
        starting_ruleset: match &first.event {
            Event::SeasonStarted(started) => Some(started.ruleset),
            _ => None,
        },
        ..Context::new(header.recorded_at, &keys)
    };
    let decided = decide(rulesets, state, &rebuilt, &context).map_err(|rejections| {
        mismatch(first_seq, format!("the rules refuse {}: {rejections}", rebuilt.name()))
    })?;
    for (index, (found, (header, _))) in events.iter().zip(rows).enumerate() {
        let expected = decided.get(index);
        if expected != Some(found) {
            let expected = expected.map_or("nothing".to_owned(), |expected| {
                format!("{} {:?}", expected.event.kind(), expected.event)
            });
            let kind = found.event.kind();
            let detail = format!("the rules give {expected}, found {kind} {:?}", found.event);
            return Err(mismatch(header.seq.get().cast_signed(), detail));
        }
    }
    if decided.len() > events.len() {
        let last = rows.last().map_or(first_seq, |(header, _)| header.seq.get().cast_signed());
        let detail = format!("the rules give {} events, found {}", decided.len(), events.len());
        return Err(mismatch(last, detail));
    }
    Ok(())
}
