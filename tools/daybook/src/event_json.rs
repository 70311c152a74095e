//! An event as JSON: what `tail` prints a line, and what other programs read.

use daybook_ledger::StoredEvent;
use daybook_schema::{CommandId, Event, EventHash, EventKind, Seq, StreamId, StreamKind};
use serde::Serialize;

/// An event as other programs see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventJson<'a> {
    seq: Seq,
    /// Microseconds since 1970; fields named `…At` are in seconds.
    recorded_micros: i64,
    stream: String,
    stream_prev: Option<Seq>,
    kind: EventKind,
    version: u16,
    command_id: Option<CommandId>,
    place: u8,
    size: u8,
    payload: &'a Event,
    hash: EventHash,
}

/// A stream's id with the prefix of its kind.
pub(crate) fn shown_stream(kind: StreamKind, stream: StreamId) -> String {
    match kind {
        StreamKind::Ledger => stream.as_ledger().to_string(),
        StreamKind::User => stream.as_user().to_string(),
        StreamKind::Season => stream.as_season().to_string(),
    }
}

impl<'a> From<&'a StoredEvent> for EventJson<'a> {
    fn from(stored: &'a StoredEvent) -> Self {
        let StoredEvent { header, event, hash } = stored;
        let kind = event.kind();
        Self {
            seq: header.seq,
            recorded_micros: header.recorded_at.get(),
            stream: shown_stream(kind.stream(), header.stream),
            stream_prev: header.stream_prev,
            kind,
            version: header.version,
            command_id: header.command.mark.map(|mark| mark.id),
            place: header.command.place,
            size: header.command.size,
            payload: event,
            hash: *hash,
        }
    }
}
