//! The arguments of `report`.

use std::path::PathBuf;

use clap::Args;
use daybook_projections::analytics::LARGE_WIN_MIN;
use jiff::civil::Date;

use super::read_models::GameDatabaseArgument;
use super::shared::{DataArguments, JsonArgument};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook report --month 2026-11
  daybook report --month 2026-11 --out ./november --large-win 10000
  daybook report --month 2026-11 --json | jq .periods[0].bets.all

Days are UTC days. A month that is not over goes up to the last day that is over.")]
pub(crate) struct ReportArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// The month, such as 2026-11
    #[arg(long, env = "DAYBOOK_MONTH", value_name = "MONTH", value_parser = parse_month)]
    pub(crate) month: Date,
    /// The directory for page, JSON and CSV [default: report-MONTH]
    #[arg(long, env = "DAYBOOK_OUT", value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// From so many coins beyond its stake a win is large
    #[arg(long, env = "DAYBOOK_LARGE_WIN", value_name = "COINS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(LARGE_WIN_MIN..))]
    pub(crate) large_win: u64,
}

fn parse_month(text: &str) -> Result<Date, String> {
    let first = format!("{text}-01").parse::<Date>().ok();
    let first = first.filter(|first| first.strftime("%Y-%m").to_string() == text);
    first.ok_or_else(|| "expected a month such as 2026-11".to_owned())
}
