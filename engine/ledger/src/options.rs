//! How a ledger is opened: what its caller has, knows, and permits.

use std::path::{Path, PathBuf};

use daybook_monitor::Monitor;
use daybook_schema::{LedgerId, UnixMicros};
use daybook_simulator::{Rulesets, SeasonKeys};

use crate::clock::TimeSource;
use crate::lock::WriterLock;
use crate::lost_heads::KnownHead;
use crate::newest_head::NewestHead;

/// Where the engine's time comes from.
pub enum Time {
    /// The system's clocks.
    System,
    /// Clocks of the caller's, for tests.
    Source(Box<dyn TimeSource>),
    /// Each submission's own time ([`Submission::at`](crate::Submission::at)): for a demo's ledger
    /// alone.
    FromSubmissions,
}

/// What a new ledger begins with.
#[derive(Clone, Copy, Debug)]
pub struct NewLedger {
    /// Its id.
    pub ledger_id: LedgerId,
    /// When it is created; now, if none is given.
    pub created_at: Option<UnixMicros>,
    /// Whether it is a demo's.
    pub is_demo: bool,
}

impl NewLedger {
    /// A ledger with a random id, created now.
    #[must_use]
    pub fn random() -> Self {
        Self { ledger_id: LedgerId::random(), created_at: None, is_demo: false }
    }
}

/// How a ledger is opened.
pub struct Options {
    pub(crate) data_dir: PathBuf,
    pub(crate) keys: Box<dyn SeasonKeys + Send>,
    pub(crate) rulesets: Rulesets,
    pub(crate) newest_head: Option<NewestHead>,
    pub(crate) known_heads: Vec<KnownHead>,
    pub(crate) witnesses: Vec<KnownHead>,
    pub(crate) known_ledgers: Vec<KnownLedger>,
    pub(crate) instead_of: Vec<LedgerId>,
    pub(crate) accept_loss: bool,
    pub(crate) accept_clock: Option<UnixMicros>,
    pub(crate) create: Option<NewLedger>,
    pub(crate) time: Time,
    pub(crate) lock: Option<WriterLock>,
    pub(crate) monitor: Monitor,
}

/// A ledger that somebody knows of, and who: a file, or an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLedger {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// What knows it.
    pub source: String,
}

impl Options {
    /// The ledger of a data directory, with its season keys.
    #[must_use]
    pub fn new(data_dir: &Path, keys: impl SeasonKeys + Send + 'static) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            keys: Box::new(keys),
            rulesets: Rulesets::default(),
            newest_head: None,
            known_heads: Vec::new(),
            witnesses: Vec::new(),
            known_ledgers: Vec::new(),
            instead_of: Vec::new(),
            accept_loss: false,
            accept_clock: None,
            create: None,
            time: Time::System,
            lock: None,
            monitor: Monitor::default(),
        }
    }

    /// Keeps the newest head, signed, in the keys directory, and holds the ledger to the one that
    /// is there.
    #[must_use]
    pub fn newest_head(self, newest_head: NewestHead) -> Self {
        Self { newest_head: Some(newest_head), ..self }
    }

    /// Holds the ledger to heads that people noted elsewhere. After a restore, one that is the very
    /// event with which the backup ends says that nothing came after it: no new epoch begins then.
    #[must_use]
    pub fn known_heads<K: Into<KnownHead>>(self, heads: impl IntoIterator<Item = K>) -> Self {
        let Self { mut known_heads, .. } = self;
        known_heads.extend(heads.into_iter().map(Into::into));
        Self { known_heads, ..self }
    }

    /// Holds the ledger to heads that what belongs to it tells of, such as the positions of read
    /// models.
    #[must_use]
    pub fn witnesses(self, heads: impl IntoIterator<Item = KnownHead>) -> Self {
        let Self { mut witnesses, .. } = self;
        witnesses.extend(heads);
        Self { witnesses, ..self }
    }

    /// Ledgers that are known of elsewhere, as by the positions of read models: where the ledger is
    /// gone no other is made in its place.
    #[must_use]
    pub fn known_ledgers(self, ledgers: impl IntoIterator<Item = KnownLedger>) -> Self {
        let Self { mut known_ledgers, .. } = self;
        known_ledgers.extend(ledgers);
        Self { known_ledgers, ..self }
    }

    /// Makes a new ledger although this one, which is known of, is gone.
    #[must_use]
    pub fn instead_of(self, ledger_id: LedgerId) -> Self {
        let Self { mut instead_of, .. } = self;
        instead_of.push(ledger_id);
        Self { instead_of, ..self }
    }

    /// The sets of rules, where they are others than RULEBOOK.md's.
    #[must_use]
    pub fn rulesets(self, rulesets: Rulesets) -> Self {
        Self { rulesets, ..self }
    }

    /// Goes on although the wall clock is far ahead of the newest event: it is right, and this is
    /// about the time, give or take a day.
    #[must_use]
    pub fn accept_clock(self, about: UnixMicros) -> Self {
        Self { accept_clock: Some(about), ..self }
    }

    /// Goes on with a ledger that lacks events that are known of. Since players may know the keys
    /// of the lost days, a new epoch begins: seasons in play are expired and commitments renewed.
    #[must_use]
    pub fn accept_loss(self, accept_loss: bool) -> Self {
        Self { accept_loss, ..self }
    }

    /// Creates the ledger where there is none. It may be said at every start: where anything tells
    /// of a ledger that is gone, none is made in its place
    /// ([`OpenError::Lost`](crate::OpenError::Lost)).
    #[must_use]
    pub fn create(self, new: NewLedger) -> Self {
        Self { create: Some(new), ..self }
    }

    /// Goes on with the writer's lock of the data directory, taken before.
    #[must_use]
    pub fn lock(self, lock: WriterLock) -> Self {
        Self { lock: Some(lock), ..self }
    }

    /// Records how long it takes to decide what has come (`decide`), to write and commit a batch
    /// (`commit`), and of that the commit with its sync alone (`sync`).
    #[must_use]
    pub fn monitor(self, monitor: Monitor) -> Self {
        Self { monitor, ..self }
    }

    /// Takes the time from elsewhere than the system's clocks.
    #[must_use]
    pub fn time(self, time: Time) -> Self {
        Self { time, ..self }
    }
}
