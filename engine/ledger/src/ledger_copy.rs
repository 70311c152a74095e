//! A copy of a ledger, made row by row beside the writer: each row is checked on its way, and
//! nothing that the writer needs is held.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use daybook_schema::{Epoch, Event, EventHeader, Genesis, Head, Seq, UserId};

use crate::chain_check::ChainCheck;
use crate::database::{self, DatabaseError};
use crate::event_row::{insert, insert_sql};
use crate::files::sqlite_path;
use crate::reader::ReadError;
use crate::replay::unreadable_page;
use crate::scan::scan;
use crate::verdict::{Finding, Verdict};

/// Rows that are written in one transaction.
const ROWS_PER_COMMIT: u64 = 65_536;

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerCopy {
    /// What the ledger begins with.
    pub genesis: Genesis,
    /// Its newest event.
    pub head: Head,
    /// The epoch at its end.
    pub epoch: Epoch,
    /// Its users who are not erased, each with the event that registered them.
    pub users: BTreeMap<UserId, Seq>,
}

/// A copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Open(#[from] DatabaseError),
    /// The ledger cannot be read, or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The ledger is shorter than what is asked for.
    #[error("the ledger ends with event {newest}, and event {until} is asked for")]
    TooShort {
        /// Its newest event.
        newest: u64,
        /// What is asked for.
        until: Seq,
    },
    /// It would end within a command.
    #[error(
        "event {until} lies within a command; the last whole one before it ends with event {before}"
    )]
    WithinCommand {
        /// What is asked for.
        until: Seq,
        /// The last event of the command before.
        before: u64,
    },
    /// The copy cannot be written.
    #[error("`{}` cannot be written", path.display())]
    Write {
        /// The copy.
        path: std::path::PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl From<Finding> for CopyError {
    fn from(finding: Finding) -> Self {
        Self::Read(finding.into())
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error.into())
    }
}

/// What goes on while rows are copied.
struct Copying<'to> {
    check: ChainCheck,
    epoch: Epoch,
    users: BTreeMap<UserId, Seq>,
    /// The last event of the last whole command.
    whole_until: u64,
    insert: rusqlite::Statement<'to>,
    to: &'to rusqlite::Connection,
}

/// Copies a ledger up to the newest event that it has now, or up to an event, into a file that is
/// not there yet, or empty. Chain, links, guards and the file's end are checked as the rows pass.
/// The file is not synced.
///
/// `progress` is told now and then how many events were copied, of how many.
///
/// # Errors
/// [`CopyError`]; what was written is of no use then.
pub fn copy_ledger(
    data_dir: &Path,
    until: Option<Seq>,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LedgerCopy, CopyError> {
    let from = database::open_reader(&database::ledger_path(data_dir))?;
    let (check, stored) = ChainCheck::start(database::read_genesis(&from)?)?;
    let newest = database::newest_head(&from)?.seq;
    let last = match until {
        Some(until) if until.get() > newest => return Err(CopyError::TooShort { newest, until }),
        Some(until) => until.get(),
        None => newest,
    };
    let failed = |source| CopyError::Write { path: to.to_owned(), source };
    // An absolute path is never read as a URI, whatever its name.
    let file =
        sqlite_path(to).map_err(|source| DatabaseError::Io { path: to.to_owned(), source })?;
    let target = database::begin_new(&file, &stored.genesis).map_err(failed)?;
    // Nobody reads it before it is whole, and whoever made it syncs it.
    target.pragma_update(None, "journal_mode", "OFF").map_err(failed)?;
    target.pragma_update(None, "synchronous", "OFF").map_err(failed)?;
    let insert = target.prepare(&insert_sql()).map_err(failed)?;
    let (epoch, users) = (Epoch::FIRST, BTreeMap::new());
    let mut copying = Copying { check, epoch, users, whole_until: 0, insert, to: &target };
    copying.run(&from, last, progress, &failed)?;
    let head = copying.check.head();
    if let Some(until) = until
        && copying.whole_until < until.get()
    {
        return Err(CopyError::WithinCommand { until, before: copying.whole_until });
    }
    copying.check.finish()?;
    let (epoch, users) = (copying.epoch, std::mem::take(&mut copying.users));
    drop(copying);
    database::finish_new(target).map_err(failed)?;
    if let Some(detail) = database::guard_difference(&from)? {
        let finding = Finding { verdict: Verdict::GuardsMissing, first_bad_seq: None, detail };
        return Err(finding.into());
    }
    Ok(LedgerCopy { genesis: stored.genesis, head, epoch, users })
}

impl Copying<'_> {
    fn run(
        &mut self,
        from: &rusqlite::Connection,
        last: u64,
        progress: &mut dyn FnMut(u64, u64),
        failed: &impl Fn(rusqlite::Error) -> CopyError,
    ) -> Result<(), CopyError> {
        self.to.execute_batch("BEGIN").map_err(failed)?;
        let broken = scan(from, i64::MIN, last.cast_signed(), |seen| {
            let checked = self.check.next(&seen).map_err(CopyError::from);
            let copied = checked.and_then(|(row, event)| {
                self.note(&row.header, &event);
                insert(&mut self.insert, &row.header, row.payload, &row.hash).map_err(failed)
            });
            let seq = self.check.head().seq;
            let copied = copied.and_then(|()| {
                if !seq.is_multiple_of(ROWS_PER_COMMIT) {
                    return Ok(());
                }
                progress(seq, last);
                self.to.execute_batch("COMMIT; BEGIN").map_err(failed)
            });
            match copied {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        match broken {
            Ok(None) => {}
            Ok(Some(error)) => return Err(error),
            Err(error) => return Err(unreadable_page(&error, self.check.head()).into()),
        }
        let seq = self.check.head().seq;
        if seq != last {
            let detail = format!("event {} is missing, the newest is {last}", seq + 1);
            return Err(Finding::at(Verdict::Gap, seq.cast_signed() + 1, detail).into());
        }
        progress(seq, last);
        self.to.execute_batch("COMMIT").map_err(failed)
    }

    fn note(&mut self, header: &EventHeader, event: &Event) {
        let (user_id, part) = (header.stream.as_user(), header.command);
        match event {
            Event::LedgerRestored(restored) => self.epoch = restored.epoch,
            Event::UserRegistered(_) => drop(self.users.insert(user_id, header.seq)),
            Event::UserErased(_) => drop(self.users.remove(&user_id)),
            _ => {}
        }
        if part.place + 1 == part.size {
            self.whole_until = self.check.head().seq;
        }
    }
}
