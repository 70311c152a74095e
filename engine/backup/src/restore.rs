//! A backup is put back, where nothing is.

use std::path::{Path, PathBuf};

use daybook_api::Accounts;
use daybook_ledger::{Reader, Restored, WriterLock, copy_ledger, create_directories};
use daybook_monitor::Monitor;
use daybook_schema::{EventKind, Head, LedgerId, Seq, UserId};

use crate::error::{BackupError, io};
use crate::files::{check_held, copy_held, in_the_way, make_private_directory, sync_directory};
use crate::manifest::{FileEntry, Manifest};

/// Where the files are made before they get their places.
const PARTIAL: &str = "restore.partial";
/// What a restore puts in place, the ledger last: as long as it is not there nothing starts.
const DATABASES: [&str; 4] = ["telemetry.db", "game.db", "accounts.db", "ledger.db"];

/// What is to be put back, and where to.
#[derive(Clone, Debug)]
pub struct RestoreAsked {
    /// The backup.
    pub backup: PathBuf,
    /// The directory of the service's files: nothing of a ledger is there.
    pub data_dir: PathBuf,
    /// The keys directory: where it is not there, the backup's keys are put there, if it has any.
    pub keys_dir: PathBuf,
    /// The last event; all without it.
    pub until: Option<Seq>,
}

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreDone {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// Its newest event.
    pub head: Head,
    /// Whether the backup goes on beyond that event.
    pub is_cut: bool,
    /// Whether keys were put back.
    pub has_keys: bool,
    /// Users of the ledger's whose accounts were not copied yet when the backup was made.
    pub accounts_given_up: usize,
}

/// Puts a backup back: each file is held to the manifest, and the ledger's chain is checked. All
/// sessions and links are over. The next start that writes begins a new epoch, unless it is shown
/// that nothing came after the backup.
///
/// `progress` is told now and then how many events were copied, of how many.
///
/// # Errors
/// [`BackupError`]; then no ledger is there, and the same restore may be done again.
pub async fn restore(
    asked: &RestoreAsked,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RestoreDone, BackupError> {
    let RestoreAsked { backup, data_dir, keys_dir, until } = asked;
    let manifest = Manifest::read(backup)?;
    create_directories(data_dir).map_err(io(data_dir))?;
    let _lock = WriterLock::take(data_dir)?;
    refuse_what_is_there(data_dir, &manifest)?;
    let partial = data_dir.join(PARTIAL);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(io(&partial))?;
    }
    make_private_directory(&partial)?;
    let done = fill(asked, &manifest, &partial, progress).await;
    let mut done = match done {
        Ok(done) => done,
        Err(error) => {
            drop(std::fs::remove_dir_all(&partial));
            return Err(error);
        }
    };
    let is_cut = until.is_some_and(|until| until.get() < manifest.head.seq);
    Restored::new(manifest.ledger_id, done.head, is_cut).write(data_dir)?;
    if partial.join("keys").exists() && !keys_dir.exists() {
        put_keys(&partial.join("keys"), keys_dir)?;
        done.has_keys = true;
    }
    sync_directory(&partial)?;
    for name in DATABASES.iter().filter(|name| partial.join(name).exists()) {
        let to = data_dir.join(name);
        std::fs::rename(partial.join(name), &to).map_err(io(&to))?;
        sync_directory(data_dir)?;
    }
    std::fs::remove_dir_all(&partial).map_err(io(&partial))?;
    Ok(done)
}

/// Nothing is overwritten, but for what the same restore left when it was cut off.
fn refuse_what_is_there(data_dir: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let begun = Restored::read(data_dir)?.filter(|begun| begun.ledger_id == manifest.ledger_id);
    let is_own = begun.is_some() && in_the_way(data_dir, "ledger.db").is_none();
    let names = DATABASES.iter().chain(&["snapshots"]);
    let found = names.filter(|_| !is_own).find_map(|name| in_the_way(data_dir, name));
    match found {
        Some(path) => Err(BackupError::InTheWay { path }),
        None => Ok(()),
    }
}

async fn fill(
    asked: &RestoreAsked,
    manifest: &Manifest,
    partial: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RestoreDone, BackupError> {
    let RestoreAsked { backup, until, .. } = asked;
    let has_keys = manifest.files.iter().any(|entry| entry.path.starts_with("keys/"));
    if has_keys {
        make_private_directory(&partial.join("keys"))?;
    }
    for entry in &manifest.files {
        match entry.path.as_str() {
            // Read models stand for events that are cut off: they are made again.
            "game.db" if until.is_some() => check_held(backup, entry)?,
            "ledger.db" => check_held(backup, entry)?,
            _ => copy_held(backup, entry, partial)?,
        }
    }
    if manifest.entry("ledger.db").is_none() {
        let (path, detail) = (backup.join("ledger.db"), "it is not in the manifest".to_owned());
        return Err(BackupError::Altered { path, detail });
    }
    let ledger = partial.join("ledger.db");
    let copied = copy_ledger(backup, *until, &ledger, progress)
        .map_err(|source| BackupError::Ledger { path: backup.clone(), source })?;
    let is_same = copied.genesis.ledger_id == manifest.ledger_id
        && (until.is_some() || copied.head == manifest.head);
    if !is_same {
        let path = backup.join("ledger.db");
        let detail = format!("it ends at {}, and ended at {}", copied.head, manifest.head);
        return Err(BackupError::Altered { path, detail });
    }
    sync_file(&ledger)?;
    let accounts_given_up = match manifest.entry("accounts.db") {
        Some(FileEntry { .. }) => settle_accounts(partial, manifest.head_before_accounts).await?,
        None => 0,
    };
    let (ledger_id, head) = (manifest.ledger_id, copied.head);
    let is_cut = head != manifest.head;
    Ok(RestoreDone { ledger_id, head, is_cut, has_keys: false, accounts_given_up })
}

/// Ends all sessions and links of the restored accounts, and gives those up that were made after
/// they had been copied.
async fn settle_accounts(partial: &Path, copied_after: Head) -> Result<usize, BackupError> {
    let later = registered_after(partial, copied_after)?;
    let path = partial.join("accounts.db");
    let accounts = Accounts::open(&path, &Monitor::default()).await?;
    let settled = accounts.settle_restored(&later).await;
    accounts.close().await;
    let given_up =
        settled.map_err(|error| BackupError::Settling(error.body().message.into_owned()))?;
    sync_file(&path)?;
    Ok(given_up)
}

fn registered_after(partial: &Path, head: Head) -> Result<Vec<UserId>, BackupError> {
    let reader = Reader::open(partial)?;
    let Ok(from) = Seq::new(head.seq + 1) else { return Ok(Vec::new()) };
    let mut users = Vec::new();
    for stored in reader.events_of_kinds(&[EventKind::UserRegistered], from) {
        users.push(stored?.header.stream.as_user());
    }
    Ok(users)
}

fn put_keys(from: &Path, keys_dir: &Path) -> Result<(), BackupError> {
    let parent = keys_dir.parent().unwrap_or(Path::new("."));
    create_directories(parent).map_err(io(parent))?;
    match std::fs::rename(from, keys_dir) {
        Ok(()) => sync_directory(parent),
        // The keys are kept on another disk.
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            make_private_directory(keys_dir)?;
            for entry in std::fs::read_dir(from).map_err(io(from))? {
                let path = entry.map_err(io(from))?.path();
                let to = keys_dir.join(path.file_name().unwrap_or_default());
                std::fs::copy(&path, &to).map_err(io(&to))?;
                sync_file(&to)?;
            }
            sync_directory(keys_dir)
        }
        Err(error) => Err(io(keys_dir)(error)),
    }
}

fn sync_file(path: &Path) -> Result<(), BackupError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(io(path))
}
