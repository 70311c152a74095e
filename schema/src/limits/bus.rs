//! Limits of the bus.

/// Events of one block on the bus: about a third of a megabyte.
pub const EVENTS_PER_BLOCK_MAX: usize = 2_048;
/// Bytes of one block on the bus: below what NATS lets pass by default, a mebibyte.
pub const BLOCK_BYTES_MAX: usize = 960 * 1024;
/// What a block takes beside its events: its head and its signature, in bytes.
pub const BLOCK_FRAME_BYTES: usize = 1_024;
/// What a message's headers take beside its block, in bytes.
pub const MESSAGE_HEADER_BYTES_MAX: usize = 4_096;
/// Messages at a stream's end that are looked through for the newest block that is ours.
pub const MESSAGES_LOOKED_THROUGH_MAX: u64 = 256;

const _: () = {
    assert!(
        EVENTS_PER_BLOCK_MAX * 128 < BLOCK_BYTES_MAX && BLOCK_BYTES_MAX < 1 << 20,
        "a full block of usual events must pass NATS's default limit"
    );
};
