//! What is done with a file that may be damaged: it is set aside under another name, and nothing is removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;

use super::{
    APPLICATION_ID, Files, Found, INDEX, LOG, Wait, Word, beside, boot_id, with_ending, words,
};
use crate::database::{CORRUPT, connect_options, look, result_code};
use crate::feed::FileId;
use crate::migrations::{MigrationError, Migrations};
use crate::position::Position;

/// Under what name something was set aside, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The name.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// What files that were set aside as damaged are called, before the time.
pub(crate) const DAMAGED: &str = ".damaged-";
/// More of them show that something is wrong beyond a file: they would fill the disk.
const DAMAGED_MAX: usize = 8;

/// Files that were set aside as damaged.
pub(crate) fn damaged(database: &Path) -> Vec<PathBuf> {
    let mut found = beside(database, DAMAGED);
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ![LOG, INDEX].iter().any(|ending| name.ends_with(ending))
    });
    found
}

/// What files that were given over to another ledger are called, before the time.
pub(crate) const GIVEN_OVER: &str = ".given-over-";

/// Gives a database, or what is left of it, another name; nothing is removed.
pub(crate) fn set_aside(
    database: &Path,
    (kind, endings): (&str, &[&str]),
) -> Result<PathBuf, MigrationError> {
    let set_aside = damaged(database).len();
    if kind == DAMAGED && set_aside >= DAMAGED_MAX {
        return Err(MigrationError::SetAsideTooOften { path: database.to_owned(), set_aside });
    }
    let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ");
    let aside = with_ending(database, &format!("{kind}{at}"));
    // First all get the new names and then lose the old ones: whoever is killed between leaves a whole one.
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

/// All files of a database. The log loses its name first: beside another database it would be taken for that
/// one's.
pub(crate) const WHOLE: &[&str] = &[INDEX, LOG, ""];

/// Looks what processes left that did not close the file: sets aside what may be damaged.
pub(crate) async fn settle(database: &Path) -> Result<Option<SetAside>, MigrationError> {
    let found = words(database);
    if found.iter().any(|found| found.is_alive) {
        // Whoever has it open sees for himself whether it is sound.
        return Ok(None);
    }
    let mut aside = None;
    for Found { path, word, .. } in found {
        if let Some(word) = word
            && aside.is_none()
            && let Some((reason, endings)) = damage(database, &word).await
        {
            let path = set_aside(database, (DAMAGED, endings))?;
            let shown = path.display().to_string();
            tracing::warn!(path = shown, reason, "the file of the read models was set aside");
            aside = Some(SetAside { path, reason });
        }
        std::fs::remove_file(&path).map_err(|source| MigrationError::Io { path, source })?;
    }
    Ok(aside)
}

/// What a process that ended without closing the file left damaged: why, and which files.
async fn damage(database: &Path, word: &Word) -> Option<(String, &'static [&'static str])> {
    let now = Files::of(database);
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
    for (name, seq) in &word.applied {
        match Position::load(&mut connection, name).await {
            Ok(Some(position)) if position.head.seq >= *seq => {}
            _ => return true,
        }
    }
    false
}

/// Sets aside a file of ours that is malformed, or whose tables were dropped from outside.
pub(crate) async fn set_aside_unusable(
    database: &Path,
    migrations: &Migrations,
) -> Result<Option<SetAside>, MigrationError> {
    if !database.exists() || words(database).iter().any(|found| found.is_alive) {
        return Ok(None);
    }
    let Some(reason) = unusable(database, migrations).await? else { return Ok(None) };
    let path = set_aside(database, (DAMAGED, WHOLE))?;
    let shown = path.display().to_string();
    tracing::warn!(path = shown, reason, "the file of the read models was set aside");
    Ok(Some(SetAside { path, reason }))
}

async fn unusable(
    database: &Path,
    migrations: &Migrations,
) -> Result<Option<String>, MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: database.to_owned(), source };
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

/// Held while a file is opened: of two that start at once one makes or sets aside, and the other finds it so.
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
