//! Writing results to stdout and progress to stderr.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use daybook_ledger::UnfinishedFile;
use daybook_schema::UnixMicros;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Writes bytes to stdout. A reader that has gone away has seen enough: what was found still
/// counts.
pub(crate) fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("stdout cannot be written"),
    }
}

/// Writes a line to stdout.
pub(crate) fn write_line(text: &str) -> Result<()> {
    write_stdout(format!("{text}\n").as_bytes())
}

/// Writes a value to stdout as one JSON object in one line.
pub(crate) fn write_json(value: &impl Serialize) -> Result<()> {
    write_line(&serde_json::to_string(value)?)
}

/// Writes a note to stderr.
pub(crate) fn note(text: &str) {
    // A closed stderr must not stop the work.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A progress bar on stderr when that is a terminal; else nothing is shown.
pub(crate) fn progress_bar(total: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let template = "{prefix:>10} {bar:30} {human_pos}/{human_len} {msg} {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A plain table with a head line; all columns but the first are aligned to the right.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in UTC, to the second.
pub(crate) fn shown_time(at: UnixMicros) -> String {
    jiff::Timestamp::from_microsecond(at.get())
        .map_or_else(|_| format!("{} us", at.get()), |time| time.strftime("%F %T UTC").to_string())
}

/// Writes a file whole or not at all, in the place of an older one.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = UnfinishedFile::begin(path).and_then(|file| {
        std::fs::write(file.path(), bytes)?;
        file.finish()
    });
    written.with_context(|| format!("`{}` cannot be written", path.display()))
}
