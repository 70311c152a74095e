//! Figures: what was measured, beside what, and what it should be.

use std::fmt;

/// Values of several rounds.
#[derive(Clone, Debug, Default)]
pub struct Values(pub Vec<f64>);

impl From<f64> for Values {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

impl Values {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Values {
    /// The median and, where there is more than one, the least and the most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sorted = self.sorted();
        let shown = shown(self.median());
        match (sorted.first(), sorted.last()) {
            (Some(least), Some(most)) if sorted.len() > 1 => {
                write!(f, "{shown} ({} to {})", self::shown(*least), self::shown(*most))
            }
            _ => write!(f, "{shown}"),
        }
    }
}

/// A number with as many digits as tell something.
pub fn shown(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped
    } else if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Floor {
    /// So many times what it stands beside, or more.
    Ratio(f64),
    /// The value itself, or less.
    AtMost(f64),
    /// The value itself, or more.
    AtLeast(f64),
}

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure {
    pub section: &'static str,
    pub name: String,
    pub values: Values,
    pub unit: &'static str,
    /// What it stands beside, measured in the same run.
    pub beside: Option<(String, Values)>,
    pub floor: Option<Floor>,
}

impl Figure {
    pub fn new(name: impl Into<String>, values: impl Into<Values>, unit: &'static str) -> Self {
        let (name, values) = (name.into(), values.into());
        Self { section: "", name, values, unit, beside: None, floor: None }
    }

    pub fn beside(self, name: impl Into<String>, values: &Values) -> Self {
        Self { beside: Some((name.into(), values.clone())), ..self }
    }

    pub fn floor(self, floor: Floor) -> Self {
        Self { floor: Some(floor), ..self }
    }

    pub fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|(_, beside)| self.values.median() / beside.median())
    }

    /// Whether it is what it should be, and that as words; none where nothing is asked.
    pub fn verdict(&self) -> Option<(bool, String)> {
        let median = self.values.median();
        Some(match self.floor? {
            Floor::Ratio(floor) => {
                (self.ratio()? >= floor, format!("{} of it asked", shown(floor)))
            }
            Floor::AtMost(most) => (median <= most, format!("at most {} asked", shown(most))),
            Floor::AtLeast(least) => (median >= least, format!("at least {} asked", shown(least))),
        })
    }
}

/// All figures of a run.
pub struct Report {
    pub machine: String,
    pub figures: Vec<Figure>,
    section: &'static str,
}

impl Report {
    pub fn new(machine: String) -> Self {
        println!("{machine}");
        Self { machine, figures: Vec::new(), section: "" }
    }

    pub fn section(&mut self, name: &'static str) {
        println!("\n{name}");
        self.section = name;
    }

    /// Takes a figure and prints it.
    pub fn add(&mut self, figure: Figure) {
        let mut line = format!("  {:<52} {} {}", figure.name, figure.values, figure.unit);
        if let (Some((name, values)), Some(ratio)) = (&figure.beside, figure.ratio()) {
            line += &format!("; {} of {name}, {values}", shown(ratio));
        }
        if let Some((holds, asked)) = figure.verdict() {
            line += &format!("; {}{asked}", if holds { "" } else { "BELOW ITS FLOOR: " });
        }
        println!("{line}");
        self.figures.push(Figure { section: self.section, ..figure });
    }

    /// Says how many figures are below their floors.
    pub fn print_floors(&self) {
        let verdicts: Vec<bool> =
            self.figures.iter().filter_map(|figure| Some(figure.verdict()?.0)).collect();
        let held = verdicts.iter().filter(|holds| **holds).count();
        println!("\n{held} of {} floors are held", verdicts.len());
    }
}
