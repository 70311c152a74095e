//! What a report tells.

use daybook_projections::analytics::Month;
use daybook_schema::Head;
use serde::Serialize;

/// What the figures are of.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ledger {
    pub(super) ledger_id: String,
    pub(super) game: &'static str,
    pub(super) is_demo: bool,
    /// The head that the figures stand for.
    pub(super) head: Head,
    pub(super) rules: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) large_win: u64,
    /// Bets that were declared void. The rules know none.
    pub(super) voids: &'static str,
    #[serde(flatten)]
    pub(super) month: &'a Month,
}
