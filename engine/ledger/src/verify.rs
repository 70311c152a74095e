//! Proving a ledger: its chain, its links, its guards, and every outcome by the rules.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use daybook_schema::{CommandHash, Event, EventHash, SeasonId, Seq, StreamId, StreamKind};
use daybook_simulator::{AuditKeys, Context, NewEvent, RULESET_1, decide, reconstruct};
use rusqlite::Connection;

use crate::check::{ChainCheck, Finding, Verdict};
use crate::database::{self, DatabaseError};
use crate::replay::{Fold, ReplayError, newest_seq, unreadable_page};
use crate::row::{Head, StoredEvent};
use crate::scan::scan;

/// How thoroughly a ledger is verified.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Decide every command again and balance the accounts.
    pub full: bool,
    /// Heads that were noted elsewhere and that the ledger must still have.
    pub heads: Vec<Head>,
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
    /// Seasons that ended without a reveal: the first hundred, in order.
    pub unrevealed: Vec<UnrevealedSeason>,
    /// How many ended without a reveal.
    pub unrevealed_count: u64,
    /// How long it took.
    pub duration: Duration,
}

/// A ledger could not be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file is not there, or is not a ledger of this format.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// SQLite could not do it.
    #[error("ledger cannot be read")]
    Sqlite(#[from] rusqlite::Error),
}

const UNREVEALED_LISTED_MAX: usize = 100;
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
    let connection = database::open_reader(&database::ledger_path(data_dir))?;
    let mut report = Report {
        verdict: Verdict::Intact,
        events: 0,
        head: Head { seq: 0, hash: EventHash::new([0; 32]) },
        first_bad_seq: None,
        detail: String::new(),
        state_hash: None,
        unrevealed: Vec::new(),
        unrevealed_count: 0,
        duration: Duration::ZERO,
    };
    if let Err(finding) = examine(&connection, options, (&mut report, progress))? {
        report.verdict = finding.verdict;
        report.first_bad_seq = finding.first_bad_seq;
        report.detail = finding.detail;
        report.state_hash = None;
    }
    report.duration = started.elapsed();
    Ok(report)
}

/// `Err` for what SQLite cannot do, `Ok(Err)` for what does not hold.
fn examine(
    connection: &Connection,
    options: &VerifyOptions,
    (report, progress): (&mut Report, &mut dyn FnMut(u64, u64)),
) -> Result<Result<(), Finding>, VerifyError> {
    let until = match newest_seq(connection) {
        Ok(until) => until,
        Err(error) => {
            let detail = format!("SQLite cannot read the newest event: {error}");
            return Ok(Err(Finding { verdict: Verdict::Unreadable, first_bad_seq: None, detail }));
        }
    };
    let rows = match RowCheck::start(connection, options.full) {
        Ok(check) => check_rows(connection, until, (check, &mut *report, progress))?,
        Err(ReplayError::Damaged(finding)) => Err(finding),
        Err(ReplayError::Open(error)) => return Err(error.into()),
        Err(ReplayError::Sqlite(error)) => return Err(error.into()),
    };
    if let Err(finding) = rows {
        return Ok(Err(finding));
    }
    for head in &options.heads {
        if let Err(finding) = check_head(connection, *head, report.head)? {
            return Ok(Err(finding));
        }
    }
    if let Some(detail) = database::guard_difference(connection)? {
        let finding = Finding { verdict: Verdict::GuardsMissing, first_bad_seq: None, detail };
        return Ok(Err(finding));
    }
    Ok(Ok(()))
}

fn check_rows(
    connection: &Connection,
    until: i64,
    (mut check, report, progress): (RowCheck, &mut Report, &mut dyn FnMut(u64, u64)),
) -> Result<Result<(), Finding>, VerifyError> {
    report.head = check.chain().head();
    let total = u64::try_from(until).unwrap_or(0);
    let outcome = scan(connection, (i64::MIN, until), |seen| {
        let stored = match check.chain_mut().next(seen) {
            Ok(stored) => stored,
            Err(finding) => return ControlFlow::Break(finding),
        };
        note_unrevealed(report, &stored);
        report.events += 1;
        report.head = Head { seq: stored.header.seq.get(), hash: stored.hash };
        if report.events.is_multiple_of(PROGRESS_EVENTS) {
            progress(report.events, total);
        }
        match check.audit(stored) {
            Ok(()) => ControlFlow::Continue(()),
            Err(finding) => ControlFlow::Break(finding),
        }
    });
    progress(report.events, total);
    let finding = match outcome {
        Ok(None) => check.chain().finish().err(),
        Ok(Some(finding)) => Some(finding),
        Err(error) => Some(unreadable_page(&error, report.head)),
    };
    if let Some(finding) = finding {
        return Ok(Err(finding));
    }
    report.state_hash = check.state_hash();
    Ok(Ok(()))
}

fn note_unrevealed(report: &mut Report, stored: &StoredEvent) {
    let secret = match &stored.event {
        Event::SeasonAbandoned(event) => event.season_secret,
        Event::SeasonExpired(event) => event.season_secret,
        _ => return,
    };
    if secret.is_some() {
        return;
    }
    report.unrevealed_count += 1;
    if report.unrevealed.len() < UNREVEALED_LISTED_MAX {
        let season_id = stored.header.stream.as_season();
        report.unrevealed.push(UnrevealedSeason { season_id, seq: stored.header.seq });
    }
}

fn check_head(
    connection: &Connection,
    expected: Head,
    newest: Head,
) -> Result<Result<(), Finding>, VerifyError> {
    if expected.seq > newest.seq {
        let detail = format!("the ledger ends at {}, the head {expected} was given", newest.seq);
        return Ok(Err(Finding::at(Verdict::Truncated, newest.seq.cast_signed() + 1, detail)));
    }
    let found = if expected.seq == 0 {
        database::read_genesis(connection)?.map(|stored| stored.hash)
    } else {
        let hash: [u8; 32] = connection.query_row(
            "SELECT hash FROM events WHERE seq = ?1",
            [expected.seq.cast_signed()],
            |row| row.get(0),
        )?;
        Some(EventHash::new(hash))
    };
    if found == Some(expected.hash) {
        return Ok(Ok(()));
    }
    let found = found.map_or_else(|| "nothing".to_owned(), |hash| hash.to_string());
    let detail = format!("expected {}, found {found}", expected.hash);
    Ok(Err(Finding::at(Verdict::HeadMismatch, expected.seq.cast_signed(), detail)))
}

/// The check of rows: of the chain alone, or of every outcome too.
enum RowCheck {
    Chain(ChainCheck),
    Full { fold: Box<Fold>, command: Vec<StoredEvent> },
}

impl RowCheck {
    fn start(connection: &Connection, full: bool) -> Result<Self, ReplayError> {
        let fold = Fold::start(connection)?;
        Ok(if full {
            Self::Full { fold: Box::new(fold), command: Vec::new() }
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
        let Self::Full { fold, command } = self else { return Ok(()) };
        let part = stored.header.command;
        command.push(stored);
        if part.place + 1 < part.size {
            return Ok(());
        }
        let outcome = audit_command(fold, command);
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
fn audit_command(fold: &mut Fold, command: &[StoredEvent]) -> Result<(), Finding> {
    compare(fold, command)?;
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

fn compare(fold: &Fold, command: &[StoredEvent]) -> Result<(), Finding> {
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
        now: first.header.recorded_at,
        client_command_id: mark.map(|mark| mark.id),
        keys: &keys,
    };
    let decided = decide(&RULESET_1, &fold.state, &rebuilt, &context).map_err(|rejections| {
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
