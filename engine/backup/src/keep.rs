//! Older backups are removed, where newer ones hold all that they do.

use std::path::{Path, PathBuf};

use daybook_ledger::{Reader, Standing};

use crate::error::{BackupError, io};
use crate::manifest::all_in;

/// What became of older backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that were removed.
    pub removed: Vec<PathBuf>,
    /// Those that stay although they are older: the newest one lacks events that they have, or is of
    /// another ledger. They may be the last to have them, so an operator decides.
    pub left: Vec<PathBuf>,
}

/// Keeps the newest backups of a directory, and removes those before them whose events the newest
/// one has.
///
/// # Errors
/// [`BackupError`] when a backup cannot be read or removed.
pub fn keep_newest(directory: &Path, count: usize) -> Result<Kept, BackupError> {
    let all = all_in(directory);
    let mut kept = Kept::default();
    let Some((newest, of_newest)) = all.last() else { return Ok(kept) };
    let reader = Reader::open(newest)?;
    for (path, manifest) in all.iter().take(all.len().saturating_sub(count.max(1))) {
        let is_held = manifest.ledger_id == of_newest.ledger_id
            && reader.standing(manifest.head, None)? == Standing::Held;
        if !is_held {
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
