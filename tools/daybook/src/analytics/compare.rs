//! `daybook analytics compare`.

use anyhow::{Context, Result};
use daybook_api::{Compared, ComparedDay, compare};
use daybook_ledger::Reader;
use daybook_schema::{EventKind, Seq, UserId};
use serde::Serialize;

use super::files::must_exist;
use crate::Outcome;
use crate::arguments::analytics::CompareArguments;
use crate::output::{grouped, table, write_json, write_line};

#[derive(Serialize)]
struct ComparedJson {
    days: Vec<ComparedDay>,
}

pub(super) fn run(arguments: &CompareArguments) -> Result<Outcome> {
    let asked = arguments.days.asked()?;
    let data = &arguments.data.data;
    let game_db = arguments.database.path(data)?;
    let telemetry_db = data.join("telemetry.db");
    [&game_db, &telemetry_db].into_iter().try_for_each(|path| must_exist(path))?;
    let erased = erased(&Reader::open(data)?)?;
    let (from, until) = (asked.from.to_string(), asked.until.to_string());
    let compared = Compared { from: &from, until: &until, erased: &erased };
    let days = crate::runtime()?.block_on(compare(&game_db, &telemetry_db, compared));
    let days = days.context("the files cannot be compared")?;
    match arguments.json.json {
        true => write_json(&ComparedJson { days })?,
        false => write_line(&text(&days))?,
    }
    Ok(Outcome::Holds)
}

/// Users whom the ledger says were erased.
fn erased(reader: &Reader) -> Result<Vec<UserId>> {
    let events = reader.events_of_kinds(&[EventKind::UserErased], Seq::MIN);
    let users = events.map(|event| Ok(event?.header.stream.as_user()));
    users.collect()
}

fn text(days: &[ComparedDay]) -> String {
    let head = [
        "day",
        "users, ledger",
        "users, telemetry",
        "ledger alone",
        "telemetry alone",
        "bets, ledger",
        "bets, telemetry",
    ];
    let number = |number: usize| grouped(number as u64);
    let rows = days.iter().map(|day| {
        vec![
            day.day.clone(),
            number(day.ledger_users),
            number(day.telemetry_users),
            number(day.only_ledger),
            number(day.only_telemetry),
            grouped(day.ledger_bets),
            grouped(day.telemetry_bets),
        ]
    });
    let table = table(&head, rows);
    let missing: usize = days.iter().map(|day| day.only_ledger).sum();
    let active: usize = days.iter().map(|day| day.ledger_users).sum();
    let forged: usize = days.iter().map(|day| day.only_telemetry).sum();
    let share = missing as f64 * 100.0 / active.max(1) as f64;
    format!(
        "{table}\n\nOf {} active days of users, {} ({share:.1} %) are missing from telemetry: clients were blocked, \
         or events lost.\n{} are in telemetry alone: who only looked on, or what was forged. Erased users are left out.",
        number(active),
        number(missing),
        number(forged),
    )
}
