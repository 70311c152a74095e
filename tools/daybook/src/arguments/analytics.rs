//! The arguments of `analytics`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};
use daybook_projections::analytics::DaysAsked;
use jiff::civil::Date;

use super::read_models::GameDatabaseArgument;
use super::shared::{DataArguments, JsonArgument, parse_day};

#[derive(Args, Debug)]
pub(crate) struct AnalyticsArguments {
    #[command(subcommand)]
    pub(crate) command: AnalyticsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AnalyticsCommand {
    /// Users who were active, by day: new, returning, within 7 and 30 days
    #[command(after_help = "\
Examples:
  daybook analytics dau
  daybook analytics dau --from 2026-01-05 --until 2026-01-31 --csv > dau.csv
  daybook analytics dau --source telemetry")]
    Dau(TableOfSource),
    /// Users who came back n days after their first, and whether luck brought them back
    #[command(after_help = "\
Examples:
  daybook analytics retention
  daybook analytics retention --svg retention.svg
  daybook analytics retention --csv | head")]
    Retention(RetentionArguments),
    /// How far new users came, and where seasons were given up
    #[command(after_help = "\
Examples:
  daybook analytics funnel
  daybook analytics funnel --from 2026-01-05 --until 2026-01-11 --json")]
    Funnel(TableArguments),
    /// What bets gave back, beside what the rules give for the same stakes
    #[command(after_help = "\
Examples:
  daybook analytics bets
  daybook analytics bets --svg bets.svg
  daybook analytics bets --by-day --csv > bets.csv")]
    Bets(BetsArguments),
    /// Play sessions by day: how many, how long
    #[command(after_help = "\
Examples:
  daybook analytics sessions
  daybook analytics sessions --from 2026-01-05 --csv")]
    Sessions(TableArguments),
    /// Coins that moved between the accounts by day, and what the accounts held
    #[command(after_help = "\
Examples:
  daybook analytics coins
  daybook analytics coins --json | jq '.days[-1].jackpotMillicoins'")]
    Coins(TableArguments),
    /// How far telemetry agrees with the ledger: blocked clients are missing, forged events too many
    #[command(after_help = "\
Examples:
  daybook analytics compare
  daybook analytics compare --from 2026-01-05 --until 2026-01-11 --json

A user counts on each UTC day with a command accepted or a session begun, by the ledger, and with an
event in her name, by telemetry. Nothing is written.")]
    Compare(CompareArguments),
}

/// UTC days, both included.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DaysArguments {
    /// The first UTC day, such as 2026-01-05
    #[arg(
        long,
        env = "DAYBOOK_FROM_DAY",
        value_name = "DAY",
        default_value = "0001-01-01",
        hide_default_value = true,
        value_parser = parse_day
    )]
    pub(crate) from: Date,
    /// The last UTC day, itself included
    #[arg(
        long,
        env = "DAYBOOK_UNTIL_DAY",
        value_name = "DAY",
        default_value = "9999-12-31",
        hide_default_value = true,
        value_parser = parse_day
    )]
    pub(crate) until: Date,
}

impl DaysArguments {
    /// The days, or what is wrong with them.
    pub(crate) fn asked(self) -> Result<DaysAsked> {
        let Self { from, until } = self;
        if from > until {
            bail!("--from {from} is after --until {until}; give the earlier day first");
        }
        Ok(DaysAsked { from, until })
    }
}

/// How a table is printed.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub(crate) struct FormArguments {
    /// Print one JSON object
    #[arg(long, env = "DAYBOOK_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
    /// Print CSV
    #[arg(long, env = "DAYBOOK_CSV", value_parser = BoolishValueParser::new())]
    pub(crate) csv: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TableArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    #[command(flatten)]
    pub(crate) days: DaysArguments,
    #[command(flatten)]
    pub(crate) form: FormArguments,
}

#[derive(Args, Debug)]
pub(crate) struct TableOfSource {
    #[command(flatten)]
    pub(crate) table: TableArguments,
    /// Where it comes from: the ledger's read models, or what clients told, by the seed's own SQL
    #[arg(long, env = "DAYBOOK_SOURCE", default_value = "ledger")]
    pub(crate) source: Source,
}

#[derive(Args, Debug)]
pub(crate) struct RetentionArguments {
    #[command(flatten)]
    pub(crate) of: TableOfSource,
    /// Also draw the cohorts as a triangle, into this file
    #[arg(long, env = "DAYBOOK_SVG", value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BetsArguments {
    #[command(flatten)]
    pub(crate) table: TableArguments,
    /// A row for each day of each pot, type and weather
    #[arg(long, env = "DAYBOOK_BY_DAY", value_parser = BoolishValueParser::new())]
    pub(crate) by_day: bool,
    /// Also draw the returns beside the exact odds, into this file
    #[arg(long, env = "DAYBOOK_SVG", value_name = "FILE", conflicts_with = "by_day")]
    pub(crate) svg: Option<PathBuf>,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// The ledger's read models
    Ledger,
    /// What clients told
    Telemetry,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    #[command(flatten)]
    pub(crate) days: DaysArguments,
}
