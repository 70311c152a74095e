//! Answers who lacks events: a request with a head is answered with the block that follows it.

use std::path::PathBuf;
use std::sync::Arc;

use async_nats::{Client, Message};
use daybook_ledger::{HeadNote, Reader, Signer, Standing};
use daybook_schema::{Block, Epoch, Head, Seq};
use futures_util::StreamExt;

use super::cutting::cut;
use crate::bus::messages::{EPOCH, NOTHING_NEWER, STANDING, UNKNOWN_HEAD};

/// The answer to what is no head, or where the ledger cannot be read.
const CANNOT: &[u8] = b"daybook: cannot answer";

pub(super) struct Answers {
    pub(super) data_dir: PathBuf,
    pub(super) signer: Arc<Signer>,
    pub(super) client: Client,
    pub(super) bytes_max: usize,
}

impl Answers {
    /// Answers one request after another; several relays share them.
    pub(super) async fn run(self, subject: String) {
        let requests = self.client.queue_subscribe(subject.clone(), subject).await;
        let mut requests = match requests {
            Ok(requests) => requests,
            Err(error) => {
                tracing::warn!(%error, "requests for missing events are not answered");
                return;
            }
        };
        while let Some(request) = requests.next().await {
            let Message { reply: Some(reply), payload, .. } = request else { continue };
            let (data_dir, signer) = (self.data_dir.clone(), Arc::clone(&self.signer));
            let bytes_max = self.bytes_max;
            let answered = tokio::task::spawn_blocking(move || {
                answer(&payload, &data_dir, &signer, bytes_max)
            });
            let answer = answered.await.ok().flatten().unwrap_or_else(|| CANNOT.to_vec());
            if let Err(error) = self.client.publish(reply, answer.into()).await {
                tracing::warn!(%error, "a request for missing events was not answered");
            }
        }
    }
}

fn answer(
    request: &[u8],
    data_dir: &std::path::Path,
    signer: &Signer,
    bytes_max: usize,
) -> Option<Vec<u8>> {
    let request = std::str::from_utf8(request).ok()?;
    let reader = Reader::open(data_dir).ok()?;
    if let Some((head, epoch)) = request.split_once(EPOCH) {
        return standing(&reader, signer, head.parse().ok()?, epoch);
    }
    let after: Head = request.parse().ok()?;
    let previous = if after.seq == 0 { reader.genesis_head() } else { after };
    let ledger_id = reader.genesis().ledger_id;
    if !reader.has(previous).ok()? {
        let note = signer.sign_head_note(HeadNote::Unknown, ledger_id, after);
        return Some([UNKNOWN_HEAD, note.as_bytes()].concat());
    }
    let from = Seq::new(previous.seq.saturating_add(1)).ok()?;
    let events = reader.range(from, Seq::MAX).ok()?;
    let block = cut(Block { ledger_id, previous, events }, bytes_max).into_iter().next();
    Some(match block {
        Some(block) => block.encode(&signer.sign_block(&block)),
        None => NOTHING_NEWER.to_vec(),
    })
}

/// What became of a head of an epoch, `NUMBER NONCE`.
fn standing(reader: &Reader, signer: &Signer, head: Head, epoch: &str) -> Option<Vec<u8>> {
    let (number, nonce) = epoch.split_once(' ')?;
    let epoch = Epoch { number: number.parse().ok()?, nonce: nonce.parse().ok()? };
    let told = match reader.standing(head, Some(epoch)).ok()? {
        Standing::Held => HeadNote::Known,
        Standing::Accepted { .. } => HeadNote::AcceptedLoss,
        Standing::Lost { .. } => HeadNote::Unknown,
    };
    let note = signer.sign_head_note(told, reader.genesis().ledger_id, head);
    Some([STANDING, note.as_bytes()].concat())
}
