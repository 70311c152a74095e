//! The consumer: blocks from the stream, every link checked, what is missing asked for.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use daybook_ledger::{HeadNote, VerifyingKey, read_head_note};
use daybook_schema::{Block, Epoch, EventHash, Head, LedgerId, LedgerIdentity};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use super::messages::{EPOCH, NOTHING_NEWER, STANDING, UNKNOWN_HEAD};
use super::settings::{NatsError, NatsSettings};
use super::stream::{self, BlockRefused};
use crate::feed::{Feed, FeedError, Past, Tail, deadline};

/// The server forgets a consumer that has not asked for so long.
const CONSUMER_INACTIVE: Duration = Duration::from_secs(60);
/// A server that has not been heard of for twice as long is taken to be gone.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long one pull of messages stays open.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Blocks that are sent ahead.
const BLOCKS_AHEAD: usize = 16;
/// After so long a silence the relay is asked whether there is anything.
const SILENCE: Duration = Duration::from_secs(3);

/// The blocks of a JetStream stream.
pub struct JetStreamFeed {
    settings: NatsSettings,
    key: VerifyingKey,
    name: String,
    ledger_id: Option<LedgerId>,
    client: Option<Client>,
    messages: Option<pull::Stream>,
    /// What `messages` go on after: somebody who asks from elsewhere needs others.
    given: Head,
    /// A block that lies beyond a gap.
    beyond: Option<Block>,
    /// The ledger, where it is at hand.
    ledger: Option<Tail>,
    heard: Instant,
    /// Why nobody could be asked, as it was said last.
    told: String,
}

impl JetStreamFeed {
    /// A feed of the blocks that `key` signed. The server knows it by its name, such as a
    /// projection's.
    #[must_use]
    pub fn new(settings: NatsSettings, key: VerifyingKey, name: &str) -> Self {
        let name = format!("daybook {name}");
        Self {
            settings,
            key,
            name,
            ledger_id: None,
            client: None,
            messages: None,
            given: Head { seq: 0, hash: EventHash::new([0; 32]) },
            beyond: None,
            ledger: None,
            heard: Instant::now(),
            told: String::new(),
        }
    }

    /// Reads the ledger of this data directory where no relay answers.
    #[must_use]
    pub fn with_ledger(self, data_dir: &Path) -> Self {
        Self { ledger: Some(Tail::new(data_dir)), ..self }
    }

    async fn client(&mut self) -> Result<Client, NatsError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = self.settings.connect(&self.name).await?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The blocks of the stream from the one on that holds the event after a head.
    async fn messages(&mut self, after: Head) -> Result<pull::Stream, String> {
        let client = self.client().await.map_err(|error| error.to_string())?;
        let context = async_nats::jetstream::new(client);
        let mut stream = stream::get(&context, &self.settings.stream).await?;
        let start_sequence = stream::sequence_after(&mut stream, after, &self.key).await?;
        let config = pull::Config {
            description: Some(self.name.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ack_policy: AckPolicy::None,
            inactive_threshold: CONSUMER_INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            filter_subject: self.settings.blocks_subject(),
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
        consumer
            .stream()
            .max_messages_per_batch(BLOCKS_AHEAD)
            .heartbeat(HEARTBEAT)
            .expires(PULL_EXPIRES)
            .messages()
            .await
            .map_err(|error| error.to_string())
    }

    async fn next_block(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> Result<Option<Block>, FeedError> {
        let deadline = deadline(timeout);
        if after != self.given {
            (self.messages, self.beyond) = (None, None);
            self.given = after;
        }
        if let Some(beyond) = self.beyond.take()
            && let Some(found) = self.place(beyond, after).await?
        {
            return Ok(Some(found));
        }
        loop {
            if self.messages.is_none() {
                match self.messages(after).await {
                    Ok(messages) => self.messages = Some(messages),
                    Err(reason) => return self.without_stream(after, &reason, deadline).await,
                }
            }
            let Some(messages) = &mut self.messages else { continue };
            let payload = match tokio::time::timeout_at(deadline, messages.next()).await {
                Err(_) => return self.after_silence(after, timeout).await,
                Ok(Some(Ok(message))) => message.message.payload,
                Ok(Some(Err(error))) => {
                    tracing::warn!(feed = self.name, %error, "the stream broke off; opened anew");
                    self.messages = None;
                    continue;
                }
                Ok(None) => {
                    self.messages = None;
                    continue;
                }
            };
            self.heard = Instant::now();
            match stream::read_block(&payload, &self.key) {
                Ok(block) => {
                    if let Some(found) = self.place(block, after).await? {
                        return Ok(Some(found));
                    }
                }
                Err(BlockRefused::Foreign(reason)) => {
                    tracing::warn!(
                        feed = self.name,
                        reason,
                        "a message is no block of the ledger's"
                    );
                }
                Err(newer @ BlockRefused::Newer(_)) => {
                    // Looked for anew by the next call.
                    self.messages = None;
                    return Err(FeedError::Newer(newer.to_string()));
                }
            }
        }
    }

    /// What a block holds beyond a head. Where it does not go on from there, what is missing is
    /// asked for, and the block kept until it does.
    async fn place(&mut self, block: Block, after: Head) -> Result<Option<Block>, FeedError> {
        let ledger_id = *self.ledger_id.get_or_insert(block.ledger_id);
        if block.ledger_id != ledger_id {
            let other = block.ledger_id;
            tracing::warn!(feed = self.name, %other, "a block of another ledger is passed over");
            return Ok(None);
        }
        if block.last().seq <= after.seq {
            return Ok(None);
        }
        let (first, is_beyond) = (block.previous.seq + 1, block.previous.seq > after.seq);
        let joint = if after.seq == 0 { block.previous } else { after };
        if is_beyond {
            tracing::warn!(feed = self.name, %after, first, "events are missing; asked for");
            self.beyond = Some(block);
        } else if let Some(found) = block.after(joint) {
            return Ok(Some(found));
        } else {
            tracing::warn!(feed = self.name, %after, first, "a block is of another past; asked what is right");
        }
        let found = self.ask(after).await.and_then(|found| {
            let missing = || FeedError::Bus(format!("nobody has the events after {after}"));
            found.map(Some).ok_or_else(missing)
        });
        if found.is_err() {
            // They may come with the stream later: it is looked through anew.
            (self.messages, self.beyond) = (None, None);
        }
        found
    }

    /// Asks the relay, and else the ledger, for what follows a head.
    async fn ask(&mut self, after: Head) -> Result<Option<Block>, FeedError> {
        let reason = match self.ask_relay(after).await {
            Err(AskError::UnknownHead) => return Err(FeedError::UnknownHead { after }),
            Err(AskError::Newer(reason)) => return Err(FeedError::Newer(reason)),
            Err(AskError::NoAnswer(reason)) => reason,
            Ok(block) => return Ok(block),
        };
        match &mut self.ledger {
            Some(ledger) => ledger.next(after, Duration::ZERO).await,
            None => Err(FeedError::Bus(reason)),
        }
    }

    async fn ask_relay(&mut self, after: Head) -> Result<Option<Block>, AskError> {
        let no_answer = |reason: String| AskError::NoAnswer(format!("no relay answers: {reason}"));
        let client = self.client().await.map_err(|error| no_answer(error.to_string()))?;
        let request = client.request(self.settings.range_subject(), after.to_string().into());
        let answer = request.await.map_err(|error| no_answer(error.to_string()))?;
        if let Some(note) = answer.payload.strip_prefix(UNKNOWN_HEAD) {
            // Whoever could make this up could send us back to the beginning.
            let told = read_head_note(note, after, &self.key);
            let is_ours = told.is_some_and(|(told_by, told)| {
                told == HeadNote::Unknown && self.ledger_id.is_none_or(|id| id == told_by)
            });
            return Err(match is_ours {
                true => AskError::UnknownHead,
                false => no_answer("its answer is not signed by the ledger's key".to_owned()),
            });
        }
        if *answer.payload == *NOTHING_NEWER {
            return Ok(None);
        }
        let block = match stream::read_block(&answer.payload, &self.key) {
            Ok(block) => block,
            Err(newer @ BlockRefused::Newer(_)) => return Err(AskError::Newer(newer.to_string())),
            Err(BlockRefused::Foreign(reason)) => return Err(no_answer(reason)),
        };
        let joint = if after.seq == 0 { block.previous } else { after };
        let ledger_id = *self.ledger_id.get_or_insert(block.ledger_id);
        let found = Some(block).filter(|block| block.ledger_id == ledger_id);
        let found = found.and_then(|block| block.after(joint));
        found.map(Some).ok_or_else(|| no_answer("it gave another block".to_owned()))
    }

    /// Asks the relay, and else the ledger, what became of a head.
    async fn ask_past(&mut self, head: Head, identity: LedgerIdentity) -> Result<Past, FeedError> {
        let reason = match self.ask_relay_of(head, identity.epoch).await {
            Ok((given, _)) if given != identity.ledger_id => {
                return Ok(Past::AnotherLedger { given });
            }
            Ok((_, HeadNote::Known)) => return Ok(Past::Held),
            Ok((_, HeadNote::AcceptedLoss)) => return Ok(Past::Accepted),
            Ok((_, HeadNote::Unknown)) => return Ok(Past::Lost { has: None }),
            Err(reason) => reason,
        };
        match &mut self.ledger {
            Some(ledger) => ledger.past(head, identity).await,
            None => Err(FeedError::Bus(format!("no relay tells what became of {head}: {reason}"))),
        }
    }

    async fn ask_relay_of(
        &mut self,
        head: Head,
        Epoch { number, nonce }: Epoch,
    ) -> Result<(LedgerId, HeadNote), String> {
        let client = self.client().await.map_err(|error| error.to_string())?;
        let question = format!("{head}{EPOCH}{number} {nonce}");
        let request = client.request(self.settings.range_subject(), question.into());
        let answer = request.await.map_err(|error| error.to_string())?;
        // Whoever could make this up could send us back to the beginning.
        let told = answer.payload.strip_prefix(STANDING);
        told.and_then(|note| read_head_note(note, head, &self.key))
            .ok_or_else(|| "its answer is not signed by the ledger's key".to_owned())
    }

    /// Nothing came: either there is nothing, or it was lost on the way.
    async fn after_silence(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> Result<Option<Block>, FeedError> {
        if !timeout.is_zero() && self.heard.elapsed() < SILENCE {
            return Ok(None);
        }
        self.heard = Instant::now();
        match self.ask(after).await {
            // The stream is there, and whoever fills it may be away.
            Err(FeedError::Bus(reason)) if !timeout.is_zero() => {
                if self.told != reason {
                    tracing::warn!(
                        feed = self.name,
                        reason,
                        "nothing comes, and nobody can be asked"
                    );
                    self.told = reason;
                }
                Ok(None)
            }
            other => other,
        }
    }

    /// The stream is not there, or cannot be read: what there is comes from the relay or the
    /// ledger.
    async fn without_stream(
        &mut self,
        after: Head,
        reason: &str,
        deadline: tokio::time::Instant,
    ) -> Result<Option<Block>, FeedError> {
        let found = self.ask(after).await.map_err(|error| match error {
            FeedError::Bus(other) => FeedError::Bus(format!("{reason}; {other}")),
            other => other,
        })?;
        if found.is_none() {
            tokio::time::sleep_until(deadline).await;
        }
        Ok(found)
    }
}

/// A relay gave nothing.
enum AskError {
    /// The ledger does not have the head.
    UnknownHead,
    /// It gave a block that a newer version wrote.
    Newer(String),
    /// No answer that could be used.
    NoAnswer(String),
}

impl Feed for JetStreamFeed {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(async move {
            let found = self.next_block(after, timeout).await?;
            if let Some(block) = &found {
                self.given = block.last();
            }
            Ok(found)
        })
    }

    fn past(
        &mut self,
        head: Head,
        identity: LedgerIdentity,
    ) -> BoxFuture<'_, Result<Past, FeedError>> {
        Box::pin(self.ask_past(head, identity))
    }
}
