//! SQLite's own check of the file, beside the check of the rows where there is a core for it.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::database::{self, LedgerConnection};
use crate::verdict::{Finding, Verdict};

/// How long a check that is told to stop is given before it is told again.
const AGAIN: Duration = Duration::from_millis(5);

/// Checks the rows, then what SQLite says of the file: a walk can be whole where a search would go
/// astray. What the rows say comes first; where they do not hold, nothing else is waited for.
pub(crate) fn check_beside<E: From<Finding>>(
    path: &Path,
    connection: &LedgerConnection,
    check_rows: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let own = match cores < 2 || connection.is_copy() {
        true => None,
        false => database::open_reader(path).ok().filter(|own| own.is_of_same_file(connection)),
    };
    let Some(own) = own else {
        check_rows()?;
        return Ok(check(connection)?);
    };
    let newest = || database::newest_head(connection).ok();
    let (interrupt, first) = (own.get_interrupt_handle(), newest());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("daybook-structure".to_owned());
        let beside = thread.spawn_scoped(scope, move || ask(&own));
        let held = check_rows();
        let Ok(beside) = beside else {
            held?;
            return Ok(check(connection)?);
        };
        while held.is_err() && !beside.is_finished() {
            // What comes before the check has begun is not heard.
            interrupt.interrupt();
            std::thread::sleep(AGAIN);
        }
        held?;
        match beside.join() {
            // What a writer added meanwhile was not looked at.
            Ok(Ok(found)) if newest() == first => Ok(judge(&found)?),
            // What that connection could not do says nothing of the file.
            _ => Ok(check(connection)?),
        }
    })
}

fn ask(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
}

fn judge(found: &str) -> Result<(), Finding> {
    if found == "ok" {
        return Ok(());
    }
    let detail = format!("SQLite's integrity check says: {found}");
    Err(Finding { verdict: Verdict::Unreadable, first_bad_seq: None, detail })
}

fn check(connection: &Connection) -> Result<(), Finding> {
    judge(&ask(connection).map_err(|error| Finding::unreadable_file(&error))?)
}
