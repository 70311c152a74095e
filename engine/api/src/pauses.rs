//! Whether play is paused: of all, or of one user.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use daybook_schema::UserId;

use crate::accounts::pauses::Pause;

/// The pauses that go on, at hand: every command looks here.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    is_any: AtomicBool,
    /// By user; that of all is under none.
    reasons: RwLock<HashMap<Option<UserId>, String>>,
    /// What was read later is not replaced by what was read before it.
    pub(crate) in_order: tokio::sync::Mutex<()>,
}

impl Pauses {
    /// What a user's play is paused for.
    pub(crate) fn reason_for(&self, user_id: UserId) -> Option<String> {
        if !self.is_any.load(Ordering::Acquire) {
            return None;
        }
        let reasons = self.reasons.read().unwrap_or_else(PoisonError::into_inner);
        reasons.get(&None).or_else(|| reasons.get(&Some(user_id))).cloned()
    }

    /// Whether play of all is paused, and of how many users.
    pub(crate) fn count(&self) -> (bool, u64) {
        let reasons = self.reasons.read().unwrap_or_else(PoisonError::into_inner);
        let of_all = reasons.contains_key(&None);
        (of_all, (reasons.len() - usize::from(of_all)) as u64)
    }

    /// Takes over those that go on.
    pub(crate) fn set(&self, pauses: Vec<Pause>) {
        let mut reasons = self.reasons.write().unwrap_or_else(PoisonError::into_inner);
        *reasons = pauses.into_iter().map(|pause| (pause.user_id, pause.reason)).collect();
        self.is_any.store(!reasons.is_empty(), Ordering::Release);
    }
}

/// Seasons that are not to expire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spared {
    pub(crate) all: bool,
    pub(crate) users: Vec<UserId>,
}

impl Spared {
    /// Whether a user's season is among them.
    pub(crate) fn has(&self, user_id: UserId) -> bool {
        self.all || self.users.contains(&user_id)
    }
}
