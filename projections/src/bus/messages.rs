//! What is asked of a relay, and what its answers begin with.

/// What the answer begins with where the ledger does not have the head; a signed note of it
/// follows.
pub(super) const UNKNOWN_HEAD: &[u8] = b"daybook: unknown head\n";
/// What the answer begins with where it was asked what became of a head; a signed note of it
/// follows.
pub(super) const STANDING: &[u8] = b"daybook: standing\n";
/// What stands between a head and its epoch in such a question.
pub(super) const EPOCH: &str = " epoch ";
/// The answer where nothing follows the head.
pub(super) const NOTHING_NEWER: &[u8] = b"daybook: nothing newer";
