//! How a service is set up: each setting with its unit and its default.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use daybook_schema::limits;
use ipnet::IpNet;

/// How a service is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where browsers reach the service, such as `https://farm.example`: what comes from another
    /// origin changes nothing.
    pub public_url: PublicUrl,
    /// Proxies that are believed to say who the client is.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// How many requests a client may make.
    pub rate_limits: RateLimits,
    /// How passwords are hashed.
    pub hashing: Hashing,
    /// What failed logins lead to.
    pub lockout: Lockout,
    /// Connections and requests.
    pub connections: Connections,
    /// How long a session lasts.
    pub session_age: Duration,
    /// How long a link to set a new password can be used.
    pub reset_link_age: Duration,
    /// Registrations that one client address may try on a UTC day.
    pub registrations_per_day_max: u32,
    /// How long a command waits for its turn before it is refused.
    pub command_wait: Duration,
    /// How long a read waits for the read models to come to what it must stand for.
    pub read_wait: Duration,
    /// Idle seasons expire only when the service has run so long: players come back first.
    pub expires_after: Duration,
    /// Companions that a user may adopt on a UTC day.
    pub adoptions_per_day_max: u32,
    /// How much telemetry is stored.
    pub telemetry: TelemetrySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: PublicUrl("http://localhost:8080".to_owned()),
            trusted_proxies: Vec::new(),
            rate_limits: RateLimits::default(),
            hashing: Hashing::default(),
            lockout: Lockout::default(),
            connections: Connections::default(),
            session_age: Duration::from_secs(7 * 86_400),
            reset_link_age: Duration::from_secs(3_600),
            registrations_per_day_max: 20,
            command_wait: Duration::from_millis(200),
            read_wait: Duration::from_millis(500),
            expires_after: Duration::from_micros(limits::EXPIRY_GRACE_MICROS.unsigned_abs()),
            adoptions_per_day_max: 20,
            telemetry: TelemetrySettings::default(),
        }
    }
}

/// How much telemetry is stored, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Days that events are kept: at least 8, for an event that comes again must still be known.
    pub kept_days: u32,
    /// Bytes of the file; past it the oldest days go.
    pub bytes_max: u64,
    /// Free bytes of its disk below which nothing more is stored.
    pub disk_free_bytes_min: u64,
    /// Events that one user stores on a UTC day.
    pub events_per_user_day_max: u32,
    /// Events that one client address without a session stores on a UTC day.
    pub events_per_client_day_max: u32,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            kept_days: limits::TELEMETRY_KEPT_DAYS,
            bytes_max: limits::TELEMETRY_BYTES_MAX,
            disk_free_bytes_min: limits::TELEMETRY_DISK_FREE_BYTES_MIN,
            events_per_user_day_max: limits::TELEMETRY_EVENTS_PER_USER_DAY_MAX,
            events_per_client_day_max: limits::TELEMETRY_EVENTS_PER_CLIENT_DAY_MAX,
        }
    }
}

impl TelemetrySettings {
    /// Nothing that is stored is ever taken out, and nothing is refused: for a process that is no
    /// service, and does not know how one is set up.
    #[must_use]
    pub const fn keeping_all() -> Self {
        Self {
            kept_days: u32::MAX,
            bytes_max: u64::MAX,
            disk_free_bytes_min: 0,
            events_per_user_day_max: u32::MAX,
            events_per_client_day_max: u32::MAX,
        }
    }
}

/// A burst, and how fast it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests at once.
    pub burst: u32,
    /// Requests that come back each second.
    pub per_second: f64,
}

/// A text is no rate limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate limit is a burst of 1 to 1000000 and 0.001 to 1000000 requests a second, such as 100/10 or 5/0.1, \
     got `{0}`"
)]
pub struct RateLimitError(String);

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(burst, per_second)| {
            Some(Self { burst: burst.parse().ok()?, per_second: per_second.parse().ok()? })
        });
        parsed
            .filter(|limit| {
                (1..=1_000_000).contains(&limit.burst) && (0.001..=1e6).contains(&limit.per_second)
            })
            .ok_or_else(|| RateLimitError(text.to_owned()))
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.burst, self.per_second)
    }
}

/// The limits of the classes of routes, and of service tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimits {
    /// Most routes.
    pub api: RateLimit,
    /// Routes that take a password.
    pub auth: RateLimit,
    /// Telemetry.
    pub telemetry: RateLimit,
    /// Bets, one each.
    pub bet: RateLimit,
    /// All that another backend asks with one service token.
    pub token: RateLimit,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            api: RateLimit { burst: 100, per_second: 10.0 },
            auth: RateLimit { burst: 5, per_second: 0.1 },
            telemetry: RateLimit { burst: 50, per_second: 20.0 },
            bet: RateLimit { burst: 10, per_second: 2.0 },
            token: RateLimit { burst: 2_000, per_second: 1_000.0 },
        }
    }
}

/// Argon2id's parameters, and how much of it may go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Hashes at the same time.
    pub at_once_max: usize,
    /// Requests that wait for their turn; one more is refused.
    pub waiting_max: usize,
    /// How long they wait.
    pub wait: Duration,
}

impl Default for Hashing {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            memory_kib: 19_456,
            passes: 2,
            at_once_max: (cores / 2).max(1),
            waiting_max: 32,
            wait: Duration::from_secs(2),
        }
    }
}

/// What failed logins lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// Failures for one address or one known device within the window.
    pub failures_max: usize,
    /// Failures from one client address within the window.
    pub client_failures_max: usize,
    /// How long a failure counts.
    pub window: Duration,
    /// The first lock-out; each further one is twice as long.
    pub shortest: Duration,
    /// The longest.
    pub longest: Duration,
    /// How long failures are remembered after the last one.
    pub kept: Duration,
    /// How many addresses, devices and clients are remembered.
    pub keys_max: usize,
}

impl Default for Lockout {
    fn default() -> Self {
        Self {
            failures_max: 10,
            client_failures_max: 100,
            window: Duration::from_secs(15 * 60),
            shortest: Duration::from_secs(60),
            longest: Duration::from_secs(15 * 60),
            kept: Duration::from_secs(30 * 86_400),
            keys_max: 100_000,
        }
    }
}

/// Connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Connections at the same time.
    pub most: usize,
    /// Connections of one client address at the same time; trusted proxies have no such limit.
    pub per_client_max: usize,
    /// How long a client may take for the head of a request, and how long a connection may idle.
    pub header_timeout: Duration,
    /// How long a request may take, its body included.
    pub request_timeout: Duration,
    /// How long requests that are under way get when the service stops.
    pub stop_timeout: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: 10_240,
            per_client_max: 512,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(20),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// The origin where browsers reach the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

/// A text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a public URL is a scheme, a host and perhaps a port, such as https://farm.example, got `{0}`"
)]
pub struct PublicUrlError(String);

impl PublicUrl {
    /// As browsers send it in `Origin`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether browsers reach it over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let origin = text.trim_end_matches('/').to_lowercase();
        let parsed = axum::http::Uri::from_str(&origin).ok();
        let is_origin = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.path() == "/"
                && uri.query().is_none()
        });
        // A port that the scheme implies is left out, as browsers do.
        let implied = origin
            .strip_suffix(":443")
            .filter(|rest| rest.starts_with("https://"))
            .or_else(|| origin.strip_suffix(":80").filter(|rest| rest.starts_with("http://")));
        match is_origin {
            true => Ok(Self(implied.unwrap_or(&origin).to_owned())),
            false => Err(PublicUrlError(text.to_owned())),
        }
    }
}

/// The one header in which a proxy says who its client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHeader {
    /// `cf-connecting-ip`, as Cloudflare sets it; then `cf-ipcountry` counts too.
    CfConnectingIp,
    /// `x-forwarded-for`: the last hop in it that is no trusted proxy.
    XForwardedFor,
}

impl ClientHeader {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CfConnectingIp => "cf-connecting-ip",
            Self::XForwardedFor => "x-forwarded-for",
        }
    }
}

/// A proxy that is believed, and the one header that it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy {
    /// Its addresses.
    pub network: IpNet,
    /// The header; all others of its requests are ignored.
    pub header: ClientHeader,
}

/// A text is no trusted proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a trusted proxy is its address or network and the header that it sets, such as \
     127.0.0.1=x-forwarded-for or 173.245.48.0/20=cf-connecting-ip, got `{0}`"
)]
pub struct TrustedProxyError(String);

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(network, header)| {
            let network = network
                .parse::<IpNet>()
                .ok()
                .or_else(|| network.parse::<IpAddr>().ok().map(IpNet::from))?;
            let all = [ClientHeader::CfConnectingIp, ClientHeader::XForwardedFor];
            let header =
                all.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(header))?;
            Some(Self { network, header })
        });
        parsed.ok_or_else(|| TrustedProxyError(text.to_owned()))
    }
}
