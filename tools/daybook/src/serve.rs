//! `daybook serve`: engine, read models and the HTTP service in one process.

pub(crate) mod parts;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daybook_api::{Accounts, OperatorSocket, Server, Service, Upkeep, router};
use daybook_ledger::Ledger;
use daybook_projections::{FeedSource, GameDatabase, Relay, RelayError, Workers, all_projections};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Outcome;
use crate::arguments::serve::ServeArguments;
use crate::output::{note, write_line};
use crate::relay::stop_on_signal;
use parts::{OpenedParts, Opening};

/// Files that may be open at once, beside the connections.
const FILES_BESIDE: u64 = 512;
/// How long the ledger may take to close: it makes a snapshot.
const CLOSES_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: ServeArguments) -> Result<Outcome> {
    if arguments.check_config {
        return check(&arguments);
    }
    allow_open_files(&arguments);
    // Refused before anything is made.
    let listener = std::net::TcpListener::bind(arguments.listen).with_context(|| {
        format!("cannot listen at {}; name another address with --listen", arguments.listen)
    })?;
    listener.set_nonblocking(true)?;
    let opening = Opening::prepare(&arguments)?;
    let runtime = crate::runtime()?;
    let outcome = runtime.block_on(serve(arguments, listener, opening));
    // What hashes a password or waits for a disk is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Prints what the configuration comes to.
fn check(arguments: &ServeArguments) -> Result<Outcome> {
    let settings = arguments.settings(arguments.listen);
    if let Some(url) = &arguments.nats {
        arguments.nats_settings.settings(url)?;
    }
    let proxies: Vec<String> = settings
        .trusted_proxies
        .iter()
        .map(|proxy| format!("{}={}", proxy.network, proxy.header.as_str()))
        .collect();
    let limits = &settings.rate_limits;
    write_line(&format!(
        "the configuration holds\n\
         data            {}\n\
         listen          {}\n\
         public-url      {}\n\
         trusted-proxy   {}\n\
         limits          api {}, auth {}, telemetry {}, bet {}\n\
         connections     {}, {} of one client",
        arguments.data.data.display(),
        arguments.listen,
        settings.public_url.as_str(),
        if proxies.is_empty() { "none".to_owned() } else { proxies.join(", ") },
        limits.api,
        limits.auth,
        limits.telemetry,
        limits.bet,
        settings.connections.most,
        settings.connections.per_client_max,
    ))?;
    Ok(Outcome::Holds)
}

/// Each connection is an open file. The system's soft limit is often 1,024.
fn allow_open_files(arguments: &ServeArguments) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = arguments.connections().most as u64 + FILES_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let allowed = limit.maximum.map_or(needed, |most| most.min(needed));
    let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() || allowed < needed {
        note(&format!(
            "warning: {allowed} files may be open, and {needed} are needed for all connections: raise `ulimit -n`, \
             or lower --connections"
        ));
    }
}

/// Why a service ends.
enum End {
    Told,
    Failed(String),
}

async fn serve(
    arguments: ServeArguments,
    listener: std::net::TcpListener,
    opening: Opening,
) -> Result<Outcome> {
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let settings = arguments.settings(address);
    let signal = stop_on_signal()?;
    let (stop, stopped) = watch::channel(false);
    // It answers from here on: that it lives, and that it is starting.
    let (server, ready) =
        Server::new(listener, settings.connections, settings.trusted_proxies.clone());
    let serving = tokio::spawn(server.run(stopped.clone()));
    let is_demo = opening.is_demo;
    let relaying = arguments.nats.as_deref();
    let relaying = relaying.map(|url| arguments.nats_settings.settings(url)).transpose()?;
    let OpenedParts { parts, signer, verifying_key } = opening.open(&arguments, settings).await?;
    let (ledger, accounts) = (parts.ledger.clone(), parts.accounts.clone());
    let database = parts.game_database.clone();
    let public_url = parts.settings.public_url.clone();

    let (source, relay) = match relaying {
        None => (FeedSource::ledger(&ledger), None),
        Some(nats) => {
            let relay = Relay::new(&ledger, signer, verifying_key, nats.clone());
            let data_dir = Some(arguments.data.data.clone());
            let settings = Box::new(nats);
            let source = FeedSource::JetStream { settings, key: verifying_key, data_dir };
            (source, Some(tokio::spawn(relay.run(stopped.clone()))))
        }
    };
    let mut workers = Workers::start(&database, &all_projections(), &source);
    let service = Service::new(parts, is_demo)?;
    let reconciled = service.reconcile().await?;
    tracing::info!(?reconciled, head = %ledger.head(), "accounts and ledger are of one mind");
    let upkeep = Upkeep::start(&service);
    let socket = OperatorSocket::bind(&arguments.data.data)
        .context("the operator's socket cannot be made in the data directory")?;
    let operating = tokio::spawn(socket.run(service.clone(), stopped.clone()));
    ready.serve(router(&service));
    greet(address, public_url.as_str(), is_demo)?;

    let mut signal = signal;
    let end = tokio::select! {
        _ = signal.wait_for(|is_told| *is_told) => End::Told,
        why = ledger.stopped() => End::Failed(why.to_string()),
        lost = accounts.lost() => End::Failed(lost.to_string()),
        lost = workers.file_lost() => End::Failed(lost.to_string()),
    };
    // Nothing more is accepted; what is under way is answered.
    stop.send_replace(true);
    drop((serving.await, operating.await));
    upkeep.stop().await;
    workers.stop().await;
    end_relay(relay).await;
    close_files(&service, &accounts, database).await;
    let outcome = end.told();
    close_ledger(&ledger).await?;
    Ok(outcome)
}

impl End {
    /// Says why, where it was not told to.
    fn told(self) -> Outcome {
        match self {
            Self::Told => Outcome::Holds,
            Self::Failed(why) => {
                note(&format!("daybook: {why}"));
                Outcome::DoesNotHold
            }
        }
    }
}

async fn close_files(service: &Service, accounts: &Accounts, database: GameDatabase) {
    service.close().await;
    accounts.close().await;
    if let Err(error) = database.close().await {
        tracing::warn!(%error, "game.db was not closed; the next start sees to it");
    }
}

async fn end_relay(relay: Option<JoinHandle<Result<(), RelayError>>>) {
    if let Some(relay) = relay
        && let Ok(Err(error)) = relay.await
    {
        tracing::warn!(%error, "the relay ended");
    }
}

async fn close_ledger(ledger: &Ledger) -> Result<()> {
    match tokio::time::timeout(CLOSES_WITHIN, ledger.close()).await {
        Ok(Ok(head)) => {
            tracing::info!(%head, "closed");
            Ok(())
        }
        // Why it stopped is told already.
        Ok(Err(_)) => Ok(()),
        Err(_) => bail!("the ledger did not close within {} s", CLOSES_WITHIN.as_secs()),
    }
}

/// Prints the address, and what can be tried first.
fn greet(address: SocketAddr, public_url: &str, is_demo: bool) -> Result<()> {
    let local = format!("http://localhost:{}", address.port());
    let warning = match is_demo {
        true => "This is a demo's ledger: its draws can be foreseen.\n",
        false => "",
    };
    write_line(&format!(
        "{warning}Listening at http://{address}, for browsers at {public_url}\n\
         \n\
         Try:\n\
         curl -c cookies.txt {local}/api/auth/register -H 'Content-Type: application/json' \\\n  \
           -d '{{\"email\": \"ada@farm.example\", \"password\": \"a pail of cold water\", \"displayName\": \"Ada\"}}'\n\
         curl -b cookies.txt {local}/api/auth/me\n\
         \n\
         {local}/docs shows every route."
    ))
}
