//! Guards: over a real JetStream the tables become those that the ledger's own tail gives, whatever
//! happens to the server, its stream, the relay and the messages on the way.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use daybook_ledger::{Signer, VerifyingKey, keys};
use daybook_projections::test_kit::{Rows, same};
use daybook_projections::{
    Feed, FeedError, FeedSource, GameDatabase, JetStreamFeed, NatsSettings, Notice, Position,
    Reads, Relay, RelayError, Workers, all_projections, rebuild,
};
use daybook_schema::{Block, Head};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fixture::{Played, all_rows};
use crate::nats_server::NatsServer;

const PATIENCE: Duration = Duration::from_secs(120);
pub const NAMES: [&str; 3] = ["seasons", "simulins", "analytics"];

/// A ledger, a server, and a relay between them.
pub struct Bus {
    pub played: Played,
    pub server: NatsServer,
    pub settings: NatsSettings,
    key: VerifyingKey,
    expected: Rows,
    newest: u64,
}

pub struct Relaying {
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), RelayError>>,
}

impl Relaying {
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap().unwrap();
    }
}

impl Bus {
    async fn new(seed: u64) -> Self {
        Self::with(seed, NatsServer::start()).await
    }

    pub async fn with(seed: u64, server: NatsServer) -> Self {
        let played = Played::new(12, 6, seed);
        let season_key = keys::random_season_key().unwrap();
        keys::init(&played.path().join("keys"), &season_key).unwrap();
        let key = keys::load(&played.path().join("keys")).unwrap().verifying_key;
        let (reference, positions) = played.project("reference.db").await;
        let expected = all_rows(reference.path()).await;
        let settings = server.settings();
        let newest = positions[0].head.seq;
        Self { played, server, settings, key, expected, newest }
    }

    fn signer(&self) -> Signer {
        keys::load(&self.played.path().join("keys")).unwrap().signer
    }

    pub fn relay(&self) -> Relaying {
        let relay = Relay::new(self.played.path(), self.signer(), self.key, self.settings.clone());
        let (stop, stopped) = watch::channel(false);
        Relaying { stop, running: tokio::spawn(relay.run(stopped)) }
    }

    pub fn source(&self, data_dir: Option<&Path>) -> FeedSource {
        FeedSource::JetStream {
            settings: Box::new(self.settings.clone()),
            key: self.key,
            data_dir: data_dir.map(Path::to_owned),
        }
    }

    /// Workers that know of nothing but the bus.
    pub async fn workers(&self, name: &str) -> (GameDatabase, Workers) {
        let database = self.played.database(name).await;
        let workers = Workers::start(&database, &all_projections(), &self.source(None));
        (database, workers)
    }

    async fn context(&self) -> jetstream::Context {
        jetstream::new(async_nats::connect(self.server.url()).await.unwrap())
    }

    /// Waits until the tables stand for the ledger's newest event, and holds them to the tail's.
    pub async fn expect_same(&self, what: &str, database: &GameDatabase) {
        let reads = Reads::new(database);
        let stands = reads.wait_for(&NAMES, self.newest, PATIENCE).await.unwrap();
        assert!(!stands.is_stale, "{what}: at {} of {}", stands.seq, self.newest);
        same(what, &self.expected, &all_rows(database.path()).await).unwrap();
    }

    /// Waits until the stream holds the whole ledger.
    async fn expect_filled(&self) {
        let context = self.context().await;
        let started = tokio::time::Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "the stream is filled");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok(stream) = context.get_stream("daybook").await else { continue };
            let last = stream.cached_info().state.last_sequence;
            let Ok(message) = stream.get_raw_message(last).await else { continue };
            let Ok((block, _)) = Block::decode(&message.payload) else { continue };
            if block.last().seq == self.newest {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_over_the_bus_are_those_of_the_tail() {
    let bus = Bus::new(51).await;
    let relay = bus.relay();
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("over the bus", &database).await;
    workers.stop().await;

    // A rebuild needs nothing but the bus either.
    let mut feed = bus.source(None).feed("rebuild");
    let rebuilt = rebuild(&database, &all_projections(), feed.as_mut()).await.unwrap();
    assert!(rebuilt.iter().all(|rebuilt| rebuilt.position.head.seq == bus.newest));
    bus.expect_same("rebuilt over the bus", &database).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_is_waited_for() {
    let mut bus = Bus::new(52).await;
    let relay = bus.relay();
    let (database, workers) = bus.workers("bus.db").await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        bus.server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        bus.server.begin();
    }
    bus.expect_same("a killed server", &database).await;
    workers.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_or_purged_is_filled_again() {
    let bus = Bus::new(53).await;
    let relay = bus.relay();
    bus.expect_filled().await;
    let context = bus.context().await;
    context.delete_stream("daybook").await.unwrap();
    bus.expect_filled().await;
    let (database, workers) = bus.workers("deleted.db").await;
    bus.expect_same("a deleted stream", &database).await;
    workers.stop().await;

    context.get_stream("daybook").await.unwrap().purge().await.unwrap();
    bus.expect_filled().await;
    let (database, workers) = bus.workers("purged.db").await;
    bus.expect_same("a purged stream", &database).await;
    workers.stop().await;

    // While nobody publishes, a stream that lost its newest messages has gaps that the relay fills.
    relay.stop().await;
    let mut stream = context.get_stream("daybook").await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    for sequence in (state.first_sequence + state.messages / 2)..=state.last_sequence {
        stream.delete_message(sequence).await.unwrap();
    }
    let relay = bus.relay();
    bus.expect_filled().await;
    let (database, workers) = bus.workers("lost.db").await;
    bus.expect_same("lost messages", &database).await;
    workers.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_is_fenced_off() {
    let bus = Bus::new(54).await;
    let (first, second) = (bus.relay(), bus.relay());
    bus.expect_filled().await;
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("two relays", &database).await;
    workers.stop().await;
    // Which one wins is open; that not both go on publishing is not.
    let stopped = [first, second].map(|relay| (relay.running.is_finished(), relay));
    for (is_finished, relay) in stopped {
        if is_finished {
            let error = relay.running.await.unwrap().unwrap_err();
            assert!(matches!(error, RelayError::Fenced { .. }), "{error}");
        } else {
            relay.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_messages_are_passed_over() {
    let bus = Bus::new(55).await;
    let relay = bus.relay();
    bus.expect_filled().await;
    let context = bus.context().await;
    let subject = bus.settings.blocks_subject();
    let stream = context.get_stream("daybook").await.unwrap();
    let real = stream.get_raw_message(1).await.unwrap().payload.to_vec();

    let mut forged = Vec::new();
    forged.push(b"no block at all".to_vec());
    forged.push(Vec::new());
    forged.push(real[..real.len() / 2].to_vec());
    for place in [0, 20, 40, 80, real.len() / 3, real.len() - 5] {
        let mut altered = real.clone();
        altered[place] ^= 1;
        forged.push(altered);
    }
    // What is chained as it should be, but was signed by another: events of the stranger's own
    // making.
    let (block, _) = Block::decode(&real).unwrap();
    let elsewhere = bus.played.path().join("strangers-keys");
    keys::init(&elsewhere, &keys::random_season_key().unwrap()).unwrap();
    let stranger = keys::load(&elsewhere).unwrap().signer;
    forged.push(block.encode(&stranger.sign_block(&block)));
    let mut shorter = block.clone();
    shorter.events.truncate(1);
    forged.push(shorter.encode(&stranger.sign_block(&shorter)));
    // A signature of a block under another.
    forged.push(shorter.encode(&bus.signer().sign_block(&block)));
    // Real ones once more.
    forged.push(real.clone());
    for payload in forged {
        context.publish(subject.clone(), payload.into()).await.unwrap().await.unwrap();
    }
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("a stranger's messages", &database).await;
    workers.stop().await;

    // The relay goes on after them.
    relay.stop().await;
    let relay = bus.relay();
    context.publish(subject, "more garbage".into()).await.unwrap().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!relay.running.is_finished());
    relay.stop().await;
}

/// A block that the ledger's key signed, with an event of a kind that only a newer version knows,
/// is not taken for a stranger's: the feed says what it met, and gives what comes before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_newer_version_is_told_and_not_passed_over() {
    let bus = Bus::new(56).await;
    let relay = bus.relay();
    bus.expect_filled().await;
    relay.stop().await;
    let context = bus.context().await;
    let mut newest = bus.played.events().pop().unwrap();
    let previous = newest.head();
    // The same event under another kind, at the next seq, chained as it should be.
    newest.header.seq = newest.header.seq.next();
    newest.header.kind = 999;
    let mut payload = Vec::new();
    newest.event.encode(&mut payload);
    newest.hash = newest.header.hash(&previous.hash, &payload);
    let ledger_id = daybook_ledger::Reader::open(bus.played.path()).unwrap().genesis().ledger_id;
    let block = Block { ledger_id, previous, events: vec![newest] };
    let message = block.encode(&bus.signer().sign_block(&block));
    let subject = bus.settings.blocks_subject();
    context.publish(subject, message.into()).await.unwrap().await.unwrap();

    let mut feed = JetStreamFeed::new(bus.settings.clone(), bus.key, "newer");
    let mut after = Head { seq: 0, hash: daybook_schema::EventHash::new([0; 32]) };
    let told = loop {
        match feed.next(after, PATIENCE).await {
            Ok(Some(block)) => after = block.last(),
            Ok(None) => continue,
            Err(error) => break error,
        }
    };
    assert_eq!(after, previous, "everything before it is given");
    assert!(matches!(&told, FeedError::Newer(reason) if reason.contains("kind 999")), "{told}");
    // Asked again it says the same.
    let again = feed.next(after, PATIENCE).await.unwrap_err();
    assert!(matches!(again, FeedError::Newer(_)), "{again}");
}

/// Without a relay that answers, what is missing in the stream is read from the ledger where it is
/// at hand, and waited for where it is not.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_healed_from_the_ledger_where_no_relay_answers() {
    let bus = Bus::new(56).await;
    let relay = bus.relay();
    bus.expect_filled().await;
    relay.stop().await;
    let context = bus.context().await;
    let stream = context.get_stream("daybook").await.unwrap();
    stream.delete_message(1).await.unwrap();
    let last = stream.get_info().await.unwrap().state.last_sequence;
    stream.delete_message(last / 2).await.unwrap();

    let database = bus.played.database("alone.db").await;
    let workers = Workers::start(&database, &all_projections(), &bus.source(None));
    let reads = Reads::new(&database);
    let stands = reads.wait_for(&NAMES, 1, Duration::from_millis(600)).await.unwrap();
    assert!(stands.is_stale, "nobody has the first events");
    workers.stop().await;

    let source = bus.source(Some(bus.played.path()));
    let workers = Workers::start(&database, &all_projections(), &source);
    bus.expect_same("healed from the ledger", &database).await;
    workers.stop().await;
}

/// What was given once may be asked for again: by a worker whose transaction failed, or by a
/// rebuild. The stream has it, relay or not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_is_given_again_without_a_relay() {
    let bus = Bus::new(65).await;
    let relay = bus.relay();
    bus.expect_filled().await;
    relay.stop().await;
    let mut feed = bus.source(None).feed("again");
    let start = Position::start(1).head;
    let first = feed.next(start, PATIENCE).await.unwrap().unwrap();
    let second = feed.next(first.last(), PATIENCE).await.unwrap().unwrap();
    assert_eq!(second.previous, first.last());
    for _ in 0..2 {
        assert_eq!(feed.next(start, PATIENCE).await.unwrap().as_ref(), Some(&first));
        let again = feed.next(first.last(), PATIENCE).await.unwrap().unwrap();
        assert_eq!(again, second);
        let again = feed.next(first.last(), PATIENCE).await.unwrap().unwrap();
        assert_eq!(again, second);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_keeps_little_is_enough() {
    let mut bus = Bus::new(57).await;
    bus.settings.bytes_max = 1 << 20;
    let relay = bus.relay();
    bus.expect_filled().await;
    let context = bus.context().await;
    let stream = context.get_stream("daybook").await.unwrap();
    assert!(stream.cached_info().state.first_sequence > 1, "it dropped old blocks");
    let (database, workers) = bus.workers("bus.db").await;
    bus.expect_same("a small stream", &database).await;
    workers.stop().await;
    relay.stop().await;
}

/// A connection that breaks off in the middle of whatever it carries.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_again_and_again_is_made_anew() {
    let mut bus = Bus::new(58).await;
    let upstream = bus.server.url().replace("nats://", "");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
    let cutting = cut.clone();
    let proxy = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let Ok(mut server) = tokio::net::TcpStream::connect(&upstream).await else { continue };
            let mut cut = cutting.subscribe();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    bus.settings.url = format!("nats://{address}");
    let relay = bus.relay();
    let (database, workers) = bus.workers("bus.db").await;
    for millis in [20, 50, 90, 140, 60, 30, 200] {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        drop(cut.send(()));
    }
    bus.expect_same("a cut connection", &database).await;
    workers.stop().await;
    relay.stop().await;
    proxy.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_season_is_told_of_what_is_committed_in_it() {
    let bus = Bus::new(59).await;
    let client = async_nats::connect(bus.server.url()).await.unwrap();
    let mut all = client.subscribe("season.>").await.unwrap();
    client.flush().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    // A ledger that grows while it is relayed.
    let simulated = daybook_bots::Simulated::from_seed(60);
    let ledger = daybook_ledger::Ledger::open(simulated.options(directory.path())).unwrap();
    let relay = Relay::new(directory.path(), bus.signer(), bus.key, bus.settings.clone());
    let mut progress = relay.progress();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(relay.run(stopped));
    progress.wait_for(Option::is_some).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let hub = std::sync::Arc::new(daybook_projections::NoticeHub::default());
    let (following, path) = (std::sync::Arc::clone(&hub), directory.path().to_owned());
    let follower = tokio::spawn(async move { following.follow(&path).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let playing = std::thread::spawn(move || {
        let play = daybook_bots::Play { players: 2, days: 1, seed: 60 };
        play.run(&ledger, &mut |_, _| {}).unwrap();
        ledger.close().wait().unwrap();
    });
    let message = tokio::time::timeout(PATIENCE, futures_util::StreamExt::next(&mut all));
    let message = message.await.unwrap().unwrap();
    let notice: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    let season = notice["seasonId"].as_str().unwrap();
    assert_eq!(message.subject.as_str(), format!("season.{season}"));
    assert_eq!(notice["kinds"], serde_json::json!(["season_started", "day_opened"]));
    let mut watched = hub.watch(season.parse().unwrap());
    let told: Notice = tokio::time::timeout(PATIENCE, watched.next()).await.unwrap().unwrap();
    assert_eq!(told.season_id.to_string(), season);
    playing.join().unwrap();
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    follower.abort();
}
