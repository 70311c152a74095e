//! The arguments that several subcommands share: where the data and the keys are, and how the
//! output is printed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use daybook_ledger::{DatabaseError, Reader};
use daybook_schema::UnixMicros;
use jiff::civil::Date;

#[derive(Args, Clone, Debug)]
pub(crate) struct DataArguments {
    /// The directory where everything lives
    #[arg(long, env = "DAYBOOK_DATA", value_name = "DIR", default_value = "./daybook-data")]
    pub(crate) data: PathBuf,
}

impl DataArguments {
    /// Refuses to work beside a ledger of a game or a format that this version does not know.
    pub(crate) fn refuse_unknown_ledger(&self) -> Result<()> {
        match Reader::open(&self.data) {
            Err(
                error @ (DatabaseError::UnknownGame { .. } | DatabaseError::NewerFormat { .. }),
            ) => Err(error.into()),
            // Whoever needs the ledger says what else is wrong with it.
            _ => Ok(()),
        }
    }
}

/// The read models' file in the data directory: SQLite's library for them takes names in UTF-8
/// alone.
pub(crate) fn game_db_path(data: &Path) -> Result<PathBuf> {
    if std::path::absolute(data)?.to_str().is_none() {
        bail!(
            "`{}` is not a name in UTF-8, and game.db could not be made in it; name another directory with \
             --data",
            data.display()
        );
    }
    Ok(data.join("game.db"))
}

#[derive(Args, Clone, Debug)]
pub(crate) struct JsonArgument {
    /// Print one JSON object
    #[arg(long, env = "DAYBOOK_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct KeysDirArgument {
    /// The directory of the season keys and the signing key [default: keys/ in the data directory]
    #[arg(long, env = "DAYBOOK_KEYS", value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
}

impl KeysDirArgument {
    /// The keys directory, with the data directory's own as default.
    pub(crate) fn directory(&self, data: &Path) -> PathBuf {
        self.keys.clone().unwrap_or_else(|| data.join("keys"))
    }
}

/// A time as options take it.
/// A UTC day, and nothing else that could be read as one.
pub(crate) fn parse_day(text: &str) -> Result<Date, String> {
    let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
    day.ok_or_else(|| "expected a UTC day such as 2026-01-05".to_owned())
}

pub(crate) fn parse_time(text: &str) -> Result<UnixMicros, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "expected a time such as 2026-12-24T18:00:00Z".to_owned())?;
    Ok(UnixMicros::new(time.as_microsecond()))
}
