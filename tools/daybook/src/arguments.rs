//! The command line.

pub(crate) mod analytics;
pub(crate) mod backup;
mod config_file;
pub(crate) mod export;
pub(crate) mod load;
pub(crate) mod opening;
pub(crate) mod pause;
pub(crate) mod read_models;
pub(crate) mod report;
pub(crate) mod serve;
pub(crate) mod shared;
pub(crate) mod stats;
pub(crate) mod user;

use anyhow::Result;
use clap::builder::Resettable;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use daybook_ledger::{Head, VerifyingKey};
use daybook_schema::{BetId, EventKind, LedgerId, SeasonId, Seq, StreamId, UnixMicros, UserId};

use crate::Outcome;
use analytics::AnalyticsArguments;
use backup::{BackupArguments, RestoreArguments};
use export::ExportArguments;
use load::LoadArguments;
use opening::OpeningArguments;
use pause::{PauseArguments, ResumeArguments};
use read_models::{GameDatabaseArgument, MigrateArguments, ProjectionsArguments, RelayArguments};
use report::ReportArguments;
use serve::ServeArguments;
use shared::{DataArguments, JsonArgument, KeysDirArgument, parse_time};
use stats::StatsArguments;
use user::{UserArguments, UserCommonArguments};

/// An event-sourced game ledger: every bet and every day is an event in an append-only,
/// hash-chained file, and every outcome can be proven.
#[derive(Debug, Parser)]
#[command(name = "daybook", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the command line and the environment.
    pub(crate) fn from_command_line() -> Result<Self, clap::Error> {
        let command = without_empty_variables(Self::command());
        let given: Vec<std::ffi::OsString> = std::env::args_os().collect();
        let arguments = Self::from_arg_matches(&matches_of(&command, &given)?)?;
        let file = match &arguments.command {
            Command::Serve(serve) => config_file::of(serve.config.as_deref(), &serve.data.data),
            Command::User(user) => of_common(user.common()),
            Command::Pause(pause) => of_common(&pause.common),
            Command::Resume(resume) => of_common(&resume.common),
            Command::Backup(backup) => config_file::of(None, &backup.data.data),
            Command::Verify(verify) => config_file::of(None, &verify.data.data),
            Command::Restore(restore) => config_file::of(None, &restore.data.data),
            _ => None,
        };
        // What the file says takes the place of the defaults: variables and flags come before it.
        let matches = match &file {
            None => matches_of(&command, &given)?,
            Some(file) => {
                let with_file = config_file::with_file(command.clone(), file)?;
                let parsed = with_file.try_get_matches_from(&given);
                parsed.map_err(|error| config_file::blamed(Self::command(), &error, file))?
            }
        };
        let mut arguments = Self::from_arg_matches(&matches)?;
        if let Command::Serve(serve) = &mut arguments.command {
            serve.shown = config_file::shown(&command, &matches, file.as_deref());
        }
        Ok(arguments)
    }
}

fn of_common(common: &UserCommonArguments) -> Option<std::path::PathBuf> {
    config_file::of(common.config.as_deref(), &common.data.data)
}

fn matches_of(
    command: &clap::Command,
    given: &[std::ffi::OsString],
) -> Result<clap::ArgMatches, clap::Error> {
    command.clone().try_get_matches_from(given)
}

/// A variable that is set but empty means unset; so does one that says no to a flag: what stands in
/// the flag's way would else be refused.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let value = argument.get_env().and_then(std::env::var_os);
        let value = value.map(|value| value.to_string_lossy().to_lowercase());
        let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
        let is_unset = value.is_some_and(|value| {
            value.is_empty()
                || is_flag && ["n", "no", "f", "false", "off", "0"].contains(&value.as_str())
        });
        if is_unset { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let bots play whole seasons through the real engine, then verify every outcome
    Demo(DemoArguments),
    /// Serve the game over HTTP
    Serve(Box<ServeArguments>),
    /// The operator's tasks about people: accounts, passwords, locks, erasure
    User(UserArguments),
    /// Let bots play against a running service, at a rate, and tell how long its answers take
    Load(LoadArguments),
    /// Print how a running service fares
    Stats(StatsArguments),
    /// Pause play, of all or of one user; reading goes on
    Pause(PauseArguments),
    /// End a pause
    Resume(ResumeArguments),
    /// Copy all files while a service runs, verified before it is called done
    Backup(BackupArguments),
    /// Put a backup back where nothing is
    Restore(RestoreArguments),
    /// Prove that nothing was altered and, with --full, that every outcome is what the rules give
    Verify(VerifyArguments),
    /// Rebuild the state from the events: the world at a point, or one season day by day
    Replay(ReplayArguments),
    /// Print events as they are, one JSON object a line
    Tail(TailArguments),
    /// Write the events as Parquet, CSV or JSONL, with typed columns and a manifest
    Export(ExportArguments),
    /// Print the multiplier table and its exact return to the player
    Odds(OddsArguments),
    /// Make, rotate and list the season keys and the signing key
    Keys(KeysArguments),
    /// Follow the ledger and publish it to NATS JetStream
    Relay(RelayArguments),
    /// Keep, rebuild and look at the read models in game.db
    Projections(ProjectionsArguments),
    /// Change game.db, accounts.db and telemetry.db from version to version
    Migrate(MigrateArguments),
    /// The analyst's tables
    Analytics(AnalyticsArguments),
    /// A month as a page to print, as JSON and as CSV
    Report(ReportArguments),
    /// Print the completions of a shell
    #[command(
        after_help = "Examples:\n  daybook completions bash > ~/.local/share/bash-completion/completions/daybook"
    )]
    Completions {
        /// The shell
        #[arg(env = "DAYBOOK_SHELL")]
        shell: Shell,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook demo
  daybook demo --players 5000 --days 7 --seed 42 --data /tmp/big
  daybook demo --json | jq .events_per_second

The same seed makes the same events, head hash included. The directory must be empty, or hold an
earlier demo, which is then replaced.")]
pub(crate) struct DemoArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// How many bots play
    #[arg(long, env = "DAYBOOK_PLAYERS", value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) players: u32,
    /// How many UTC days are played
    #[arg(long, env = "DAYBOOK_DAYS", value_name = "N", default_value_t = 28,
          value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub(crate) days: u32,
    /// What everything random in the demo comes from
    #[arg(long, env = "DAYBOOK_SEED", value_name = "S", default_value_t = 7)]
    pub(crate) seed: u64,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook verify
  daybook verify --full --json
  daybook verify --head 1205:6f0c…
  daybook verify --export ./events

Exit status: 0 intact, 1 something does not hold, 2 nothing could be verified.")]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// Decide every command again and balance the accounts
    #[arg(long, env = "DAYBOOK_FULL", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) full: bool,
    /// Hold the ledger to a head noted earlier; may be given more than once
    #[arg(long, env = "DAYBOOK_HEAD", value_name = "SEQ:HASH", value_delimiter = ',')]
    pub(crate) head: Vec<Head>,
    /// Read the signed newest head in the keys directory with this key, as `keys list` shows it; no
    /// private key is needed then
    #[arg(long, env = "DAYBOOK_VERIFYING_KEY", value_name = "HEX",
          value_parser = read_models::parse_key)]
    pub(crate) verifying_key: Option<VerifyingKey>,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    /// Hold the files of an export in this directory to the ledger
    #[arg(long, env = "DAYBOOK_EXPORT", value_name = "DIR",
          conflicts_with_all = ["full", "head", "verifying_key"])]
    pub(crate) export: Option<std::path::PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook replay
  daybook replay --until 100000 --accounts
  daybook replay --season ssn_019b8f0e-…")]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// Show one season day by day
    #[arg(long, env = "DAYBOOK_SEASON", value_name = "ID")]
    pub(crate) season: Option<SeasonId>,
    /// Stop after this event
    #[arg(long, env = "DAYBOOK_UNTIL", value_name = "SEQ")]
    pub(crate) until: Option<u64>,
    /// Print the trial balance
    #[arg(long, env = "DAYBOOK_ACCOUNTS", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) accounts: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook tail --from 1 --limit 10
  daybook tail --since 2026-12-24T00:00:00Z --until-time 2026-12-25T00:00:00Z
  daybook tail --follow --kind season_completed
  daybook tail --season ssn_019b8f0e-… --kind bet_placed,bet_resolved
  daybook tail --bet bet_019b8f0e-…
  daybook tail --sql > events.sql; sqlite3 -readonly -init events.sql daybook-data/ledger.db
  duckdb -c \"SELECT kind, count(*) FROM 'events.jsonl' GROUP BY kind\"   (daybook tail > events.jsonl)")]
pub(crate) struct TailArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    /// The first event to print
    #[arg(long, env = "DAYBOOK_FROM", value_name = "SEQ", default_value_t = Seq::MIN)]
    pub(crate) from: Seq,
    /// The last event to print
    #[arg(long, env = "DAYBOOK_UNTIL", value_name = "SEQ", default_value_t = Seq::MAX,
          hide_default_value = true)]
    pub(crate) until: Seq,
    /// Only events that were recorded at this time or later, such as 2026-12-24T18:00:00Z
    #[arg(long, env = "DAYBOOK_SINCE", value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<UnixMicros>,
    /// Only events that were recorded before this time
    #[arg(long, env = "DAYBOOK_UNTIL_TIME", value_name = "TIME", value_parser = parse_time)]
    pub(crate) until_time: Option<UnixMicros>,
    /// End after so many events
    #[arg(long, env = "DAYBOOK_LIMIT", value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Wait for more
    #[arg(long, env = "DAYBOOK_FOLLOW", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) follow: bool,
    /// Only events of these kinds
    #[arg(long, env = "DAYBOOK_KIND", value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<EventKind>,
    /// Only events of this user, season or ledger
    #[arg(long, env = "DAYBOOK_STREAM", value_name = "ID", value_parser = parse_stream)]
    pub(crate) stream: Option<StreamId>,
    /// Print no event, but SQL: it makes a view of the events with names and fields, for sqlite3
    #[arg(long, env = "DAYBOOK_SQL", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) sql: bool,
    #[command(flatten)]
    pub(crate) about: AboutArguments,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
}

/// Whom or what the events are about.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct AboutArguments {
    /// Only events of this user and of that user's seasons and simulins
    #[arg(long, env = "DAYBOOK_USER", value_name = "ID", conflicts_with_all = ["stream", "follow"])]
    pub(crate) user: Option<UserId>,
    /// Only events of this season; found at once where game.db knows it
    #[arg(long, env = "DAYBOOK_SEASON", value_name = "ID", conflicts_with_all = ["stream", "follow"])]
    pub(crate) season: Option<SeasonId>,
    /// Only the events of this bet: placed, and resolved or given back
    #[arg(long, env = "DAYBOOK_BET", value_name = "ID", conflicts_with_all = ["stream", "follow"])]
    pub(crate) bet: Option<BetId>,
}

fn parse_stream(text: &str) -> Result<StreamId, String> {
    text.parse::<SeasonId>()
        .map(Into::into)
        .or_else(|_| text.parse::<UserId>().map(Into::into))
        .or_else(|_| text.parse::<LedgerId>().map(Into::into))
        .map_err(|_| {
            let example = "usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
            format!("a stream is a usr_, ssn_ or ldg_ id such as {example}, got `{text}`")
        })
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  daybook odds\n  daybook odds --json | jq '.cells[0]'")]
pub(crate) struct OddsArguments {
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook keys init --keys /etc/daybook/keys
  daybook keys list
  daybook keys rotate
  daybook keys rotate --compromised")]
pub(crate) struct KeysArguments {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a keys directory with a season key and a signing key
    #[command(after_help = "Examples:\n  daybook keys init --keys /etc/daybook/keys")]
    Init(KeysCommonArguments),
    /// Put a new season key in force and publish every waiting player's commitment anew
    ///
    /// A key of the directory that was never in force in this ledger is taken before another is
    /// made. In a ledger that lost events another is made: any key may have been in force in these.
    #[command(after_help = "Examples:\n  daybook keys rotate\n  daybook keys rotate --compromised")]
    Rotate {
        #[command(flatten)]
        common: KeysCommonArguments,
        #[command(flatten)]
        opening: OpeningArguments,
        /// The keys before are known to others: expire the seasons under them
        #[arg(long, env = "DAYBOOK_COMPROMISED",
              value_parser = clap::builder::BoolishValueParser::new())]
        compromised: bool,
    },
    /// List the keys by their public names
    #[command(after_help = "Examples:\n  daybook keys list --keys /etc/daybook/keys --json")]
    List(KeysCommonArguments),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct KeysCommonArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "daybook", &mut script);
    crate::output::write_stdout(&script)?;
    Ok(Outcome::Holds)
}
