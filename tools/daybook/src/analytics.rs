//! `daybook analytics`: tables from the read models, as text, JSON, CSV and pictures.

mod compare;
mod files;
pub(crate) mod pictures;
mod text;

use std::path::Path;

use anyhow::{Context, Result, bail};
use daybook_projections::Look;
use daybook_projections::analytics::{
    self, BetsBy, DaysAsked, Stands, Table, active_days, bets, coins, funnel, retention, sessions,
    telemetry_days, telemetry_retention,
};
use daybook_projections::sqlx::SqliteConnection;
use serde::Serialize;

use self::files::{moment_of, must_exist, unread};
use crate::Outcome;
use crate::arguments::analytics::{
    AnalyticsArguments, AnalyticsCommand, BetsArguments, FormArguments, RetentionArguments, Source,
    TableArguments, TableOfSource,
};
use crate::output::{write_json, write_line, write_stdout};

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
            let funnel = funnel(opened.connection(), asked).await?;
            let tables = [funnel.table(), funnel.given_up_table()];
            opened.print(&funnel, &tables, &text::of_all(&tables))
        }
        AnalyticsCommand::Bets(arguments) => print_bets(arguments).await,
        AnalyticsCommand::Sessions(arguments) => {
            let (mut opened, asked) = Opened::ledgers(arguments).await?;
            let sessions = sessions(opened.connection(), asked).await?;
            let tables = [sessions.table()];
            opened.print(&sessions, &tables, &text::of_all(&tables))
        }
        AnalyticsCommand::Coins(arguments) => {
            let (mut opened, asked) = Opened::ledgers(arguments).await?;
            let coins = coins(opened.connection(), asked).await?;
            let tables = [coins.table()];
            opened.print(&coins, &tables, &text::of_coins(&tables))
        }
        AnalyticsCommand::Compare(_) => Ok(()),
    }
}

async fn print_active(arguments: &TableOfSource) -> Result<()> {
    let (mut opened, asked) = Opened::of(arguments).await?;
    match arguments.source {
        Source::Ledger => {
            let days = active_days(opened.connection(), asked).await?;
            let tables = [days.table()];
            opened.print(&days, &tables, &text::of_all(&tables))
        }
        Source::Telemetry => {
            let days = telemetry_days(opened.connection(), asked).await?;
            let tables = [days.table()];
            opened.print(&days, &tables, &text::of_all(&tables))
        }
    }
}

async fn print_retention(arguments: &RetentionArguments) -> Result<()> {
    let (mut opened, asked) = Opened::of(&arguments.of).await?;
    let retention = match arguments.of.source {
        Source::Ledger => retention(opened.connection(), asked).await?,
        Source::Telemetry => telemetry_retention(opened.connection(), asked).await?,
    };
    let words = words_of(arguments.of.source);
    if let Some(file) = &arguments.svg {
        draw(file, pictures::retention(&retention, words)?)?;
    }
    opened.print(&retention, &[retention.table()], &text::of_retention(&retention, words))
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
    let bets = bets(opened.connection(), asked, by).await?;
    if let Some(file) = &arguments.svg {
        draw(file, pictures::returns(&bets)?)?;
    }
    opened.print(&bets, &[bets.table()], &text::of_bets(&bets))
}

/// Writes a picture where there is nothing, or an older picture.
fn draw(file: &Path, picture: String) -> Result<()> {
    let failed = || format!("the picture cannot be written to `{}`", file.display());
    match std::fs::read(file) {
        Ok(found) if !found.starts_with(b"<svg") && !found.is_empty() => {
            bail!("`{}` is there and is no picture; name another file with --svg", file.display())
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(failed)
        }
        _ => std::fs::write(file, picture).with_context(failed),
    }
}

/// A file that answers, and how.
pub(crate) struct Opened {
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
        Ok((Self { looked, form: arguments.table.form, seq: None }, asked))
    }

    async fn ledgers(arguments: &TableArguments) -> Result<(Self, DaysAsked)> {
        let asked = arguments.days.asked()?;
        let path = arguments.database.path(&arguments.data.data)?;
        let (opened, _) = Self::of_ledger(&path).await?;
        Ok((Self { form: arguments.form, ..opened }, asked))
    }

    /// The read models, and what they stand for.
    pub(crate) async fn of_ledger(path: &Path) -> Result<(Self, Stands)> {
        must_exist(path)?;
        let mut looked = moment_of(path).await?;
        let stands = analytics::stands_for(&mut looked.connection).await;
        let Some(stands) = stands.with_context(|| unread(path))? else {
            bail!(
                "`{}` has no analytics of this version yet: `daybook projections run` makes them",
                path.display()
            );
        };
        let form = FormArguments { json: false, csv: false };
        Ok((Self { looked, form, seq: Some(stands.head.seq) }, stands))
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.looked.connection
    }

    fn print(&self, answer: &impl Serialize, tables: &[Table], text: &str) -> Result<()> {
        if self.form.json {
            return write_json(&Answer { seq: self.seq, answer });
        }
        if self.form.csv {
            let first = tables.first().context("there is a table")?;
            return write_stdout(&first.to_csv()?);
        }
        write_line(text)
    }
}
