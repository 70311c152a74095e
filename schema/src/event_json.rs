//! An event as JSON: what `tail` prints a line, and what other programs read.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use crate::{CommandId, Event, EventHash, EventKind, Seq, StoredEvent, StreamId, StreamKind};

/// An event as other programs see it. Every one has the same keys, and each a plain value of one
/// type, so that a table can be read from any of them: the payload, whose fields depend on the
/// kind, is a text that holds JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    seq: Seq,
    /// Microseconds since 1970; fields named `…At` are in seconds.
    recorded_micros: i64,
    stream: String,
    /// 0 where the event is its stream's first.
    stream_prev: u64,
    kind: EventKind,
    version: u16,
    command_id: Option<CommandId>,
    place: u8,
    size: u8,
    payload: PayloadText<'a>,
    hash: EventHash,
}

/// An event's fields as a text that holds JSON.
pub struct PayloadText<'a>(pub &'a Event);

impl Serialize for PayloadText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(self.0).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

/// A stream's id with the prefix of its kind.
#[must_use]
pub fn stream_text(kind: StreamKind, stream: StreamId) -> String {
    match kind {
        StreamKind::Ledger => stream.as_ledger().to_string(),
        StreamKind::User => stream.as_user().to_string(),
        StreamKind::Season => stream.as_season().to_string(),
    }
}

impl Serialize for StoredEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { header, event, hash } = self;
        let kind = event.kind();
        let json = EventJson {
            seq: header.seq,
            recorded_micros: header.recorded_at.get(),
            stream: stream_text(kind.stream(), header.stream),
            stream_prev: header.stream_prev.map_or(0, Seq::get),
            kind,
            version: header.version,
            command_id: header.command.mark.map(|mark| mark.id),
            place: header.command.place,
            size: header.command.size,
            payload: PayloadText(event),
            hash: *hash,
        };
        json.serialize(serializer)
    }
}
