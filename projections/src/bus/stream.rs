//! The stream of blocks as it lies on the server.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use daybook_ledger::{VerifyingKey, is_signed_block};
use daybook_schema::{Block, Head};

/// Who published a block: one relay's run.
pub(super) const RELAY_HEADER: &str = "Daybook-Relay";
/// How many messages are looked at from the stream's end for one that is a block of ours.
const LOOK_BACK_MAX: u64 = 256;

/// A message of the stream that is a block which the ledger's key signed.
pub(super) struct Published {
    pub(super) block: Block,
    pub(super) relay: Option<String>,
}

/// Reads a message as a block: each event held to the hash of the one before it, the whole to the
/// signature at its end.
pub(super) fn read_block(payload: &[u8], key: &VerifyingKey) -> Result<Block, String> {
    let (block, note) = Block::decode(payload).map_err(|error| error.to_string())?;
    if !is_signed_block(&block, note, key) {
        return Err("the ledger's key did not sign it".to_owned());
    }
    Ok(block)
}

/// The stream, if it is there.
pub(super) async fn get(context: &Context, name: &str) -> Result<Stream, String> {
    context.get_stream(name).await.map_err(|error| format!("stream `{name}`: {error}"))
}

/// A message, if it is there and is a block.
async fn published(
    stream: &Stream,
    sequence: u64,
    key: &VerifyingKey,
) -> Result<Option<Published>, String> {
    let message = match stream.get_raw_message(sequence).await {
        Ok(message) => message,
        Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("message {sequence} of the stream: {error}")),
    };
    let relay = message.headers.get(RELAY_HEADER).map(ToString::to_string);
    Ok(read_block(&message.payload, key).ok().map(|block| Published { block, relay }))
}

/// The newest block of the stream, garbage after it passed over.
pub(super) async fn newest_block(
    stream: &Stream,
    (first, last): (u64, u64),
    key: &VerifyingKey,
    is_ours: impl Fn(Head) -> Result<bool, String>,
) -> Result<Option<Published>, String> {
    let oldest = last.saturating_sub(LOOK_BACK_MAX).max(first).max(1);
    for sequence in (oldest..=last).rev() {
        if let Some(published) = published(stream, sequence, key).await?
            && is_ours(published.block.last())?
        {
            return Ok(Some(published));
        }
    }
    Ok(None)
}

/// Where in the stream to begin for the events after a head: blocks lie in the ledger's order, but for
/// what a refill repeats, which does no harm.
pub(super) async fn sequence_after(
    stream: &mut Stream,
    after: Head,
    key: &VerifyingKey,
) -> Result<u64, String> {
    let info = stream.info().await.map_err(|error| format!("the stream: {error}"))?;
    let (mut low, mut high) = (info.state.first_sequence.max(1), info.state.last_sequence + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = published(stream, middle, key).await?;
        match found {
            Some(found) if found.block.last().seq > after.seq => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(low)
}
