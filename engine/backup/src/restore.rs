//! A backup is put back, where nothing is.

use std::io::Write;
use std::path::{Path, PathBuf};

use daybook_api::Accounts;
use daybook_ledger::{
    LedgerCopy, Reader, Restored, RestoredError, Standing, WriterLock, copy_ledger,
    create_directories,
};
use daybook_monitor::Monitor;
use daybook_schema::{Head, LedgerId, Seq, UserId};

use crate::error::{BackupError, io};
use crate::files::{
    check_held, copy_held, in_the_way, make_private_directory, make_private_file, sync_directory,
};
use crate::manifest::{DATABASES, Manifest, is_of_keys};

/// Where the files are made before they get their places.
const PARTIAL: &str = "restore.partial";
/// The last of the keys to be put in place: without it there are none.
const SIGNING_KEY: &str = "signing.key";

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
    /// Whether an event was named up to which it was put back.
    pub is_cut: bool,
    /// Whether keys were put back.
    pub has_keys: bool,
    /// Users of the ledger's whose accounts are not in the backup.
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
    refuse_unnamed(backup, &manifest)?;
    create_directories(data_dir).map_err(io(data_dir))?;
    let _lock = WriterLock::take(data_dir)?;
    let of = name_of(&manifest, *until);
    let was_begun = refuse_what_is_there(data_dir, &of)?;
    let partial = data_dir.join(PARTIAL);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(io(&partial))?;
    }
    // From here on nothing else is begun in this directory.
    let mark = |head| Restored::new(manifest.ledger_id, head, until.is_some(), of.clone());
    mark(manifest.head).write(data_dir)?;
    let done = match make_private_directory(&partial) {
        Ok(()) => fill(asked, &manifest, &partial, progress).await,
        Err(error) => Err(error),
    };
    let mut done = match done {
        Ok(done) => done,
        Err(error) => {
            drop(std::fs::remove_dir_all(&partial));
            if !was_begun {
                Restored::remove(data_dir)?;
            }
            return Err(error);
        }
    };
    mark(done.head).write(data_dir)?;
    if partial.join("keys").exists() && !keys_dir.join(SIGNING_KEY).exists() {
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

/// Which restore it is: of which backup, and up to which event.
fn name_of(manifest: &Manifest, until: Option<Seq>) -> String {
    let what = serde_json::json!({ "manifest": manifest, "until": until });
    blake3::hash(what.to_string().as_bytes()).to_hex().to_string()
}

/// A backup holds nothing that its manifest does not name.
fn refuse_unnamed(backup: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let is_named = |name: &&&str| match **name {
        "keys" => manifest.files.iter().any(|entry| entry.path.starts_with("keys/")),
        name => manifest.entry(name).is_some(),
    };
    let names = DATABASES.iter().chain(&["keys"]);
    let is_there = |name: &&&str| backup.join(name).symlink_metadata().is_ok();
    match names.filter(is_there).find(|name| !is_named(name)) {
        Some(name) => {
            let detail = "the manifest does not name it".to_owned();
            Err(BackupError::Altered { path: backup.join(name), detail })
        }
        None => Ok(()),
    }
}

/// Nothing is overwritten, but for what the same restore left when it was cut off. Tells whether it
/// was.
fn refuse_what_is_there(data_dir: &Path, of: &str) -> Result<bool, BackupError> {
    let begun = match Restored::read(data_dir) {
        Ok(begun) => begun,
        Err(RestoredError::Unreadable { path }) => return Err(BackupError::InTheWay { path }),
        Err(error) => return Err(error.into()),
    };
    let is_own = begun.as_ref().is_some_and(|begun| begun.of == of)
        && in_the_way(data_dir, "ledger.db").is_none();
    let names = DATABASES.iter().chain(&["snapshots"]);
    let found = names.filter(|_| !is_own).find_map(|name| in_the_way(data_dir, name));
    let other_mark = || (begun.is_some() && !is_own).then(|| Restored::path(data_dir));
    match found.or_else(other_mark) {
        Some(path) => Err(BackupError::InTheWay { path }),
        None => Ok(is_own),
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
    make_private_file(&ledger)?;
    let copied = copy_ledger(backup, *until, &ledger, progress)
        .map_err(|source| BackupError::Ledger { path: backup.clone(), source })?;
    hold_to_manifest(backup, manifest, &copied, until.is_some())?;
    sync_file(&ledger)?;
    let accounts_given_up = match manifest.entry("accounts.db") {
        Some(_) => settle_accounts(partial, &copied).await?,
        None => 0,
    };
    let (ledger_id, head, is_cut) = (manifest.ledger_id, copied.head, until.is_some());
    Ok(RestoreDone { ledger_id, head, is_cut, has_keys: false, accounts_given_up })
}

/// The manifest says of the ledger what it is.
fn hold_to_manifest(
    backup: &Path,
    manifest: &Manifest,
    copied: &LedgerCopy,
    is_cut: bool,
) -> Result<(), BackupError> {
    let differs = |detail| {
        let path = backup.join("ledger.db");
        Err(BackupError::Altered { path, detail })
    };
    let (genesis, ends_at) = (copied.genesis, manifest.head);
    if (genesis.ledger_id, genesis.is_demo) != (manifest.ledger_id, manifest.is_demo) {
        return differs("it is another ledger than the manifest says".to_owned());
    }
    let is_head = match is_cut {
        true => Reader::open(backup)?.standing(ends_at, Some(manifest.epoch))? == Standing::Held,
        false => (copied.head, copied.epoch) == (ends_at, manifest.epoch),
    };
    if !is_head {
        let found = copied.head;
        return differs(format!(
            "it ends at {found}, and the manifest says that it ended at {ends_at}"
        ));
    }
    Ok(())
}

/// Ends all sessions and links of the restored accounts, and gives up those that the ledger has and
/// they have not: whoever registered while the backup was made.
async fn settle_accounts(partial: &Path, copied: &LedgerCopy) -> Result<usize, BackupError> {
    let path = partial.join("accounts.db");
    let users: Vec<UserId> = copied.users.keys().copied().collect();
    let accounts = Accounts::open(&path, &Monitor::default()).await?;
    let settled = accounts.settle_restored(&users).await;
    accounts.close().await;
    let given_up =
        settled.map_err(|error| BackupError::Settling(error.body().message.into_owned()))?;
    sync_file(&path)?;
    Ok(given_up)
}

/// Puts keys in place, each whole or not at all. What is there stays: who is erased is known best
/// where the ledger was.
fn put_keys(from: &Path, keys_dir: &Path) -> Result<(), BackupError> {
    if !keys_dir.exists() {
        let parent = keys_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        create_directories(parent).map_err(io(parent))?;
        make_private_directory(keys_dir)?;
        sync_directory(parent)?;
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(from).map_err(io(from))? {
        names.extend(entry.map_err(io(from))?.file_name().to_str().map(str::to_owned));
    }
    names.sort_by_key(|name| name == SIGNING_KEY);
    for name in names.iter().filter(|name| is_of_keys(name)) {
        let (from, to) = (from.join(name), keys_dir.join(name));
        let bytes = std::fs::read(&from).map_err(io(&from))?;
        match std::fs::read(&to) {
            Ok(there) if there == bytes || name == "erased" => continue,
            Ok(_) => return Err(BackupError::InTheWay { path: to }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(&to)(error)),
        }
        let half = keys_dir.join(format!("{name}{}", crate::manifest::PARTIAL));
        match std::fs::remove_file(&half) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(&half)(error));
            }
            _ => {}
        }
        let mut copy = make_private_file(&half)?;
        copy.write_all(&bytes).and_then(|()| copy.sync_all()).map_err(io(&half))?;
        std::fs::rename(&half, &to).map_err(io(&to))?;
    }
    sync_directory(keys_dir)
}

fn sync_file(path: &Path) -> Result<(), BackupError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(io(path))
}
