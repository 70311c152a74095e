//! The arguments of `stats`.

use clap::Args;

use super::shared::{DataArguments, JsonArgument};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook stats
  daybook stats --json | jq .ledger

The same figures are at http://127.0.0.1:9464/metrics, for Prometheus.")]
pub(crate) struct StatsArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}
