//! An answer as a table: for a terminal, CSV and pages.

/// A value of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A name, an id or a day.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A number of the unit that the column names, to six places.
    Number(f64),
    /// A part of one.
    Share(f64),
    /// Yes or no.
    Flag(bool),
    /// Nothing: not over yet, or not defined.
    Blank,
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Whole(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl Cell {
    /// A whole number, where it is defined.
    #[must_use]
    pub fn whole(number: Option<u64>) -> Self {
        number.map_or(Self::Blank, Self::from)
    }

    /// A part of one, where it is defined.
    #[must_use]
    pub fn share(share: Option<f64>) -> Self {
        share.map_or(Self::Blank, Self::Share)
    }

    /// A number, where it is defined.
    #[must_use]
    pub fn number(number: Option<f64>) -> Self {
        number.map_or(Self::Blank, Self::Number)
    }

    /// As CSV has it: no unit, no grouping; a blank is empty.
    #[must_use]
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) | Self::Share(number) => format!("{number:.6}"),
            Self::Flag(flag) => flag.to_string(),
            Self::Blank => String::new(),
        }
    }
}

/// A table with names of its columns, in snake case.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it is.
    pub name: &'static str,
    /// The columns.
    pub columns: Vec<String>,
    /// The rows, each with a cell for every column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub(super) fn new(
        name: &'static str,
        columns: &[&str],
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> Self {
        let columns = columns.iter().map(ToString::to_string).collect();
        Self { name, columns, rows: rows.into_iter().collect() }
    }

    /// The table as CSV, with a line of names also where there are no rows.
    ///
    /// # Errors
    /// What the writer says.
    pub fn to_csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::plain))?;
        }
        Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
    }
}

/// A part of a whole; none where the whole is nothing.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
