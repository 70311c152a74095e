//! Guards: a block's bytes stay what they are, and no other bytes are taken for one.

use std::path::Path;

use daybook_schema::block::{BlockError, event_bytes};
use daybook_schema::chain::{CommandMark, CommandPart};
use daybook_schema::events::LostHeads;
use daybook_schema::{
    Block, CommandHash, CommandId, Event, EventHash, EventHeader, Head, LedgerId, Seq, StoredEvent,
    StreamId, UnixMicros,
};
use proptest::prelude::*;

use crate::golden::{hex, unhex};
use crate::samples::every_kind;

const NOTE: &str = "a note\n";

/// One event of every kind, chained after event 41.
fn block() -> Block {
    let previous = Head { seq: 41, hash: EventHash::new([9; 32]) };
    let mut block =
        Block { ledger_id: LedgerId::from_bytes([0x22; 16]), previous, events: Vec::new() };
    for (index, mut event) in (0_u8..).zip(every_kind()) {
        // The golden block is older than version 2 of this kind.
        if let Event::LedgerRestored(restored) = &mut event {
            restored.lost_heads = LostHeads::default();
        }
        let before = block.last();
        let mark = CommandMark {
            id: CommandId::from_parts(UnixMicros::from_seconds(1_767_571_200), [index; 10]),
            hash: CommandHash::new([index; 16]),
        };
        let header = EventHeader {
            seq: Seq::new(before.seq + 1).unwrap(),
            recorded_at: UnixMicros::new(1_767_571_200_000_000 + i64::from(index)),
            stream: StreamId::from_bytes([index; 16]),
            stream_prev: (index > 3).then(|| Seq::new(u64::from(index)).unwrap()),
            kind: event.kind().number().into(),
            version: event.version(),
            command: CommandPart {
                place: index % 2,
                size: 2,
                mark: (index % 2 == 0).then_some(mark),
            },
        };
        let mut payload = Vec::new();
        event.encode(&mut payload);
        let hash = header.hash(&before.hash, &payload);
        block.events.push(StoredEvent { header, event, hash });
    }
    block
}

#[test]
fn the_golden_block_still_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/block.v1.hex");
    let bytes = block().encode(NOTE);
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        std::fs::write(&path, hex(&bytes) + "\n").unwrap();
    }
    let golden = unhex(std::fs::read_to_string(&path).unwrap().trim());
    assert_eq!(golden, bytes);
    assert_eq!(Block::decode(&golden), Ok((block(), NOTE.as_bytes())));
    let frame = 16 + 16 + 8 + 32 + 4 + NOTE.len();
    let events = block().events.into_iter().map(|stored| {
        let mut payload = Vec::new();
        stored.event.encode(&mut payload);
        event_bytes(&stored, payload.len())
    });
    assert_eq!(frame + events.sum::<usize>(), bytes.len());
}

#[test]
fn a_block_goes_on_from_a_head_that_it_holds_and_from_no_other() {
    let whole = block();
    assert_eq!(whole.clone().after(whole.previous), Some(whole.clone()));
    for (index, stored) in whole.events.iter().enumerate() {
        let rest = whole.clone().after(stored.head()).unwrap();
        assert_eq!(rest.previous, stored.head());
        assert_eq!(rest.events, whole.events[index + 1..]);
        let other = Head { hash: EventHash::new([1; 32]), ..stored.head() };
        assert_eq!(whole.clone().after(other), None);
    }
    let before = Head { seq: 40, hash: EventHash::new([9; 32]) };
    let beyond = Head { seq: 41 + whole.events.len() as u64 + 1, hash: whole.last().hash };
    assert_eq!(whole.clone().after(before), None);
    assert_eq!(whole.after(beyond), None);
}

#[test]
fn counts_that_are_none_are_refused_before_anything_is_made() {
    let mut bytes = block().encode(NOTE);
    for count in [0_u32, 2_049, u32::MAX] {
        bytes[72..76].copy_from_slice(&count.to_le_bytes());
        assert_eq!(Block::decode(&bytes).unwrap_err(), BlockError::Count { count });
    }
}

proptest! {
    /// Whatever is changed before the note, it is not read as a block of the same events.
    #[test]
    fn a_changed_byte_is_seen(place in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut bytes = block().encode("");
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        // The ledger's id and the seq before are told by the signature, not by the hashes.
        if let Ok((read, _)) = Block::decode(&bytes) {
            prop_assert!((16..40).contains(&place), "byte {place}");
            prop_assert_ne!(read, block());
        }
    }

    #[test]
    fn a_cut_block_is_refused(length in any::<prop::sample::Index>()) {
        let bytes = block().encode("");
        prop_assert!(Block::decode(&bytes[..length.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        is_named in any::<bool>(),
    ) {
        let mut named = if is_named { b"daybook block 1\n".to_vec() } else { Vec::new() };
        named.extend(bytes);
        drop(Block::decode(&named));
    }
}
