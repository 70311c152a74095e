//! What is done with a file that may be damaged: it is set aside under another name, and nothing is
//! removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_schema::limits;
use sqlx::ConnectOptions;

use super::process_notes::{DAMAGED, Found, WORD_ASIDE, Wait, Word, beside, boot_id, words};
use crate::database_files::DatabaseFiles;
use crate::feed::FileId;
use crate::migrations::{MigrationError, Migrations};
use crate::position::Position;
use crate::sqlite::{
    APPLICATION_ID, CORRUPT, INDEX, LOG, connect_options, has_orphaned_log, look, result_code,
    with_ending,
};

/// Under what name something was set aside, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The name.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Files that were set aside as damaged; also those of which the log alone was left.
pub(crate) fn damaged(database: &Path) -> Vec<PathBuf> {
    let mut found = beside(database, DAMAGED);
    for path in &mut found {
        let name = path.to_string_lossy();
        let base = [LOG, INDEX, WORD_ASIDE].iter().find_map(|ending| name.strip_suffix(ending));
        if let Some(base) = base {
            *path = PathBuf::from(base);
        }
    }
    found.dedup();
    // An index, an empty log or a word alone is no file that could be read; a word tells by itself.
    found.retain(|path| path.symlink_metadata().is_ok() || has_orphaned_log(path));
    found
}

/// Whether what is left of a file that was set aside is told by its word, where it cannot be read
/// itself.
pub(crate) fn is_told_by_its_word(aside: &Path) -> bool {
    let word = Found::read(with_ending(aside, WORD_ASIDE)).word;
    word.is_some_and(|word| !word.positions.is_empty())
}

/// What files that were given over to another ledger are called, before the time.
pub(crate) const GIVEN_OVER: &str = ".given-over-";

fn time_in_names() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string()
}

/// Keeps a word under another name.
fn keep_word(path: &Path, kept: &Path) -> Result<(), MigrationError> {
    let failed = |source| MigrationError::Io { path: kept.to_owned(), source };
    std::fs::rename(path, kept).map_err(failed)
}

/// Gives a database, or what is left of it, another name; nothing is removed.
pub(crate) fn set_aside(
    database: &Path,
    kind: &str,
    endings: &[&str],
) -> Result<PathBuf, MigrationError> {
    let set_aside = damaged(database).len();
    if kind == DAMAGED && set_aside >= limits::FILES_SET_ASIDE_MAX {
        return Err(MigrationError::SetAsideTooOften { path: database.to_owned(), set_aside });
    }
    let aside = with_ending(database, &format!("{kind}{}", time_in_names()));
    // First all get the new names and then lose the old ones: whoever is killed between leaves a
    // whole one.
    let names = endings.iter().map(|end| (with_ending(database, end), with_ending(&aside, end)));
    let names: Vec<(PathBuf, PathBuf)> = names.filter(|(from, _)| from.exists()).collect();
    let failed = |path: &Path, source| MigrationError::Io { path: path.to_owned(), source };
    for (from, to) in &names {
        // Where the file system has no second names, it is renamed.
        let named = std::fs::hard_link(from, to).or_else(|_| std::fs::rename(from, to));
        named.map_err(|source| failed(from, source))?;
    }
    for (from, _) in names.iter().filter(|(from, _)| from.exists()) {
        std::fs::remove_file(from).map_err(|source| failed(from, source))?;
    }
    Ok(aside)
}

/// All files of a database. The log loses its name first: beside another database it would be taken
/// for that one's.
pub(crate) const WHOLE: &[&str] = &[INDEX, LOG, ""];

/// What was found of a file.
pub(crate) enum Settled {
    /// It may be damaged, and was set aside.
    SetAside(SetAside),
    /// Nothing speaks against it. `is_known` says whether a process of ours left a word of it, or
    /// has it open.
    Sound { is_known: bool },
}

/// Looks what processes left that did not close the file: sets aside what may be damaged.
pub(crate) async fn settle(database: &Path) -> Result<Settled, MigrationError> {
    let found = words(database);
    let is_known = !found.is_empty();
    if found.iter().any(|found| found.is_alive) {
        // Whoever has it open sees for himself whether it is sound.
        return Ok(Settled::Sound { is_known });
    }
    let mut aside = None;
    for Found { path, word, .. } in found {
        let word = word.as_ref();
        if let Some(word) = word
            && aside.is_none()
            && let Some((reason, endings)) = damage(database, word).await
        {
            let aside_path = set_aside(database, DAMAGED, endings)?;
            let shown = aside_path.display().to_string();
            tracing::warn!(path = shown, reason, "the file of the read models was set aside");
            // What the file stood for is told by its word, whatever can be read of it.
            keep_word(&path, &with_ending(&aside_path, WORD_ASIDE))?;
            aside = Some(SetAside { path: aside_path, reason });
        } else if let Some(word) = word
            && !word.positions.is_empty()
            && (!database.exists() || lacks_commits(database, word).await)
        {
            // The file that it was of is gone, or lost its newest: it may be the last that tells of
            // them.
            let name = format!("{DAMAGED}{}{WORD_ASIDE}", time_in_names());
            keep_word(&path, &with_ending(database, &name))?;
        } else {
            std::fs::remove_file(&path).map_err(|source| MigrationError::Io { path, source })?;
        }
    }
    match aside {
        Some(aside) => Ok(Settled::SetAside(aside)),
        None if has_orphaned_log(database) => {
            let reason = "its log lay there without it".to_owned();
            Ok(Settled::SetAside(set_aside_for(database, reason)?))
        }
        None => Ok(Settled::Sound { is_known }),
    }
}

/// Sets aside a file that SQLite finds malformed, unless a process has it open.
pub(crate) fn set_aside_malformed(
    database: &Path,
    error: &MigrationError,
) -> Result<Option<SetAside>, MigrationError> {
    if words(database).iter().any(|found| found.is_alive) {
        return Ok(None);
    }
    set_aside_for(database, error.to_string()).map(Some)
}

fn set_aside_for(database: &Path, reason: String) -> Result<SetAside, MigrationError> {
    let path = set_aside(database, DAMAGED, WHOLE)?;
    let shown = path.display().to_string();
    tracing::warn!(path = shown, reason, "the file of the read models was set aside");
    Ok(SetAside { path, reason })
}

/// What a process that ended without closing the file left damaged: why, and which files.
async fn damage(database: &Path, word: &Word) -> Option<(String, &'static [&'static str])> {
    let now = DatabaseFiles::of(database);
    if has_orphaned_log(database) && now.database == word.files.database {
        return Some(("it was emptied, and its log lay beside it".to_owned(), WHOLE));
    }
    if now.database != word.files.database {
        // What is there now is another's, and so is its log, unless it is the one that we had.
        let is_ours = |now: Option<FileId>, ours| now.is_some() && now == ours;
        let has_ours = is_ours(now.log, word.files.log) || is_ours(now.index, word.files.index);
        let reason = "its log belonged to a file that is gone".to_owned();
        return has_ours.then_some((reason, &[INDEX, LOG][..]));
    }
    now.database?;
    if let Some(Wait { reason, .. }) = &word.given_up {
        return Some((reason.clone(), WHOLE));
    }
    let log = std::fs::metadata(with_ending(database, LOG));
    if now.log != word.files.log && log.is_ok_and(|log| log.len() > 0) {
        let reason = "its log is another than the one that was written last".to_owned();
        return Some((reason, WHOLE));
    }
    // After the machine's end the newest transactions may be missing, each whole.
    let is_same_boot = word.boot == boot_id();
    let lacks = is_same_boot && lacks_commits(database, word).await;
    let reason = "it lacks what was committed last: its log was cut or removed".to_owned();
    lacks.then_some((reason, WHOLE))
}

/// Whether a file lacks something that was committed to it; one that cannot be read does.
async fn lacks_commits(database: &Path, word: &Word) -> bool {
    let Ok(mut connection) = connect_options(database).connect().await else { return true };
    for (name, said) in &word.positions {
        match Position::load(&mut connection, name).await {
            Ok(Some(position)) if position.head.seq >= said.head.seq => {}
            _ => return true,
        }
    }
    false
}

/// Sets aside a file of ours that is malformed, or whose tables were dropped from outside.
pub(crate) async fn set_aside_unusable(
    database: &Path,
    migrations: &Migrations,
    is_known: bool,
) -> Result<Option<SetAside>, MigrationError> {
    if !database.exists() || words(database).iter().any(|found| found.is_alive) {
        return Ok(None);
    }
    let mut reason = unusable(database, migrations).await?;
    if reason.is_none() && !is_known {
        reason = mixed(database).await?;
    }
    reason.map(|reason| set_aside_for(database, reason)).transpose()
}

/// Whether a file is whole beside which a log lies that no process of ours left: the log may be
/// another file's.
async fn mixed(database: &Path) -> Result<Option<String>, MigrationError> {
    let log = std::fs::metadata(with_ending(database, LOG));
    if !log.is_ok_and(|log| log.len() > 0) {
        return Ok(None);
    }
    let failed = |source| MigrationError::Sqlite { path: database.to_owned(), source };
    let mut looked = look(database).await.map_err(failed)?;
    let checked = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)");
    match checked.fetch_one(&mut looked.connection).await {
        Ok(found) if found == "ok" => Ok(None),
        Ok(found) => Ok(Some(format!("a log lies beside it that is not its own: {found}"))),
        Err(error) if result_code(&error) == Some(CORRUPT) => Ok(Some(error.to_string())),
        Err(error) => Err(failed(error)),
    }
}

async fn unusable(
    database: &Path,
    migrations: &Migrations,
) -> Result<Option<String>, MigrationError> {
    let failed = |source| MigrationError::of_file(database, source);
    let id = async {
        // The schema is read with it: a file that was cut shows itself.
        let mut looked = look(database).await?;
        let id = sqlx::query_scalar("PRAGMA application_id");
        id.fetch_one(&mut looked.connection).await
    };
    match id.await {
        Ok(APPLICATION_ID) => match migrations.missing_table(database).await {
            Ok(table) => {
                Ok(table.map(|table| format!("its table `{table}` was dropped from outside")))
            }
            // The header and the schema are whole, and what tells of its migrations is not.
            Err(error) if error.is_malformed() => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        },
        Ok(_) => Ok(None),
        Err(error) if result_code(&error) == Some(CORRUPT) && has_our_header(database) => {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Looked for in the file itself, where SQLite cannot read it. Nobody of this process has it open.
fn has_our_header(database: &Path) -> bool {
    let mut header = [0; 72];
    let read = File::open(database).and_then(|file| file.read_at(&mut header, 0)).unwrap_or(0);
    let id = header.last_chunk().map(|id| i64::from(u32::from_be_bytes(*id)));
    // What was cut within the header is nobody's any more.
    let begins = header.starts_with(b"SQLite format 3\0");
    begins && (read < header.len() || id == Some(APPLICATION_ID))
}

/// How often a lock is looked at that another process has.
const LOCK_LOOKED_AT_EVERY: Duration = Duration::from_millis(10);
/// After so many looks it is said that it is waited for.
const LOCK_LOOKS_UNTOLD: u32 = 200;

/// Held while a file is opened: of two that start at once one makes or sets aside, and the other
/// finds it so.
pub(crate) struct OpeningLock {
    _file: File,
}

impl OpeningLock {
    /// Waits for it.
    pub(crate) async fn take(database: &Path) -> Result<Self, MigrationError> {
        let path = with_ending(database, ".lock");
        let failed = |source| MigrationError::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let mut looks = 0;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    looks += 1;
                    if looks == LOCK_LOOKS_UNTOLD {
                        let path = path.display().to_string();
                        tracing::warn!(
                            path,
                            "another process is opening the file; it is waited for"
                        );
                    }
                    tokio::time::sleep(LOCK_LOOKED_AT_EVERY).await;
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}
