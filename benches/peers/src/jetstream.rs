//! JetStream: a message for each event, a subject for each season, guarded by the subject's last
//! sequence.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use async_nats::jetstream;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;

use crate::LENGTH;
use crate::commands::Commands;
use crate::server::{Server, free_port};

pub fn synced(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    run(dir, commands, waiting, "sync_interval: always, ")
}

pub fn as_it_comes(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    run(dir, commands, waiting, "")
}

fn run(dir: &Path, commands: &Commands, waiting: usize, sync: &str) -> Result<f64> {
    let binary = std::env::var("DAYBOOK_PEERS_NATS").context("DAYBOOK_PEERS_NATS: no server")?;
    let port = free_port()?;
    let configuration = dir.join("nats.conf");
    let store = dir.join("nats");
    std::fs::write(
        &configuration,
        format!(
            "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}, {sync}max_file_store: 100G, \
             max_buffered_msgs: 100000 }}\n"
        ),
    )?;
    let mut process = Process::new(binary);
    process.arg("--config").arg(&configuration).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server::start(process, port)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(publish(port, commands, waiting))
}

async fn publish(port: u16, commands: &Commands, waiting: usize) -> Result<f64> {
    let options = async_nats::ConnectOptions::new().client_capacity(8_192);
    let client = options.connect(format!("nats://127.0.0.1:{port}")).await?;
    let context = ContextBuilder::new().max_ack_inflight(65_536).build(client);
    context
        .create_stream(jetstream::stream::Config {
            name: "seasons".to_owned(),
            subjects: vec!["season.*".to_owned()],
            storage: jetstream::stream::StorageType::File,
            ..Default::default()
        })
        .await?;
    // The newest sequence of each season: the guard of its next command.
    let mut newest = vec![0_u64; commands.seasons];
    let mut sent = VecDeque::new();
    let (mut count, began) = (0_usize, Instant::now());
    let mut next = commands.all.iter();
    loop {
        let command = next.next().filter(|_| began.elapsed() < LENGTH);
        if sent.len() >= waiting || command.is_none() {
            let Some((season, acks)) = sent.pop_front() else { break };
            let acks: Vec<jetstream::context::PublishAckFuture> = acks;
            for ack in acks {
                newest[season] = IntoFuture::into_future(ack).await?.sequence;
                count += 1;
            }
        }
        let Some(command) = command else { continue };
        let subject = format!("season.{}", command.season);
        let mut acks = Vec::with_capacity(command.events.len());
        for (place, event) in command.events.iter().enumerate() {
            let mut message = PublishMessage::build().payload(event.payload.clone().into());
            if place == 0 {
                let last = newest[command.season];
                message = message.expected_last_subject_sequence(last);
            }
            acks.push(context.send_publish(subject.clone(), message).await?);
        }
        sent.push_back((command.season, acks));
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
