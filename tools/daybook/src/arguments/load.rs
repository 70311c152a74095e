//! The arguments of `load`.

use std::path::PathBuf;

use clap::Args;

use super::shared::JsonArgument;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook user bots 1000 --sessions bots.jsonl
  daybook load --sessions bots.jsonl --rate 500 --seconds 60
  daybook load --sessions bots.jsonl --rate 5000 --seconds 600 --ledger ./daybook-data --json

Each request has a time at which it is due, whether the service is slow or not. How long it took is
counted from then. A bot plays four seasons a UTC day: 230 requests. So 1,000 bots last for 230,000.")]
pub(crate) struct LoadArguments {
    /// Where the service is
    #[arg(long, env = "DAYBOOK_URL", value_name = "URL", default_value = "http://localhost:8080")]
    pub(crate) url: String,
    /// The bots' sessions, as `daybook user bots` wrote them
    #[arg(long, env = "DAYBOOK_SESSIONS", value_name = "FILE")]
    pub(crate) sessions: PathBuf,
    /// Requests that are due each second
    #[arg(long, env = "DAYBOOK_RATE", value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// How long
    #[arg(long, env = "DAYBOOK_SECONDS", value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Connections to the service
    #[arg(long, env = "DAYBOOK_LOAD_CONNECTIONS", value_name = "N", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Hold the ledger of this directory to the heads that were answered
    #[arg(long, env = "DAYBOOK_LEDGER", value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}
