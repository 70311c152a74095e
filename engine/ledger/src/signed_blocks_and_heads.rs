//! What the ledger's key signs, and how that is read: blocks on their way to others, what became of
//! a head, and the newest head. Each is a signed note (c2sp.org/signed-note); FORMAT.md has their
//! lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use daybook_schema::{Block, BlockRange, Epoch, Head, LedgerId, LedgerIdentity};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

const NEWEST_HEAD_FIRST_LINE: &str = "daybook newest head v1";
const ANSWERED_HEAD_FIRST_LINE: &str = "daybook answered head v1";
const BLOCK_FIRST_LINE: &str = "daybook block v1";
/// The note format's number of Ed25519.
const ED25519: u8 = 1;

/// Signs in the name of a ledger, with the signing key of its keys directory.
#[derive(Clone, Debug)]
pub struct Signer {
    signing_key: SigningKey,
}

impl Signer {
    pub(crate) const fn new(signing_key: SigningKey) -> Self {
        Self { signing_key }
    }

    /// The public half of the key: what readers of its notes need.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.signing_key.verifying_key()
    }

    /// The note that a block ends with on its way to others: that it is of this ledger, and where
    /// it lies in it. [`is_signed_block`] reads it.
    #[must_use]
    pub fn sign_block(&self, block: &Block) -> String {
        self.sign(&block_text(&block.range()), block.ledger_id)
    }

    /// The note that tells somebody what became of a head. [`read_head_note`] reads it.
    #[must_use]
    pub fn sign_head_note(&self, told: HeadNote, ledger_id: LedgerId, head: Head) -> String {
        self.sign(&head_note_text(told, ledger_id, head), ledger_id)
    }

    /// The note that tells the newest head of a ledger, in its epoch.
    pub(crate) fn sign_newest_head(&self, identity: LedgerIdentity, head: Head) -> String {
        self.sign(&newest_head_text(identity, head), identity.ledger_id)
    }

    /// The note that an answer's head leaves the house with: of which ledger and epoch it is.
    /// [`is_answered_head`] reads it.
    #[must_use]
    pub fn sign_answered_head(&self, identity: LedgerIdentity, head: Head) -> String {
        self.sign(&answered_head_text(identity, head), identity.ledger_id)
    }

    /// A text with its signature: a note.
    fn sign(&self, text: &str, ledger_id: LedgerId) -> String {
        let name = key_name(ledger_id);
        let signature = self.signing_key.sign(text.as_bytes());
        let mut signed = key_id(&name, &self.verifying_key()).to_vec();
        signed.extend_from_slice(&signature.to_bytes());
        format!("{text}\n\u{2014} {name} {}\n", BASE64.encode(signed))
    }
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

fn newest_head_text(identity: LedgerIdentity, head: Head) -> String {
    head_text(NEWEST_HEAD_FIRST_LINE, identity, head)
}

fn answered_head_text(identity: LedgerIdentity, head: Head) -> String {
    head_text(ANSWERED_HEAD_FIRST_LINE, identity, head)
}

fn head_text(first_line: &str, identity: LedgerIdentity, head: Head) -> String {
    let LedgerIdentity { ledger_id, epoch: Epoch { number, nonce } } = identity;
    format!("{first_line}\n{ledger_id}\nepoch {number} {nonce}\nhead {head}\n")
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

/// Whether a note is the one that the ledger's key signed for the head of an answer.
#[must_use]
pub fn is_answered_head(
    identity: LedgerIdentity,
    head: Head,
    note: &[u8],
    key: &VerifyingKey,
) -> bool {
    let note = std::str::from_utf8(note).ok();
    note.and_then(|note| open(note, identity.ledger_id, key))
        .is_some_and(|text| text == answered_head_text(identity, head))
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

/// The newest head in a note and its epoch, if this key signed it for this ledger.
pub(crate) fn read_newest_head_note(
    note: &str,
    ledger_id: LedgerId,
    key: &VerifyingKey,
) -> Option<(Head, Epoch)> {
    let text = open(note, ledger_id, key)?;
    let mut lines = text.lines();
    let holds = lines.next()? == NEWEST_HEAD_FIRST_LINE && lines.next()? == ledger_id.to_string();
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
        let signer = Signer::new(SigningKey::from_bytes(&[7; 32]));
        let key = signer.verifying_key();
        let head = Head { seq: 41, hash: EventHash::new([9; 32]) };
        let note = signer.sign_newest_head(identity(), head);
        let ledger_id = identity().ledger_id;
        assert_eq!(read_newest_head_note(&note, ledger_id, &key), Some((head, Epoch::FIRST)));
        let other_key = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(read_newest_head_note(&note, ledger_id, &other_key), None);
        let other_ledger = LedgerId::from_bytes([0x23; 16]);
        assert_eq!(read_newest_head_note(&note, other_ledger, &key), None);
        for index in 0..note.len() {
            let mut damaged = note.clone().into_bytes();
            damaged[index] ^= 1;
            let read = String::from_utf8(damaged)
                .ok()
                .and_then(|text| read_newest_head_note(&text, ledger_id, &key));
            assert_eq!(read, None, "byte {index}");
        }
    }

    /// Guards: players keep these notes; their bytes are for ever. And no note of another kind passes
    /// for one.
    #[test]
    fn the_head_of_an_answer_is_signed_as_it_always_was() {
        let signer = Signer::new(SigningKey::from_bytes(&[7; 32]));
        let head = Head { seq: 41, hash: EventHash::new([9; 32]) };
        let note = signer.sign_answered_head(identity(), head);
        let expected = "daybook answered head v1\n\
             ldg_22222222-2222-2222-2222-222222222222\n\
             epoch 1 00000000000000000000000000000000\n\
             head 41:0909090909090909090909090909090909090909090909090909090909090909\n\n\
             — daybook/ldg_22222222-2222-2222-2222-222222222222 hyChns80Oq20DUAhrGcfFQN8TSiOnX/7LhLg8wIp4uQlJaX7KMWrzjdQfrCHB9vdR0OBahtux7coCFcItYZSG/QERwE=\n";
        assert_eq!(note, expected);
        let key = signer.verifying_key();
        assert!(is_answered_head(identity(), head, note.as_bytes(), &key));
        let other = Head { seq: 42, ..head };
        assert!(!is_answered_head(identity(), other, note.as_bytes(), &key));
        let newest = signer.sign_newest_head(identity(), head);
        assert!(!is_answered_head(identity(), head, newest.as_bytes(), &key));
    }
}
