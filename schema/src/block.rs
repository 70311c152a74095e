//! Blocks: runs of consecutive events as they travel between processes.
//!
//! A block stands for itself: each of its events is held to the hash of the one before it while it
//! is read, and the signed head that it ends with says whose ledger it is of. FORMAT.md describes
//! its bytes.

use crate::chain::{CommandPart, CommandPartError};
use crate::codec::PayloadProblem;
use crate::{
    Event, EventHash, EventHeader, Head, LedgerId, PayloadError, Seq, StoredEvent, StreamId,
    UnixMicros, limits,
};

/// What a block begins with.
const MAGIC: &[u8; 16] = b"daybook block 1\n";
/// Bytes of an event beside its command column and its payload.
const EVENT_FIXED_BYTES: usize = 8 + 16 + 8 + 2 + 2 + 1 + 2 + 32;

/// A run of consecutive events of a ledger, each chained to the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// What the first event is chained to.
    pub previous: Head,
    /// The events, with seqs from `previous.seq + 1` on.
    pub events: Vec<StoredEvent>,
}

/// Which events of which ledger a block holds: what its signature is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// What the first event is chained to.
    pub previous: Head,
    /// The newest event.
    pub last: Head,
}

/// Bytes were not those of a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It does not begin as a block of this version.
    #[error("it does not begin as a block of version 1")]
    NotABlock,
    /// It ends too early, or goes on after its end.
    #[error("it has another length than its own numbers give")]
    Length,
    /// It holds no event, or more than a block may.
    #[error("it holds {count} events, expected 1 to {}", limits::EVENTS_PER_BLOCK_MAX)]
    Count {
        /// How many it says.
        count: u32,
    },
    /// An event's command column has no form that there is.
    #[error("event {seq}: {problem}")]
    Command {
        /// The event.
        seq: u64,
        /// What is wrong.
        problem: CommandPartError,
    },
    /// An event's payload does not decode.
    #[error("event {seq}: {problem}")]
    Payload {
        /// The event.
        seq: u64,
        /// What is wrong.
        problem: PayloadError,
    },
    /// An event is not chained to the one before it.
    #[error("event {seq} hashes to {computed}, but {stored} is stored")]
    Altered {
        /// The event.
        seq: u64,
        /// What its columns give.
        computed: EventHash,
        /// What the block says.
        stored: EventHash,
    },
    /// A seq lies outside the scale.
    #[error("seq `{seq}` is out of range")]
    Seq {
        /// The seq.
        seq: u64,
    },
}

impl Block {
    /// The newest event; what the block begins after, if it holds none.
    #[must_use]
    pub fn last(&self) -> Head {
        self.events.last().map_or(self.previous, StoredEvent::head)
    }

    /// Which events it holds.
    #[must_use]
    pub fn range(&self) -> BlockRange {
        BlockRange { ledger_id: self.ledger_id, previous: self.previous, last: self.last() }
    }

    /// The block without the events up to `head`, if these are in it or before it: what is left to
    /// be applied by somebody who stands there. `None` where the block does not go on from there.
    #[must_use]
    pub fn after(mut self, head: Head) -> Option<Self> {
        let passed = usize::try_from(head.seq.checked_sub(self.previous.seq)?).ok()?;
        if passed > self.events.len() {
            return None;
        }
        let joint = passed
            .checked_sub(1)
            .and_then(|index| self.events.get(index))
            .map_or(self.previous, StoredEvent::head);
        if joint.hash != head.hash {
            return None;
        }
        self.events.drain(..passed);
        self.previous = joint;
        Some(self)
    }

    /// The block's bytes, with the signed note of its last head.
    #[must_use]
    pub fn encode(&self, note: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96 + note.len() + self.events.len() * 160);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.ledger_id.as_bytes());
        bytes.extend_from_slice(&self.previous.seq.to_le_bytes());
        bytes.extend_from_slice(self.previous.hash.as_bytes());
        let count = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for stored in &self.events {
            encode_event(stored, &mut bytes);
        }
        bytes.extend_from_slice(note.as_bytes());
        bytes
    }

    /// Reads a block and the note at its end. Every event is held to the hash of the one before it;
    /// the note is not looked at.
    ///
    /// # Errors
    /// [`BlockError`] when the bytes are not those of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), BlockError> {
        let mut events = Vec::new();
        let (BlockRange { ledger_id, previous, .. }, note) = read_events(bytes, |row| {
            let RowBytes { header, payload, hash } = row;
            let event = Event::decode(header.kind, header.version, payload)
                .map_err(|problem| BlockError::Payload { seq: header.seq.get(), problem })?;
            events.push(StoredEvent { header, event, hash });
            Ok(())
        })?;
        Ok((Self { ledger_id, previous, events }, note))
    }
}

impl BlockRange {
    /// Reads which events a block holds, and the note at its end, without decoding the events: they
    /// may be of a newer version than this one. Every row is held to the hash of the one before it.
    ///
    /// # Errors
    /// [`BlockError`] as [`Block::decode`], but for the payloads.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), BlockError> {
        read_events(bytes, |_| Ok(()))
    }
}

impl BlockError {
    /// Whether an event is of a kind or version that this version of Daybook does not know.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        use PayloadProblem::{UnknownKind, UnknownVersion};
        let Self::Payload { problem, .. } = self else { return false };
        matches!(problem.problem, UnknownKind | UnknownVersion { .. })
    }
}

/// An event of a block, its payload not decoded.
struct RowBytes<'a> {
    header: EventHeader,
    payload: &'a [u8],
    hash: EventHash,
}

/// Reads a block's rows one after another; gives what it holds and what follows it.
fn read_events<'a>(
    bytes: &'a [u8],
    mut visit: impl FnMut(RowBytes<'a>) -> Result<(), BlockError>,
) -> Result<(BlockRange, &'a [u8]), BlockError> {
    let mut rest = Bytes(bytes.strip_prefix(MAGIC.as_slice()).ok_or(BlockError::NotABlock)?);
    let ledger_id = LedgerId::from_bytes(rest.array()?);
    let seq = u64::from_le_bytes(rest.array()?);
    let previous = Head { seq, hash: EventHash::new(rest.array()?) };
    let count = u32::from_le_bytes(rest.array()?);
    let expected = usize::try_from(count).unwrap_or(usize::MAX);
    if expected == 0 || expected > limits::EVENTS_PER_BLOCK_MAX {
        return Err(BlockError::Count { count });
    }
    let mut range = BlockRange { ledger_id, previous, last: previous };
    for _ in 0..expected {
        let row = read_event(&mut rest, range.last)?;
        range.last = Head { seq: row.header.seq.get(), hash: row.hash };
        visit(row)?;
    }
    Ok((range, rest.0))
}

/// Bytes that an event takes in a block.
#[must_use]
pub fn event_bytes(stored: &StoredEvent, payload_bytes: usize) -> usize {
    EVENT_FIXED_BYTES + stored.header.command.to_bytes().1 + payload_bytes
}

fn encode_event(stored: &StoredEvent, into: &mut Vec<u8>) {
    let header = &stored.header;
    into.extend_from_slice(&header.recorded_at.get().to_le_bytes());
    into.extend_from_slice(header.stream.as_bytes());
    into.extend_from_slice(&header.stream_prev.map_or(0, Seq::get).to_le_bytes());
    into.extend_from_slice(&header.kind.to_le_bytes());
    into.extend_from_slice(&header.version.to_le_bytes());
    let (command, length) = header.command.to_bytes();
    into.push(u8::try_from(length).unwrap_or(u8::MAX));
    into.extend_from_slice(command.get(..length).unwrap_or(&command));
    let length_at = into.len();
    into.extend_from_slice(&[0; 2]);
    stored.event.encode(into);
    let length = u16::try_from(into.len() - length_at - 2).unwrap_or(u16::MAX);
    if let Some(place) = into.get_mut(length_at..length_at + 2) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    into.extend_from_slice(stored.hash.as_bytes());
}

fn read_event<'a>(rest: &mut Bytes<'a>, previous: Head) -> Result<RowBytes<'a>, BlockError> {
    let seq = previous.seq.saturating_add(1);
    let valid_seq = |seq| Seq::new(seq).map_err(|_| BlockError::Seq { seq });
    let recorded_at = UnixMicros::new(i64::from_le_bytes(rest.array()?));
    let stream = StreamId::from_bytes(rest.array()?);
    let stream_prev = match u64::from_le_bytes(rest.array()?) {
        0 => None,
        prev => Some(valid_seq(prev)?),
    };
    let kind = u16::from_le_bytes(rest.array()?);
    let version = u16::from_le_bytes(rest.array()?);
    let [command_length] = rest.array()?;
    let command = CommandPart::from_bytes(rest.take(usize::from(command_length))?)
        .map_err(|problem| BlockError::Command { seq, problem })?;
    let payload_length = usize::from(u16::from_le_bytes(rest.array()?));
    let payload = rest.take(payload_length)?;
    let header = EventHeader {
        seq: valid_seq(seq)?,
        recorded_at,
        stream,
        stream_prev,
        kind,
        version,
        command,
    };
    let stored = EventHash::new(rest.array()?);
    let computed = header.hash(&previous.hash, payload);
    if computed != stored {
        return Err(BlockError::Altered { seq, computed, stored });
    }
    Ok(RowBytes { header, payload, hash: stored })
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BlockError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BlockError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BlockError> {
        self.take(N)?.try_into().map_err(|_| BlockError::Length)
    }
}
