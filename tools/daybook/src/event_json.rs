//! An event as JSON: what `tail` prints a line, and what other programs read.

use daybook_ledger::StoredEvent;
use daybook_schema::{CommandId, EventHash, EventKind, Seq, StreamId, StreamKind};
use serde::Serialize;

/// An event as other programs see it. Every line has the same keys, and each a plain value of one type, so that
/// a table can be read from any of them: the payload, whose fields depend on the kind, is a text that holds JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventJson {
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
    payload: String,
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

impl EventJson {
    /// What an event looks like.
    pub(crate) fn of(stored: &StoredEvent) -> Result<Self, serde_json::Error> {
        let StoredEvent { header, event, hash } = stored;
        let kind = event.kind();
        Ok(Self {
            seq: header.seq,
            recorded_micros: header.recorded_at.get(),
            stream: shown_stream(kind.stream(), header.stream),
            stream_prev: header.stream_prev.map_or(0, Seq::get),
            kind,
            version: header.version,
            command_id: header.command.mark.map(|mark| mark.id),
            place: header.command.place,
            size: header.command.size,
            payload: serde_json::to_string(event)?,
            hash: *hash,
        })
    }
}
