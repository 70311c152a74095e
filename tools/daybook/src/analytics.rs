//! `daybook analytics`: tables from the read models, as text, JSON, CSV and pictures.

mod compare;
mod files;
pub(crate) mod pictures;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use daybook_projections::analytics::{
    self, BetsBy, DaysAsked, Table, active_days, bets, coins, funnel, retention, sessions,
    telemetry_days, telemetry_retention,
};
use daybook_projections::sqlx::SqliteConnection;
use daybook_projections::{Look, Position};
use serde::Serialize;

use self::files::{moment_of, must_exist, unread};
use crate::Outcome;
use crate::arguments::analytics::{
    AnalyticsArguments, AnalyticsCommand, BetsArguments, FormArguments, RetentionArguments, Source,
    TableArguments, TableOfSource,
};
use crate::output::{write_file, write_json, write_line, write_stdout};

pub(crate) fn run(arguments: &AnalyticsArguments) -> Result<Outcome> {
    if let AnalyticsCommand::Compare(arguments) = &arguments.command {
        return compare::run(arguments);
    }
    crate::runtime()?.block_on(print_table(&arguments.command))?;
    Ok(Outcome::Holds)
}

async fn print_table(command: &AnalyticsCommand) -> Result<()> {
    match command {
        AnalyticsCommand::Dau(arguments) => print_active(arguments).await,
        AnalyticsCommand::Retention(arguments) => print_retention(arguments).await,
        AnalyticsCommand::Funnel(arguments) => {
            let (mut opened, asked) = Opened::ledgers(arguments).await?;
            let funnel = funnel(opened.connection(), asked).await;
            let funnel = funnel.with_context(|| opened.unread())?;
            let (steps, given_up) = (funnel.table(), funnel.given_up_table());
            opened.print(&funnel, &steps, &text::of_all(&[&steps, &given_up]))
        }
        AnalyticsCommand::Bets(arguments) => print_bets(arguments).await,
        AnalyticsCommand::Sessions(arguments) => {
            let (mut opened, asked) = Opened::ledgers(arguments).await?;
            let sessions = sessions(opened.connection(), asked).await;
            let sessions = sessions.with_context(|| opened.unread())?;
            let table = sessions.table();
            opened.print(&sessions, &table, &text::of_all(&[&table]))
        }
        AnalyticsCommand::Coins(arguments) => {
            let (mut opened, asked) = Opened::ledgers(arguments).await?;
            let coins = coins(opened.connection(), asked).await;
            let coins = coins.with_context(|| opened.unread())?;
            let table = coins.table();
            opened.print(&coins, &table, &text::of_coins(&table))
        }
        AnalyticsCommand::Compare(_) => Ok(()),
    }
}

async fn print_active(arguments: &TableOfSource) -> Result<()> {
    let (mut opened, asked) = Opened::of(arguments).await?;
    let days = match arguments.source {
        Source::Ledger => active_days(opened.connection(), asked).await,
        Source::Telemetry => telemetry_days(opened.connection(), asked).await,
    };
    let days = days.with_context(|| opened.unread())?;
    let table = days.table();
    opened.print(&days, &table, &text::of_all(&[&table]))
}

async fn print_retention(arguments: &RetentionArguments) -> Result<()> {
    let (mut opened, asked) = Opened::of(&arguments.of).await?;
    let retention = match arguments.of.source {
        Source::Ledger => retention(opened.connection(), asked).await,
        Source::Telemetry => telemetry_retention(opened.connection(), asked).await,
    };
    let retention = retention.with_context(|| opened.unread())?;
    let words = words_of(arguments.of.source);
    if let Some(file) = &arguments.svg {
        draw(file, pictures::retention(&retention, words)?)?;
    }
    opened.print(&retention, &retention.table(), &text::of_retention(&retention, words))
}

/// What a cohort is called: what is on the day, who it is, and what is counted later.
pub(crate) fn words_of(source: Source) -> [&'static str; 3] {
    match source {
        Source::Ledger => ["first active", "those first active on a day", "active n days later"],
        Source::Telemetry => {
            ["visited", "those who began a session on a day", "with a session n days later"]
        }
    }
}

async fn print_bets(arguments: &BetsArguments) -> Result<()> {
    let (mut opened, asked) = Opened::ledgers(&arguments.table).await?;
    let by = if arguments.by_day { BetsBy::DayAndCell } else { BetsBy::Cell };
    let bets = bets(opened.connection(), asked, by).await;
    let bets = bets.with_context(|| opened.unread())?;
    if let Some(file) = &arguments.svg {
        draw(file, pictures::returns(&bets)?)?;
    }
    opened.print(&bets, &bets.table(), &text::of_bets(&bets))
}

/// Writes a picture where there is nothing, or an older picture.
fn draw(file: &Path, picture: String) -> Result<()> {
    if !is_picture(file).with_context(|| format!("`{}` cannot be looked at", file.display()))? {
        bail!("`{}` is there and is no picture; name another file with --svg", file.display())
    }
    write_file(file, picture.as_bytes())
}

/// Whether nothing is lost where a picture takes a file's place.
fn is_picture(file: &Path) -> std::io::Result<bool> {
    match file.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(found) if !found.is_file() => return Ok(false),
        Ok(_) => {}
    }
    let mut beginning = Vec::new();
    File::open(file)?.take(5).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == b"<svg ")
}

/// A file that answers, and how.
pub(crate) struct Opened {
    path: PathBuf,
    looked: Look,
    form: FormArguments,
    /// The event that the read models stand for; none of telemetry.
    seq: Option<u64>,
}

/// An answer with the event that it stands for.
#[derive(Serialize)]
struct Answer<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(flatten)]
    answer: &'a T,
}

impl Opened {
    async fn of(arguments: &TableOfSource) -> Result<(Self, DaysAsked)> {
        if arguments.source == Source::Ledger {
            return Self::ledgers(&arguments.table).await;
        }
        let asked = arguments.table.days.asked()?;
        let path = arguments.table.data.data.join("telemetry.db");
        must_exist(&path)?;
        let looked = moment_of(&path).await?;
        Ok((Self { path, looked, form: arguments.table.form, seq: None }, asked))
    }

    async fn ledgers(arguments: &TableArguments) -> Result<(Self, DaysAsked)> {
        let asked = arguments.days.asked()?;
        let path = arguments.database.path(&arguments.data.data)?;
        let (opened, _) = Self::of_ledger(&path).await?;
        Ok((Self { form: arguments.form, ..opened }, asked))
    }

    /// The read models, and what they stand for.
    pub(crate) async fn of_ledger(path: &Path) -> Result<(Self, Position)> {
        must_exist(path)?;
        let mut looked = moment_of(path).await?;
        let position = analytics::stands_for(&mut looked.connection).await;
        let Some(position) = position.with_context(|| unread(path))? else {
            bail!(
                "`{}` has no analytics of this version yet: `daybook projections run` makes them",
                path.display()
            );
        };
        let (path, seq) = (path.to_owned(), Some(position.head.seq));
        let form = FormArguments { json: false, csv: false };
        Ok((Self { path, looked, form, seq }, position))
    }

    /// What is said where its tables cannot be read.
    pub(crate) fn unread(&self) -> String {
        unread(&self.path)
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.looked.connection
    }

    fn print(&self, answer: &impl Serialize, table: &Table, text: &str) -> Result<()> {
        if self.form.json {
            return write_json(&Answer { seq: self.seq, answer });
        }
        if self.form.csv {
            return write_stdout(&table.to_csv()?);
        }
        write_line(text)
    }
}
