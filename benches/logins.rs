//! What a flood of logins costs: logins a second and their latency, what others wait beside it, and
//! whether the time tells an unknown address from a wrong password.
//!
//! `cargo bench -p daybook-benches --bench logins [-- SECONDS CLIENTS PAIRS [DIR]]`. The service
//! runs in this process with its default Argon2id (19 MiB, 2 passes), over real connections;
//! `accounts.db` and `ledger.db` are written with `synchronous=FULL`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_api::{
    Accounts, Parts, RateLimit, RateLimits, Server, Service, Settings, Telemetry, Upkeep, router,
};
use daybook_ledger::{Ledger, NewLedger, Options, Submission, keys};
use daybook_monitor::Monitor;
use daybook_projections::{DatabaseSettings, GameDatabase};
use daybook_schema::Command;
use hdrhistogram::Histogram;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

const PASSWORD: &str = "a pail of cold water";
const EMAIL: &str = "ada@farm.example";

/// The service with limits that a bench does not meet.
fn settings() -> Settings {
    let free = RateLimit { burst: 1_000_000, per_second: 1e6 };
    let mut settings = Settings {
        rate_limits: RateLimits { api: free, auth: free, telemetry: free, bet: free, token: free },
        registrations_per_day_max: 1_000_000,
        ..Settings::default()
    };
    settings.lockout.failures_max = 1_000_000;
    settings.lockout.client_failures_max = 1_000_000;
    settings.lockout.window = Duration::from_secs(1);
    settings
}

async fn serve(data: &Path) -> Result<(String, watch::Sender<bool>, Upkeep)> {
    let keys_dir = data.join("keys");
    keys::init(&keys_dir, &keys::random_season_key()?)?;
    let keys = keys::load(&keys_dir)?;
    let key_id = *keys.season_keys.key_ids().next().context("a season key")?;
    let options = Options::new(data, keys.season_keys).create(NewLedger::random());
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options)).await??;
    ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.await?;
    let monitor = Monitor::default();
    let accounts = Accounts::open(&data.join("accounts.db"), &monitor).await?;
    let telemetry = data.join("telemetry.db");
    let telemetry = Telemetry::open(&telemetry, settings().telemetry, &monitor).await?;
    let game_database =
        GameDatabase::open(&data.join("game.db"), DatabaseSettings::default()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let settings = settings();
    let (server, ready) = Server::new(listener, settings.connections, Vec::new(), false);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(server.run(stopped));
    let signer = keys.signer;
    let parts =
        Parts { ledger, accounts, game_database, telemetry, monitor, keys_dir, signer, settings };
    let service = Service::new(parts, false)?;
    service.reconcile(daybook_api::Lacking::Refuse).await?;
    let upkeep = Upkeep::start(&service);
    ready.serve(router(&service));
    Ok((base, stop, upkeep))
}

async fn post(client: &Client, base: &str, path: &str, body: &Value) -> Result<Response> {
    Ok(client.post(format!("{base}{path}")).json(body).send().await?)
}

/// The session's cookie of an answer.
fn session(answer: &Response) -> Result<String> {
    let cookies = answer.headers().get_all("set-cookie").iter();
    let mut sessions = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    let session = sessions.find(|cookie| cookie.starts_with("session="));
    session.map(str::to_owned).context("a session")
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn shown(what: &str, latency: &Histogram<u64>) {
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{what:38} p50 {:8.2} ms   p99 {:8.2} ms   max {:8.2} ms   ({} requests)",
        at(0.5),
        at(0.99),
        latency.max() as f64 / 1e3,
        latency.len()
    );
}

/// Asks who one is, 50 times a second, as long as it is told to; a request counts from when it was
/// due.
async fn ask_me(base: String, cookie: String, over: Arc<AtomicBool>) -> Result<Histogram<u64>> {
    let (client, mut latency) = (Client::new(), Histogram::new(3)?);
    let mut due = tokio::time::interval(Duration::from_millis(20));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    while !over.load(Ordering::Relaxed) {
        let at = due.tick().await.into_std();
        let asked =
            client.get(format!("{base}/api/auth/me")).header("cookie", &cookie).send().await?;
        ensure!(asked.status().is_success(), "{asked:?}");
        latency.record(micros(at))?;
    }
    Ok(latency)
}

/// What a flood came to.
struct Flood {
    looked_at: Histogram<u64>,
    refused: Histogram<u64>,
}

/// So many clients log in with a wrong password as fast as they are answered.
async fn flood(base: &str, clients: u64, until: Instant) -> Result<Flood> {
    let number = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for _ in 0..clients {
        let (base, number) = (base.to_owned(), Arc::clone(&number));
        running.push(tokio::spawn(async move {
            let (client, mut looked_at, mut refused) =
                (Client::new(), Histogram::new(3)?, Histogram::new(3)?);
            while Instant::now() < until {
                let number = number.fetch_add(1, Ordering::Relaxed);
                let email = format!("user{number}@farm.example");
                let began = Instant::now();
                let body = json!({ "email": email, "password": "not the password" });
                let answer = post(&client, &base, "/api/auth/login", &body).await?;
                match answer.status().as_u16() {
                    401 => looked_at.record(micros(began))?,
                    503 => {
                        refused.record(micros(began))?;
                        // A client that does as it is told waits a second; this one does not.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    other => anyhow::bail!("answered {other}"),
                }
            }
            Ok::<_, anyhow::Error>((looked_at, refused))
        }));
    }
    let mut flood = Flood { looked_at: Histogram::new(3)?, refused: Histogram::new(3)? };
    for client in running {
        let (looked_at, refused) = client.await??;
        flood.looked_at.add(looked_at)?;
        flood.refused.add(refused)?;
    }
    Ok(flood)
}

/// Medians of pairs of an unknown address and a wrong password, one after another.
async fn pairs(base: &str, count: u64) -> Result<(u64, u64)> {
    let client = Client::new();
    let (mut unknown, mut wrong) = (Histogram::<u64>::new(4)?, Histogram::<u64>::new(4)?);
    for number in 0..count {
        let nobody = format!("nobody{number}@farm.example");
        let mut asked = [(nobody.as_str(), &mut unknown), (EMAIL, &mut wrong)];
        // Which comes first changes from pair to pair.
        if number % 2 == 1 {
            asked.reverse();
        }
        for (email, latency) in asked {
            let body = json!({ "email": email, "password": "not the password" });
            let began = Instant::now();
            let answer = post(&client, base, "/api/auth/login", &body).await?;
            latency.record(micros(began))?;
            ensure!(answer.status().as_u16() == 401, "{answer:?}");
        }
    }
    Ok((unknown.value_at_quantile(0.5), wrong.value_at_quantile(0.5)))
}

async fn run(seconds: u64, clients: u64, count: u64, directory: &Path) -> Result<()> {
    let data = tempfile::tempdir_in(directory)?;
    let (base, stop, upkeep) = serve(data.path()).await?;
    let client = Client::new();
    let body = json!({ "email": EMAIL, "password": PASSWORD, "displayName": "Ada" });
    let cookie = session(&post(&client, &base, "/api/auth/register", &body).await?)?;

    let measure = async |until: Instant, clients: u64| -> Result<(Histogram<u64>, Flood)> {
        let over = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(ask_me(base.clone(), cookie.clone(), Arc::clone(&over)));
        let flood = flood(&base, clients, until).await?;
        tokio::time::sleep_until(until.into()).await;
        over.store(true, Ordering::Relaxed);
        Ok((asking.await??, flood))
    };
    let length = Duration::from_secs(seconds);
    let (alone, _) = measure(Instant::now() + length, 0).await?;
    shown("me, alone", &alone);
    let began = Instant::now();
    let (beside, flood) = measure(began + length, clients).await?;
    let rate = flood.looked_at.len() as f64 / began.elapsed().as_secs_f64();
    shown(&format!("me, beside {clients} clients' logins"), &beside);
    shown(&format!("logins looked at, {rate:.0} a second"), &flood.looked_at);
    shown("logins refused as OVERLOADED", &flood.refused);

    let (unknown, wrong) = pairs(&base, count).await?;
    let apart = (unknown as f64 / wrong as f64 - 1.0) * 100.0;
    println!(
        "{count} pairs, medians: unknown address {:.2} ms, wrong password {:.2} ms, {apart:+.1} % apart",
        unknown as f64 / 1e3,
        wrong as f64 / 1e3
    );
    upkeep.stop().await;
    stop.send_replace(true);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    // `cargo test --benches` looks only whether it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let number = |index: usize, full: u64, small: u64| -> Result<u64> {
        match arguments.get(index) {
            Some(text) => text.parse().with_context(|| format!("`{text}` is no number")),
            None => Ok(if is_test { small } else { full }),
        }
    };
    let (seconds, clients, count) = (number(0, 15, 1)?, number(1, 200, 20)?, number(2, 1_000, 3)?);
    let default = env!("CARGO_TARGET_TMPDIR").to_owned();
    let directory = arguments.get(3).unwrap_or(&default);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(seconds, clients, count, Path::new(directory)))
}
