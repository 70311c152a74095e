//! What tells of a ledger that is gone: looked at before a new one is made in its place.

use daybook_schema::LedgerId;

use crate::database::DatabaseError;
use crate::keys::error::KeysError;
use crate::options::Options;
use crate::restored::{Restored, RestoredError};
use crate::snapshot;

/// Something that tells of a ledger that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLedger {
    /// Which one, where that is told.
    pub ledger_id: Option<LedgerId>,
    /// What tells of it: a file, or what the caller knows.
    pub source: String,
}

impl std::fmt::Display for LostLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ledger_id {
            Some(ledger_id) => write!(f, "{} tells of {ledger_id}", self.source),
            None => write!(
                f,
                "{} tells of one whose id is not known (take it away if that is gone for good)",
                self.source
            ),
        }
    }
}

/// The first of what was found, and how much more there is.
pub(crate) fn listed(lost: &[LostLedger]) -> String {
    let first = lost.first().map(ToString::to_string).unwrap_or_default();
    match lost.len() {
        0 | 1 => first,
        count => format!("{first} ({} others tell too)", count - 1),
    }
}

/// Everything that tells of a ledger in a place where there is none: newest heads in the keys
/// directory and snapshots, whole or not, heads and ledgers that the caller knows of.
///
/// # Errors
/// When the keys directory cannot be read, or the snapshots' can not.
pub(crate) fn find<E: From<KeysError> + From<DatabaseError> + From<RestoredError>>(
    options: &Options,
) -> Result<Vec<LostLedger>, E> {
    let mut lost = Vec::new();
    // A restore that was cut off: the ledger is what it puts in place last.
    if let Some(restored) = Restored::read(&options.data_dir)? {
        let path = Restored::path(&options.data_dir);
        let source = format!("a restore that was cut off, by `{}`,", path.display());
        lost.push(LostLedger { ledger_id: Some(restored.ledger_id), source });
    }
    if let Some(newest_head) = &options.newest_head {
        for (ledger_id, path) in newest_head.ledgers()? {
            let source = format!("`{}`", path.display());
            lost.push(LostLedger { ledger_id: Some(ledger_id), source });
        }
    }
    for (ledger_id, path) in snapshot::ledgers(&options.data_dir)? {
        lost.push(LostLedger { ledger_id, source: format!("`{}`", path.display()) });
    }
    let known_ledgers = options.known_ledgers.iter();
    lost.extend(known_ledgers.map(|known| LostLedger {
        ledger_id: Some(known.ledger_id),
        source: known.source.clone(),
    }));
    let heads = options.known_heads.iter().chain(&options.witnesses);
    lost.extend(
        heads.map(|known| LostLedger { ledger_id: None, source: format!("the head {known}") }),
    );
    lost.retain(|lost| lost.ledger_id.is_none_or(|id| !options.instead_of.contains(&id)));
    Ok(lost)
}
