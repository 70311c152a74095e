//! Older backups are removed, where a newer one holds all that they do.

use std::path::{Path, PathBuf};

use daybook_ledger::{ReadError, Reader, Standing};

use crate::error::{BackupError, io};
use crate::manifest::{Manifest, all_in};

/// What became of older backups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that were removed.
    pub removed: Vec<PathBuf>,
    /// Those that stay although they are older: the newest one lacks events or files that they have,
    /// or is of another ledger. They may be the last to have them, so an operator decides.
    pub left: Vec<PathBuf>,
}

/// Keeps a backup that was just made and others up to a count, the latest ones, and removes those
/// before them of which the new one has everything.
///
/// # Errors
/// [`BackupError`] when a backup cannot be removed, or the new one not be read.
pub fn keep_newest(directory: &Path, newest: &Path, count: usize) -> Result<Kept, BackupError> {
    // Not by the time alone: a clock may have been ahead.
    let others: Vec<_> = all_in(directory).into_iter().filter(|(path, _)| path != newest).collect();
    let of_newest = Manifest::read(newest)?;
    let reader = Reader::open(newest)?;
    let mut kept = Kept::default();
    for (path, manifest) in others.iter().take((others.len() + 1).saturating_sub(count.max(1))) {
        // Read models can be made again.
        let mut files = manifest.files.iter().filter(|file| file.path != "game.db");
        let has_files = files.all(|file| of_newest.entry(&file.path).is_some());
        if !(has_files && has_events_of(&reader, path)?) {
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
