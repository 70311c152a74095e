//! The arguments of what follows the ledger: the relay, the projections and their database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};
use daybook_ledger::{Head, VerifyingKey, keys};
use daybook_projections::{
    Credentials, FeedSource, MigrationNumber, NatsSettings, StreamStorage, path_of_url,
};
use daybook_schema::LedgerId;

use super::shared::{DataArguments, JsonArgument, KeysDirArgument, game_db_path};

/// Where `game.db` is.
#[derive(Args, Clone, Debug)]
pub(crate) struct GameDatabaseArgument {
    /// The read models' file: ./x.db, file:x.db or sqlite://x.db [default: game.db in the data
    /// directory]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
}

impl GameDatabaseArgument {
    pub(crate) fn path(&self, data: &Path) -> Result<PathBuf> {
        match &self.database_url {
            Some(url) => Ok(path_of_url(url)?),
            None => game_db_path(data),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Storage {
    File,
    Memory,
}

/// A NATS server, and the stream on it.
#[derive(Args, Clone, Debug)]
pub(crate) struct NatsArguments {
    /// The stream's name; its subjects are NAME.blocks and NAME.range. One for each ledger
    #[arg(long, env = "DAYBOOK_NATS_STREAM", value_name = "NAME", default_value = "daybook")]
    nats_stream: String,
    /// Who we are to the server
    #[arg(long, env = "DAYBOOK_NATS_USER", value_name = "USER", requires = "nats_password")]
    nats_user: Option<String>,
    /// The user's password; better in the environment than on a command line
    #[arg(long, env = "DAYBOOK_NATS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    nats_password: Option<String>,
    /// A token, instead of a user
    #[arg(
        long,
        env = "DAYBOOK_NATS_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "nats_user"
    )]
    nats_token: Option<String>,
    /// A file with an nkey's seed, instead of a user
    #[arg(long, env = "DAYBOOK_NATS_NKEY", value_name = "FILE", conflicts_with = "nats_user")]
    nats_nkey: Option<PathBuf>,
    /// A credentials file as nsc makes it, instead of a user
    #[arg(long, env = "DAYBOOK_NATS_CREDS", value_name = "FILE", conflicts_with = "nats_user")]
    nats_creds: Option<PathBuf>,
    /// Accept nothing but TLS
    #[arg(long, env = "DAYBOOK_NATS_TLS", value_parser = BoolishValueParser::new())]
    nats_tls: bool,
    /// Certificates that the server's may be signed by, beside the system's
    #[arg(long, env = "DAYBOOK_NATS_CA", value_name = "FILE")]
    nats_ca: Option<PathBuf>,
    /// Our certificate, where the server asks for one
    #[arg(long, env = "DAYBOOK_NATS_CERT", value_name = "FILE", requires = "nats_key")]
    nats_cert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(long, env = "DAYBOOK_NATS_KEY", value_name = "FILE")]
    nats_key: Option<PathBuf>,
    /// Copies of the stream in a cluster; for a stream that is made
    #[arg(long, env = "DAYBOOK_NATS_REPLICAS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    nats_replicas: u8,
    /// Where the stream's messages lie; for a stream that is made
    #[arg(long, env = "DAYBOOK_NATS_STORAGE", value_enum, default_value = "file")]
    nats_storage: Storage,
    /// Bytes that the stream keeps; for a stream that is made
    #[arg(long, env = "DAYBOOK_NATS_MAX_BYTES", value_name = "N", default_value_t = 8 << 30,
          value_parser = clap::value_parser!(i64).range(1 << 20..))]
    nats_max_bytes: i64,
    /// How long the stream keeps a block, in seconds; for ever if not given. For a stream that is
    /// made
    #[arg(long, env = "DAYBOOK_NATS_MAX_AGE", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    nats_max_age: Option<u64>,
    /// How long an answer is waited for, in milliseconds
    #[arg(long, env = "DAYBOOK_NATS_TIMEOUT", value_name = "MS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    nats_timeout: u64,
}

impl NatsArguments {
    pub(crate) fn settings(&self, url: &str) -> Result<NatsSettings> {
        let credentials = match (&self.nats_user, &self.nats_password) {
            (Some(user), Some(password)) => {
                Credentials::UserAndPassword { user: user.clone(), password: password.clone() }
            }
            _ => match (&self.nats_token, &self.nats_nkey, &self.nats_creds) {
                (Some(token), ..) => Credentials::Token(token.clone()),
                (None, Some(path), _) => {
                    let seed = std::fs::read_to_string(path);
                    let seed =
                        seed.with_context(|| format!("`{}` cannot be read", path.display()))?;
                    Credentials::NkeySeed(seed.trim().to_owned())
                }
                (None, None, Some(path)) => Credentials::File(path.clone()),
                (None, None, None) => Credentials::None,
            },
        };
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if self.nats_stream.is_empty() || !self.nats_stream.chars().all(is_plain) {
            bail!("a stream's name is letters, digits, - and _, got `{}`", self.nats_stream);
        }
        NatsSettings::check_url(url)?;
        Ok(NatsSettings {
            credentials,
            require_tls: self.nats_tls,
            root_certificates: self.nats_ca.clone(),
            client_certificate: self.nats_cert.clone().zip(self.nats_key.clone()),
            stream: self.nats_stream.clone(),
            replicas: self.nats_replicas.into(),
            storage: match self.nats_storage {
                Storage::File => StreamStorage::File,
                Storage::Memory => StreamStorage::Memory,
            },
            bytes_max: self.nats_max_bytes,
            age_max: self.nats_max_age.map(Duration::from_secs),
            request_timeout: Duration::from_millis(self.nats_timeout),
            ..NatsSettings::new(url)
        })
    }
}

/// Where projections take their events from.
#[derive(Args, Clone, Debug)]
pub(crate) struct FeedArguments {
    /// Follow a relay over this NATS server instead of the ledger's own tail
    #[arg(long, env = "DAYBOOK_NATS", value_name = "URL")]
    nats: Option<String>,
    #[command(flatten)]
    settings: NatsArguments,
    /// The ledger's verifying key in hex, which `daybook keys list` shows: blocks that it did not
    /// sign are passed over [default: that of the keys directory]
    #[arg(long, env = "DAYBOOK_LEDGER_KEY", value_name = "HEX")]
    ledger_key: Option<String>,
    #[command(flatten)]
    keys: KeysDirArgument,
}

impl FeedArguments {
    pub(crate) fn source(&self, data: &Path) -> Result<FeedSource> {
        let Some(url) = &self.nats else { return Ok(FeedSource::ledger(data)) };
        let settings = Box::new(self.settings.settings(url)?);
        let key = match &self.ledger_key {
            Some(hex) => parse_key(hex)?,
            None => {
                let loaded = keys::load(&self.keys.directory(data));
                loaded
                    .context("blocks are believed by the ledger's key: --ledger-key or --keys")?
                    .verifying_key
            }
        };
        let has_ledger = daybook_ledger::ledger_path(data).exists();
        let data_dir = has_ledger.then(|| data.to_owned());
        Ok(FeedSource::JetStream { settings, key, data_dir })
    }
}

pub(super) fn parse_key(hex: &str) -> Result<VerifyingKey> {
    // The same form as an event's hash: 32 bytes in hex.
    let parsed = hex.parse::<daybook_schema::EventHash>().ok();
    let key = parsed.and_then(|bytes| VerifyingKey::from_bytes(bytes.as_bytes()).ok());
    key.with_context(|| {
        format!("a verifying key is 64 hex digits, as `daybook keys list` shows it, got `{hex}`")
    })
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook relay --nats nats://127.0.0.1:4222
  daybook relay --nats tls://nats.example.org --nats-creds relay.creds --nats-replicas 3")]
pub(crate) struct RelayArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    /// The server, or several parted by commas
    #[arg(long, env = "DAYBOOK_NATS", value_name = "URL")]
    pub(crate) nats: String,
    #[command(flatten)]
    pub(crate) settings: NatsArguments,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook projections status
  daybook projections run
  daybook projections run --nats nats://127.0.0.1:4222
  daybook projections rebuild seasons")]
pub(crate) struct ProjectionsArguments {
    #[command(subcommand)]
    pub(crate) command: ProjectionsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectionsCommand {
    /// Show how far each has come; exit status 1 if one stands still until somebody sees to it
    #[command(after_help = "Examples:\n  daybook projections status --json")]
    Status {
        #[command(flatten)]
        common: ProjectionsCommonArguments,
        #[command(flatten)]
        json: JsonArgument,
    },
    /// Make a projection's tables anew from the ledger's beginning, while reads go on
    #[command(after_help = "\
Examples:
  daybook projections rebuild seasons
  daybook projections rebuild seasons simulins analytics")]
    Rebuild {
        /// The projections
        #[arg(value_name = "NAME", env = "DAYBOOK_PROJECTIONS", required = true)]
        names: Vec<String>,
        #[command(flatten)]
        common: ProjectionsCommonArguments,
        #[command(flatten)]
        feed: FeedArguments,
        #[command(flatten)]
        json: JsonArgument,
    },
    /// Take positions for wrong, not the ledger: they are kept as disputed, and the next worker
    /// makes the tables anew
    #[command(after_help = "\
Examples:
  daybook projections forget --position 70021:4f0c…
  daybook projections forget --ledger ldg_019b8f0e-…")]
    Forget {
        #[command(flatten)]
        forgotten: ForgottenArguments,
        #[command(flatten)]
        common: ProjectionsCommonArguments,
        #[command(flatten)]
        json: JsonArgument,
    },
    /// Follow the ledger, or a relay of it, and keep the tables, until SIGTERM or ^C
    #[command(after_help = "\
Examples:
  daybook projections run
  daybook projections run --nats nats://127.0.0.1:4222 --ledger-key 6f0c…")]
    Run {
        #[command(flatten)]
        common: ProjectionsCommonArguments,
        #[command(flatten)]
        feed: FeedArguments,
    },
}

/// Which positions are wrong.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct ForgottenArguments {
    /// Those at this head, as `projections status` shows it: the ledger is right without it
    #[arg(long, env = "DAYBOOK_POSITION", value_name = "SEQ:HASH")]
    pub(crate) position: Option<Head>,
    /// Those of this other ledger: the file is to hold the read models of the one in --data
    #[arg(long, env = "DAYBOOK_LEDGER", value_name = "ID")]
    pub(crate) ledger: Option<LedgerId>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProjectionsCommonArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    /// The directory with migrations of your own, where game.db has such
    #[arg(long, env = "DAYBOOK_MIGRATIONS", value_name = "DIR")]
    pub(crate) migrations: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook migrate status
  daybook migrate up
  daybook migrate down --to 2 --database game
  daybook migrate new add_teams --migrations ./migrations")]
pub(crate) struct MigrateArguments {
    #[command(subcommand)]
    pub(crate) command: MigrateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Show which migrations were applied
    #[command(after_help = "Examples:\n  daybook migrate status --json")]
    Status(MigrateCommonArguments),
    /// Apply what is pending, each in a transaction of its own, after a backup
    #[command(
        after_help = "Examples:\n  daybook migrate up\n  daybook migrate up --to 2 --database game"
    )]
    Up {
        #[command(flatten)]
        common: MigrateCommonArguments,
        /// The last to apply: 4, or team-4 of your own, which come after ours
        #[arg(long, env = "DAYBOOK_TO", value_name = "NUMBER")]
        to: Option<MigrationNumber>,
    },
    /// Take the newest back, or all down to a number, which stays
    #[command(after_help = "Examples:\n  daybook migrate down --database game --to 2")]
    Down {
        #[command(flatten)]
        common: MigrateCommonArguments,
        /// The last to keep: 4, or team-4 of your own; 0 takes all back
        #[arg(long, env = "DAYBOOK_TO", value_name = "NUMBER")]
        to: Option<MigrationNumber>,
    },
    /// Check foreign keys, structure, tables and indexes; exit status 1 if anything does not hold
    #[command(after_help = "Examples:\n  daybook migrate verify --json")]
    Verify(MigrateCommonArguments),
    /// Make the pair of files of a new migration
    #[command(after_help = "Examples:\n  daybook migrate new add_teams --migrations ./migrations")]
    New {
        /// Its name: lower-case letters, digits and _
        #[arg(env = "DAYBOOK_NAME")]
        name: String,
        #[command(flatten)]
        common: MigrateCommonArguments,
    },
}

/// A file with migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MigratedDatabase {
    Game,
    Accounts,
    Telemetry,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateCommonArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) url: GameDatabaseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// One of the files alone [default: all; game for down]
    #[arg(long, env = "DAYBOOK_DATABASE", value_enum)]
    pub(crate) database: Option<MigratedDatabase>,
    /// A directory with migrations of your own, which have numbers of their own
    #[arg(long, env = "DAYBOOK_MIGRATIONS", value_name = "DIR")]
    pub(crate) migrations: Option<PathBuf>,
}
