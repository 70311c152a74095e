//! A session that is kept at hand.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::accounts::sessions::Session;

/// An open session, and what it was answered.
#[derive(Debug)]
pub(crate) struct OpenSession {
    session: Session,
    /// The newest seq that an answer to it stood for.
    answered_seq: AtomicU64,
    /// Whether another backend's token stands for a session.
    is_of_token: bool,
    /// How many ends of sessions there were when it was looked up.
    pub(crate) looked_up_at: u64,
}

impl Deref for OpenSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl OpenSession {
    /// A session that was answered with what stands for a seq at most.
    pub(crate) const fn new(session: Session, answered_seq: u64) -> Self {
        let answered_seq = AtomicU64::new(answered_seq);
        Self { session, answered_seq, is_of_token: false, looked_up_at: 0 }
    }

    /// What stands for a session where another backend plays for a user.
    pub(crate) const fn of_token(session: Session, answered_seq: u64, looked_up_at: u64) -> Self {
        let answered_seq = AtomicU64::new(answered_seq);
        Self { session, answered_seq, is_of_token: true, looked_up_at }
    }

    /// Whether another backend's token stands for it.
    pub(crate) const fn is_of_token(&self) -> bool {
        self.is_of_token
    }

    /// It was answered with what stands for a seq.
    pub(crate) fn answered(&self, seq: u64) {
        self.answered_seq.fetch_max(seq, Ordering::Relaxed);
    }

    /// The newest seq that an answer to it stood for.
    pub(crate) fn answered_seq(&self) -> u64 {
        self.answered_seq.load(Ordering::Relaxed)
    }
}
