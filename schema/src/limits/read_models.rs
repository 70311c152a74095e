//! Limits of the read models.

/// Events that a projection applies in one transaction. Where it is behind, the more of a season are
/// folded before its rows are written, the fewer writes there are.
pub const EVENTS_PER_APPLY_MAX: usize = 65_536;
/// The first so many of a leaderboard have their rank stored; the others' is counted on reading.
pub const RANKS_STORED_MAX: usize = 1_000;
/// Notices of a season that wait for one who watches it; the oldest are dropped.
pub const NOTICES_WAITING_MAX: usize = 16;
/// Changes of accounts that are filled in at once.
pub const ACCOUNT_CHANGES_PER_FILL_MAX: i64 = 1_000;
/// Damaged files that are set aside: more of them show that something is wrong beyond a file, and
/// would fill the disk.
pub const FILES_SET_ASIDE_MAX: usize = 8;
