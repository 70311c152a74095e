//! The newest head, signed, in the keys directory: away from the data, so that a ledger that was put
//! back from an older copy is seen. It is a signed note (c2sp.org/signed-note); FORMAT.md has its lines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use daybook_schema::{Block, BlockRange, Epoch, Head, LedgerId, LedgerIdentity, limits};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::keys::{KeysError, write_whole};
use crate::losses::KnownHead;
use crate::status::Status;

const FIRST_LINE: &str = "daybook newest head v1";
const BLOCK_FIRST_LINE: &str = "daybook block v1";
/// What the name of the file ends with; before it stands the ledger's id.
pub(crate) const ENDING: &str = ".head";
/// The note format's number of Ed25519.
const ED25519: u8 = 1;

/// Keeps a ledger's newest head, signed, in the keys directory.
#[derive(Debug)]
pub struct NewestHead {
    directory: PathBuf,
    signing_key: SigningKey,
}

impl NewestHead {
    pub(crate) fn new(directory: &Path, signing_key: SigningKey) -> Self {
        Self { directory: directory.to_owned(), signing_key }
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
            if let Some(ledger_id) = name.and_then(crate::keys::head_file_named) {
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
        read_newest_head(&self.directory, ledger_id, &self.signing_key.verifying_key())
    }

    /// Signs a head and puts it in the place of the one before; synced before it returns.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, identity: LedgerIdentity, head: Head) -> Result<(), KeysError> {
        let note = sign(&text_of(identity, head), identity.ledger_id, &self.signing_key);
        write_whole(&self.path(identity.ledger_id), note.as_bytes())
    }

    /// The note that a block ends with on its way to others: that it is of this ledger, and where it lies
    /// in it. [`is_signed_block`] reads it.
    #[must_use]
    pub fn sign_block(&self, block: &Block) -> String {
        sign(&block_text(&block.range()), block.ledger_id, &self.signing_key)
    }

    /// The note that tells somebody what became of a head. [`read_head_note`] reads it.
    #[must_use]
    pub fn sign_head_note(&self, told: HeadNote, ledger_id: LedgerId, head: Head) -> String {
        sign(&head_note_text(told, ledger_id, head), ledger_id, &self.signing_key)
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

/// Reads the newest head that was written for a ledger into a keys directory, if one was. The verifying key is
/// enough: who checks a ledger needs no secret of it.
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
    let signed = std::str::from_utf8(&text).ok().and_then(|text| parse(text, ledger_id, key));
    let Some((head, epoch)) = signed else { return Err(KeysError::NotAHead { path }) };
    let source = format!("signed, in {}", path.display());
    Ok(Some(KnownHead { head, epoch: Some(epoch), source }))
}

/// Starts the thread that writes the newest committed head, at most once in an interval and once more
/// when the ledger is closed. The file may lag behind the ledger, it is never ahead of it.
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

/// The name that the signature is by.
fn key_name(ledger_id: LedgerId) -> String {
    format!("daybook/{ledger_id}")
}

/// The note format's id of a key: which of several signatures to check.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    hash.first_chunk().copied().unwrap_or_default()
}

fn text_of(identity: LedgerIdentity, head: Head) -> String {
    let LedgerIdentity { ledger_id, epoch: Epoch { number, nonce } } = identity;
    format!("{FIRST_LINE}\n{ledger_id}\nepoch {number} {nonce}\nhead {head}\n")
}

fn block_text(range: &BlockRange) -> String {
    let BlockRange { ledger_id, previous, last } = range;
    format!("{BLOCK_FIRST_LINE}\n{ledger_id}\nafter {previous}\nhead {last}\n")
}

/// What a note tells of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNote {
    /// The ledger has it.
    Known,
    /// The ledger lacks it, and that was accepted.
    AcceptedLoss,
    /// The ledger lacks it.
    Unknown,
}

fn head_note_text(told: HeadNote, ledger_id: LedgerId, head: Head) -> String {
    let first_line = match told {
        HeadNote::Known => "daybook known head v1",
        HeadNote::AcceptedLoss => "daybook accepted loss v1",
        HeadNote::Unknown => "daybook unknown head v1",
    };
    format!("{first_line}\n{ledger_id}\nhead {head}\n")
}

/// What the key of the ledger that a note names signed to tell of a head; gives the ledger too.
#[must_use]
pub fn read_head_note(note: &[u8], head: Head, key: &VerifyingKey) -> Option<(LedgerId, HeadNote)> {
    let note = std::str::from_utf8(note).ok()?;
    let ledger_id: LedgerId = note.lines().nth(1)?.parse().ok()?;
    let text = open(note, ledger_id, key)?;
    [HeadNote::Known, HeadNote::AcceptedLoss, HeadNote::Unknown]
        .into_iter()
        .find(|told| text == head_note_text(*told, ledger_id, head))
        .map(|told| (ledger_id, told))
}

/// A text with its signature: a note.
fn sign(text: &str, ledger_id: LedgerId, key: &SigningKey) -> String {
    let name = key_name(ledger_id);
    let signature = key.sign(text.as_bytes());
    let mut signed = key_id(&name, &key.verifying_key()).to_vec();
    signed.extend_from_slice(&signature.to_bytes());
    format!("{text}\n\u{2014} {name} {}\n", BASE64.encode(signed))
}

/// Whether a block that holds this ends with the note that the ledger's key signed for it.
#[must_use]
pub fn is_signed_block(range: &BlockRange, note: &[u8], key: &VerifyingKey) -> bool {
    let note = std::str::from_utf8(note).ok();
    note.and_then(|note| open(note, range.ledger_id, key))
        .is_some_and(|text| text == block_text(range))
}

/// The text of a note, if this key signed it for this ledger.
fn open(note: &str, ledger_id: LedgerId, key: &VerifyingKey) -> Option<String> {
    let (text, signature_line) = note.split_once("\n\n")?;
    let text = format!("{text}\n");
    let name = key_name(ledger_id);
    let encoded = signature_line
        .strip_suffix('\n')?
        .strip_prefix("\u{2014} ")?
        .strip_prefix(name.as_str())?
        .strip_prefix(' ')?;
    let signed = BASE64.decode(encoded).ok()?;
    let (id, signature) = signed.split_first_chunk::<4>()?;
    if *id != key_id(&name, key) {
        return None;
    }
    key.verify_strict(text.as_bytes(), &Signature::from_slice(signature).ok()?).ok()?;
    Some(text)
}

/// The head in a note and its epoch, if this key signed it for this ledger.
fn parse(note: &str, ledger_id: LedgerId, key: &VerifyingKey) -> Option<(Head, Epoch)> {
    let text = open(note, ledger_id, key)?;
    let mut lines = text.lines();
    let holds = lines.next()? == FIRST_LINE && lines.next()? == ledger_id.to_string();
    let (number, nonce) = lines.next()?.strip_prefix("epoch ")?.split_once(' ')?;
    let epoch = Epoch { number: number.parse().ok()?, nonce: nonce.parse().ok()? };
    let head: Head = lines.next()?.strip_prefix("head ")?.parse().ok()?;
    (holds && lines.next().is_none()).then_some((head, epoch))
}

#[cfg(test)]
mod tests {
    use daybook_schema::EventHash;

    use super::*;

    fn identity() -> LedgerIdentity {
        LedgerIdentity { ledger_id: LedgerId::from_bytes([0x22; 16]), epoch: Epoch::FIRST }
    }

    /// Guards: a head is read back only as it was signed, by its key, for its ledger.
    #[test]
    fn a_signed_head_is_read_back_and_nothing_else() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let head = Head { seq: 41, hash: EventHash::new([9; 32]) };
        let note = sign(&text_of(identity(), head), identity().ledger_id, &key);
        let ledger_id = identity().ledger_id;
        assert_eq!(parse(&note, ledger_id, &key.verifying_key()), Some((head, Epoch::FIRST)));
        let other_key = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(parse(&note, ledger_id, &other_key), None);
        let other_ledger = LedgerId::from_bytes([0x23; 16]);
        assert_eq!(parse(&note, other_ledger, &key.verifying_key()), None);
        for index in 0..note.len() {
            let mut damaged = note.clone().into_bytes();
            damaged[index] ^= 1;
            let read = String::from_utf8(damaged)
                .ok()
                .and_then(|text| parse(&text, ledger_id, &key.verifying_key()));
            assert_eq!(read, None, "byte {index}");
        }
    }
}
