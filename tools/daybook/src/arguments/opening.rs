//! How a command that writes opens the ledger.

use clap::Args;
use daybook_ledger::Head;
use daybook_schema::UnixMicros;

use super::read_models::GameDatabaseArgument;
use super::shared::parse_time;

/// How a command that writes opens the ledger.
#[derive(Args, Clone, Debug)]
pub(crate) struct OpeningArguments {
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    /// Do not start unless the ledger has this head, noted earlier; may be given more than once
    #[arg(long, env = "DAYBOOK_KNOWN_HEAD", value_name = "SEQ:HASH", value_delimiter = ',')]
    pub(crate) known_head: Vec<Head>,
    /// Go on with a ledger that lacks events that are known of: a new epoch begins, every season in
    /// play ends, every commitment is renewed
    #[arg(long, env = "DAYBOOK_ACCEPT_LOSS",
          value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) accept_loss: bool,
    /// The clock is right although it is far ahead of the newest event: it is about this time, such
    /// as 2026-12-24T18:00:00Z, give or take a day. Counts only where the clock is that far ahead
    #[arg(long, env = "DAYBOOK_ACCEPT_CLOCK", value_name = "TIME", value_parser = parse_time)]
    pub(crate) accept_clock: Option<UnixMicros>,
}
