//! What a start puts right before it serves: accounts and ledger say the same of who there is and
//! who is logged in.

use std::collections::{BTreeSet, HashSet};

use daybook_ledger::SubmitError;
use daybook_schema::{LedgerIdentity, SessionEndReason, SessionNumber, UserId};
use futures_util::future::try_join_all;

use crate::accounts::AccountsError;
use crate::accounts::sessions::{ENDED_AT_ONCE_MAX, EndedSession};
use crate::error::ApiError;
use crate::service::Service;

/// What a start put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Registrations that were begun, and are whole now.
    pub registrations: usize,
    /// Sessions that the ledger alone had; nobody has their tokens.
    pub sessions_ended: usize,
    /// Sessions that the accounts alone had.
    pub sessions_dropped: usize,
    /// Erasures that were begun, or that an older copy had undone.
    pub erasures: usize,
}

/// What becomes of users of the ledger's who have no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// The start is refused: their accounts may lie elsewhere.
    Refuse,
    /// Their accounts are given up.
    GiveUp,
}

/// A service cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The accounts are not this ledger's.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The accounts could not be read or written; the log tells why.
    #[error("accounts.db and the ledger could not be brought together: {0}")]
    Reconcile(String),
}

impl From<ApiError> for StartError {
    fn from(error: ApiError) -> Self {
        Self::Reconcile(error.body().message.into_owned())
    }
}

impl From<SubmitError> for StartError {
    fn from(error: SubmitError) -> Self {
        Self::Reconcile(error.to_string())
    }
}

impl Service {
    /// Brings accounts and ledger together, before anything is served. A ledger that is read-only
    /// is told at the next start.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn reconcile(&self, lacking: Lacking) -> Result<Reconciled, StartError> {
        self.load_epochs().await?;
        self.load_pauses().await?;
        let served = self.epochs().newest();
        let is_other_epoch = self.hold_to_ledger(served).await?;
        self.hold_to_people(lacking).await?;
        let mut reconciled = Reconciled::default();
        // What needs no write of the ledger comes first, and always.
        self.drop_sessions(&mut reconciled).await?;
        match self.tell_ledger(is_other_epoch, &mut reconciled).await {
            Err(error) if self.ledger.health().read_only_free_bytes.is_some() => {
                // It is not put down as served: the next start does all of it.
                tracing::warn!(%error, "the ledger is read-only: it is told later what it lacks");
            }
            Err(error) => return Err(error),
            Ok(()) => self.accounts.set_served_ledger(served).await?,
        }
        Ok(reconciled)
    }

    async fn tell_ledger(
        &self,
        is_other_epoch: bool,
        reconciled: &mut Reconciled,
    ) -> Result<(), StartError> {
        // Whoever was erased is not brought back by anything that follows.
        self.erase_again().await?;
        reconciled.erasures = self.accounts.erasures().await?.len();
        self.finish_erasures().await?;
        reconciled.registrations = self.finish_registrations(is_other_epoch, i64::MAX).await?;
        // With the reasons that were given when they ended.
        while self.tell_ended_sessions().await? >= ENDED_AT_ONCE_MAX {}
        self.end_unknown_sessions(reconciled).await
    }

    /// Refuses accounts of another ledger; tells whether the ledger's epoch is another than when
    /// these were served last.
    async fn hold_to_ledger(&self, served: LedgerIdentity) -> Result<bool, StartError> {
        let Some(before) = self.accounts.served_ledger().await? else { return Ok(false) };
        if before.ledger_id != served.ledger_id {
            let path = self.accounts.path().to_owned();
            let (holds, given) = (before.ledger_id, served.ledger_id);
            return Err(AccountsError::AnotherLedger { path, holds, given }.into());
        }
        let nonce = served.epoch.nonce.to_string();
        let is_same = before.epoch_number == served.epoch.number
            && before.nonce.is_none_or(|before| before == nonce);
        Ok(!is_same)
    }

    /// Refuses accounts that lack people of the ledger's: it is an older copy, or lost its log.
    async fn hold_to_people(&self, lacking: Lacking) -> Result<(), StartError> {
        let alive =
            self.ledger.query(|state| state.users.count_where(|user| !user.erased))?.await?;
        let has_pending = !self.accounts.pending_users(i64::MAX).await?.is_empty();
        if !has_pending && alive == self.accounts.known_count().await? {
            return Ok(());
        }
        let known: HashSet<UserId> = self.accounts.known_users().await?.into_iter().collect();
        let lacks = self.ledger.query(move |state| -> Vec<UserId> {
            let alive = state.users_where(|user| !user.erased).into_iter();
            alive.filter(|id| !known.contains(id)).collect()
        });
        let lacks = lacks?.await?;
        match lacking {
            _ if lacks.is_empty() => Ok(()),
            Lacking::GiveUp => Ok(self.accounts.give_up_users(&lacks).await?),
            Lacking::Refuse => {
                let (path, users) = (self.accounts.path().to_owned(), lacks.len());
                Err(AccountsError::Missing { path, users }.into())
            }
        }
    }

    /// Registers in the ledger whoever is here alone: those whose registration was cut short before
    /// a time and, where the ledger lost events, all of them.
    pub(crate) async fn finish_registrations(
        &self,
        all: bool,
        before: i64,
    ) -> Result<usize, ApiError> {
        let mut unknown: BTreeSet<UserId> =
            self.accounts.pending_users(before).await?.into_iter().collect();
        if all {
            let here = self.accounts.all_users().await?;
            let lost = self.ledger.query(move |state| -> Vec<UserId> {
                here.into_iter().filter(|user_id| !state.users.contains_key(user_id)).collect()
            });
            unknown.extend(lost?.await?);
        }
        for user_id in &unknown {
            self.register_in_ledger(*user_id).await?;
            self.accounts.confirm_user(*user_id).await?;
        }
        Ok(unknown.len())
    }

    /// Sessions that the ledger has ended, or never began, are over.
    async fn drop_sessions(&self, reconciled: &mut Reconciled) -> Result<(), StartError> {
        let here = self.accounts.all_sessions().await?;
        let gone = self.ledger.query(move |state| -> Vec<(UserId, SessionNumber)> {
            let is_open = |(user_id, number): &(UserId, SessionNumber)| {
                state.users.get(user_id).is_some_and(|user| user.open_sessions.contains(number))
            };
            here.into_iter().filter(|session| !is_open(session)).collect()
        });
        let gone = gone?.await?;
        self.accounts.drop_sessions(&gone).await?;
        reconciled.sessions_dropped = gone.len();
        Ok(())
    }

    /// Sessions that the ledger alone has: nobody has their tokens.
    async fn end_unknown_sessions(&self, reconciled: &mut Reconciled) -> Result<(), StartError> {
        let here: HashSet<(UserId, SessionNumber)> =
            self.accounts.all_sessions().await?.into_iter().collect();
        let unknown = self.ledger.query(move |state| -> Vec<(UserId, SessionNumber)> {
            let users = state.users.ordered_where(|user| !user.open_sessions.is_empty());
            let all = users.into_iter().flat_map(|(user_id, user)| {
                user.open_sessions.iter().map(move |number| (user_id, *number))
            });
            all.filter(|session| !here.contains(session)).collect()
        });
        let unknown = unknown?.await?;
        reconciled.sessions_ended = unknown.len();
        // Many at a time: each would else wait for a sync of its own.
        for chunk in unknown.chunks(ENDED_AT_ONCE_MAX) {
            let reason = SessionEndReason::Revoked;
            let ends = chunk.iter().map(|&(user_id, number)| {
                self.tell_ended(EndedSession { user_id, number, reason })
            });
            try_join_all(ends).await?;
        }
        Ok(())
    }
}
