//! `daybook odds`.

use anyhow::Result;
use daybook_schema::{BetType, Pot, Threshold, Weather};
use daybook_simulator::odds::{WAYS, return_billionths, threshold_ways};
use daybook_simulator::{RULESET_1, multiplier};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::OddsArguments;
use crate::output::{table, write_json, write_line};

#[derive(Serialize)]
struct OddsJson {
    ruleset: u16,
    ways: u64,
    cells: Vec<CellJson>,
}

#[derive(Serialize)]
struct CellJson {
    weather: Weather,
    pot: Pot,
    bet_type: BetType,
    /// Chance of a win, in ways of `ways`.
    ways_won: u64,
    /// Ten-thousandths at 50, 80 and 100.
    multipliers: Vec<u32>,
    /// The exact return before payouts are floored to whole coins, in billionths of the stake.
    return_billionths: u64,
}

pub(crate) fn run(arguments: &OddsArguments) -> Result<Outcome> {
    let bets = [BetType::Call, BetType::Raise, BetType::AllIn];
    let cells: Vec<CellJson> = Weather::ALL
        .iter()
        .flat_map(|&weather| Pot::ALL.iter().map(move |&pot| (weather, pot)))
        .flat_map(|(weather, pot)| bets.into_iter().map(move |bet| cell(weather, pot, bet)))
        .collect();
    if arguments.json.json {
        write_json(&OddsJson { ruleset: RULESET_1.ruleset.get(), ways: WAYS, cells })?;
    } else {
        write_line(&to_text(&cells))?;
    }
    Ok(Outcome::Holds)
}

fn cell(weather: Weather, pot: Pot, bet_type: BetType) -> CellJson {
    let multipliers = Threshold::ALL
        .iter()
        .filter_map(|&threshold| multiplier(&RULESET_1, weather, pot, bet_type, threshold))
        .map(|multiplier| multiplier.get())
        .collect();
    CellJson {
        weather,
        pot,
        bet_type,
        ways_won: threshold_ways(&RULESET_1, weather, pot).won(),
        multipliers,
        return_billionths: return_billionths(&RULESET_1, weather, pot, bet_type),
    }
}

fn to_text(cells: &[CellJson]) -> String {
    let rows = cells.iter().map(|cell| {
        let mut row = vec![
            cell.weather.to_string(),
            cell.pot.to_string(),
            cell.bet_type.to_string(),
            percent(cell.ways_won * 1_000_000_000 / WAYS, 2),
        ];
        let shown = |m: &u32| format!("{}.{:04}", m / 10_000, m % 10_000);
        row.extend(cell.multipliers.iter().map(shown));
        row.push(percent(cell.return_billionths, 5));
        row
    });
    let head = ["weather", "pot", "bet", "win", "×50", "×80", "×100", "return"];
    format!("{}\n\nExact, by enumeration of all {WAYS} rolls of a pot.", table(&head, rows))
}

/// Billionths as percent with some decimals, rounded down.
fn percent(billionths: u64, decimals: u32) -> String {
    let scale = 10_u64.pow(7 - decimals.min(7));
    let scaled = billionths / scale;
    let unit = 10_u64.pow(decimals);
    let width = decimals as usize;
    format!("{}.{:0width$} %", scaled / unit, scaled % unit)
}
