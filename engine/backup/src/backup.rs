//! A backup is made.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use daybook_ledger::{KnownHead, Reader, Restored, Standing, copy_ledger, create_directories};
use daybook_projections::{look, result_code, sqlx};
use daybook_schema::{Head, Seq, UserId};

use crate::error::{BackupError, io};
use crate::files::{
    copy_database, make_private_directory, make_private_file, seal, sync_directory,
};
use crate::manifest::{MANIFEST, Manifest, PARTIAL, PREFIX, is_of_keys, is_partial};

/// What a directory of backups holds while one is made.
const LOCK: &str = "backup.lock";

/// What is to be copied, and where to.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The directory of the service's files.
    pub data_dir: PathBuf,
    /// The directory of backups.
    pub to: PathBuf,
    /// The read models' file, where it is to be copied too.
    pub game_db: Option<PathBuf>,
    /// The keys directory, where it is to be copied too: without the newest heads.
    pub keys_dir: Option<PathBuf>,
    /// Heads that the ledger must have: of the keys directory, of read models.
    pub witnesses: Vec<KnownHead>,
    /// Whether users without accounts are no reason to refuse.
    pub without_accounts: bool,
}

/// Makes a backup, while a service runs or without one. When this returns it is whole, verified and
/// synced, and holds every event that was answered before it began.
///
/// `progress` is told now and then how many events were copied, of how many.
///
/// # Errors
/// [`BackupError`]; then nothing of it is left.
pub async fn backup(
    asked: &Asked,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(PathBuf, Manifest), BackupError> {
    let Asked { data_dir, to, .. } = asked;
    let reader = Reader::open(data_dir)?;
    // The mark is in no backup: what it holds for would be forgotten.
    if Restored::path(data_dir).exists() {
        return Err(BackupError::NotStarted { path: data_dir.clone() });
    }
    create_directories(to).map_err(io(to))?;
    let _lock = take_lock(to)?;
    remove_partial(to)?;
    let taken_at = jiff::Timestamp::now();
    let name = format!("{PREFIX}{}", taken_at.strftime("%Y%m%dT%H%M%S%3fZ"));
    let (whole, partial) = (to.join(&name), to.join(format!("{name}{PARTIAL}")));
    make_private_directory(&partial)?;
    let made = fill(asked, &reader, taken_at, &partial, progress).await;
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            // What is left the next backup removes.
            drop(std::fs::remove_dir_all(&partial));
            return Err(error);
        }
    };
    std::fs::rename(&partial, &whole).map_err(io(&whole))?;
    sync_directory(to)?;
    Ok((whole, manifest))
}

async fn fill(
    asked: &Asked,
    reader: &Reader,
    taken_at: jiff::Timestamp,
    partial: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, BackupError> {
    let Asked { data_dir, game_db, keys_dir, witnesses, .. } = asked;
    let mut names = Vec::new();
    let game_db = game_db.clone().into_iter().map(|path| ("game.db", path));
    let others = ["accounts.db", "telemetry.db"].map(|name| (name, data_dir.join(name)));
    let mut head_before_accounts = reader.head()?;
    for (name, from) in game_db.chain(others).filter(|(_, from)| from.exists()) {
        if name == "accounts.db" {
            head_before_accounts = reader.head()?;
        }
        match copy_database(&from, &partial.join(name)).await {
            Ok(()) => names.push(name.to_owned()),
            // It can be made again, or may be lost: it stands in the way of no backup.
            Err(error) if name != "accounts.db" && !is_of_disk(&error) => {
                tracing::warn!(%error, "`{name}` is not in the backup");
                let partial = partial.join(name);
                std::fs::remove_file(&partial).map_err(io(&partial))?;
            }
            Err(error) => return Err(error),
        }
    }
    let ledger = partial.join("ledger.db");
    make_private_file(&ledger)?;
    let copied = copy_ledger(data_dir, None, &ledger, progress)
        .map_err(|source| BackupError::Ledger { path: data_dir.clone(), source })?;
    hold_to(witnesses, partial, copied.head)?;
    if !asked.without_accounts && !copied.genesis.is_demo {
        hold_to_people(asked, &copied.users, head_before_accounts, partial).await?;
    }
    names.push("ledger.db".to_owned());
    if let Some(keys_dir) = keys_dir {
        copy_keys(keys_dir, partial, &mut names)?;
    }
    let files = names.iter().map(|name| seal(partial, name)).collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest {
        daybook_backup: Manifest::version(),
        ledger_id: copied.genesis.ledger_id,
        is_demo: copied.genesis.is_demo,
        head: copied.head,
        epoch: copied.epoch,
        head_before_accounts,
        taken_at,
        files,
    };
    let path = partial.join(MANIFEST);
    let file = make_private_file(&path)?;
    serde_json::to_writer_pretty(&file, &manifest).map_err(|error| io(&path)(error.into()))?;
    file.sync_all().map_err(io(&path))?;
    sync_directory(partial)?;
    Ok(manifest)
}

/// Whether there is no room: then nothing else can be copied either.
fn is_of_disk(error: &BackupError) -> bool {
    const FULL: u32 = 13;
    match error {
        BackupError::Io { .. } => true,
        BackupError::Sqlite { source, .. } => result_code(source) == Some(FULL),
        _ => false,
    }
}

/// Accounts that lack users are an older copy, or lost their log: the backup would push out those
/// that have them.
async fn hold_to_people(
    asked: &Asked,
    users: &BTreeMap<UserId, Seq>,
    head_before_accounts: Head,
    partial: &Path,
) -> Result<(), BackupError> {
    let known = known_in(&partial.join("accounts.db")).await?;
    let before = users.iter().filter(|(_, seq)| seq.get() <= head_before_accounts.seq);
    match before.filter(|(user_id, _)| !known.contains(user_id)).count() {
        0 => Ok(()),
        users => {
            let path = asked.data_dir.join("accounts.db");
            Err(BackupError::LacksAccounts { path, users })
        }
    }
}

/// Whom accounts know of.
async fn known_in(accounts: &Path) -> Result<HashSet<UserId>, BackupError> {
    let all = "SELECT id FROM users UNION SELECT user_id FROM given_up_users \
               UNION SELECT user_id FROM erasures";
    users_in(accounts, all).await
}

/// Some users of accounts: nobody where there are none.
pub(crate) async fn users_in(
    accounts: &Path,
    sql: &'static str,
) -> Result<HashSet<UserId>, BackupError> {
    if !accounts.exists() {
        return Ok(HashSet::new());
    }
    let known = async {
        let mut looked = look(accounts).await?;
        sqlx::query_scalar::<_, String>(sql).fetch_all(&mut looked.connection).await
    };
    let failed = |source| BackupError::Sqlite { path: accounts.to_owned(), source };
    let known = known.await.map_err(failed)?;
    Ok(known.iter().filter_map(|id| id.parse().ok()).collect())
}

/// A ledger that lost events is not backed up: the backup would push out those that have them.
fn hold_to(witnesses: &[KnownHead], partial: &Path, newest: Head) -> Result<(), BackupError> {
    let copy = Reader::open(partial)?;
    for witness in witnesses {
        if let Standing::Lost { .. } = copy.standing(witness.head, witness.epoch)? {
            let missing = Box::new(witness.clone());
            return Err(BackupError::Behind { newest, missing });
        }
    }
    drop(copy);
    // What a reader leaves beside a ledger.
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        let path = partial.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(&path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies keys, and who is erased.
fn copy_keys(keys_dir: &Path, partial: &Path, names: &mut Vec<String>) -> Result<(), BackupError> {
    let directory = partial.join("keys");
    make_private_directory(&directory)?;
    for entry in std::fs::read_dir(keys_dir).map_err(io(keys_dir))? {
        let path = entry.map_err(io(keys_dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !is_of_keys(name) {
            continue;
        }
        let to = directory.join(name);
        let mut copy = make_private_file(&to)?;
        let mut source = File::open(&path).map_err(io(&path))?;
        std::io::copy(&mut source, &mut copy).map_err(io(&to))?;
        names.push(format!("keys/{name}"));
    }
    sync_directory(&directory)
}

/// One backup at a time in a directory.
fn take_lock(to: &Path) -> Result<File, BackupError> {
    let path = to.join(LOCK);
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&path).map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::InUse { path: to.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(&path)(error)),
    }
}

/// Removes what backups left that did not come to their end.
fn remove_partial(to: &Path) -> Result<(), BackupError> {
    for entry in std::fs::read_dir(to).map_err(io(to))? {
        let path = entry.map_err(io(to))?.path();
        if is_partial(&path) {
            std::fs::remove_dir_all(&path).map_err(io(&path))?;
        }
    }
    Ok(())
}
