//! `daybook serve`: engine, read models and the HTTP service in one process.

pub(crate) mod parts;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use daybook_api::{
    Accounts, Lacking, OperatorSocket, Reconciled, Server, Service, Settings, Telemetry, Upkeep,
    router, serve_metrics,
};
use daybook_ledger::{Ledger, WriterLock};
use daybook_projections::{FeedSource, GameDatabase, Relay, RelayError, Workers, all_projections};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Outcome;
use crate::arguments::serve::ServeArguments;
use crate::output::{note, write_line};
use crate::relay::stop_on_signal;
use parts::{OpenedParts, Opening};

/// Where metrics are, if nothing else is said.
const METRICS_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9_464);
/// Files that may be open at once, beside the connections.
const FILES_BESIDE: u64 = 512;
/// A signal that comes sooner after the first is the same.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long each part may take to end that was told to.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// How long the ledger may take to close: it makes a snapshot.
const CLOSES_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: ServeArguments) -> Result<Outcome> {
    if arguments.check_config {
        return check(&arguments);
    }
    allow_open_files(&arguments);
    warn(&arguments);
    // Refused before anything is made: first by who serves the directory already.
    let lock = arguments.data.data.join("ledger.lock").exists();
    let lock = lock.then(|| WriterLock::take(&arguments.data.data)).transpose()?;
    let listener = std::net::TcpListener::bind(arguments.listen).with_context(|| {
        format!("cannot listen at {}; name another address with --listen", arguments.listen)
    })?;
    listener.set_nonblocking(true)?;
    let metrics = bind_metrics(&arguments)?;
    let opening = Opening::prepare(&arguments, lock)?;
    let runtime = crate::runtime()?;
    let outcome = runtime.block_on(serve(arguments, (listener, metrics), opening));
    // What hashes a password or waits for a disk is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The listener of the metrics. The usual one may be another service's of this machine.
fn bind_metrics(arguments: &ServeArguments) -> Result<Option<std::net::TcpListener>> {
    let address = arguments.metrics_listen.unwrap_or(METRICS_LISTEN);
    match std::net::TcpListener::bind(address) {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            Ok(Some(listener))
        }
        Err(error) if arguments.metrics_listen.is_none() => {
            tracing::warn!(%error, %address, "no metrics: name another address with --metrics-listen");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| {
            format!("cannot listen at {address}; name another address with --metrics-listen")
        }),
    }
}

/// Prints what the configuration comes to.
fn check(arguments: &ServeArguments) -> Result<Outcome> {
    if let Some(url) = &arguments.nats {
        arguments.nats_settings.settings(url)?;
    }
    warn(arguments);
    write_line(&format!("the configuration holds\n\n{}", arguments.shown.join("\n")))?;
    Ok(Outcome::Holds)
}

/// Warns of what browsers will not do.
fn warn(arguments: &ServeArguments) {
    let listens = arguments.listen.ip();
    let is_local = listens.is_loopback();
    match &arguments.public_url {
        None if !is_local => note(
            "warning: browsers elsewhere need --public-url: what they send from another origin changes nothing",
        ),
        Some(url) if !url.is_https() && !url.as_str().starts_with("http://localhost") => {
            note(
                "warning: over http:// browsers keep no login but at localhost; put TLS in front, see docs/nginx.conf",
            );
        }
        _ => {}
    }
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

async fn serve(
    arguments: ServeArguments,
    (listener, metrics): (std::net::TcpListener, Option<std::net::TcpListener>),
    opening: Opening,
) -> Result<Outcome> {
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let settings = arguments.settings(address);
    let mut signal = stop_on_signal()?;
    let (stop, stopped) = watch::channel(false);
    // It answers from here on: that it lives, and that it is starting.
    let (server, ready) = Server::new(
        listener,
        settings.connections,
        settings.trusted_proxies.clone(),
        opening.is_demo,
    );
    let serving = tokio::spawn(server.run(stopped.clone()));
    let stopped_metrics = stopped.clone();
    let starting = Running::start(&arguments, opening, settings, stopped);
    let mut running = tokio::select! {
        started = starting => started?,
        // What was opened is recovered by the next start.
        _ = signal.wait_for(|is_told| *is_told) => return Ok(Outcome::Holds),
    };
    ready.serve(router(&running.service));
    if let Some(metrics) = metrics {
        let metrics = TcpListener::from_std(metrics)?;
        tracing::info!(address = %metrics.local_addr()?, "metrics");
        tokio::spawn(serve_metrics(metrics, running.service.clone(), stopped_metrics));
    }
    tracing::info!(%address, "listening");
    greet(address, &running.public_url, running.is_demo)?;
    let end = running.until_end(&mut signal).await;
    // Nothing more is accepted; what is under way is answered. Whoever asks again wants it at once.
    running.service.end_streams();
    stop.send_replace(true);
    let stopping = async {
        within("the requests", serving).await;
        running.stop().await
    };
    let is_closed = tokio::select! {
        is_closed = stopping => is_closed,
        () = signalled_again() => false,
    };
    let outcome = end.told();
    Ok(if is_closed { outcome } else { Outcome::DoesNotHold })
}

/// Waits for a second signal. What comes at the same moment is the first one: some senders tell the
/// process and its group.
async fn signalled_again() {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::time::sleep(AGAIN_AFTER).await;
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    note("daybook: stopped at once; the next start recovers");
}

/// Waits for a task that was told to end, but not for ever.
async fn within<T>(what: &str, task: JoinHandle<T>) -> Option<T> {
    let abort = task.abort_handle();
    match tokio::time::timeout(ENDS_WITHIN, task).await {
        Ok(ended) => ended.ok(),
        Err(_) => {
            tracing::warn!(what, "did not end in time, and is left");
            abort.abort();
            None
        }
    }
}

/// All that runs.
struct Running {
    service: Service,
    ledger: Ledger,
    accounts: Accounts,
    telemetry: Telemetry,
    database: GameDatabase,
    public_url: String,
    is_demo: bool,
    workers: Workers,
    upkeep: Upkeep,
    operating: Option<JoinHandle<()>>,
    relay: Option<JoinHandle<Result<(), RelayError>>>,
}

impl Running {
    async fn start(
        arguments: &ServeArguments,
        opening: Opening,
        settings: Settings,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self> {
        let is_demo = opening.is_demo;
        let relaying = arguments.nats.as_deref();
        let relaying = relaying.map(|url| arguments.nats_settings.settings(url)).transpose()?;
        let OpenedParts { parts, signer, verifying_key } =
            opening.open(arguments, settings).await?;
        let (ledger, accounts) = (parts.ledger.clone(), parts.accounts.clone());
        let telemetry = parts.telemetry.clone();
        let database = parts.game_database.clone();
        let public_url = parts.settings.public_url.as_str().to_owned();
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
        let workers = Workers::start(&database, &all_projections(), &source);
        let service = Service::new(parts, is_demo)?;
        let lacking = match arguments.new_accounts || is_demo {
            true => Lacking::GiveUp,
            false => Lacking::Refuse,
        };
        let reconciled = service.reconcile(lacking).await?;
        let Reconciled { registrations, sessions_ended, sessions_dropped, erasures } = reconciled;
        let head = ledger.head();
        tracing::info!(%head, registrations, sessions_ended, sessions_dropped, erasures, "reconciled");
        let upkeep = Upkeep::start(&service);
        // Without it all goes on, but for the operator's tasks.
        let operating = match OperatorSocket::bind(&arguments.data.data) {
            Ok(socket) => Some(tokio::spawn(socket.run(service.clone(), stopped))),
            Err(error) => {
                tracing::warn!(%error, "operator.sock cannot be made: `daybook user` cannot reach the service");
                None
            }
        };
        Ok(Self {
            service,
            ledger,
            accounts,
            telemetry,
            database,
            public_url,
            is_demo,
            workers,
            upkeep,
            operating,
            relay,
        })
    }

    /// Waits until something ends it.
    async fn until_end(&mut self, signal: &mut watch::Receiver<bool>) -> End {
        let relay = &mut self.relay;
        let relay_ended = async {
            match relay {
                Some(running) => running.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signal.wait_for(|is_told| *is_told) => End::Told,
            why = self.ledger.stopped() => End::Failed(why.to_string()),
            lost = self.accounts.lost() => End::Failed(lost.to_string()),
            lost = self.workers.file_lost() => End::Failed(lost.to_string()),
            ended = relay_ended => {
                self.relay = None;
                let why = ended.map_or_else(|error| error.to_string(), |ended| match ended {
                    Ok(()) => "it ended".to_owned(),
                    Err(error) => error.to_string(),
                });
                End::Failed(format!("the relay: {why}"))
            }
        }
    }

    /// Ends all of it; tells whether the ledger is closed.
    async fn stop(self) -> bool {
        if let Some(operating) = self.operating {
            within("the operator's tasks", operating).await;
        }
        self.upkeep.stop().await;
        self.workers.stop().await;
        if let Some(relay) = self.relay
            && let Some(Err(error)) = within("the relay", relay).await
        {
            tracing::warn!(%error, "the relay ended");
        }
        self.telemetry.close().await;
        close_files(&self.service, &self.accounts, self.database).await;
        close_ledger(&self.ledger).await
    }
}

/// Why a service ends.
enum End {
    Told,
    Failed(String),
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

/// Closes the ledger, in time or not.
async fn close_ledger(ledger: &Ledger) -> bool {
    match tokio::time::timeout(CLOSES_WITHIN, ledger.close()).await {
        Ok(Ok(head)) => {
            tracing::info!(%head, "closed");
            true
        }
        // Why it stopped is told already.
        Ok(Err(_)) => true,
        Err(_) => {
            note("daybook: the ledger did not close in time; the next start recovers");
            false
        }
    }
}

/// Prints the address, and what can be tried first.
fn greet(address: SocketAddr, public_url: &str, is_demo: bool) -> Result<()> {
    let local = match address.ip().is_loopback() || address.ip().is_unspecified() {
        true => format!("http://localhost:{}", address.port()),
        false => format!("http://{address}"),
    };
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
