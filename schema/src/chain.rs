//! The hash chain: hash(n) covers hash(n−1) and every other column of row n.

use crate::{CommandHash, CommandId, EventHash, Seq, StreamId, UnixMicros, digest, ids};

/// A command's mark on its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandMark {
    /// The command's id.
    pub id: CommandId,
    /// The hash of the command as stored.
    pub hash: CommandHash,
}

/// An event's place in its command; the first event carries the command's mark.
///
/// The `command` column holds the place (from 0) and the number of the command's events, a byte
/// each, and on the first event the id's 16 bytes and the hash's 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandPart {
    /// The event's place in its command, from 0.
    pub place: u8,
    /// How many events the command has.
    pub size: u8,
    /// The command's mark: on its first event, and there alone.
    pub mark: Option<CommandMark>,
}

/// The `command` column does not have the form that FORMAT.md gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandPartError {
    /// Neither 2 nor 34 bytes, or the wrong one of them for its place.
    #[error("the command column holds {length} bytes, expected 34 on a first event, else 2")]
    Length {
        /// How many bytes there were.
        length: usize,
    },
    /// The place is not below the size.
    #[error("event {place} of a command of {size}")]
    Place {
        /// The place.
        place: u8,
        /// The size.
        size: u8,
    },
    /// The id is not a UUIDv7.
    #[error(transparent)]
    Id(#[from] ids::ParseCommandIdError),
}

impl CommandPart {
    /// Bytes of the column on a command's first event.
    pub const FIRST_BYTES: usize = 34;
    /// Bytes of the column on its other events.
    pub const OTHER_BYTES: usize = 2;

    /// The column's bytes: the array and how many of it count.
    #[must_use]
    pub fn to_bytes(&self) -> ([u8; Self::FIRST_BYTES], usize) {
        let mut bytes = [0; Self::FIRST_BYTES];
        let [place, size, rest @ ..] = &mut bytes;
        *place = self.place;
        *size = self.size;
        let Some(mark) = self.mark else { return (bytes, Self::OTHER_BYTES) };
        let (id, hash) = rest.split_at_mut(16);
        id.copy_from_slice(mark.id.as_bytes());
        hash.copy_from_slice(mark.hash.as_bytes());
        (bytes, Self::FIRST_BYTES)
    }

    /// Reads the column's bytes.
    ///
    /// # Errors
    /// [`CommandPartError`] when they are not what [`Self::to_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CommandPartError> {
        let refused = CommandPartError::Length { length: bytes.len() };
        let [place, size, rest @ ..] = bytes else { return Err(refused) };
        let (place, size) = (*place, *size);
        if place >= size {
            return Err(CommandPartError::Place { place, size });
        }
        if place > 0 {
            return if rest.is_empty() {
                Ok(Self { place, size, mark: None })
            } else {
                Err(refused)
            };
        }
        let Some((id, hash)) = rest.split_first_chunk::<16>() else { return Err(refused) };
        let Ok(hash) = <[u8; 16]>::try_from(hash) else { return Err(refused) };
        let mark = CommandMark { id: CommandId::from_bytes(*id)?, hash: CommandHash::new(hash) };
        Ok(Self { place, size, mark: Some(mark) })
    }
}

/// Every column of a row but its payload and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// Its place in the ledger.
    pub seq: Seq,
    /// When it was recorded; all events of a command share one time.
    pub recorded_at: UnixMicros,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// The stream's previous event, if there is one (stored as 0 if not).
    pub stream_prev: Option<Seq>,
    /// The number of its kind.
    pub kind: u16,
    /// The version of its payload.
    pub version: u16,
    /// Its place in its command.
    pub command: CommandPart,
}

impl EventHeader {
    /// hash(n), from hash(n−1) and the row's columns, the payload as stored.
    #[must_use]
    pub fn hash(&self, previous: &EventHash, payload: &[u8]) -> EventHash {
        let mut fixed = [0_u8; 76];
        let stream_prev = self.stream_prev.map_or(0, Seq::get);
        let columns: [&[u8]; 7] = [
            previous.as_bytes(),
            &self.seq.get().to_le_bytes(),
            &self.recorded_at.get().to_le_bytes(),
            self.stream.as_bytes(),
            &stream_prev.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.version.to_le_bytes(),
        ];
        let mut rest = fixed.as_mut_slice();
        for column in columns {
            let Some((field, after)) = rest.split_at_mut_checked(column.len()) else { break };
            field.copy_from_slice(column);
            rest = after;
        }
        let (command, length) = self.command.to_bytes();
        let command = command.get(..length).unwrap_or(&command);
        EventHash::new(digest::EVENT.derive(&[&fixed, command, payload]))
    }
}
