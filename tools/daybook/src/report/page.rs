//! The month as a page to print: HTML without scripts, with the pictures in it.

use std::fmt::Write;

use daybook_projections::analytics::{Cell, Period, Table};
use daybook_schema::UnixMicros;
use jiff::civil::Date;

use super::figures::Report;
use crate::output::{grouped, shown_time};

const STYLE: &str = "
@page { size: A4; margin: 16mm }
body { font: 10pt/1.4 system-ui, sans-serif; color: #222; max-width: 190mm; margin: 8mm auto }
h1 { font-size: 18pt; margin: 0 } h2 { font-size: 12pt; margin: 7mm 0 2mm }
p { margin: 1mm 0 3mm } .small { color: #555; font-size: 8.5pt; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; font-size: 8.5pt; break-inside: auto }
th, td { text-align: right; padding: 0.6mm 1.2mm; border-bottom: 0.2mm solid #ddd; vertical-align: top }
td { white-space: nowrap }
th:first-child, td:first-child, .name { text-align: left } .figures td + td { text-align: right } tr { break-inside: avoid }
thead { display: table-header-group } .wide td { white-space: normal; overflow-wrap: anywhere }
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
    section(&mut page, "Voids", &format!("<p>{}</p>", escaped(report.voids)));
    page
}

fn section(page: &mut String, title: &str, content: &str) {
    let _ = writeln!(page, "<h2>{title}</h2>\n{content}");
}

fn head(report: &Report<'_>) -> String {
    let demo = if report.ledger.is_demo { ", a demo's" } else { "" };
    let reach = match (&report.month.until, report.month.partial) {
        (None, _) => "No day of this month is over.".to_owned(),
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

fn periods(report: &Report<'_>) -> String {
    match report.month.periods.iter().all(|period| period.active == 0) {
        true => NO_ACTIVITY.to_owned(),
        false => html(&report.month.periods_table(), "figures"),
    }
}

fn days(report: &Report<'_>) -> String {
    let is_quiet = report.month.days.iter().all(|day| day.active.dau == 0 && day.bets == 0);
    if is_quiet {
        return NO_ACTIVITY.to_owned();
    }
    html(&report.month.days_table(), "")
}

fn returns(period: &Period) -> String {
    if period.bets.all.bets == 0 {
        return NO_ACTIVITY.to_owned();
    }
    let alarms = match period.bets.alarms.is_empty() {
        true => format!(
            "<p>No alarm. {} pots, types and weathers had enough bets to be judged, over 30 days.</p>",
            period.bets.judged
        ),
        false => {
            format!("<p>Alarms, over 30 days each:</p>{}", html(&period.bets.alarms_table(), ""))
        }
    };
    format!(
        "{}\n{alarms}\n<p>Expected is what the rules pay for these very stakes, each payout in whole \
         coins. Where there are many bets 95 of 100 returns lie between low and high. The jackpot is \
         no part of these returns.</p>",
        html(&period.bets.table(), "")
    )
}

fn large_wins(report: &Report<'_>) -> String {
    let rule = format!(
        "<p>Bets that paid {} coins or more beyond their stake; the largest 100.</p>",
        grouped(i128::from(report.large_win))
    );
    match report.month.large_wins.is_empty() {
        true => format!("{rule}<p>None</p>"),
        false => format!("{rule}{}", html(&report.month.large_wins_table(), "wide")),
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
        false => format!("{}<p>Of flags the first 100 of the month.</p>", html(&table, "wide")),
    }
}

fn html(table: &Table, class: &str) -> String {
    let mut text = format!("<table class=\"{class}\"><thead><tr>");
    for name in &table.columns {
        let _ = write!(text, "<th>{}</th>", escaped(&name.replace('_', " ")));
    }
    text.push_str("</tr></thead>\n");
    for row in &table.rows {
        text.push_str("<tr>");
        for (column, cell) in table.columns.iter().zip(row) {
            let class = if matches!(cell, Cell::Text(_)) { " class=\"name\"" } else { "" };
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
        ("seq", Cell::Whole(seq)) => seq.to_string(),
        ("at" | "resolved_at", Cell::Whole(seconds)) => {
            shown_time(UnixMicros::from_seconds(*seconds))
        }
        (_, cell) => of_cell(cell),
    }
}

fn of_cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Whole(number) => grouped(*number),
        // Coins are told whole where there are many, deviations are small.
        Cell::Number(number) if number.abs() >= 1_000.0 => grouped(number.round() as i128),
        Cell::Number(number) => format!("{number:.2}"),
        Cell::Share(share) => format!("{:.1} %", share * 100.0),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Blank => String::new(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
