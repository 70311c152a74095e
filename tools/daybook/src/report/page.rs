//! The month as a page to print: HTML without scripts, with the pictures in it.

use std::fmt::Write;

use daybook_projections::analytics::{Cell, Period, Table};
use daybook_schema::UnixMicros;
use jiff::civil::Date;
use serde_json::Value;

use super::figures::Report;
use crate::output::{grouped, shown_time};

const STYLE: &str = "
@page { size: A4; margin: 16mm }
body { font: 10pt/1.4 system-ui, sans-serif; color: #222; max-width: 178mm; margin: 8mm auto }
h1 { font-size: 18pt; margin: 0 } h2 { font-size: 12pt; margin: 7mm 0 2mm }
p { margin: 1mm 0 3mm } .small { color: #555; font-size: 8.5pt; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; font-size: 8.5pt; break-inside: auto }
th, td { text-align: right; padding: 0.6mm 1.2mm; border-bottom: 0.2mm solid #ddd; vertical-align: top }
td { white-space: nowrap }
th:first-child, td:first-child, .name { text-align: left } tr { break-inside: avoid }
.figures td + td, .figures th + th { text-align: right } .narrow { font-size: 7pt }
thead { display: table-header-group } .long { white-space: normal; overflow-wrap: anywhere; font-size: 7pt }
svg { max-width: 100%; height: auto; break-inside: avoid }
";

pub(super) fn of(report: &Report<'_>, month: Date, pictures: &[String]) -> String {
    let mut page = String::new();
    let name = month.strftime("%B %Y").to_string();
    // Writing to a text does not fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{name}</title>\n\
         <style>{STYLE}</style>\n<h1>{name}</h1>\n{}",
        head(report)
    );
    section(&mut page, "The month, the year, and since the beginning", &periods(report));
    section(&mut page, "Day by day", &days(report));
    if let Some(period) = report.month.periods.first() {
        section(&mut page, "What bets gave back in the month", &returns(period));
    }
    for picture in pictures {
        // A page has no second XML in it: the picture's own element is enough.
        page.push_str(picture);
        page.push('\n');
    }
    section(&mut page, "Large wins", &large_wins(report));
    section(&mut page, "Interrupted seasons", &interrupted(report));
    section(&mut page, "Flags, keys and restores", &noted(report));
    section(&mut page, "Voids", VOIDS);
    page
}

fn section(page: &mut String, title: &str, content: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>\n{content}");
}

fn head(report: &Report<'_>) -> String {
    let demo = if report.ledger.is_demo { ", a demo's" } else { "" };
    let reach = match (&report.month.until, report.month.partial) {
        (None, _) => String::new(),
        (Some(until), true) => format!("Up to {until}, the last day that is over."),
        (Some(until), false) => format!("The whole month, up to {until}."),
    };
    format!(
        "<p>{reach} Days are UTC days.</p>\n<p class=\"small\">Ledger {}{demo}. Game {}, {}. \
         Head {}.</p>\n",
        escaped(&report.ledger.ledger_id),
        report.ledger.game,
        report.ledger.rules,
        report.ledger.head
    )
}

const NO_ACTIVITY: &str = "<p>No activity</p>";
const VOIDS: &str = "<p>None: the rules know no bet that is declared void.</p>";
/// What is left out of the table of returns, so that it has room on a page.
const NOT_ON_PAGE: [&str; 2] = ["won", "expected"];

fn periods(report: &Report<'_>) -> String {
    match report.month.periods.iter().all(|period| period.active == 0) {
        true => NO_ACTIVITY.to_owned(),
        false => html(&in_coins(report.month.periods_table()), "figures"),
    }
}

fn days(report: &Report<'_>) -> String {
    let is_quiet = report.month.days.iter().all(|day| day.active.dau == 0 && day.bets == 0);
    if is_quiet {
        return NO_ACTIVITY.to_owned();
    }
    html(&in_coins(report.month.days_table()), "")
}

/// What a person reads in whole coins: names and numbers of thousandths are made anew.
fn in_coins(mut table: Table) -> Table {
    const THOUSANDTHS: &str = "_in_millicoins";
    let coins = |cell: &mut Cell| {
        if let Cell::Whole(millicoins) = cell {
            *millicoins /= 1_000;
        }
    };
    for (index, name) in table.columns.iter_mut().enumerate() {
        if let Some(short) = name.strip_suffix(THOUSANDTHS) {
            *name = format!("{short}_in");
            table.rows.iter_mut().filter_map(|row| row.get_mut(index)).for_each(coins);
        }
    }
    for row in &mut table.rows {
        let Some((Cell::Text(name), figures)) = row.split_first_mut() else { continue };
        if let Some(short) = name.strip_suffix(THOUSANDTHS) {
            *name = format!("{short}_in");
            figures.iter_mut().for_each(coins);
        }
    }
    table
}

fn returns(period: &Period) -> String {
    if period.bets.all.bets == 0 {
        return NO_ACTIVITY.to_owned();
    }
    let alarms = match period.bets.alarms.is_empty() {
        true => format!(
            "<p>No alarm. {} pots, types and weathers had enough bets to be judged in the 30 days up to {}.</p>",
            period.bets.judged,
            period.bets.judged_day.as_deref().unwrap_or("-")
        ),
        false => {
            format!("<p>Alarms, over 30 days each:</p>{}", html(&period.bets.alarms_table(), ""))
        }
    };
    format!(
        "{}\n{alarms}\n<p>Expected is what the rules pay for these very stakes, each payout in whole \
         coins. Where there are many bets 95 of 100 returns lie between low and high. The jackpot is \
         no part of these returns.</p>",
        html(&returns_table(period), "narrow")
    )
}

/// The returns with the row of all.
fn returns_table(period: &Period) -> Table {
    let mut table = period.bets.table();
    table.rows.extend(period.bets.all_table().rows);
    let is_shown: Vec<bool> =
        table.columns.iter().map(|name| !NOT_ON_PAGE.contains(&name.as_str())).collect();
    let mut shown = is_shown.iter();
    table.columns.retain(|_| shown.next().copied().unwrap_or_default());
    for row in &mut table.rows {
        let mut shown = is_shown.iter();
        row.retain(|_| shown.next().copied().unwrap_or_default());
    }
    table
}

fn large_wins(report: &Report<'_>) -> String {
    let rule = format!(
        "<p>Bets that paid {} coins or more beyond their stake; the largest 100.</p>",
        grouped(i128::from(report.large_win))
    );
    match report.month.large_wins.is_empty() {
        true => format!("{rule}<p>None</p>"),
        false => format!("{rule}{}", html(&report.month.large_wins_table(), "")),
    }
}

fn interrupted(report: &Report<'_>) -> String {
    format!(
        "<p>At the end {} seasons in play had no command for 24 hours. {} coins are in them.</p>",
        grouped(i128::from(report.month.interrupted_seasons)),
        grouped(i128::from(report.month.interrupted_coins))
    )
}

fn noted(report: &Report<'_>) -> String {
    let table = report.month.noted_table();
    match table.rows.is_empty() {
        true => "<p>None</p>".to_owned(),
        false => format!("{}<p>Of flags the first 100 of the month.</p>", html(&table, "")),
    }
}

fn html(table: &Table, class: &str) -> String {
    let mut text = format!("<table class=\"{class}\"><thead><tr>");
    for (index, name) in table.columns.iter().enumerate() {
        let is_text =
            |row: &Vec<Cell>| row.get(index).is_some_and(|cell| matches!(cell, Cell::Text(_)));
        let class = if table.rows.iter().any(is_text) { " class=\"name\"" } else { "" };
        let _ = write!(text, "<th{class}>{}</th>", escaped(&name.replace('_', " ")));
    }
    text.push_str("</tr></thead>\n");
    for row in &table.rows {
        text.push_str("<tr>");
        for (column, cell) in table.columns.iter().zip(row) {
            let class = match (column.as_str(), cell) {
                ("season_id" | "user_id" | "detail", _) => " class=\"name long\"",
                (_, Cell::Text(_)) => " class=\"name\"",
                _ => "",
            };
            let _ = write!(text, "<td{class}>{}</td>", escaped(&shown(column, cell)));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>");
    text
}

fn shown(column: &str, cell: &Cell) -> String {
    match (column, cell) {
        ("figure" | "what", Cell::Text(name)) => name.replace('_', " "),
        ("detail", Cell::Text(detail)) => in_words(detail),
        ("seq", Cell::Whole(seq)) => seq.to_string(),
        ("at" | "resolved_at", Cell::Whole(seconds)) => {
            shown_time(UnixMicros::from_seconds(*seconds))
        }
        (_, cell) => of_cell(cell),
    }
}

/// The fields of an event, where a detail is these.
fn in_words(detail: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(detail) else { return detail.to_owned() };
    let fields = fields.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        other => format!("{name}: {other}"),
    });
    fields.collect::<Vec<_>>().join(", ")
}

fn of_cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Whole(number) => grouped(*number),
        // Coins are told whole where there are many, deviations are small.
        Cell::Number(number) if number.abs() >= 1_000.0 => grouped(number.round() as i128),
        // What rounds to nothing has no sign.
        Cell::Number(number) => format!("{:.2}", (number * 100.0).round() / 100.0 + 0.0),
        Cell::Share(share) => format!("{:.1} %", share * 100.0),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Blank => String::new(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
