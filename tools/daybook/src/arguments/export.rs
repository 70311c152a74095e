//! The arguments of `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use daybook_export::Format;
use daybook_schema::{EventKind, SeasonId, Seq, UnixMicros, UserId};

use super::shared::{DataArguments, JsonArgument, parse_time};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook export --out ./events
  daybook export --format csv --out ./bets --kind bet_placed,bet_resolved
  daybook export --out ./january --from-time 2026-01-01T00:00:00Z --until-time 2026-02-01T00:00:00Z
  daybook export --out ./newer --since ./events/manifest.json
  duckdb -c \"SELECT pot_id, sum(amount) FROM './events/bet_placed/*.parquet' GROUP BY ALL\"

The same command again goes on where it ended, or where it was killed.")]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
    /// The directory to write to: empty, or one in which the same export was begun
    #[arg(long, env = "DAYBOOK_OUT", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How the files are written
    #[arg(long, env = "DAYBOOK_FORMAT", value_enum, default_value = "parquet")]
    pub(crate) format: FormatArgument,
    /// The first event
    #[arg(long, env = "DAYBOOK_FROM", value_name = "SEQ")]
    pub(crate) from: Option<Seq>,
    /// The last event
    #[arg(long, env = "DAYBOOK_UNTIL", value_name = "SEQ")]
    pub(crate) until: Option<Seq>,
    /// Only events that were recorded at this time or later, such as 2026-12-24T18:00:00Z
    #[arg(long, env = "DAYBOOK_FROM_TIME", value_name = "TIME", value_parser = parse_time)]
    pub(crate) from_time: Option<UnixMicros>,
    /// Only events that were recorded before this time
    #[arg(long, env = "DAYBOOK_UNTIL_TIME", value_name = "TIME", value_parser = parse_time)]
    pub(crate) until_time: Option<UnixMicros>,
    /// Only events of these kinds
    #[arg(long, env = "DAYBOOK_KIND", value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<EventKind>,
    /// Only events of this season
    #[arg(long, env = "DAYBOOK_SEASON", value_name = "ID")]
    pub(crate) season: Option<SeasonId>,
    /// Only events of this user and of that user's seasons
    #[arg(long, env = "DAYBOOK_USER", value_name = "ID")]
    pub(crate) user: Option<UserId>,
    /// Only events after those of another export, with its kinds, season and user
    #[arg(long, env = "DAYBOOK_SINCE_MANIFEST", value_name = "MANIFEST",
          conflicts_with_all = ["from", "from_time", "kind", "season", "user"])]
    pub(crate) since: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormatArgument {
    /// A JSON object a line
    Jsonl,
    /// With a line of names
    Csv,
    /// zstd, sorted by seq
    Parquet,
}

impl From<FormatArgument> for Format {
    fn from(format: FormatArgument) -> Self {
        match format {
            FormatArgument::Jsonl => Self::Jsonl,
            FormatArgument::Csv => Self::Csv,
            FormatArgument::Parquet => Self::Parquet,
        }
    }
}
