//! The report as a page, with plots.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::{Figure, Report, shown};

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const OURS: RGBColor = RGBColor(8, 69, 148);
const BESIDE: RGBColor = RGBColor(158, 188, 218);
const ROW: i32 = 22;
const LEFT: i32 = 380;
const WIDTH: i32 = 900;

/// Writes `report.md` and, beside it, a plot of each section that has something to stand beside.
pub fn write(report: &Report, benches: &Path) -> Result<()> {
    let plots = benches.join("plots");
    // Those of an earlier report may have had other sections.
    drop(std::fs::remove_dir_all(&plots));
    std::fs::create_dir_all(&plots)?;
    let mut page = String::from("# Daybook's speed, beside its ceilings\n\n");
    writeln!(
        page,
        "Made by `cargo bench -- --servers --write`; every figure is of that one run.\n"
    )?;
    for part in report.machine.split("; ") {
        writeln!(page, "- {part}")?;
    }
    writeln!(page)?;
    writeln!(
        page,
        "- A figure of several rounds is their median, with the least and the most of them.\n\
         - What a figure stands beside was measured in the same rounds, in turn with it.\n\
         - A figure below its floor is marked. [LOG.md](LOG.md) says what was tried for it.\n"
    )?;
    let mut sections: Vec<&str> = Vec::new();
    for figure in &report.figures {
        if sections.last() != Some(&figure.section) {
            sections.push(figure.section);
        }
    }
    for (number, section) in (1..).zip(sections) {
        let figures: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.section == section).collect();
        writeln!(page, "## {section}\n")?;
        if figures.iter().any(|figure| figure.beside.is_some()) {
            let name = format!("{number}.svg");
            std::fs::write(plots.join(&name), plot(section, &figures)?)?;
            writeln!(page, "![{section}](plots/{name})\n")?;
        }
        table(&mut page, &figures)?;
    }
    std::fs::write(benches.join("report.md"), page)?;
    Ok(())
}

fn table(page: &mut String, figures: &[&Figure]) -> Result<()> {
    writeln!(page, "| | figure | beside | ratio | asked |\n|---|---|---|---|---|")?;
    for figure in figures {
        let indent = if figure.name.starts_with(' ') { "· " } else { "" };
        let beside = figure.beside.as_ref();
        let beside = beside.map_or(String::new(), |(name, values)| format!("{values}: {name}"));
        let ratio = figure.ratio().map_or(String::new(), shown);
        let asked = match figure.verdict() {
            None => String::new(),
            Some((true, asked)) => asked,
            Some((false, asked)) => format!("**below its floor**: {asked}"),
        };
        writeln!(
            page,
            "| {indent}{} | {} {} | {beside} | {ratio} | {asked} |",
            figure.name.trim(),
            figure.values,
            figure.unit
        )?;
    }
    writeln!(page)?;
    Ok(())
}

/// Each figure that stands beside something, as two bars: how much it is of the greater.
fn plot(section: &str, figures: &[&Figure]) -> Result<String> {
    let shown_figures: Vec<(&Figure, f64, f64)> = figures
        .iter()
        .filter_map(|figure| {
            let (_, beside) = figure.beside.as_ref()?;
            Some((*figure, figure.values.median(), beside.median()))
        })
        .collect();
    let rows = i32::try_from(shown_figures.len())?;
    let height = 64 + rows * (2 * ROW + 10);
    let mut svg = String::new();
    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    let drawn = (|| -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let text = |size: i32| (FONT, size).into_font().color(&INK);
        let right = Pos::new(HPos::Right, VPos::Center);
        let left = Pos::new(HPos::Left, VPos::Center);
        area.draw_text(section, &text(17), (16, 12))?;
        area.draw_text("dark: Daybook; light: what it stands beside", &text(11), (16, 36))?;
        for (row, (figure, ours, beside)) in (0..).zip(&shown_figures) {
            let most = ours.max(*beside).max(f64::MIN_POSITIVE);
            let top = 62 + row * (2 * ROW + 10);
            let name = beside_name(figure);
            for (line, value, label, color) in
                [(0, ours, figure.name.trim(), OURS), (1, beside, name, BESIDE)]
            {
                let y = top + line * ROW;
                let width = (value / most * f64::from(WIDTH - LEFT - 150)) as i32;
                let bar = [(LEFT, y), (LEFT + width.max(1), y + ROW - 4)];
                area.draw(&Rectangle::new(bar, color.filled()))?;
                let middle = y + ROW / 2 - 2;
                area.draw_text(label, &text(12).pos(right), (LEFT - 8, middle))?;
                let value = format!("{} {}", shown(*value), figure.unit);
                area.draw_text(&value, &text(11).pos(left), (LEFT + width + 6, middle))?;
            }
        }
        area.present()?;
        Ok(())
    })();
    drawn.map_err(|error| anyhow!("{error}"))?;
    Ok(svg)
}

fn beside_name(figure: &Figure) -> &str {
    figure.beside.as_ref().map_or("", |(name, _)| name)
}
