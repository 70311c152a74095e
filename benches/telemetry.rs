//! What telemetry costs play: the latency of commands at 1,000 a second with and without 5,000
//! events a second beside them, in alternating rounds; what recording a time costs with two threads;
//! and how long the seed's two queries take over many rows.
//!
//! `cargo bench -p daybook-benches --bench telemetry [-- SECONDS ROUNDS ROWS [DIR]]`. The service
//! runs in a process of its own, the client in this one. `ledger.db` is written with
//! `synchronous=FULL`, `telemetry.db` with `NORMAL`. A command's time counts from when it was due.

#[path = "play/client.rs"]
#[expect(dead_code, reason = "shared with the bench of play, which uses all of it")]
mod client;
#[path = "play/server.rs"]
#[expect(dead_code, reason = "shared with the bench of play, which uses all of it")]
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_monitor::Monitor;
use daybook_projections::Migrations;
use daybook_schema::CommandId;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;

use client::{Player, micros, millis, post};
use server::Child;

const COMMANDS_PER_SECOND: usize = 1_000;
const EVENTS_PER_SECOND: usize = 5_000;
/// Events of a request: the seed's client sends so many.
const EVENTS_PER_REQUEST: usize = 10;
const CONNECTIONS: usize = 32;
/// So many that each has its answer before its next request is due.
const SENDERS: usize = 128;
/// So many that one season each is enough for all rounds.
const PLAYERS: usize = 2_000;

struct Plan {
    length: Duration,
    rounds: usize,
    rows: u64,
}

/// Waits for the moments of a rate, one after another.
struct Pace {
    next: Instant,
    apart: Duration,
}

impl Pace {
    fn new(index: usize, of: usize, per_second: usize) -> Self {
        let apart = Duration::from_secs_f64(of as f64 / per_second as f64);
        let next = Instant::now() + apart.mul_f64(index as f64 / of as f64);
        Self { next, apart }
    }

    async fn due(&mut self) -> Instant {
        let due = self.next;
        tokio::time::sleep_until(due.into()).await;
        self.next += self.apart;
        due
    }
}

/// Commands at a steady rate; each is measured from when it was due.
async fn play(child: &Child, players: &mut [Player], plan: &Plan) -> Result<Histogram<u64>> {
    let until = Instant::now() + plan.length;
    let share = players.len().div_ceil(CONNECTIONS);
    let running = players.chunks_mut(share).enumerate().map(async |(index, players)| {
        let (mut latency, mut connection) = (Histogram::<u64>::new(3)?, child.connect().await?);
        let mut pace = Pace::new(index, CONNECTIONS, COMMANDS_PER_SECOND);
        let mut turn = 0;
        while Instant::now() < until {
            let due = pace.due().await;
            turn += 1;
            let count = players.len();
            let ready = (0..count).map(|step| (turn + step) % count);
            let ready = ready.into_iter().find(|at| players.get(*at).is_some_and(Player::is_ready));
            let player = ready.and_then(|at| players.get_mut(at)).context("a player is ready")?;
            let answer = connection.ask(&player.next_command()).await?;
            latency.record(micros(due))?;
            ensure!(answer.is_accepted(), "{}: {}", answer.status, answer.text());
            player.answered();
        }
        anyhow::Ok(latency)
    });
    let mut all = Histogram::new(3)?;
    try_join_all(running).await?.into_iter().try_for_each(|part| all.add(part))?;
    Ok(all)
}

/// Telemetry at a steady rate; tells how many events were stored and how long answers took.
async fn tell(child: &Child, players: &[String], length: Duration) -> Result<Histogram<u64>> {
    let until = Instant::now() + length;
    let running = (0..SENDERS).map(async |index| {
        let (mut latency, mut connection) = (Histogram::<u64>::new(3)?, child.connect().await?);
        let rate = EVENTS_PER_SECOND / EVENTS_PER_REQUEST;
        let mut pace = Pace::new(index, SENDERS, rate);
        let mut cookies = players.iter().cycle().skip(index);
        while Instant::now() < until {
            let due = pace.due().await;
            let events: Vec<String> = (0..EVENTS_PER_REQUEST).map(|_| event()).collect();
            let body = format!("{{\"events\":[{}]}}", events.join(","));
            let cookie = cookies.next().context("a player")?;
            let answer = connection.ask(&post("/api/telemetry", cookie, &body)).await?;
            ensure!(answer.status == 200, "{}", answer.text());
            latency.record(micros(due))?;
        }
        anyhow::Ok(latency)
    });
    let mut all = Histogram::new(3)?;
    try_join_all(running).await?.into_iter().try_for_each(|part| all.add(part))?;
    Ok(all)
}

/// An event as text: what a client costs is not what is measured.
fn event() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.unwrap_or_default().as_millis();
    let id = CommandId::random();
    format!(
        r#"{{"eventId":"{id}","eventType":"bet_placed","timestamp":{now_ms},"sessionId":"0198b74a-1800-7c75-bb22-21f4c5a6b080","properties":{{"pot_id":"sun","bet_type":"call","amount":25}},"context":{{"appVersion":"1.2.3","platform":"web","screenWidth":1920,"screenHeight":1080,"locale":"en-GB","timezone":"Europe/Berlin"}}}}"#
    )
}

async fn beside(plan: &Plan, directory: &Path) -> Result<()> {
    let data = tempfile::tempdir_in(directory)?;
    let child = Child::start(data.path()).await?;
    let mut players = client::players(&child, PLAYERS, "player").await?;
    let cookies: Vec<String> = players.iter().map(|player| player.cookie().to_owned()).collect();
    let (mut alone, mut told) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    println!("{COMMANDS_PER_SECOND} commands/s, alone and beside {EVENTS_PER_SECOND} events/s");
    for round in 1..=plan.rounds {
        for with_telemetry in [round % 2 == 0, round % 2 != 0] {
            let telling = async {
                match with_telemetry {
                    true => tell(&child, &cookies, plan.length).await.map(Some),
                    false => Ok(None),
                }
            };
            let playing = play(&child, &mut players, plan);
            let (latency, telemetry) = tokio::try_join!(playing, telling)?;
            let (p50, p99) = (millis(&latency, 0.5), millis(&latency, 0.99));
            let beside = telemetry.map_or_else(String::new, |telemetry| {
                let events = telemetry.len() as usize * EVENTS_PER_REQUEST;
                let rate = events as f64 / plan.length.as_secs_f64();
                format!(", {rate:.0} events/s, answered in p99 {:.1} ms", millis(&telemetry, 0.99))
            });
            let rate = latency.len() as f64 / plan.length.as_secs_f64();
            println!(
                "round {round}: {rate:.0} commands/s, p50 {p50:.2} ms, p99 {p99:.2} ms{beside}"
            );
            if with_telemetry { told.add(latency)? } else { alone.add(latency)? }
        }
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let (alone, told) = (millis(&alone, quantile), millis(&told, quantile));
        println!(
            "{name} of commands in all rounds: {alone:.2} ms alone, {told:.2} ms beside telemetry, {:.2} of it",
            told / alone
        );
    }
    child.stop().await
}

/// What recording a time costs, with two threads at once.
fn record(times: u32) {
    let metric = Monitor::default().metric("tick");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..times).for_each(|time| metric.record(f64::from(time % 64))));
        }
    });
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(times);
    println!("recording a time, two threads at once: {nanos:.0} ns each, {} lost", metric.lost());
}

const FILL: &str = "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO telemetry_events
    SELECT printf('%08x-%s', i, hex(randomblob(12))),
      CASE WHEN i % 20 = 0 THEN 'session_start' ELSE 'bet_placed' END,
      1767571200000 + (i * 90 * 86400000 / ?1), printf('%032x', i / 50),
      printf('usr_%032x', abs(random()) % 20000),
      '{\"pot_id\":\"sun\",\"bet_type\":\"call\",\"amount\":25}',
      '{\"appVersion\":\"1.2.3\",\"platform\":\"web\",\"screenWidth\":1920,\"screenHeight\":1080}',
      1767571200000, 1767571200000, NULL, NULL, i, NULL FROM n";
const DAU: &str = include_str!("../schema/sql/seed_daily_active_users.sql");
const RETENTION: &str = include_str!("../schema/sql/seed_retention.sql");

/// The seed's two queries over many rows of 90 days.
async fn query(plan: &Plan, directory: &Path) -> Result<()> {
    let data = tempfile::tempdir_in(directory)?;
    let path = data.path().join("telemetry.db");
    Migrations::telemetry().up(&path, None).await?;
    let database = rusqlite::Connection::open(&path)?;
    database.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144")?;
    database.execute(FILL, [plan.rows.cast_signed()])?;
    let day: i64 = 1_767_571_200_000 + 30 * 86_400_000;
    for _ in 0..3 {
        let began = Instant::now();
        let users: i64 = database.query_row(DAU, [day, day + 86_399_999], |row| row.get(0))?;
        let dau = began.elapsed();
        let began = Instant::now();
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (cohort, retained): (i64, i64) =
            database.query_row(RETENTION, ("2026-02-04", 7), counts)?;
        println!(
            "{} rows: DAU ({users} users) {dau:.1?}; retention ({retained} of {cohort}) {:.1?}",
            plan.rows,
            began.elapsed()
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    if let Some(data) = std::env::var_os("DAYBOOK_BENCH_SERVES") {
        return server::serve(Path::new(&data));
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    // `cargo test --benches` looks only whether it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let number = |index: usize, full: u64, small: u64| -> Result<u64> {
        match arguments.get(index) {
            Some(text) => text.parse().with_context(|| format!("`{text}` is no number")),
            None => Ok(if is_test { small } else { full }),
        }
    };
    let plan = Plan {
        length: Duration::from_secs(number(0, 2, 1)?),
        rounds: usize::try_from(number(1, 13, 1)?)?,
        rows: number(2, 5_000_000, 10_000)?,
    };
    let default = env!("CARGO_TARGET_TMPDIR").to_owned();
    let directory = Path::new(arguments.get(3).unwrap_or(&default));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    record(if is_test { 10_000 } else { 5_000_000 });
    runtime.block_on(beside(&plan, directory))?;
    runtime.block_on(query(&plan, directory))
}
