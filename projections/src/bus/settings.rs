//! Where the server is, who we are to it, and what the stream is like.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::{ConnectOptions, Event};

/// Who we are to the server.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A user and a password.
    UserAndPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// The seed of an nkey.
    NkeySeed(String),
    /// A file with a JWT and an nkey, as `nsc` makes it.
    File(PathBuf),
}

/// Where a stream's messages lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamStorage {
    /// In files.
    #[default]
    File,
    /// In memory: gone with the server, and filled again by the relay.
    Memory,
}

/// How the bus is reached and what its stream is like.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// The server, or several parted by commas: `nats://127.0.0.1:4222`, `tls://…`.
    pub url: String,
    /// Who we are to it.
    pub credentials: Credentials,
    /// Whether nothing but TLS will do.
    pub require_tls: bool,
    /// Certificates that the server's may be signed by, beside the system's.
    pub root_certificates: Option<PathBuf>,
    /// Our certificate and its key, where the server asks for one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The stream's name, and the first part of its subjects: one for each ledger.
    pub stream: String,
    /// Copies in a cluster.
    pub replicas: usize,
    /// Where messages lie.
    pub storage: StreamStorage,
    /// Bytes that the stream keeps; older blocks are dropped, and asked for again where they are
    /// missing.
    pub bytes_max: i64,
    /// How long the stream keeps a block; for ever, if none is given.
    pub age_max: Option<Duration>,
    /// How long an answer is waited for.
    pub request_timeout: Duration,
}

impl NatsSettings {
    /// The defaults for a server: a stream `daybook` of one replica in files, of at most 8 GiB.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            credentials: Credentials::None,
            require_tls: false,
            root_certificates: None,
            client_certificate: None,
            stream: "daybook".to_owned(),
            replicas: 1,
            storage: StreamStorage::File,
            bytes_max: 8 << 30,
            age_max: None,
            request_timeout: Duration::from_secs(5),
        }
    }

    /// Refuses what names no server.
    ///
    /// # Errors
    /// [`NatsError::Url`].
    pub fn check_url(url: &str) -> Result<(), NatsError> {
        let is_server = |server: &str| {
            let parsed = server.parse::<async_nats::ServerAddr>();
            parsed.is_ok_and(|server| !server.host().is_empty())
        };
        let refused = url.split(',').map(str::trim).find(|server| !is_server(server));
        refused.map_or(Ok(()), |url| Err(NatsError::Url { url: url.to_owned() }))
    }

    /// The subject that blocks are published on.
    #[must_use]
    pub fn blocks_subject(&self) -> String {
        format!("{}.blocks", self.stream)
    }

    /// The subject on which a relay answers who lacks events.
    #[must_use]
    pub fn range_subject(&self) -> String {
        format!("{}.range", self.stream)
    }

    pub(super) fn stream_config(&self) -> Config {
        Config {
            name: self.stream.clone(),
            subjects: vec![self.blocks_subject()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: match self.storage {
                StreamStorage::File => StorageType::File,
                StreamStorage::Memory => StorageType::Memory,
            },
            num_replicas: self.replicas,
            max_bytes: self.bytes_max,
            max_age: self.age_max.unwrap_or_default(),
            ..Config::default()
        }
    }

    /// Connects; waits for a server that is away, and comes back to one that went.
    pub(super) async fn connect(&self, name: &str) -> Result<async_nats::Client, NatsError> {
        let mut options = ConnectOptions::new()
            .name(name)
            .retry_on_initial_connect()
            .request_timeout(Some(self.request_timeout))
            .require_tls(self.require_tls);
        let (url, name, told) =
            (self.url.clone(), name.to_owned(), Arc::new(Mutex::new(String::new())));
        options = options.event_callback(move |event| {
            tell(&told, &format!("{name}: {url}: {event}"), &event);
            std::future::ready(())
        });
        if let Some(path) = &self.root_certificates {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options = match &self.credentials {
            Credentials::None => options,
            Credentials::UserAndPassword { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            Credentials::Token(token) => options.token(token.clone()),
            Credentials::NkeySeed(seed) => options.nkey(seed.clone()),
            Credentials::File(path) => {
                let failed = |source| NatsError::Credentials { path: path.clone(), source };
                options.credentials_file(path).await.map_err(failed)?
            }
        };
        let servers: Vec<String> = self.url.split(',').map(|url| url.trim().to_owned()).collect();
        let failed = |source| NatsError::Connect { url: self.url.clone(), source };
        options.connect(servers).await.map_err(failed)
    }
}

/// Says what became of the connection, once for as long as it stays the same: a server that is away
/// is tried several times a second.
fn tell(told: &Mutex<String>, text: &str, event: &Event) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if *told == text {
        return;
    }
    text.clone_into(&mut told);
    match event {
        Event::ClientError(_) | Event::ServerError(_) => tracing::warn!(
            "{text}; tried again: see to the server, to the address, and to our user's credentials and rights"
        ),
        _ => tracing::info!("{text}"),
    }
}

/// The bus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The server's address or what we said to it is no good.
    #[error("no connection to `{url}`; see to the server and to the credentials")]
    Connect {
        /// The server.
        url: String,
        /// What the client said.
        source: async_nats::ConnectError,
    },
    /// Not a server's address.
    #[error("`{url}` names no NATS server; write nats://127.0.0.1:4222")]
    Url {
        /// What was given.
        url: String,
    },
    /// The credentials file cannot be read.
    #[error("`{}` is no credentials file", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
