//! The arguments of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use daybook_api::{
    Connections, Hashing, Lockout, PublicUrl, RateLimit, RateLimits, Settings, TelemetrySettings,
    TrustedProxy,
};
use daybook_monitor::{Budget, BudgetError, Budgets};
use daybook_schema::LedgerId;
use daybook_schema::limits::{
    TELEMETRY_EVENTS_PER_CLIENT_DAY_MAX, TELEMETRY_EVENTS_PER_USER_DAY_MAX, TELEMETRY_KEPT_DAYS,
    TELEMETRY_KEPT_DAYS_MIN,
};

use super::opening::OpeningArguments;
use super::read_models::NatsArguments;
use super::shared::{DataArguments, KeysDirArgument};

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook serve
  daybook serve --listen 0.0.0.0:8080 --public-url https://farm.example \\
    --trusted-proxy 127.0.0.1=x-forwarded-for
  daybook serve --config /etc/daybook.toml --check-config

Each option may stand in the file too, by its name: `public-url = \"https://farm.example\"`. Variables
count before the file, and flags before both.

Exit status: 0 stopped as it was told, 1 stopped by a failure (a supervisor starts it again), 2 could
not start.")]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    #[command(flatten)]
    pub(crate) opening: OpeningArguments,
    /// A file with settings, in TOML [default: daybook.toml in the data directory, if it is there]
    #[arg(long, env = "DAYBOOK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Look at the configuration, print it, and end
    #[arg(long, env = "DAYBOOK_CHECK_CONFIG", value_parser = BoolishValueParser::new())]
    pub(crate) check_config: bool,
    /// Where to listen
    #[arg(long, env = "DAYBOOK_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where metrics are served, for Prometheus [default: 127.0.0.1:9464, if nobody has it]
    #[arg(long, env = "DAYBOOK_METRICS_LISTEN", value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Where browsers reach the service: requests from other origins change nothing [default:
    /// http://localhost and the port]
    #[arg(long, env = "DAYBOOK_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,
    /// A proxy that is believed, and the one header that it sets: cf-connecting-ip or
    /// x-forwarded-for; may be given more than once
    #[arg(
        long,
        env = "DAYBOOK_TRUSTED_PROXY",
        value_name = "NETWORK=HEADER",
        value_delimiter = ','
    )]
    pub(crate) trusted_proxy: Vec<TrustedProxy>,
    /// Serve a demo's ledger, to look around: its draws can be foreseen
    #[arg(long, env = "DAYBOOK_DEMO", value_parser = BoolishValueParser::new())]
    pub(crate) demo: bool,
    /// Make a new accounts.db although the ledger has players: their accounts are given up
    #[arg(long, env = "DAYBOOK_NEW_ACCOUNTS", value_parser = BoolishValueParser::new())]
    pub(crate) new_accounts: bool,
    /// Make a new ledger although this one, which is known of, is gone; may be given more than once
    #[arg(long, env = "DAYBOOK_INSTEAD_OF", value_name = "LEDGER", value_delimiter = ',')]
    pub(crate) instead_of: Vec<LedgerId>,
    /// How the log is written to stderr
    #[arg(long, env = "DAYBOOK_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Relay the ledger to this NATS server, and keep the read models through it
    #[arg(long, env = "DAYBOOK_NATS", value_name = "URL")]
    pub(crate) nats: Option<String>,
    #[command(flatten)]
    pub(crate) nats_settings: NatsArguments,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    people: PeopleArguments,
    #[command(flatten)]
    telemetry: TelemetryArguments,
    /// Each option, what it comes to, and where that is from
    #[arg(skip)]
    pub(crate) shown: Vec<String>,
}

/// How much clients may ask for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArguments {
    /// Most routes: a burst, and requests that come back each second
    #[arg(long, env = "DAYBOOK_API_LIMIT", value_name = "BURST/RATE", default_value = "100/10")]
    api_limit: RateLimit,
    /// Routes that take a password
    #[arg(long, env = "DAYBOOK_AUTH_LIMIT", value_name = "BURST/RATE", default_value = "5/0.1")]
    auth_limit: RateLimit,
    /// Telemetry
    #[arg(
        long,
        env = "DAYBOOK_TELEMETRY_LIMIT",
        value_name = "BURST/RATE",
        default_value = "50/20"
    )]
    telemetry_limit: RateLimit,
    /// Bets
    #[arg(long, env = "DAYBOOK_BET_LIMIT", value_name = "BURST/RATE", default_value = "10/2")]
    bet_limit: RateLimit,
    /// All that another backend asks with one service token
    #[arg(
        long,
        env = "DAYBOOK_TOKEN_LIMIT",
        value_name = "BURST/RATE",
        default_value = "2000/1000"
    )]
    token_limit: RateLimit,
    /// Connections at the same time
    #[arg(long, env = "DAYBOOK_CONNECTIONS", value_name = "N", default_value_t = 10_240,
          value_parser = at_least_one())]
    connections: u32,
    /// Connections of one client address at the same time
    #[arg(long, env = "DAYBOOK_CONNECTIONS_PER_CLIENT", value_name = "N", default_value_t = 512,
          value_parser = at_least_one())]
    connections_per_client: u32,
    /// How long a client may take for the head of a request, and a connection may idle
    #[arg(long, env = "DAYBOOK_HEADER_TIMEOUT", value_name = "SECONDS", default_value_t = 10,
          value_parser = at_least_one())]
    header_timeout: u32,
    /// How long a request may take
    #[arg(long, env = "DAYBOOK_REQUEST_TIMEOUT", value_name = "SECONDS", default_value_t = 20,
          value_parser = at_least_one())]
    request_timeout: u32,
    /// How long requests that are under way get at the end
    #[arg(long, env = "DAYBOOK_STOP_TIMEOUT", value_name = "SECONDS", default_value_t = 10,
          value_parser = at_least_one())]
    stop_timeout: u32,
    /// How long a command waits for its turn before it is refused
    #[arg(long, env = "DAYBOOK_COMMAND_WAIT", value_name = "MS", default_value_t = 200,
          value_parser = at_least_one())]
    command_wait: u32,
    /// How long a read waits for the read models to come to what it must stand for
    #[arg(long, env = "DAYBOOK_READ_WAIT", value_name = "MS", default_value_t = 500,
          value_parser = at_least_one())]
    read_wait: u32,
    /// Companions that a user may adopt on a UTC day
    #[arg(long, env = "DAYBOOK_ADOPTIONS_PER_DAY", value_name = "N", default_value_t = 20)]
    adoptions_per_day: u32,
}

/// What clients tell of themselves, and how long things take.
#[derive(Args, Debug)]
#[command(next_help_heading = "Telemetry")]
struct TelemetryArguments {
    /// How long telemetry is kept
    #[arg(long, env = "DAYBOOK_TELEMETRY_KEPT", value_name = "DAYS",
          default_value_t = TELEMETRY_KEPT_DAYS,
          value_parser = clap::value_parser!(u32).range(i64::from(TELEMETRY_KEPT_DAYS_MIN)..=36_500))]
    telemetry_kept: u32,
    /// The size of telemetry.db past which its oldest days go
    #[arg(long, env = "DAYBOOK_TELEMETRY_SIZE", value_name = "MIB", default_value_t = 2_048,
          value_parser = clap::value_parser!(u32).range(1..))]
    telemetry_size: u32,
    /// Free space of the disk below which no telemetry is stored
    #[arg(long, env = "DAYBOOK_TELEMETRY_FREE_DISK", value_name = "MIB", default_value_t = 1_024)]
    telemetry_free_disk: u32,
    /// Events that one user stores on a UTC day
    #[arg(long, env = "DAYBOOK_TELEMETRY_PER_USER", value_name = "N",
          default_value_t = TELEMETRY_EVENTS_PER_USER_DAY_MAX)]
    telemetry_per_user: u32,
    /// Events that one client address without a session stores on a UTC day
    #[arg(long, env = "DAYBOOK_TELEMETRY_PER_CLIENT", value_name = "N",
          default_value_t = TELEMETRY_EVENTS_PER_CLIENT_DAY_MAX)]
    telemetry_per_client: u32,
    /// How long something may take before it is told as telemetry, in milliseconds; may be given
    /// more than once [default: api_response=200, db_query=50, others 100]
    #[arg(long, env = "DAYBOOK_BUDGET", value_name = "METRIC=MS", value_delimiter = ',',
          value_parser = parse_budget)]
    budget: Vec<Budget>,
}

/// Accounts and sessions.
#[derive(Args, Debug)]
#[command(next_help_heading = "Accounts")]
struct PeopleArguments {
    /// How long a session lasts
    #[arg(long, env = "DAYBOOK_SESSION_AGE", value_name = "SECONDS", default_value_t = 604_800,
          value_parser = clap::value_parser!(u32).range(1..=604_800))]
    session_age: u32,
    /// How long a link to set a new password can be used
    #[arg(long, env = "DAYBOOK_RESET_LINK_AGE", value_name = "SECONDS", default_value_t = 3_600,
          value_parser = at_least_one())]
    reset_link_age: u32,
    /// Registrations that one client address may try on a UTC day
    #[arg(long, env = "DAYBOOK_REGISTRATIONS_PER_DAY", value_name = "N", default_value_t = 20)]
    registrations_per_day: u32,
    /// Argon2id's memory for one hash
    #[arg(long, env = "DAYBOOK_PASSWORD_MEMORY", value_name = "KIB", default_value_t = 19_456,
          value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    password_memory: u32,
    /// Argon2id's passes over that memory
    #[arg(long, env = "DAYBOOK_PASSWORD_PASSES", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    password_passes: u32,
    /// Passwords that are hashed at the same time [default: half of the cores]
    #[arg(long, env = "DAYBOOK_PASSWORDS_AT_ONCE", value_name = "N", value_parser = at_least_one())]
    passwords_at_once: Option<u32>,
    /// Failed logins for one address within the window, after which it is locked out
    #[arg(long, env = "DAYBOOK_FAILED_LOGINS", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    failed_logins: u32,
    /// Failed logins from one client address within the window, after which it is locked out
    #[arg(long, env = "DAYBOOK_FAILED_LOGINS_PER_CLIENT", value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    failed_logins_per_client: u32,
    /// How long a failed login counts
    #[arg(long, env = "DAYBOOK_FAILED_LOGIN_WINDOW", value_name = "SECONDS", default_value_t = 900,
          value_parser = at_least_one())]
    failed_login_window: u32,
    /// The first lock-out; each further one is twice as long
    #[arg(long, env = "DAYBOOK_LOCKOUT_SHORTEST", value_name = "SECONDS", default_value_t = 60,
          value_parser = at_least_one())]
    lockout_shortest: u32,
    /// How long failed logins are remembered after the last one
    #[arg(long, env = "DAYBOOK_FAILED_LOGINS_KEPT", value_name = "DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=3_650))]
    failed_logins_kept: u32,
    /// Of how many addresses, devices and clients failed logins are remembered
    #[arg(long, env = "DAYBOOK_FAILED_LOGINS_KNOWN", value_name = "N", default_value_t = 100_000,
          value_parser = at_least_one())]
    failed_logins_known: u32,
    /// Passwords that wait to be hashed; one more is refused
    #[arg(long, env = "DAYBOOK_PASSWORDS_WAITING", value_name = "N", default_value_t = 32,
          value_parser = at_least_one())]
    passwords_waiting: u32,
    /// The longest lock-out
    #[arg(long, env = "DAYBOOK_LOCKOUT_LONGEST", value_name = "SECONDS", default_value_t = 900,
          value_parser = at_least_one())]
    lockout_longest: u32,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

impl ServeArguments {
    /// The settings of the service that listens at an address.
    pub(crate) fn settings(&self, listens_at: SocketAddr) -> Settings {
        let (limits, people) = (&self.limits, &self.people);
        let hashing = Hashing::default();
        let at_once = people.passwords_at_once.map(|most| most as usize);
        let local = format!("http://localhost:{}", listens_at.port());
        let defaults = Settings::default();
        let local = local.parse().unwrap_or(defaults.public_url);
        Settings {
            public_url: self.public_url.clone().unwrap_or(local),
            trusted_proxies: self.trusted_proxy.clone(),
            rate_limits: RateLimits {
                api: limits.api_limit,
                auth: limits.auth_limit,
                telemetry: limits.telemetry_limit,
                bet: limits.bet_limit,
                token: limits.token_limit,
            },
            hashing: Hashing {
                memory_kib: people.password_memory,
                passes: people.password_passes,
                at_once_max: at_once.unwrap_or(hashing.at_once_max),
                waiting_max: people.passwords_waiting as usize,
                ..hashing
            },
            lockout: Lockout {
                failures_max: people.failed_logins as usize,
                client_failures_max: people.failed_logins_per_client as usize,
                window: seconds(people.failed_login_window),
                shortest: seconds(people.lockout_shortest),
                longest: seconds(people.lockout_longest),
                kept: seconds(86_400) * people.failed_logins_kept,
                keys_max: people.failed_logins_known as usize,
            },
            connections: self.connections(),
            session_age: seconds(people.session_age),
            reset_link_age: seconds(people.reset_link_age),
            registrations_per_day_max: people.registrations_per_day,
            command_wait: Duration::from_millis(limits.command_wait.into()),
            read_wait: Duration::from_millis(limits.read_wait.into()),
            expires_after: defaults.expires_after,
            adoptions_per_day_max: limits.adoptions_per_day,
            telemetry: self.telemetry(),
        }
    }

    /// How long things may take.
    pub(crate) fn budgets(&self) -> Budgets {
        self.telemetry.budget.iter().cloned().collect()
    }

    fn telemetry(&self) -> TelemetrySettings {
        let telemetry = &self.telemetry;
        let bytes = |mib: u32| u64::from(mib) << 20;
        TelemetrySettings {
            kept_days: telemetry.telemetry_kept,
            bytes_max: bytes(telemetry.telemetry_size),
            disk_free_bytes_min: bytes(telemetry.telemetry_free_disk),
            events_per_user_day_max: telemetry.telemetry_per_user,
            events_per_client_day_max: telemetry.telemetry_per_client,
        }
    }

    /// Connections and requests.
    pub(crate) fn connections(&self) -> Connections {
        let limits = &self.limits;
        Connections {
            most: limits.connections as usize,
            per_client_max: limits.connections_per_client as usize,
            header_timeout: seconds(limits.header_timeout),
            request_timeout: seconds(limits.request_timeout),
            stop_timeout: seconds(limits.stop_timeout),
        }
    }
}

/// What is told where it takes longer than its budget.
const BUDGETED: [&str; 5] = ["api_response", "db_query", "decide", "commit", "project"];

fn parse_budget(text: &str) -> Result<Budget, String> {
    let budget: Budget = text.parse().map_err(|error: BudgetError| error.to_string())?;
    match BUDGETED.contains(&budget.metric.as_str()) {
        true => Ok(budget),
        false => Err(format!(
            "there is no metric `{}` with a budget, expected one of {}",
            budget.metric,
            BUDGETED.join(", ")
        )),
    }
}
