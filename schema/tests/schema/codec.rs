//! Guards: decoding refuses what no encoder wrote, says why, never panics, never allocates what a
//! length field claims.

use daybook_schema::chain::{CommandMark, CommandPart};
use daybook_schema::events::{LedgerRestored, LostHeads};
use daybook_schema::{
    CommandHash, CommandId, Epoch, EpochNonce, Event, EventHash, EventKind, Head, PayloadProblem,
    UnixMicros, limits,
};
use proptest::prelude::*;

use crate::samples::every_kind;

fn encoded(event: &Event) -> Vec<u8> {
    let mut payload = Vec::new();
    event.encode(&mut payload);
    payload
}

#[test]
fn trailing_bytes_are_refused_and_the_error_names_kind_and_version() {
    for event in every_kind() {
        let mut payload = encoded(&event);
        payload.push(0);
        let kind = u16::from(event.kind().number());
        let error = Event::decode(kind, event.version(), &payload).unwrap_err();
        assert_eq!(error.problem, PayloadProblem::Trailing { left: 1 });
        let text = error.to_string();
        assert_eq!(
            text,
            format!("payload of kind {kind}, version {}: 1 trailing bytes", event.version())
        );
    }
}

#[test]
fn every_cut_is_refused() {
    for event in every_kind() {
        let payload = encoded(&event);
        for length in 0..payload.len() {
            let kind = event.kind().number().into();
            let cut = Event::decode(kind, event.version(), &payload[..length]);
            assert!(cut.is_err(), "{event:?} at {length}");
        }
    }
}

#[test]
fn unknown_kinds_versions_and_numbers_are_refused() {
    let unknown = Event::decode(3, 1, &[]).unwrap_err();
    assert_eq!(unknown.problem, PayloadProblem::UnknownKind);
    assert_eq!(Event::decode(1_000, 1, &[]).unwrap_err().problem, PayloadProblem::UnknownKind);
    let version = Event::decode(10, 2, &[]).unwrap_err();
    assert_eq!(version.problem, PayloadProblem::UnknownVersion { newest: 1 });
    // Day 29, weather 4, day 0.
    for payload in [[29, 0], [1, 4], [0, 0]] {
        let error = Event::decode(EventKind::DayOpened.number().into(), 1, &payload).unwrap_err();
        assert!(matches!(error.problem, PayloadProblem::Malformed(_)), "{error}");
    }
}

#[test]
fn a_longer_form_of_the_same_number_is_refused() {
    // 7 coins as a varint of one byte, and the same in the three-byte form.
    let kind = EventKind::StipendGranted.number().into();
    assert!(Event::decode(kind, 1, &[2, 7]).is_ok());
    let error = Event::decode(kind, 1, &[2, 251, 7, 0]).unwrap_err();
    assert_eq!(error.problem, PayloadProblem::NotCanonical);
}

#[test]
fn lengths_that_claim_much_are_refused_without_memory() {
    let event = every_kind().into_iter().find(|e| e.kind() == EventKind::DayResolved).unwrap();
    let payload = encoded(&event);
    // The number of troubles comes after day, key, levels and events.
    let at = 1 + 32 + 4 + 4;
    assert_eq!(payload[at], 2);
    for claim in [vec![3], vec![251, 255, 255], vec![253, 255, 255, 255, 255, 255, 255, 255, 63]] {
        let mut forged = payload[..at].to_vec();
        forged.extend(claim);
        forged.extend(&payload[at + 1..]);
        let error = Event::decode(EventKind::DayResolved.number().into(), 1, &forged).unwrap_err();
        assert!(matches!(error.problem, PayloadProblem::Malformed(_)), "{error}");
    }
    let long = vec![0; limits::PAYLOAD_BYTES_MAX + 1];
    let error = Event::decode(EventKind::UserRegistered.number().into(), 1, &long).unwrap_err();
    assert!(matches!(error.problem, PayloadProblem::TooLong { .. }));
}

#[test]
fn the_command_column_has_one_form() {
    let id = CommandId::from_parts(UnixMicros::from_seconds(5), [1; 10]);
    let mark = Some(CommandMark { id, hash: CommandHash::new([2; 16]) });
    for part in
        [CommandPart { place: 0, size: 4, mark }, CommandPart { place: 3, size: 4, mark: None }]
    {
        let (bytes, length) = part.to_bytes();
        assert_eq!(CommandPart::from_bytes(&bytes[..length]), Ok(part));
    }
    for refused in [&[][..], &[0], &[0, 1], &[1, 1], &[4, 4], &[1, 2, 3], &[0; 34], &[0, 1, 9]] {
        assert!(CommandPart::from_bytes(refused).is_err(), "{refused:?}");
    }
}

proptest! {
    /// Whatever the bytes: an error, or a value that encodes to the very same ones.
    #[test]
    fn arbitrary_bytes_decode_strictly_or_not_at_all(
        kind in 0_u16..70,
        version in 0_u16..3,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(event) = Event::decode(kind, version, &bytes) {
            prop_assert_eq!(encoded(&event), bytes);
        }
    }

    /// A real payload with some bytes changed: an error, or a value that encodes to the same.
    #[test]
    fn changed_payloads_decode_strictly_or_not_at_all(
        which in 0_usize..25,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let event = &every_kind()[which];
        let mut bytes = encoded(event);
        prop_assume!(!bytes.is_empty());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(event) = Event::decode(event.kind().number().into(), 1, &bytes) {
            prop_assert_eq!(encoded(&event), bytes);
        }
    }
}

/// Version 2 of an accepted loss names one to eight heads; version 1 is what names none.
#[test]
fn an_accepted_loss_names_one_to_eight_heads() {
    let head = |seq| Head { seq, hash: EventHash::new([7; 32]) };
    let epoch = Epoch { number: 2, nonce: EpochNonce::new([1; 16]) };
    let written = |heads: u64| {
        let lost_heads = LostHeads::take_from((0..heads).map(head));
        encoded(&LedgerRestored { epoch, lost_heads }.into())
    };
    assert!(Event::decode(2, 2, &written(1)).is_ok());
    assert!(Event::decode(2, 2, &written(8)).is_ok());
    assert_eq!(written(9), written(8), "the first eight");
    let [none, mut nine] = [0, 9].map(written);
    assert!(Event::decode(2, 1, &none).is_ok());
    assert!(Event::decode(2, 2, &none).is_err());
    assert!(Event::decode(2, 2, &[none.as_slice(), &[0]].concat()).is_err());
    nine[none.len()] = 9;
    nine.extend_from_slice(&written(1)[none.len() + 1..]);
    let error = Event::decode(2, 2, &nine).unwrap_err();
    assert!(error.to_string().contains("expected 1 to 8 heads"), "{error}");
}
