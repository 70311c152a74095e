//! `daybook report`: a month as a page to print, as JSON and as CSV.

mod figures;
mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use daybook_ledger::Reader;
use daybook_projections::analytics::month;
use daybook_simulator::RULESET_1;
use jiff::civil::Date;

use self::figures::{Ledger, Report};
use crate::Outcome;
use crate::analytics::{Opened, pictures, words_of};
use crate::arguments::analytics::Source;
use crate::arguments::report::ReportArguments;
use crate::output::{write_file, write_json, write_line};

pub(crate) fn run(arguments: &ReportArguments) -> Result<Outcome> {
    crate::runtime()?.block_on(print(arguments))?;
    Ok(Outcome::Holds)
}

async fn print(arguments: &ReportArguments) -> Result<()> {
    let reader = Reader::open(&arguments.data.data)?;
    let path = arguments.database.path(&arguments.data.data)?;
    let (mut opened, position) = Opened::of_ledger(&path).await?;
    let (head, identity) = (position.head, position.identity);
    let genesis = reader.genesis();
    let is_of_ledger = identity.is_some_and(|it| it.ledger_id == genesis.ledger_id);
    if !is_of_ledger || !reader.has(head)? {
        bail!(
            "`{}` is not of the ledger in `{}`: it stands for {head}; `daybook projections status` tells more",
            path.display(),
            arguments.data.data.display()
        );
    }
    let ledger = Ledger {
        ledger_id: genesis.ledger_id.to_string(),
        game: genesis.game.as_str(),
        is_demo: genesis.is_demo,
        head,
        rules: format!("ruleset {}", RULESET_1.ruleset),
    };
    let told = month(opened.connection(), arguments.month, arguments.large_win).await;
    let told = told.with_context(|| opened.unread())?;
    if told.until.is_none() {
        let last = told.periods.first().map_or("-", |period| period.until.as_str());
        bail!(
            "no day of {} is over: the last day that is over is {last}; name a month up to then",
            name_of(arguments.month)
        );
    }
    let (large_win, voids) = (arguments.large_win, "none");
    let report = Report { ledger: &ledger, large_win, voids, month: &told };
    if arguments.json.json {
        return write_json(&report);
    }
    let mut drawn = vec![pictures::retention(&told.retention(), words_of(Source::Ledger))?];
    if let Some(month) = told.periods.first() {
        drawn.insert(0, pictures::returns(&month.bets)?);
    }
    let directory = match &arguments.out {
        Some(directory) => directory.clone(),
        None => PathBuf::from(format!("report-{}", name_of(arguments.month))),
    };
    let page = page::of(&report, arguments.month, &drawn);
    write(&directory, arguments.month, &report, &page)?;
    write_line(&format!("{}", directory.join(format!("{}.html", stem(arguments.month))).display()))
}

fn name_of(month: Date) -> String {
    month.strftime("%Y-%m").to_string()
}

fn stem(month: Date) -> String {
    format!("report-{}", name_of(month))
}

fn write(directory: &Path, month: Date, report: &Report<'_>, page: &str) -> Result<()> {
    let stem = stem(month);
    let put = |name: String, bytes: &[u8]| write_file(&directory.join(name), bytes);
    std::fs::create_dir_all(directory)
        .with_context(|| format!("`{}` cannot be made", directory.display()))?;
    put(format!("{stem}.html"), page.as_bytes())?;
    put(format!("{stem}.json"), &serde_json::to_vec_pretty(report)?)?;
    let mut tables = vec![
        report.month.days_table(),
        report.month.periods_table(),
        report.month.large_wins_table(),
        report.month.noted_table(),
        report.month.retention().table(),
    ];
    if let Some(period) = report.month.periods.first() {
        tables.extend([period.bets.table(), period.bets.alarms_table()]);
    }
    for table in tables {
        put(format!("{stem}-{}.csv", table.name), &table.to_csv()?)?;
    }
    Ok(())
}
