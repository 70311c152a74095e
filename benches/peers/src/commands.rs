//! The commands that peers are given: those of a ledger, as the events that came of them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use daybook_ledger::Reader;
use daybook_schema::{Seq, StoredEvent, StreamKind};

/// Events are read up to so many.
const EVENTS_MAX: usize = 3_000_000;

/// An event of a command.
pub struct Event {
    pub kind: u16,
    pub payload: Vec<u8>,
    /// The rest of its row: stored where a peer has columns for it.
    pub stored: StoredEvent,
}

/// Events of one season that are appended together.
pub struct Command {
    /// The season, as a number from 0.
    pub season: usize,
    /// How many events the season had before.
    pub version: u64,
    pub events: Vec<Event>,
}

/// Commands in their order.
pub struct Commands {
    pub all: Vec<Command>,
    pub seasons: usize,
}

impl Commands {
    /// Those of a ledger that touch one season alone, after all seasons were started.
    pub fn read(dir: &Path) -> Result<Self> {
        let (mut numbers, mut versions) = (HashMap::new(), Vec::new());
        let (mut all, mut events, mut count) = (Vec::<Command>::new(), Vec::new(), 0);
        for stored in Reader::open(dir)?.events_from(Seq::MIN) {
            let stored = stored?;
            let part = stored.header.command;
            if stored.event.kind().stream() == StreamKind::Season {
                let mut payload = Vec::new();
                stored.event.encode(&mut payload);
                events.push(Event { kind: stored.header.kind, payload, stored });
            }
            if part.place + 1 < part.size {
                continue;
            }
            let Some(first) = events.first() else { continue };
            let id = *first.stored.header.stream.as_bytes();
            let next = numbers.len();
            let season = *numbers.entry(id).or_insert(next);
            if season == versions.len() {
                versions.push(0);
            }
            let version = versions[season];
            versions[season] += events.len() as u64;
            count += events.len();
            all.push(Command { season, version, events: std::mem::take(&mut events) });
            if count >= EVENTS_MAX {
                break;
            }
        }
        Ok(Self { all, seasons: numbers.len() })
    }
}
