//! Cutting what is published into blocks that the bus lets pass.

use daybook_schema::{Block, StoredEvent, limits};

/// Cuts a block into such as may be published.
pub(super) fn cut(block: Block, bytes_max: usize) -> Vec<Block> {
    let mut parts: Vec<Block> = Vec::new();
    let (ledger_id, mut previous) = (block.ledger_id, block.previous);
    let mut bytes = 0;
    for stored in block.events {
        let event_bytes = event_bytes(&stored);
        let fits = |part: &Block| {
            part.events.len() < limits::EVENTS_PER_BLOCK_MAX && bytes + event_bytes <= bytes_max
        };
        let head = stored.head();
        match parts.last_mut().filter(|part| fits(part)) {
            Some(part) => {
                part.events.push(stored);
                bytes += event_bytes;
            }
            None => {
                parts.push(Block { ledger_id, previous, events: vec![stored] });
                bytes = limits::BLOCK_FRAME_BYTES + event_bytes;
            }
        }
        previous = head;
    }
    parts
}

fn event_bytes(stored: &StoredEvent) -> usize {
    let mut payload = Vec::new();
    stored.event.encode(&mut payload);
    daybook_schema::block::event_bytes(stored, payload.len())
}
