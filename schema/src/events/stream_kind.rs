//! The kinds of streams.

/// Whose stream an event of a kind belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// The ledger's own.
    Ledger,
    /// A user's.
    User,
    /// A season's.
    Season,
}

impl StreamKind {
    /// Its name in FORMAT.md.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::User => "user",
            Self::Season => "season",
        }
    }
}
