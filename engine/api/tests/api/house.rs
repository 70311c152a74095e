//! A service in a directory of its own, that can be stopped and started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daybook_api::{
    Accounts, Hashing, Lacking, Parts, RateLimit, RateLimits, Reconciled, Server, Service,
    Settings, Task, TaskAnswer, Telemetry, TelemetrySettings, Upkeep, router,
};
use daybook_ledger::{
    Ledger, NewLedger, Options, Reader, Submission, SystemTimeSource, Time, TimeSource, keys,
};
use daybook_monitor::Monitor;
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, NatsSettings, Relay, Workers, all_projections,
};
use daybook_schema::{Command, Event, Seq, UnixMicros};
use daybook_simulator::Keyring;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;

pub struct House {
    path: PathBuf,
    /// Removed with the house, where it is its own.
    _own: Option<TempDir>,
    pub settings: Settings,
    /// How the ledger is opened.
    pub options: MakeOptions,
    /// The bus that its read models are filled through, where that is not the ledger itself.
    pub nats: Option<NatsSettings>,
    running: Option<Running>,
}

/// Makes the options of a ledger from its directory and the keys that lie there.
pub type MakeOptions = Arc<dyn Fn(&Path, Keyring) -> Options + Send + Sync>;

/// The options of every ledger here that says nothing else.
fn usual_options() -> MakeOptions {
    Arc::new(Options::new)
}

/// The options of a ledger where no bet comes too soon.
pub fn stepping_options() -> MakeOptions {
    Arc::new(|data, keys| Options::new(data, keys).time(Time::Source(Box::new(Stepping::now()))))
}

/// A clock that goes on by a step for each command.
pub struct Stepping {
    pub began: UnixMicros,
    pub step: Duration,
    pub steps: u32,
}

impl Stepping {
    /// From now on.
    pub fn now() -> Self {
        Self::from(SystemTimeSource::default().wall())
    }

    /// So fast that no bet comes too soon.
    pub fn from(began: UnixMicros) -> Self {
        Self { began, step: Duration::from_millis(200), steps: 0 }
    }
}

impl TimeSource for Stepping {
    fn wall(&mut self) -> UnixMicros {
        self.began.plus_micros((self.step * self.steps).as_micros() as i64)
    }

    fn monotonic(&mut self) -> Duration {
        self.steps += 1;
        self.step * self.steps
    }
}

struct Running {
    base: String,
    ledger: Ledger,
    accounts: Accounts,
    telemetry: Telemetry,
    monitor: Monitor,
    database: GameDatabase,
    service: Service,
    reconciled: Reconciled,
    /// None once they were stopped.
    workers: Option<Workers>,
    relay: Option<JoinHandle<()>>,
    upkeep: Upkeep,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// Settings under which nothing is limited that a test does not limit itself, and a password is
/// hashed quickly.
pub fn settings() -> Settings {
    let free = RateLimit { burst: 1_000_000, per_second: 1e6 };
    Settings {
        rate_limits: RateLimits { api: free, auth: free, telemetry: free, bet: free, token: free },
        hashing: Hashing { memory_kib: 64, passes: 1, at_once_max: 2, ..Hashing::default() },
        registrations_per_day_max: 1_000_000,
        command_wait: Duration::from_secs(10),
        read_wait: Duration::from_secs(20),
        telemetry: TelemetrySettings { disk_free_bytes_min: 1 << 20, ..Default::default() },
        ..Settings::default()
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with(settings()).await
    }

    /// One where no bet comes too soon.
    pub async fn playing() -> Self {
        Self::of_its_own(settings(), stepping_options()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::of_its_own(settings, usual_options()).await
    }

    /// In a directory that goes with it.
    async fn of_its_own(settings: Settings, options: MakeOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (path, own) = (directory.path().to_owned(), Some(directory));
        Self::started(Self { path, _own: own, settings, options, nats: None, running: None }).await
    }

    /// In a directory that is there, made or not.
    pub async fn within(directory: &Path) -> Self {
        Self::try_within(directory).await.unwrap()
    }

    /// The same with a ledger that is opened in a way of its own.
    pub async fn opened(directory: &Path, options: MakeOptions) -> Self {
        let (path, settings) = (directory.to_owned(), settings());
        Self::started(Self { path, _own: None, settings, options, nats: None, running: None }).await
    }

    /// The same, or why it does not start.
    pub async fn try_within(directory: &Path) -> Result<Self, String> {
        let (path, settings) = (directory.to_owned(), settings());
        let options = usual_options();
        Self::try_started(Self { path, _own: None, settings, options, nats: None, running: None })
            .await
    }

    async fn started(house: Self) -> Self {
        Self::try_started(house).await.unwrap()
    }

    async fn try_started(mut house: Self) -> Result<Self, String> {
        let keys_dir = house.path("keys");
        if !keys_dir.join("signing.key").exists() {
            keys::init(&keys_dir, &keys::random_season_key().unwrap()).unwrap();
        }
        house.try_start().await?;
        Ok(house)
    }

    pub fn directory(&self) -> &Path {
        &self.path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn base(&self) -> &str {
        &self.running().base
    }

    pub fn client(&self) -> Client {
        Client::new(self.base())
    }

    pub fn service(&self) -> &Service {
        &self.running().service
    }

    pub fn ledger(&self) -> &Ledger {
        &self.running().ledger
    }

    pub fn accounts(&self) -> &Accounts {
        &self.running().accounts
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.running().telemetry
    }

    pub fn monitor(&self) -> &Monitor {
        &self.running().monitor
    }

    pub fn reconciled(&self) -> Reconciled {
        self.running().reconciled
    }

    pub async fn start(&mut self) {
        self.try_start().await.unwrap();
    }

    /// Starts the service, or says why it does not start.
    pub async fn try_start(&mut self) -> Result<(), String> {
        let data = self.path.clone();
        let data = data.as_path();
        let monitor = Monitor::default();
        let ledger = open_ledger(data, &self.options, &monitor).await;
        let accounts = data.join("accounts.db");
        let opened =
            Accounts::open(&accounts, &monitor).await.map_err(|error| error.to_string())?;
        let telemetry = data.join("telemetry.db");
        let telemetry = Telemetry::open(&telemetry, self.settings.telemetry, &monitor);
        let telemetry = telemetry.await.map_err(|error| error.to_string())?;
        let database_settings = DatabaseSettings {
            accounts: Some(accounts),
            monitor: monitor.clone(),
            ..DatabaseSettings::default()
        };
        let database = GameDatabase::open(&data.join("game.db"), database_settings).await.unwrap();
        let (relay, source) = self.bus(&ledger);
        let workers = Workers::start(&database, &all_projections(), &source);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let mut settings = self.settings.clone();
        settings.public_url = base.parse().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (server, ready) =
            Server::new(listener, settings.connections, settings.trusted_proxies.clone(), false);
        let serving = tokio::spawn(server.run(stopped));
        let parts = Parts {
            ledger: ledger.clone(),
            accounts: opened.clone(),
            game_database: database.clone(),
            telemetry: telemetry.clone(),
            monitor: monitor.clone(),
            keys_dir: data.join("keys"),
            signer: keys::load(&data.join("keys")).unwrap().signer,
            settings,
        };
        let service = Service::new(parts, false).unwrap();
        let reconciled =
            service.reconcile(Lacking::Refuse).await.map_err(|error| error.to_string())?;
        let upkeep = Upkeep::start(&service);
        ready.serve(router(&service));
        self.running = Some(Running {
            base,
            ledger,
            accounts: opened,
            telemetry,
            monitor,
            database,
            service,
            reconciled,
            workers: Some(workers),
            relay,
            upkeep,
            stop,
            serving,
        });
        Ok(())
    }

    /// What fills the read models: the ledger, or the bus and the relay that fills that.
    fn bus(&self, ledger: &Ledger) -> (Option<JoinHandle<()>>, FeedSource) {
        let Some(nats) = &self.nats else { return (None, FeedSource::ledger(ledger)) };
        let keys = keys::load(&self.path("keys")).unwrap();
        let relay = Relay::new(ledger, keys.signer, keys.verifying_key, nats.clone());
        let (stop, stopped) = watch::channel(false);
        let relaying = tokio::spawn(async move {
            relay.run(stopped).await.unwrap();
            drop(stop);
        });
        let (settings, data_dir) = (Box::new(nats.clone()), Some(self.path.clone()));
        let source = FeedSource::JetStream { settings, key: keys.verifying_key, data_dir };
        (Some(relaying), source)
    }

    /// Stops the service in good order.
    pub async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.service.end_streams();
        running.stop.send_replace(true);
        running.serving.await.unwrap();
        running.upkeep.stop().await;
        if let Some(workers) = running.workers {
            workers.stop().await;
        }
        running.relay.inspect(JoinHandle::abort);
        running.service.close().await;
        running.accounts.close().await;
        running.telemetry.close().await;
        drop(running.service);
        running.database.close().await.unwrap();
        running.ledger.close().await.unwrap();
    }

    /// Stops what fills the read models.
    pub async fn stop_workers(&mut self) {
        self.running.as_mut().unwrap().workers.take().unwrap().stop().await;
    }

    pub async fn operate(&self, task: Task) -> TaskAnswer {
        self.running().service.operate(task).await.unwrap()
    }

    /// The events of the ledger so far.
    pub fn events(&self) -> Vec<Event> {
        let reader = Reader::open(self.directory()).unwrap();
        reader.events_from(Seq::MIN).map(|event| event.unwrap().event).collect()
    }

    /// Waits until something holds that happens soon.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(found) = look(self) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what} did not happen within 30 s");
    }

    /// `telemetry.db`, to look into.
    pub fn telemetry_db(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("telemetry.db")).unwrap()
    }

    /// `accounts.db`, to look into.
    pub fn accounts_db(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("accounts.db")).unwrap()
    }
}

async fn open_ledger(data: &Path, options: &MakeOptions, monitor: &Monitor) -> Ledger {
    let keys = keys::load(&data.join("keys")).unwrap();
    let key_id = *keys.season_keys.key_ids().next().unwrap();
    let options = options(data, keys.season_keys)
        .newest_head(keys.newest_head)
        .create(NewLedger::random())
        .monitor(monitor.clone());
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options)).await.unwrap().unwrap();
    if ledger.head().seq == 0 {
        let rotate = Command::RotateKey { key_id, compromised: false };
        ledger.submit(Submission::new(rotate)).unwrap().await.unwrap();
    }
    ledger
}
