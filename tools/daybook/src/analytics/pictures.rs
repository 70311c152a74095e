//! Pictures as SVG: the triangle of retention, and what bets gave back.

use std::error::Error;

use anyhow::{Result, anyhow};
use daybook_projections::analytics::{BetReturns, BetRow, Retention};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const LINES: RGBColor = RGBColor(225, 225, 225);
const INTERVAL: RGBColor = RGBColor(158, 188, 218);
const EXACT: RGBColor = RGBColor(40, 40, 40);
const ACTUAL: RGBColor = RGBColor(204, 76, 2);
/// The colours of 0 % and of 100 %.
const NOBODY: (f64, f64, f64) = (247.0, 251.0, 255.0);
const EVERYBODY: (f64, f64, f64) = (8.0, 69.0, 148.0);
/// How large a cell is and the number in it, up to so many days; further cells have no number.
const CELLS: [(usize, usize, usize, i32); 2] = [(31, 30, 18, 11), (62, 20, 16, 9)];
const SMALL_CELL: usize = 6;
/// A line of text is so high.
const LINE: usize = 14;

/// Cohorts one below the other, and how many of each were active n days later.
pub(crate) fn retention(retention: &Retention, [_, who, later]: [&str; 3]) -> Result<String> {
    // A cohort of nobody has no share.
    let cohorts: Vec<_> = retention.cohorts.iter().filter(|it| it.cohort_size > 0).collect();
    let days = cohorts.iter().map(|cohort| cohort.retained.len()).max().unwrap_or(1).max(1);
    let cell = CELLS.into_iter().find(|(days_max, ..)| days <= *days_max);
    let (cell_width, cell_height) =
        cell.map_or((SMALL_CELL, SMALL_CELL), |(_, width, height, _)| (width, height));
    let (left, top) = (150, 76);
    let width = left + cell_width * days + 24;
    let height = top + cell_height * cohorts.len().max(1) + 24;
    draw((width.max(560), height), |area| {
        let text = |size: i32, color: &RGBColor| (FONT, size).into_font().color(color);
        let at = |x: usize, y: usize| (pixel(x), pixel(y));
        area.draw_text(&format!("Users {later}"), &text(18, &INK), at(16, 12))?;
        let below = format!("in percent of {who}; blank where the day is not over");
        area.draw_text(&below, &text(12, &INK), at(16, 36))?;
        let centered = Pos::new(HPos::Center, VPos::Center);
        let right = Pos::new(HPos::Right, VPos::Center);
        let every = if cell.is_some() { 1 } else { 30 };
        area.draw_text("days later", &text(11, &INK).pos(right), at(left - 8, top - 10))?;
        for day_n in (0..days).step_by(every) {
            let x = left + day_n * cell_width + cell_width / 2;
            area.draw_text(&day_n.to_string(), &text(11, &INK).pos(centered), at(x, top - 10))?;
        }
        let named = LINE.div_ceil(cell_height);
        for (row, cohort) in cohorts.iter().enumerate() {
            let y = top + row * cell_height;
            let middle = y + cell_height / 2;
            if row.is_multiple_of(named) {
                let name = format!("{}  ({})", cohort.cohort_day, cohort.cohort_size);
                area.draw_text(&name, &text(11, &INK).pos(right), at(left - 8, middle))?;
            }
            for (day_n, retained) in cohort.retained.iter().enumerate() {
                let Some(retained) = retained else { continue };
                let share = *retained as f64 / cohort.cohort_size as f64;
                let x = left + day_n * cell_width;
                let ends = [at(x, y), at(x + cell_width - 1, y + cell_height - 1)];
                area.draw(&Rectangle::new(ends, shade(share).filled()))?;
                if let Some((.., size)) = cell {
                    let ink = if share > 0.5 { &WHITE } else { &INK };
                    let number = format!("{:.0}", share * 100.0);
                    let middle = at(x + cell_width / 2, middle);
                    area.draw_text(&number, &text(size, ink).pos(centered), middle)?;
                }
            }
        }
        Ok(())
    })
}

/// Each pot, type and weather: the interval in which 95 of 100 returns lie, what the rules give
/// exactly, and what was paid.
pub(crate) fn returns(bets: &BetReturns) -> Result<String> {
    let rows: Vec<&BetRow> = bets.rows.iter().filter(|row| row.staked > 0).collect();
    let (left, top, row_height, plot_width) = (190, 84, 18, 620);
    let height = top + row_height * rows.len().max(1) + 48;
    let most = rows.iter().flat_map(|row| [row.high_return, row.actual_return, row.exact_return]);
    // Returns begin at nothing; a multiple of a fifth is the end.
    let most = most.flatten().fold(1.2, f64::max).min(4.0);
    let most = (most * 5.0).ceil() / 5.0;
    draw((left + plot_width + 40, height), |area| {
        let text = |size: i32| (FONT, size).into_font().color(&INK);
        let at = |x: usize, y: usize| (pixel(x), pixel(y));
        let x = |share: f64| left + (share.clamp(0.0, most) / most * plot_width as f64) as usize;
        area.draw_text("What bets gave back", &text(18), at(16, 12))?;
        let centered = Pos::new(HPos::Center, VPos::Center);
        let right = Pos::new(HPos::Right, VPos::Center);
        let beside = Pos::new(HPos::Left, VPos::Center);
        area.draw(&Rectangle::new([at(16, 42), at(40, 50)], INTERVAL.filled()))?;
        area.draw_text("95 of 100 returns lie here", &text(12).pos(beside), at(46, 46))?;
        area.draw(&Rectangle::new([at(226, 40), at(228, 52)], EXACT.filled()))?;
        let exact = "exact odds, before payouts are rounded down";
        area.draw_text(exact, &text(12).pos(beside), at(236, 46))?;
        area.draw(&Circle::new(at(516, 46), 4, ACTUAL.filled()))?;
        area.draw_text("paid", &text(12).pos(beside), at(526, 46))?;
        let bottom = top + row_height * rows.len().max(1);
        let steps = (most * 5.0).round() as usize;
        for step in (0..=steps).step_by(steps.div_ceil(10).max(1)) {
            let share = step as f64 / 5.0;
            let line = [at(x(share), top), at(x(share), bottom)];
            area.draw(&PathElement::new(line, LINES.stroke_width(1)))?;
            let name = format!("{:.0} %", share * 100.0);
            area.draw_text(&name, &text(11).pos(centered), at(x(share), bottom + 14))?;
        }
        for (index, row) in rows.iter().enumerate() {
            let y = top + index * row_height;
            let middle = y + row_height / 2;
            area.draw_text(&name_of(row), &text(11).pos(right), at(left - 8, middle))?;
            if let Some((low, high)) = row.low_return.zip(row.high_return) {
                let ends = [at(x(low), middle - 4), at(x(high), middle + 4)];
                area.draw(&Rectangle::new(ends, INTERVAL.filled()))?;
            }
            if let Some(exact) = row.exact_return {
                let ends = [at(x(exact), middle - 6), at(x(exact) + 2, middle + 6)];
                area.draw(&Rectangle::new(ends, EXACT.filled()))?;
            }
            if let Some(actual) = row.actual_return {
                area.draw(&Circle::new(at(x(actual), middle), 4, ACTUAL.filled()))?;
            }
        }
        Ok(())
    })
}

fn name_of(row: &BetRow) -> String {
    let names = [
        row.pot_id.map_or("all", |pot| pot.as_str()),
        row.bet_type.map_or("", |bet_type| bet_type.as_str()),
        row.weather.map_or("", |weather| weather.as_str()),
    ];
    names.join(" ")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw<'a>(
    (width, height): (usize, usize),
    paint: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn Error + 'a>>,
) -> Result<String> {
    let mut picture = String::new();
    {
        let size = (u32::try_from(width)?, u32::try_from(height)?);
        let area = SVGBackend::with_string(&mut picture, size).into_drawing_area();
        let failed =
            |error: &dyn std::fmt::Display| anyhow!("the picture cannot be drawn: {error}");
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        paint(&area).map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))?;
    }
    Ok(picture)
}

fn pixel(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn shade(share: f64) -> RGBColor {
    let between = |nobody: f64, everybody: f64| (nobody + (everybody - nobody) * share) as u8;
    RGBColor(
        between(NOBODY.0, EVERYBODY.0),
        between(NOBODY.1, EVERYBODY.1),
        between(NOBODY.2, EVERYBODY.2),
    )
}
