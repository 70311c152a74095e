//! The arguments of `analytics`.

use clap::{Args, Subcommand};
use jiff::civil::Date;

use super::read_models::GameDatabaseArgument;
use super::shared::{DataArguments, JsonArgument};

#[derive(Args, Debug)]
pub(crate) struct AnalyticsArguments {
    #[command(subcommand)]
    pub(crate) command: AnalyticsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AnalyticsCommand {
    /// How far telemetry agrees with the ledger: blocked clients are missing, forged events too many
    Compare(CompareArguments),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook analytics compare
  daybook analytics compare --from 2026-01-05 --until 2026-01-11 --json

A user counts on each UTC day with a command accepted or a session begun, by the ledger, and with an
event in her name, by telemetry. Nothing is written.")]
pub(crate) struct CompareArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// The first UTC day
    #[arg(long, env = "DAYBOOK_FROM_DAY", value_name = "DAY", default_value = "0001-01-01")]
    pub(crate) from: Date,
    /// The last UTC day
    #[arg(long, env = "DAYBOOK_UNTIL_DAY", value_name = "DAY", default_value = "9999-12-31")]
    pub(crate) until: Date,
}
