//! The service in a process of its own, and beside it a route that does nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;

use anyhow::{Context, Result};
use daybook_api::{
    Accounts, Hashing, Lacking, Parts, RateLimit, RateLimits, Scope, Server, Service, Settings,
    Task, Telemetry, Upkeep, router,
};
use daybook_ledger::{Ledger, NewLedger, Options, Submission, keys};
use daybook_monitor::Monitor;
use daybook_projections::{DatabaseSettings, FeedSource, GameDatabase, Workers, all_projections};
use daybook_schema::Command;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::Connection;

/// The service as its client sees it.
pub struct Child {
    process: Mutex<tokio::process::Child>,
    process_id: u32,
    service: SocketAddr,
    noop: SocketAddr,
    /// A service token that reads the events.
    token: String,
}

impl Child {
    pub async fn start(data: &Path) -> Result<Self> {
        let mut process = tokio::process::Command::new(std::env::current_exe()?)
            .env("DAYBOOK_BENCH_SERVES", data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("its output")?).lines();
        let mut line = async || lines.next_line().await?.context("a line");
        let (service, token, noop) =
            (line().await?.parse()?, line().await?, line().await?.parse()?);
        let process_id = process.id().context("a process")?;
        Ok(Self { process: Mutex::new(process), process_id, service, noop, token })
    }

    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(self.service).await
    }

    pub async fn connect_to_noop(&self) -> Result<Connection> {
        Connection::open(self.noop).await
    }

    /// Begins to read the events that come from now on, of a kind or of all.
    pub async fn read_events(&self, kind: &str) -> Result<Connection> {
        let mut connection = self.connect().await?;
        let head = connection.ask(&crate::client::get("/api/head", "")).await?;
        let head: serde_json::Value = serde_json::from_str(&head.text())?;
        let from = head.get("seq").and_then(serde_json::Value::as_u64).context("a seq")? + 1;
        let kind = if kind.is_empty() { String::new() } else { format!("&kind={kind}") };
        let token = &self.token;
        let request = format!(
            "GET /api/events?from={from}{kind} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        connection.send(&request).await?;
        Ok(connection)
    }

    /// The memory that it holds.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// The CPU time of its threads by their names, in microseconds.
    pub fn cpu_by_thread(&self) -> Result<BTreeMap<String, u64>> {
        let mut spent = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process_id))? {
            let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
            let (name, rest) = stat.rsplit_once(')').context("a name")?;
            let name = name.split_once('(').map_or(name, |(_, name)| name);
            let name = name.trim_end_matches(|character: char| character.is_ascii_digit());
            // After the name: user and system time are the twelfth and thirteenth, in hundredths.
            let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
            let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
            *spent.entry(name.to_owned()).or_insert(0) += ticks * 10_000;
        }
        Ok(spent)
    }

    pub async fn stop(self) -> Result<()> {
        let mut process = self.process.into_inner().map_err(|_| anyhow::anyhow!("poisoned"))?;
        // It ends when nobody holds its input.
        drop(process.stdin.take());
        process.wait().await?;
        Ok(())
    }
}

fn settings() -> Settings {
    let free = RateLimit { burst: 1_000_000, per_second: 1e6 };
    let mut settings = Settings {
        rate_limits: RateLimits { api: free, auth: free, telemetry: free, bet: free, token: free },
        // Players are many, and their passwords are not what is measured.
        hashing: Hashing { memory_kib: 8, passes: 1, waiting_max: 1_000, ..Hashing::default() },
        registrations_per_day_max: 1_000_000,
        command_wait: std::time::Duration::from_secs(5),
        ..Settings::default()
    };
    settings.connections.per_client_max = 10_000;
    settings.telemetry.events_per_user_day_max = u32::MAX;
    settings.telemetry.disk_free_bytes_min = 1 << 26;
    settings
}

/// Serves until its input ends.
pub fn serve(data: &Path) -> Result<()> {
    let file = std::fs::File::create(data.join("log"))?;
    let (log, _guard) = tracing_appender::non_blocking(file);
    tracing_subscriber::fmt().with_writer(log).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(data))
}

async fn run(data: &Path) -> Result<()> {
    let keys_dir = data.join("keys");
    keys::init(&keys_dir, &keys::random_season_key()?)?;
    let keys = keys::load(&keys_dir)?;
    let key_id = *keys.season_keys.key_ids().next().context("a season key")?;
    let monitor = Monitor::default();
    let options =
        Options::new(data, keys.season_keys).create(NewLedger::random()).monitor(monitor.clone());
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options)).await??;
    ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.await?;
    let accounts = Accounts::open(&data.join("accounts.db"), &monitor).await?;
    let telemetry = data.join("telemetry.db");
    let telemetry = Telemetry::open(&telemetry, settings().telemetry, &monitor).await?;
    let database = DatabaseSettings {
        accounts: Some(data.join("accounts.db")),
        monitor: monitor.clone(),
        ..DatabaseSettings::default()
    };
    let game_database = GameDatabase::open(&data.join("game.db"), database).await?;
    let source = FeedSource::ledger(&ledger);
    let workers = Workers::start(&game_database, &all_projections(), &source);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let settings = settings();
    let (server, ready) = Server::new(listener, settings.connections, Vec::new(), false);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.run(stopped));
    let signer = keys.signer;
    let parts =
        Parts { ledger, accounts, game_database, telemetry, monitor, keys_dir, signer, settings };
    let service = Service::new(parts, false)?;
    service.reconcile(Lacking::Refuse).await?;
    let upkeep = Upkeep::start(&service);
    ready.serve(router(&service));
    let (name, scopes, users) = ("bench".to_owned(), vec![Scope::ReadEvents], Vec::new());
    let made = Task::MakeToken { name, scopes, users, by: "bench".to_owned() };
    let made = service.operate(made).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    println!("{}", made.token.context("a token")?);

    let nothing = axum::Router::new().fallback(async || {
        (axum::http::StatusCode::CREATED, axum::Json(serde_json::json!({ "bets": [] })))
    });
    let noop = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", noop.local_addr()?);
    let noop = tokio::spawn(async move { axum::serve(noop, nothing).await });

    let mut input = tokio::io::stdin();
    tokio::io::copy(&mut input, &mut tokio::io::sink()).await?;
    service.end_streams();
    noop.abort();
    stop.send_replace(true);
    drop(serving.await);
    upkeep.stop().await;
    workers.stop().await;
    Ok(())
}
