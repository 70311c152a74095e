//! `daybook load`: bots play against a running service, in open loop.
//!
//! Each request has a time at which it is due, which no answer moves. How long it took is counted
//! from then, so a service that stands still for a second is told of by every request that was due
//! in it.

mod bot;
mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use daybook_api::BotSession;
use daybook_ledger::{Head, Reader, Standing};
use reqwest::StatusCode;
use reqwest::header::{COOKIE, HeaderMap, RETRY_AFTER};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

use self::bot::Bot;
use self::tally::{Answered, Report, Tally};
use crate::Outcome;
use crate::arguments::load::LoadArguments;
use crate::output::{note, progress_bar, write_json, write_line};

/// A request that takes longer is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what is under way is waited for at the end.
const ENDS_WITHIN: Duration = Duration::from_secs(35);

/// A bot whose request is due.
struct Due {
    at: Instant,
    bot: Bot,
}

/// The bots that wait for their turn.
type Idle = Arc<Mutex<VecDeque<Bot>>>;

pub(crate) fn run(arguments: &LoadArguments) -> Result<Outcome> {
    let bots = bots_of(&arguments.sessions)?;
    let report = crate::runtime()?.block_on(play(arguments, bots))?;
    let lost = match &arguments.ledger {
        Some(directory) => Some(lost_heads(directory, &report.heads)?),
        None => None,
    };
    if arguments.json.json {
        write_json(&report.to_json(lost))?;
    } else {
        write_line(&report.to_text(lost))?;
    }
    Ok(match lost {
        Some(lost) if lost > 0 => Outcome::DoesNotHold,
        _ if report.answered == 0 => Outcome::DoesNotHold,
        _ => Outcome::Holds,
    })
}

fn bots_of(file: &Path) -> Result<VecDeque<Bot>> {
    let opened = std::fs::File::open(file).with_context(|| {
        format!("`{}` cannot be read; `daybook user bots` makes it", file.display())
    })?;
    let mut bots = VecDeque::new();
    for line in std::io::BufReader::new(opened).lines() {
        let line = line.map_err(anyhow::Error::from);
        let session = line.and_then(|line| Ok(serde_json::from_str::<BotSession>(&line)?));
        let session =
            session.with_context(|| format!("`{}` holds no sessions of bots", file.display()))?;
        bots.push_back(Bot::new(&session));
    }
    if bots.is_empty() {
        bail!("`{}` holds no bots; `daybook user bots` makes them", file.display());
    }
    Ok(bots)
}

/// How many heads that were answered the ledger lacks.
fn lost_heads(directory: &Path, heads: &[Head]) -> Result<usize> {
    let reader = Reader::open(directory)?;
    let mut lost = 0;
    // One that was answered to several, once.
    let heads: BTreeMap<_, _> = heads.iter().map(|it| ((it.seq, it.to_string()), it)).collect();
    for head in heads.values() {
        if reader.standing(**head, None)? != Standing::Held {
            note(&format!("the ledger lacks the head {head}, which was answered"));
            lost += 1;
        }
    }
    Ok(lost)
}

async fn play(arguments: &LoadArguments, bots: VecDeque<Bot>) -> Result<Report> {
    let connections = arguments.connections as usize;
    let client = reqwest::Client::builder()
        .http1_only()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(connections)
        .timeout(REQUEST_TIMEOUT)
        .build()?;
    let asked = client.get(format!("{}/readyz", arguments.url)).send().await;
    let ready = asked.with_context(|| format!("no service answers at {}", arguments.url))?;
    if !ready.status().is_success() {
        bail!("the service at {} is not ready: {}", arguments.url, ready.status());
    }
    let idle: Idle = Arc::new(Mutex::new(bots));
    let tally = Arc::new(Tally::default());
    let (due, taken) = mpsc::unbounded_channel();
    let taken = Arc::new(Mutex::new(taken));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let worker = Worker {
            client: client.clone(),
            url: arguments.url.clone(),
            idle: Arc::clone(&idle),
            tally: Arc::clone(&tally),
        };
        workers.spawn(worker.run(Arc::clone(&taken)));
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let telling = tokio::spawn(tell(arguments.seconds, Arc::clone(&tally), Arc::clone(&is_over)));
    let started = Instant::now();
    offer(arguments, started, &idle, &tally, &due).await;
    drop(due);
    let ended = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDS_WITHIN, ended).await.is_err() {
        note("some requests were not answered to the end, and are left");
    }
    is_over.store(true, Ordering::Relaxed);
    telling.await?;
    Ok(tally.report(arguments.rate, started.elapsed()))
}

/// Gives out each request when it is due.
async fn offer(
    arguments: &LoadArguments,
    started: Instant,
    idle: &Idle,
    tally: &Tally,
    due: &mpsc::UnboundedSender<Due>,
) {
    let total = u64::from(arguments.rate) * u64::from(arguments.seconds);
    let mut offered = 0;
    while offered < total {
        let now = Instant::now();
        let (whole, rest) =
            (offered / u64::from(arguments.rate), offered % u64::from(arguments.rate));
        let at = started + Duration::from_secs(whole) + Duration::from_secs(rest) / arguments.rate;
        if at > now {
            // Timers are no finer than a millisecond: what is due then is given out at once.
            tokio::time::sleep_until(at.into()).await;
            continue;
        }
        offered += 1;
        let bot = {
            let mut idle = idle.lock().await;
            // The one that waits longest, if it may ask again.
            match idle.front() {
                Some(bot) if bot.ready_at <= now => idle.pop_front(),
                _ => None,
            }
        };
        match bot {
            Some(bot) => drop(due.send(Due { at, bot })),
            None => tally.without_a_bot(),
        }
    }
}

/// Shows how it goes, each second.
async fn tell(seconds: u32, tally: Arc<Tally>, is_over: Arc<AtomicBool>) {
    let bar = progress_bar(seconds.into(), "s");
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.inc(1);
        bar.set_message(tally.last_second());
    }
    bar.finish_and_clear();
}

/// One connection's worth of requests: one after another.
struct Worker {
    client: reqwest::Client,
    url: String,
    idle: Idle,
    tally: Arc<Tally>,
}

impl Worker {
    async fn run(self, taken: Arc<Mutex<mpsc::UnboundedReceiver<Due>>>) {
        loop {
            let next = taken.lock().await.recv().await;
            let Some(Due { at, mut bot }) = next else { return };
            let answered = self.ask(&mut bot).await;
            let is_spent = answered.is_spent();
            self.tally.count(at.elapsed(), answered);
            if !is_spent {
                self.idle.lock().await.push_back(bot);
            }
        }
    }

    async fn ask(&self, bot: &mut Bot) -> Answered {
        let request = bot.request();
        let url = format!("{}{}", self.url, request.path);
        let sent = match &request.body {
            None => self.client.get(url),
            Some(body) => self.client.post(url).json(body),
        };
        let sent = match request.key {
            Some(key) => sent.header("idempotency-key", key.to_string()),
            None => sent,
        };
        let answer = match sent.header(COOKIE, &bot.cookie).send().await {
            Ok(answer) => answer,
            Err(error) => {
                bot.refused(Duration::from_secs(1));
                return Answered::failed(&error);
            }
        };
        let (status, head, wait) =
            (answer.status(), head_of(answer.headers()), wait_of(answer.headers()));
        let body: Value = match answer.json().await {
            Ok(body) => body,
            Err(error) => {
                bot.refused(Duration::from_secs(1));
                return Answered::failed(&error);
            }
        };
        if status.is_success() {
            bot.answered(&body);
            return Answered::well(request.key.is_some(), head);
        }
        let code = body.get("error").and_then(Value::as_str).unwrap_or("none").to_owned();
        match status {
            // It passes: the same command again.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => bot.refused(wait),
            _ => bot.given_up(&body),
        }
        Answered::refused(status.as_u16(), code)
    }
}

fn head_of(headers: &HeaderMap) -> Option<Head> {
    headers.get("x-ledger-head")?.to_str().ok()?.parse().ok()
}

fn wait_of(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}
