//! Ranks with ties: equal scores share one, and the next is as many further (1, 1, 3).

/// Gives ranks to rows that come best first.
pub(crate) struct Ranks {
    /// How many rows stand before the next.
    before: i64,
    /// Score and rank of the row before.
    newest: Option<(i64, i64)>,
}

impl Ranks {
    /// From the top of a board.
    pub(crate) const fn from_top() -> Self {
        Self { before: 0, newest: None }
    }

    /// From the middle of a board: so many rows stand before it, and a first row with this score
    /// has this rank.
    pub(crate) const fn after(before: i64, score: i64, rank: i64) -> Self {
        Self { before, newest: Some((score, rank)) }
    }

    /// The rank of the next row.
    pub(crate) fn next(&mut self, score: i64) -> i64 {
        self.before += 1;
        let tied = self.newest.filter(|(newest, _)| *newest == score);
        let rank = tied.map_or(self.before, |(_, rank)| rank);
        self.newest = Some((score, rank));
        rank
    }
}
