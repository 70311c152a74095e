//! The arguments of `backup` and `restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use daybook_schema::Seq;

use super::read_models::GameDatabaseArgument;
use super::shared::{DataArguments, JsonArgument, KeysDirArgument};

const SHORTEST: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook backup /mnt/backups
  daybook backup /mnt/backups --every 1h --keep 48
  daybook backup /mnt/backups --json | jq -r .path

A service may run meanwhile. Keep the keys elsewhere: who has them and a backup can foresee draws.")]
pub(crate) struct BackupArguments {
    /// The directory of backups; each is a directory in it
    #[arg(env = "DAYBOOK_BACKUPS", value_name = "DIR")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    /// Copy the read models too, for a quick return; without them they are made again
    #[arg(long, env = "DAYBOOK_WITH_GAME_DB", value_parser = BoolishValueParser::new())]
    pub(crate) with_game_db: bool,
    /// Copy the keys too
    #[arg(long, env = "DAYBOOK_WITH_KEYS", value_parser = BoolishValueParser::new())]
    pub(crate) with_keys: bool,
    /// Make it although users have no accounts: for a ledger whose users log in elsewhere
    #[arg(long, env = "DAYBOOK_WITHOUT_ACCOUNTS", value_parser = BoolishValueParser::new())]
    pub(crate) without_accounts: bool,
    /// Go on, with a backup in each such time, such as 1h or 30m
    #[arg(long, env = "DAYBOOK_EVERY", value_name = "TIME", value_parser = parse_every)]
    pub(crate) every: Option<Duration>,
    /// Keep so many backups, and remove older ones whose events and files the newest has
    #[arg(long, env = "DAYBOOK_KEEP", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keep: Option<u32>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook restore /mnt/backups/backup-20261130T120000000Z --data ./farm
  daybook restore /mnt/backups/backup-20261130T120000000Z --until 105000

The next start that writes begins a new epoch: seasons in play end, commitments are renewed. It does
not where `--known-head SEQ:HASH` says that the backup ends with the newest event there was.")]
pub(crate) struct RestoreArguments {
    /// The backup: a directory that `backup` made
    #[arg(env = "DAYBOOK_BACKUP", value_name = "BACKUP")]
    pub(crate) backup: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    /// Put back the events up to this one alone
    #[arg(long, env = "DAYBOOK_UNTIL", value_name = "SEQ")]
    pub(crate) until: Option<Seq>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

fn parse_every(text: &str) -> Result<Duration, String> {
    let every = text.parse::<jiff::SignedDuration>().ok();
    let every = every.and_then(|every| Duration::try_from(every).ok());
    every
        .filter(|every| *every >= SHORTEST)
        .ok_or_else(|| "expected a time of a minute or more, such as 1h or 30m".to_owned())
}
