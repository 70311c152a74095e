//! The file of the newest head, signed, in the keys directory: away from the data, so that a ledger
//! that was put back from an older copy is seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use daybook_schema::{Head, LedgerId, LedgerIdentity, limits};
use ed25519_dalek::VerifyingKey;

use crate::files::write_private;
use crate::keys::error::KeysError;
use crate::lost_heads::KnownHead;
use crate::signed_blocks_and_heads::{Signer, read_newest_head_note};
use crate::status::Status;

/// What the name of the file ends with; before it stands the ledger's id.
const ENDING: &str = ".head";

/// Keeps a ledger's newest head, signed, in the keys directory.
#[derive(Debug)]
pub struct NewestHead {
    directory: PathBuf,
    signer: Signer,
}

impl NewestHead {
    pub(crate) fn new(directory: &Path, signer: Signer) -> Self {
        Self { directory: directory.to_owned(), signer }
    }

    /// The file of a ledger's newest head.
    #[must_use]
    pub fn path(&self, ledger_id: LedgerId) -> PathBuf {
        self.directory.join(format!("{ledger_id}{ENDING}"))
    }

    /// The ledgers that the directory has a newest head of, by the names of the files.
    ///
    /// # Errors
    /// [`KeysError`] when the directory cannot be read.
    pub(crate) fn ledgers(&self) -> Result<Vec<(LedgerId, PathBuf)>, KeysError> {
        let io_error = |source| KeysError::Io { path: self.directory.clone(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(io_error)? {
            let path = entry.map_err(io_error)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(ledger_id) = name.and_then(ledger_named) {
                found.push((ledger_id, path));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Reads the newest head that was written for a ledger, if one was.
    ///
    /// # Errors
    /// [`KeysError`] when the file cannot be read, or is not what this key signed for this ledger.
    pub fn read(&self, ledger_id: LedgerId) -> Result<Option<KnownHead>, KeysError> {
        read_newest_head(&self.directory, ledger_id, &self.signer.verifying_key())
    }

    /// Signs a head and puts it in the place of the one before; synced before it returns.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, identity: LedgerIdentity, head: Head) -> Result<(), KeysError> {
        let note = self.signer.sign_newest_head(identity, head);
        let path = self.path(identity.ledger_id);
        write_private(&path, note.as_bytes()).map_err(|source| KeysError::Io { path, source })
    }

    /// Removes a ledger's newest head: for a ledger that is removed itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, ledger_id: LedgerId) -> Result<(), KeysError> {
        let path = self.path(ledger_id);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(KeysError::Io { path, source })
            }
            _ => Ok(()),
        }
    }
}

/// Reads the newest head that was written for a ledger into a keys directory, if one was. The
/// verifying key is enough: who checks a ledger needs no secret of it.
///
/// # Errors
/// [`KeysError`] when the file cannot be read, or is not what this key signed for this ledger.
pub fn read_newest_head(
    directory: &Path,
    ledger_id: LedgerId,
    key: &VerifyingKey,
) -> Result<Option<KnownHead>, KeysError> {
    let path = directory.join(format!("{ledger_id}{ENDING}"));
    let text = match std::fs::metadata(&path) {
        // What is no file could be read for ever.
        Ok(found) if !found.is_file() => return Err(KeysError::NotAHead { path }),
        Ok(_) => {
            std::fs::read(&path).map_err(|source| KeysError::Io { path: path.clone(), source })?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeysError::Io { path, source }),
    };
    let signed = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| read_newest_head_note(text, ledger_id, key));
    let Some((head, epoch)) = signed else { return Err(KeysError::NotAHead { path }) };
    let source = format!("signed, in {}", path.display());
    Ok(Some(KnownHead { head, epoch: Some(epoch), source }))
}

/// The ledger that a newest head's file is named by.
pub(crate) fn ledger_named(file_name: &str) -> Option<LedgerId> {
    file_name.strip_suffix(ENDING)?.parse().ok()
}

/// Starts the thread that writes the newest committed head, at most once in an interval and once
/// more when the ledger is closed. The file may lag behind the ledger, it is never ahead of it.
pub(crate) fn spawn(
    newest_head: NewestHead,
    status: Arc<Status>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("daybook-head".to_owned()).spawn(move || {
        let mut written = None;
        loop {
            // Looked at before the head: what is committed before the end is written.
            let is_over = status.is_over();
            let (identity, head) = status.identified_head();
            if written != Some(head) {
                match newest_head.write(identity, head) {
                    Ok(()) => written = Some(head),
                    Err(error) => {
                        let error: &(dyn std::error::Error + 'static) = &error;
                        tracing::warn!(error, "the newest head was not written; tried again");
                    }
                }
            }
            if is_over {
                return;
            }
            if written == Some(head) {
                status.wait_beyond(head.seq);
            }
            status.wait_until_over(Duration::from_millis(limits::NEWEST_HEAD_INTERVAL_MS));
        }
    })
}
