//! What to do about an error, in the command's own words: the libraries know nothing of its
//! options.

use std::error::Error;
use std::path::Path;

use daybook_ledger::keys::KeysError;
use daybook_ledger::{DatabaseError, OpenError, ReadError, ReplayError, VerifyError};
use daybook_projections::{
    FeedError, FileLost, MigrationError, NatsError, RebuildError, RelayError, WorkerError,
};

/// What an operator may do where the ledger lacks what read models stand for.
pub(crate) const SEE_TO_IT: &str = "put the newer ledger back; or accept the loss, `daybook keys rotate \
    --accept-loss`; or, if game.db is what is wrong, `daybook projections forget --position SEQ:HASH`";
/// And where they are of another ledger.
pub(crate) const GIVE_OVER: &str = "name another file with DATABASE_URL, or give this one over to the ledger: \
    `daybook projections forget --ledger ID`, with the id that it holds";
const VERIFY: &str = "`daybook verify` tells more";
const BEGIN_ANEW: &str =
    "`daybook projections run` goes on, and makes the tables anew where it must";

/// What to do about an error, where there is something to be done with the command.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(of).or_else(|| of_open_files(error))
}

/// SQLite says no more than that it cannot open a file.
fn of_open_files(error: &anyhow::Error) -> Option<&'static str> {
    let cannot =
        error.chain().any(|cause| cause.to_string().contains("unable to open database file"));
    let probe = std::fs::File::open("/dev/null").err();
    (cannot && probe.as_ref().is_some_and(is_open_files)).then_some(OPEN_FILES)
}

const OPEN_FILES: &str = "too many files are open, `ulimit -n` raises how many may be";

/// Whether a process, or the system, has as many files open as it may.
fn is_open_files(error: &std::io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

fn of(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if cause.downcast_ref().is_some_and(is_open_files) {
        return Some(OPEN_FILES);
    }
    let found = cause.downcast_ref().map(of_database);
    let found = found.or_else(|| cause.downcast_ref().map(of_open));
    let found = found.or_else(|| cause.downcast_ref().map(of_replay));
    let found = found.or_else(|| cause.downcast_ref().map(of_read));
    let found = found.or_else(|| cause.downcast_ref().map(|VerifyError::Open(e)| of_database(e)));
    let found = found.or_else(|| cause.downcast_ref().map(of_keys));
    let found = found.or_else(|| cause.downcast_ref().map(of_feed));
    let found = found.or_else(|| cause.downcast_ref().map(of_worker));
    let found = found.or_else(|| cause.downcast_ref().map(of_rebuild));
    let found = found.or_else(|| cause.downcast_ref().map(of_relay));
    let found = found.or_else(|| cause.downcast_ref().map(of_nats));
    let found = found.or_else(|| cause.downcast_ref().map(|_: &FileLost| Some(BEGIN_ANEW)));
    found.or_else(|| cause.downcast_ref().map(of_migration)).flatten()
}

fn of_database(error: &DatabaseError) -> Option<&'static str> {
    Some(match error {
        DatabaseError::Missing { path } if was_there(path) => {
            "what lies beside it tells of a ledger that was there: put it back, or name another with --data"
        }
        DatabaseError::Missing { .. } => "`daybook demo` makes one, or name another with --data",
        DatabaseError::NotALedger { .. } => "name another directory with --data",
        DatabaseError::StrayLog { .. } => "or name another directory with --data",
        DatabaseError::Sqlite { .. } | DatabaseError::BrokenGenesis { .. } => VERIFY,
        DatabaseError::Io { source, .. } if is_open_files(source) => OPEN_FILES,
        DatabaseError::Io { .. } => "see to its rights, or name another directory with --data",
        DatabaseError::NewerFormat { .. } | DatabaseError::UnknownGame { .. } => return None,
    })
}

/// Whether something beside a ledger's place tells that there was one.
fn was_there(path: &Path) -> bool {
    let beside = |name: &str| path.with_file_name(name);
    let heads = std::fs::read_dir(beside("keys")).into_iter().flatten().flatten();
    let has_head =
        heads.map(|file| file.path()).any(|file| file.extension() == Some("head".as_ref()));
    has_head || beside("snapshots").exists() || beside("game.db").exists()
}

fn of_open(error: &OpenError) -> Option<&'static str> {
    match error {
        OpenError::Database(error) => of_database(error),
        OpenError::Keys(error) => of_keys(error),
        OpenError::Damaged(_) => Some(VERIFY),
        OpenError::Lost { .. } => Some("`daybook serve --instead-of LEDGER` begins a new one"),
        OpenError::Behind { .. } => Some("--accept-loss accepts it"),
        OpenError::ClockAhead { .. } => Some("--accept-clock TIME says so, about when it is"),
        _ => None,
    }
}

fn of_replay(error: &ReplayError) -> Option<&'static str> {
    match error {
        ReplayError::Open(error) => of_database(error),
        ReplayError::Damaged(_) => Some(VERIFY),
        ReplayError::Sqlite(_) => None,
    }
}

fn of_read(error: &ReadError) -> Option<&'static str> {
    matches!(error, ReadError::Damaged(_)).then_some(VERIFY)
}

fn of_keys(error: &KeysError) -> Option<&'static str> {
    match error {
        KeysError::Missing { .. } => Some("`daybook keys init` makes them"),
        KeysError::Exists { .. } => Some(
            "`daybook keys rotate` puts a new season key in force, --keys names another directory",
        ),
        KeysError::Io { source, .. } if is_open_files(source) => Some(OPEN_FILES),
        KeysError::Io { .. } => Some("or name another directory with --keys"),
        _ => None,
    }
}

fn of_feed(error: &FeedError) -> Option<&'static str> {
    match error {
        FeedError::Open(error) => of_database(error),
        FeedError::Ledger(error) => of_read(error),
        FeedError::Lost { .. } => Some(SEE_TO_IT),
        FeedError::AnotherLedger { .. } => Some(GIVE_OVER),
        _ => None,
    }
}

fn of_rebuild(error: &RebuildError) -> Option<&'static str> {
    match error {
        RebuildError::Feed(error) => of_feed(error),
        _ => None,
    }
}

fn of_worker(error: &WorkerError) -> Option<&'static str> {
    match error {
        WorkerError::Feed(error) => of_feed(error),
        WorkerError::Rebuild(error) => of_rebuild(error),
        _ => None,
    }
}

fn of_relay(error: &RelayError) -> Option<&'static str> {
    match error {
        RelayError::Feed(error) => of_feed(error),
        RelayError::Nats(error) => of_nats(error),
        RelayError::Fenced { .. } => None,
    }
}

fn of_nats(error: &NatsError) -> Option<&'static str> {
    matches!(error, NatsError::Connect { .. }).then_some("see to --nats")
}

fn of_migration(error: &MigrationError) -> Option<&'static str> {
    match error {
        MigrationError::Missing { .. } => Some("`daybook migrate up` makes it"),
        MigrationError::Dropped { .. } => Some(
            "once no process has it open, `daybook projections run` sets it aside and makes the tables anew",
        ),
        MigrationError::Changed { .. } => {
            Some("where it is your own, name its files with --migrations")
        }
        MigrationError::Newer { .. } => Some("or name its files with --migrations"),
        MigrationError::AnotherLedger { .. } => Some(GIVE_OVER),
        MigrationError::Foreign { .. } => Some("name another with DATABASE_URL"),
        MigrationError::Pending { .. } => Some("`daybook migrate up` applies it"),
        _ => None,
    }
}
