//! What a verification finds: its verdicts, and where.

use crate::event_row::{Refused, UnreadableRow};

/// What a verification finds, the gravest first; of the checks that fail at one place the first of
/// this list is the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything that was checked holds.
    Intact,
    /// A row or its payload does not decode.
    Unreadable,
    /// A seq is missing.
    Gap,
    /// A row's hash is not the hash of the one before it and its own columns.
    Altered,
    /// Hashes hold, but the stream, the place in a command, the time or the genesis does not.
    BrokenLink,
    /// The ledger is shorter than a head that it was held to.
    Truncated,
    /// The ledger has another hash at a head that it was held to.
    HeadMismatch,
    /// Tables or append-only triggers are not those of the format.
    GuardsMissing,
    /// The bytes hold, the outcome is not what the rules give.
    OutcomeMismatch,
    /// The accounts do not balance.
    Unbalanced,
}

impl Verdict {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Unreadable => "unreadable",
            Self::Gap => "gap",
            Self::Altered => "altered",
            Self::BrokenLink => "broken_link",
            Self::Truncated => "truncated",
            Self::HeadMismatch => "head_mismatch",
            Self::GuardsMissing => "guards_missing",
            Self::OutcomeMismatch => "outcome_mismatch",
            Self::Unbalanced => "unbalanced",
        }
    }
}

/// Something that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {detail}", verdict.as_str(), first_bad_seq.map_or(String::new(), |seq| format!(" at seq {seq}")))]
pub struct Finding {
    /// What it is.
    pub verdict: Verdict,
    /// The seq, if it concerns one; 0 is the genesis.
    pub first_bad_seq: Option<i64>,
    /// What was expected, and what was found.
    pub detail: String,
}

impl Finding {
    pub(crate) fn at(verdict: Verdict, seq: i64, detail: impl Into<String>) -> Self {
        Self { verdict, first_bad_seq: Some(seq), detail: detail.into() }
    }

    /// Damage that concerns no one row.
    pub(crate) fn unreadable_file(error: &dyn std::error::Error) -> Self {
        let detail = format!("SQLite cannot read the file: {error}");
        Self { verdict: Verdict::Unreadable, first_bad_seq: None, detail }
    }
}

impl From<Refused> for Finding {
    fn from(row: Refused) -> Self {
        Self::from(&*row)
    }
}

impl From<&UnreadableRow> for Finding {
    fn from(row: &UnreadableRow) -> Self {
        Self::at(Verdict::Unreadable, row.seq, row.to_string())
    }
}
