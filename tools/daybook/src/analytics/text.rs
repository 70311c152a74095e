//! Tables on a terminal.

use daybook_projections::analytics::{BetReturns, Cell, Retention, Table};

use crate::output::{grouped, table};

/// Days after the first that a terminal has room for.
const DAYS_SHOWN: [usize; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 14, 21, 28];
/// Columns of bets that a terminal has room for.
const BETS_SHOWN: [&str; 12] = [
    "day",
    "pot_id",
    "bet_type",
    "weather",
    "bets",
    "staked",
    "paid",
    "actual_return",
    "expected_return",
    "low_return",
    "high_return",
    "deviations",
];
const COINS_SHOWN: [&str; 12] = [
    "day",
    "started",
    "stipends",
    "ended",
    "placed",
    "given_back",
    "staked",
    "paid",
    "jackpot_out",
    "balances",
    "escrow",
    "partial",
];

/// Tables one below the other, each with all its columns.
pub(super) fn of_all(tables: &[&Table]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| shown(table, |_| true)).collect();
    tables.join("\n\n")
}

pub(super) fn of_coins(table: &Table) -> String {
    let table = shown(table, |name| COINS_SHOWN.contains(&name));
    format!("{table}\n\n--csv and --json have what mint, house and jackpot hold too.")
}

/// A triangle in percent, with the averages as its last line.
pub(super) fn of_retention(retention: &Retention, [on_the_day, who, later]: [&str; 3]) -> String {
    let reached = retention.cohorts.first().map_or(0, |cohort| cohort.retained.len());
    let days: Vec<usize> = DAYS_SHOWN.into_iter().filter(|day_n| *day_n < reached).collect();
    let names: Vec<String> = days.iter().map(|day_n| format!("day {day_n}")).collect();
    let mut head = vec![on_the_day, "users"];
    head.extend(names.iter().map(String::as_str));
    let percent = |part: u64, whole: u64| match whole {
        0 => String::new(),
        _ => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    };
    let mut rows: Vec<Vec<String>> = retention
        .cohorts
        .iter()
        .filter(|cohort| cohort.cohort_size > 0)
        .map(|cohort| {
            let cells = days.iter().map(|day_n| {
                let retained = cohort.retained.get(*day_n).copied().flatten();
                retained.map_or_else(String::new, |retained| percent(retained, cohort.cohort_size))
            });
            let size = grouped(i128::from(cohort.cohort_size));
            [cohort.cohort_day.clone(), size].into_iter().chain(cells).collect()
        })
        .collect();
    let averages = days.iter().map(|day_n| {
        let average = retention.averages.get(*day_n);
        average.map_or_else(String::new, |it| percent(it.retained, it.cohort_size))
    });
    rows.push(["all".to_owned(), String::new()].into_iter().chain(averages).collect());
    let triangle = table(&head, rows);
    let luck = match retention.first_week_luck.is_empty() {
        true => String::new(),
        false => format!(
            "\n\nFirst week of the first season, by luck; came back within 7 days after it:\n\n{}",
            shown(&retention.luck_table(), |_| true)
        ),
    };
    format!(
        "Users {later}, in percent of {who}; blank where the day is not over. Days with nobody are \
         left out.\n\n{triangle}{luck}"
    )
}

pub(super) fn of_bets(bets: &BetReturns) -> String {
    let is_shown = |name: &str| BETS_SHOWN.contains(&name);
    let alarms = match bets.alarms.is_empty() {
        true => format!(
            "No alarm. {} of the pots, types and weathers had enough bets to be judged in the 30 days up to {}.",
            bets.judged,
            bets.judged_day.as_deref().unwrap_or("-")
        ),
        false => format!("Alarms, over 30 days each:\n\n{}", shown(&bets.alarms_table(), |_| true)),
    };
    format!(
        "{}\n\n{}\n\nJackpot: {} coins in, {} out. It is no part of the returns.\n{alarms}",
        shown(&bets.table(), is_shown),
        shown(&bets.all_table(), is_shown),
        grouped(i128::from(bets.jackpot.in_millicoins / 1_000)),
        grouped(i128::from(bets.jackpot.out)),
    )
}

fn shown(of: &Table, is_shown: impl Fn(&str) -> bool) -> String {
    let is_shown: Vec<bool> = of.columns.iter().map(|name| is_shown(name)).collect();
    let chosen = |index: &usize| is_shown.get(*index).copied().unwrap_or_default();
    let names = of.columns.iter().enumerate().filter(|(index, _)| chosen(index));
    let names: Vec<String> = names.map(|(_, name)| name.replace('_', " ")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = of.rows.iter().map(|row| {
        let cells = row.iter().enumerate().filter(|(index, _)| chosen(index));
        cells.map(|(_, cell)| text(cell)).collect()
    });
    table(&names, rows).to_string()
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Whole(number) => grouped(*number),
        // What rounds to nothing has no sign.
        Cell::Number(number) => format!("{:.2}", (number * 100.0).round() / 100.0 + 0.0),
        Cell::Share(share) => format!("{:.1} %", share * 100.0),
        Cell::Flag(true) => "yes".to_owned(),
        Cell::Flag(false) | Cell::Blank => String::new(),
    }
}
