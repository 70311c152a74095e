//! Durable Streams over HTTP: a stream for each season, a request for each command, in the order of
//! the season's own.

use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::LENGTH;
use crate::commands::{Command, Commands};
use crate::server::{Server, free_port};

/// So many seasons are played: their streams are made before the time is taken, for that takes long.
const SEASONS: usize = 8_192;

pub fn run(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    let binary = std::env::var("DAYBOOK_PEERS_DURABLE_STREAMS")
        .context("DAYBOOK_PEERS_DURABLE_STREAMS: no server")?;
    let port = free_port()?;
    let mut process = Process::new(binary);
    process.args(["--port", &port.to_string()]).arg("--data-dir").arg(dir.join("streams"));
    process.stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server::start(process, port)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Each client has its own seasons, as a season has one command at a time.
    let mut shares: Vec<Vec<&Command>> = vec![Vec::new(); waiting];
    for command in commands.all.iter().filter(|command| command.season < SEASONS) {
        shares[command.season % waiting].push(command);
    }
    let shares: Vec<Share> = shares.into_iter().map(Share::of).collect::<Result<_>>()?;
    runtime.block_on(async {
        let mut clients = Vec::with_capacity(waiting);
        for (number, share) in shares.into_iter().enumerate() {
            let mut client = connect(port).await?;
            for season in (number..SEASONS).step_by(waiting) {
                ask(&mut client, request(Method::PUT, season, 0, Vec::new())?).await?;
            }
            clients.push((client, share));
        }
        let (began, mut running) = (Instant::now(), tokio::task::JoinSet::new());
        for (client, share) in clients {
            running.spawn(append(client, share, began + LENGTH));
        }
        let mut count = 0;
        while let Some(appended) = running.join_next().await {
            count += appended??;
        }
        Ok(count as f64 / began.elapsed().as_secs_f64())
    })
}

/// What one client sends, and how many events each request has.
struct Share(Vec<(Request<Full<Bytes>>, usize)>);

impl Share {
    fn of(commands: Vec<&Command>) -> Result<Self> {
        let requests = commands.into_iter().map(|command| {
            let events = command.events.iter();
            let body = events.flat_map(|event| event.payload.clone()).collect();
            // Which it is of the season's: one that is out of order is refused.
            let request = request(Method::POST, command.season, command.version, body)?;
            Ok((request, command.events.len()))
        });
        requests.collect::<Result<_>>().map(Self)
    }
}

fn request(
    method: Method,
    season: usize,
    version: u64,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(format!("/season-{season}"));
    Ok(request
        .header("host", "localhost")
        .header("content-type", "application/octet-stream")
        .header("stream-seq", format!("{version:010}"))
        .body(Full::new(Bytes::from(body)))?)
}

async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn append(
    mut client: SendRequest<Full<Bytes>>,
    Share(requests): Share,
    ends: Instant,
) -> Result<usize> {
    let mut count = 0;
    for (request, events) in requests {
        if Instant::now() >= ends {
            break;
        }
        ask(&mut client, request).await?;
        count += events;
    }
    Ok(count)
}

async fn ask(client: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<()> {
    client.ready().await?;
    let answer = tokio::time::timeout(Duration::from_secs(30), client.send_request(request));
    let answer = answer.await??;
    ensure!(answer.status().is_success(), "{}", answer.status());
    answer.into_body().collect().await?;
    Ok(())
}
