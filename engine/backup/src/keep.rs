//! Older backups are removed, where a newer one holds all that they do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use daybook_ledger::{ReadError, Reader, Standing};
use daybook_schema::{EventKind, Seq, UserId};

use crate::backup::users_in;
use crate::error::{BackupError, io};
use crate::manifest::{Manifest, all_in};

/// What became of older backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that were removed.
    pub removed: Vec<PathBuf>,
    /// Those that stay although they are older: the newest one lacks events, files or accounts that
    /// they have. They may be the last to have them, so an operator decides.
    pub left: Vec<PathBuf>,
}

/// Keeps a backup that was just made and others up to a count, the latest ones, and removes those
/// before them of which the new one has everything. Those of other ledgers are not looked at.
///
/// # Errors
/// [`BackupError`] when a backup cannot be removed, or the new one not be read.
pub async fn keep_newest(
    directory: &Path,
    newest: &Path,
    count: usize,
) -> Result<Kept, BackupError> {
    let of_newest = Manifest::read(newest)?;
    // Not by the time alone: a clock may have been ahead.
    let is_other = |(path, manifest): &(PathBuf, Manifest)| {
        path != newest && manifest.ledger_id == of_newest.ledger_id
    };
    let others: Vec<_> = all_in(directory).into_iter().filter(is_other).collect();
    let reader = Reader::open(newest)?;
    let mut kept = Kept::default();
    for (path, manifest) in others.iter().take((others.len() + 1).saturating_sub(count.max(1))) {
        // Read models can be made again.
        let mut files = manifest.files.iter().filter(|file| file.path != "game.db");
        let has_files = files.all(|file| of_newest.entry(&file.path).is_some());
        if !(has_files
            && has_events_of(&reader, path)?
            && has_accounts_of(&reader, newest, path).await?)
        {
            kept.left.push(path.clone());
            continue;
        }
        // It is none any more from the first moment on.
        let going = path.with_extension("partial");
        std::fs::rename(path, &going).map_err(io(path))?;
        std::fs::remove_dir_all(&going).map_err(io(&going))?;
        kept.removed.push(path.clone());
    }
    Ok(kept)
}

/// Whether a ledger has all events of a backup's: what lies there is asked, not what its manifest
/// says. One that cannot be read is not held.
fn has_events_of(newest: &Reader, backup: &Path) -> Result<bool, ReadError> {
    let Ok(other) = Reader::open(backup) else { return Ok(false) };
    let Ok(head) = other.head() else { return Ok(false) };
    let is_same = other.genesis().ledger_id == newest.genesis().ledger_id;
    Ok(is_same && newest.standing(head, None)? == Standing::Held)
}

/// Whether a backup has each account of an older one, but for those whose users were erased. Accounts
/// that were given up are none. Those that cannot be read are not held.
async fn has_accounts_of(
    reader: &Reader,
    newest: &Path,
    older: &Path,
) -> Result<bool, BackupError> {
    let sql = "SELECT id FROM users";
    let Ok(before) = users_in(&older.join("accounts.db"), sql).await else { return Ok(false) };
    let now = users_in(&newest.join("accounts.db"), sql).await?;
    let mut missing: HashSet<UserId> = before.difference(&now).copied().collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let given_up = "SELECT user_id FROM given_up_users";
    let given_up = users_in(&newest.join("accounts.db"), given_up).await?;
    if !missing.is_disjoint(&given_up) {
        return Ok(false);
    }
    for erased in reader.events_of_kinds(&[EventKind::UserErased], Seq::MIN) {
        missing.remove(&erased?.header.stream.as_user());
    }
    Ok(missing.is_empty())
}
