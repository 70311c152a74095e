//! The stream of blocks as it lies on the server.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use daybook_ledger::{VerifyingKey, is_signed_block};
use daybook_schema::{Block, BlockRange, Head, limits};

/// Who published a block: one relay's run.
pub(super) const RELAY_HEADER: &str = "Daybook-Relay";

/// A message of the stream that is a block which the ledger's key signed.
pub(super) struct Published {
    pub(super) range: BlockRange,
    pub(super) relay: Option<String>,
}

/// A message is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlockRefused {
    /// It is no block, or not one that the ledger's key signed.
    #[error("{0}")]
    Foreign(String),
    /// The ledger's key signed it, and it holds events that a newer version of Daybook wrote.
    #[error("a newer version of Daybook wrote it: {0}")]
    Newer(String),
}

/// Reads a message as a block: each event held to the hash of the one before it, the whole to the
/// signature at its end.
pub(super) fn read_block(payload: &[u8], key: &VerifyingKey) -> Result<Block, BlockRefused> {
    match Block::decode(payload) {
        Ok((block, note)) if is_signed_block(&block.range(), note, key) => Ok(block),
        Err(error) if error.is_newer() && read_range(payload, key).is_some() => {
            Err(BlockRefused::Newer(error.to_string()))
        }
        Ok(_) => Err(BlockRefused::Foreign("the ledger's key did not sign it".to_owned())),
        Err(error) => Err(BlockRefused::Foreign(error.to_string())),
    }
}

/// Which events a signed block holds, whatever version wrote them.
pub(super) fn read_range(payload: &[u8], key: &VerifyingKey) -> Option<BlockRange> {
    let (range, note) = BlockRange::decode(payload).ok()?;
    is_signed_block(&range, note, key).then_some(range)
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
    Ok(read_range(&message.payload, key).map(|range| Published { range, relay }))
}

/// The newest block of the stream, garbage after it passed over.
pub(super) async fn newest_block(
    stream: &Stream,
    first: u64,
    last: u64,
    key: &VerifyingKey,
    is_ours: impl Fn(Head) -> Result<bool, String>,
) -> Result<Option<Published>, String> {
    let oldest = last.saturating_sub(limits::MESSAGES_LOOKED_THROUGH_MAX).max(first).max(1);
    for sequence in (oldest..=last).rev() {
        if let Some(published) = published(stream, sequence, key).await?
            && is_ours(published.range.last)?
        {
            return Ok(Some(published));
        }
    }
    Ok(None)
}

/// Where in the stream to begin for the events after a head: blocks lie in the ledger's order, but
/// for what a refill repeats, which does no harm.
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
            Some(found) if found.range.last.seq > after.seq => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(low)
}
