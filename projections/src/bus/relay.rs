//! The publisher: follows a ledger and keeps the stream's end at the ledger's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, ErrorCode};
use backon::BackoffBuilder;
use daybook_ledger::{Reader, Signer, VerifyingKey};
use daybook_schema::{Block, EventHash, Head, limits};
use tokio::sync::watch;

use super::settings::{NatsError, NatsSettings};
use super::stream::{self, RELAY_HEADER};
use crate::feed::{Feed, FeedError};
use crate::local_ledger::LocalLedger;
use crate::notices;

mod answers;
mod cutting;

use cutting::cut;

/// How long the relay waits for events before it looks at other things.
const WAIT: Duration = Duration::from_millis(500);
/// How long events are gathered for one message that come one by one.
const GATHER: Duration = Duration::from_millis(20);
/// How often the stream is looked at while there is nothing to publish.
const STREAM_CHECKED_EVERY: Duration = Duration::from_secs(2);

/// The relay cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The server's settings are no good.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Another relay publishes to the stream.
    #[error(
        "another relay ({other}) publishes to the stream `{stream}`, which has one publisher; this one stops"
    )]
    Fenced {
        /// The stream.
        stream: String,
        /// The run of the other one.
        other: String,
    },
}

/// What a relay has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayProgress {
    /// The newest event that the stream holds.
    pub head: Head,
    /// The message that it is in.
    pub stream_sequence: u64,
}

/// Follows a ledger and publishes it.
pub struct Relay {
    settings: NatsSettings,
    ledger: LocalLedger,
    signer: Arc<Signer>,
    key: VerifyingKey,
    run: String,
    progress: watch::Sender<Option<RelayProgress>>,
}

/// Where the stream's end is, as far as this relay knows.
struct End {
    progress: RelayProgress,
    /// Told in message ids, so that no block is taken for one that the server has forgotten.
    attempt: u64,
}

/// Why a block was not published.
enum Refused {
    /// The stream's end is not where it was taken to be.
    Elsewhere(String),
    /// The server did not do it; it may later.
    Later(String),
}

impl Relay {
    /// A relay of a ledger; its blocks are signed with the signing key of the keys directory.
    #[must_use]
    pub fn new(
        ledger: impl Into<LocalLedger>,
        signer: Signer,
        key: VerifyingKey,
        settings: NatsSettings,
    ) -> Self {
        let run = uuid::Uuid::now_v7().to_string();
        let progress = watch::Sender::new(None);
        let (ledger, signer) = (ledger.into(), Arc::new(signer));
        Self { settings, ledger, signer, key, run, progress }
    }

    /// Tells of what was published.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Option<RelayProgress>> {
        self.progress.subscribe()
    }

    /// Publishes until it is told to stop. A server that is away is waited for.
    ///
    /// # Errors
    /// [`RelayError`] when the ledger cannot be read, or another relay publishes to the stream.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
        let client = self.settings.connect("daybook relay").await?;
        let subject = self.settings.range_subject();
        // Who answers for the stream publishes to it. One that was killed does not.
        let beginning = Head { seq: 0, hash: EventHash::new([0; 32]) };
        let answer = client.request(subject.clone(), beginning.to_string().into()).await;
        // A stranger could answer anything; whoever has the ledger's key answers with its first
        // block.
        if answer.is_ok_and(|answer| stream::read_range(&answer.payload, &self.key).is_some()) {
            let other = format!("it answers on {subject}");
            return Err(RelayError::Fenced { stream: self.settings.stream.clone(), other });
        }
        let answers = answers::Answers {
            data_dir: self.ledger.data_dir().to_owned(),
            signer: Arc::clone(&self.signer),
            client: client.clone(),
            bytes_max: bytes_max(&client),
        };
        let answering = tokio::spawn(answers.run(subject));
        let noticing = tokio::spawn(notices::publish(self.ledger.clone(), client.clone()));
        let context = jetstream::new(client);
        let published = tokio::select! {
            published = self.publish(&context) => published,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        };
        answering.abort();
        noticing.abort();
        published
    }

    async fn publish(&self, context: &Context) -> Result<(), RelayError> {
        let backoff = || {
            let builder = backon::ExponentialBuilder::default();
            let builder = builder.with_min_delay(Duration::from_millis(50));
            builder.with_max_delay(Duration::from_secs(5)).with_jitter().without_max_times().build()
        };
        let mut delays = backoff();
        let mut feed = self.ledger.feed();
        let mut known: Option<RelayProgress> = None;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let refused = match self.find_end(context, known).await? {
                Ok(progress) => {
                    let mut end = End { progress, attempt };
                    let refused = self.publish_from(context, &mut end, feed.as_mut()).await?;
                    if end.progress != progress {
                        delays = backoff();
                    }
                    known = Some(end.progress);
                    refused
                }
                Err(reason) => Refused::Later(reason),
            };
            match refused {
                Refused::Elsewhere(reason) => {
                    tracing::warn!(reason, "the stream's end has moved; looked for anew");
                }
                Refused::Later(reason) => {
                    tracing::warn!(reason, "nothing is published for now; tried again");
                }
            }
            tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(5))).await;
        }
    }

    /// Finds the stream's end, and makes the stream where there is none.
    async fn find_end(
        &self,
        context: &Context,
        known: Option<RelayProgress>,
    ) -> Result<Result<RelayProgress, String>, RelayError> {
        let reader = Reader::open(self.ledger.data_dir()).map_err(FeedError::from)?;
        let genesis = reader.genesis_head();
        let stream = context.get_or_create_stream(self.settings.stream_config()).await;
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(self.why_there_is_no_stream(&error))),
        };
        let state = &stream.cached_info().state;
        let (first, last) = (state.first_sequence, state.last_sequence);
        let reader = std::sync::Mutex::new(reader);
        let is_ours = |head| {
            let reader = reader.lock().map_err(|_| "the ledger's reader stopped".to_owned())?;
            reader.has(head).map_err(|error| error.to_string())
        };
        let found = stream::newest_block(&stream, first, last, &self.key, is_ours).await;
        let newest = match found {
            Ok(newest) => newest,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(newest) = newest else {
            // Empty, or nothing of ours in it: filled from the beginning. Where blocks grow old and
            // go, only what comes from now on is of use; the rest is asked for.
            let aged = self.settings.age_max.is_some() && last > 0;
            let head = known.filter(|_| aged).map_or(genesis, |known| known.head);
            return Ok(Ok(RelayProgress { head, stream_sequence: last }));
        };
        let head = newest.range.last;
        let by_another = newest.relay.filter(|relay| *relay != self.run);
        if let (Some(known), Some(other)) = (known, by_another)
            && head.seq > known.head.seq
        {
            return Err(RelayError::Fenced { stream: self.settings.stream.clone(), other });
        }
        Ok(Ok(RelayProgress { head, stream_sequence: last }))
    }

    /// What an operator reads when the server made no stream.
    fn why_there_is_no_stream(&self, error: &CreateStreamError) -> String {
        let NatsSettings { stream, bytes_max, .. } = &self.settings;
        let no_room = [ErrorCode::INSUFFICIENT_RESOURCES, ErrorCode::STORAGE_RESOURCES_EXCEEDED];
        match error.kind() {
            CreateStreamErrorKind::JetStream(refused)
                if no_room.contains(&refused.error_code()) =>
            {
                format!(
                    "the server has no room for the stream `{stream}` of {bytes_max} bytes: give \
                     its jetstream a larger max_file_store, or the relay a smaller \
                     --nats-max-bytes ({error})"
                )
            }
            _ => format!("stream `{stream}`: {error}"),
        }
    }

    /// Publishes what follows the stream's end, until something stands in the way.
    async fn publish_from(
        &self,
        context: &Context,
        end: &mut End,
        feed: &mut dyn Feed,
    ) -> Result<Refused, RelayError> {
        self.progress.send_replace(Some(end.progress));
        let mut checked = Instant::now();
        loop {
            let Some(block) = gathered(feed, end.progress.head).await? else {
                if checked.elapsed() >= STREAM_CHECKED_EVERY {
                    if let Some(refused) = self.look_at(context, &end.progress).await {
                        return Ok(refused);
                    }
                    checked = Instant::now();
                }
                continue;
            };
            for part in cut(block, bytes_max(&context.client())) {
                let head = part.last();
                match self.publish_block(context, end, &part).await {
                    Ok(stream_sequence) => end.progress = RelayProgress { head, stream_sequence },
                    Err(refused) => return Ok(refused),
                }
                self.progress.send_replace(Some(end.progress));
            }
            checked = Instant::now();
        }
    }

    /// Whether the stream is still there and still ends where it did.
    async fn look_at(&self, context: &Context, progress: &RelayProgress) -> Option<Refused> {
        let info = match context.get_stream(&self.settings.stream).await {
            Ok(stream) => stream.cached_info().state.clone(),
            Err(error) => return Some(Refused::Elsewhere(error.to_string())),
        };
        if info.last_sequence != progress.stream_sequence {
            let reason = format!(
                "it ends at message {}, not at {}",
                info.last_sequence, progress.stream_sequence
            );
            return Some(Refused::Elsewhere(reason));
        }
        let is_purged = info.messages == 0 && progress.head.seq > 0;
        (is_purged && self.settings.age_max.is_none())
            .then(|| Refused::Elsewhere("it was purged".to_owned()))
    }

    async fn publish_block(
        &self,
        context: &Context,
        end: &End,
        block: &Block,
    ) -> Result<u64, Refused> {
        let bytes = block.encode(&self.signer.sign_block(block));
        let message = PublishMessage::build()
            .payload(bytes.into())
            .message_id(format!("{}-{}-{}", self.run, end.attempt, block.last().seq))
            .expected_last_sequence(end.progress.stream_sequence)
            .header(RELAY_HEADER, self.run.as_str());
        let later = |error: &dyn std::fmt::Display| Refused::Later(error.to_string());
        let sent = context.send_publish(self.settings.blocks_subject(), message).await;
        match sent.map_err(|error| later(&error))?.await {
            Ok(ack) => Ok(ack.sequence),
            Err(error) => Err(match error.kind() {
                PublishErrorKind::WrongLastSequence | PublishErrorKind::StreamNotFound => {
                    Refused::Elsewhere(error.to_string())
                }
                // Whether it was stored is not known: the stream's end tells.
                _ => later(&error),
            }),
        }
    }
}

/// What comes next. Where it comes one by one some of it is gathered: a message for each command
/// would be slow.
async fn gathered(feed: &mut dyn Feed, after: Head) -> Result<Option<Block>, FeedError> {
    let Some(mut block) = feed.next(after, WAIT).await? else { return Ok(None) };
    if feed.is_immediate() {
        tokio::time::sleep(GATHER).await;
        while block.events.len() < limits::EVENTS_PER_BLOCK_MAX
            && let Some(more) = feed.next(block.last(), Duration::ZERO).await?
        {
            block.events.extend(more.events);
        }
    }
    Ok(Some(block))
}

/// Bytes that a message may have.
fn bytes_max(client: &async_nats::Client) -> usize {
    // A client that has not been connected yet knows of no limit.
    match client.server_info().max_payload {
        0 => limits::BLOCK_BYTES_MAX,
        most => limits::BLOCK_BYTES_MAX.min(most.saturating_sub(limits::MESSAGE_HEADER_BYTES_MAX)),
    }
}
