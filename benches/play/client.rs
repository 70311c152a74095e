//! A client that costs as little as it can: requests over connections that stay open, one at a time
//! on each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Child;

/// Microseconds since a moment.
pub fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A quantile of microseconds, in milliseconds.
pub fn millis(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

/// A connection that stays open.
pub struct Connection {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    pub fn is_accepted(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    pub fn is_stale(&self) -> bool {
        self.head.contains("x-stale")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A text in its body.
    pub fn text_at(&self, pointer: &str) -> Result<String> {
        let body: Value = serde_json::from_slice(&self.body)?;
        Ok(body.pointer(pointer).and_then(Value::as_str).context("a text")?.to_owned())
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    pub async fn send(&mut self, request: &str) -> Result<()> {
        Ok(self.stream.write_all(request.as_bytes()).await?)
    }

    pub async fn ask(&mut self, request: &str) -> Result<Answer> {
        self.send(request).await?;
        self.buffer.clear();
        let head_end = loop {
            let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "hung up"),
            }
        };
        let head = String::from_utf8_lossy(self.buffer.get(..head_end).unwrap_or_default());
        let head = head.into_owned();
        let status = head.get(9..12).context("a status")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(Ok(0), str::parse)?;
        while self.buffer.len() < head_end + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "hung up");
        }
        let body = self.buffer.get(head_end..).unwrap_or_default().to_vec();
        Ok(Answer { status, head, body })
    }
}

/// A GET.
pub fn get(path: &str, cookie: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\n\r\n")
}

/// A POST.
pub fn post(path: &str, cookie: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A player in the middle of a season.
pub struct Player {
    cookie: String,
    season: String,
    day: u8,
    has_bet: bool,
    /// When the newest bet was answered.
    bet_at: Option<Instant>,
}

/// Bets of a season may come so soon after one another, and a little later.
const BETS_APART: Duration = Duration::from_millis(120);
const DAYS: u8 = 28;

impl Player {
    /// Whether the next command may be sent now.
    pub fn is_ready(&self) -> bool {
        let is_early = self.bet_at.is_some_and(|at| at.elapsed() < BETS_APART);
        self.day <= DAYS && (self.has_bet || !is_early)
    }

    /// The newest command was answered.
    pub fn answered(&mut self) {
        if self.has_bet {
            self.bet_at = Some(Instant::now());
        }
    }

    /// The next command: a bet on each day, then the day's end.
    pub fn next_command(&mut self) -> String {
        self.has_bet = !self.has_bet;
        let Self { cookie, season, day, .. } = self;
        if self.has_bet {
            return self.same_command();
        }
        let body = format!("{{\"expectedDay\":{day}}}");
        let request = post(&format!("/api/seasons/{season}/advance"), cookie, &body);
        self.day += 1;
        request
    }

    /// The bet of the day.
    pub fn same_command(&self) -> String {
        let Self { cookie, season, day, .. } = self;
        let body = format!(
            "{{\"potId\":\"sun\",\"betType\":\"call\",\"amount\":1,\"expectedDay\":{day}}}"
        );
        post(&format!("/api/seasons/{season}/bets"), cookie, &body)
    }

    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    pub fn show_season(&self) -> String {
        get(&format!("/api/seasons/{}", self.season), &self.cookie)
    }

    pub fn watch_season(&self) -> String {
        get(&format!("/api/seasons/{}/live", self.season), &self.cookie)
    }

    /// Gives up the season in play, if there is one, and starts another.
    async fn start(&mut self, connection: &mut Connection) -> Result<()> {
        if !self.season.is_empty() {
            let path = format!("/api/seasons/{}/abandon", self.season);
            let given_up = connection.ask(&post(&path, &self.cookie, "{}")).await?;
            // One that was played to its end is over.
            ensure!(matches!(given_up.status, 200 | 409), "{}", given_up.text());
        }
        let next = loop {
            let next = connection.ask(&get("/api/fairness/next", &self.cookie)).await?;
            // So many new sessions are looked up for one client a second, and no more.
            if next.status != 429 {
                break next;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        ensure!(next.status == 200, "{}", next.text());
        let body =
            json!({ "commitment": next.text_at("/commitment")?, "clientSeed": "5a".repeat(32) });
        let started =
            connection.ask(&post("/api/seasons", &self.cookie, &body.to_string())).await?;
        ensure!(started.status == 201, "{}", started.text());
        let season = started.text_at("/season/id")?;
        (self.season, self.day, self.has_bet, self.bet_at) = (season, 1, false, None);
        Ok(())
    }
}

/// Registers players by names of their own and starts a season for each.
pub async fn players(child: &Child, count: usize, name: &str) -> Result<Vec<Player>> {
    let connections = 64.min(count);
    let shares = (0..connections).map(async |connection_number| -> Result<Vec<Player>> {
        let (mut connection, mut players) = (child.connect().await?, Vec::new());
        for number in (connection_number..count).step_by(connections) {
            let body = json!({ "email": format!("{name}{number}@farm.example"),
                "password": "a pail of cold water", "displayName": "P" });
            let answer = connection.ask(&post("/api/auth/register", "", &body.to_string())).await?;
            ensure!(answer.status == 201, "{}", answer.text());
            let cookie =
                answer.head.split("session=").nth(1).and_then(|rest| rest.split(';').next());
            let cookie = format!("session={}", cookie.context("a session")?);
            let mut player =
                Player { cookie, season: String::new(), day: 1, has_bet: false, bet_at: None };
            player.start(&mut connection).await?;
            players.push(player);
        }
        Ok(players)
    });
    let shares = futures_util::future::try_join_all(shares).await?;
    Ok(shares.into_iter().flatten().collect())
}

/// Starts a new season for each player, where the one in play is half over.
pub async fn new_seasons(child: &Child, players: &mut [Player]) -> Result<()> {
    let share = players.len().div_ceil(64);
    let running = players.chunks_mut(share).map(async |players| -> Result<()> {
        let mut connection = child.connect().await?;
        for player in players.iter_mut().filter(|player| player.day > 4) {
            player.start(&mut connection).await?;
        }
        Ok(())
    });
    futures_util::future::try_join_all(running).await.map(drop)
}
