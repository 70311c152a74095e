//! What a start puts right before it serves: accounts and ledger say the same of who there is and
//! who is logged in.

use std::collections::BTreeSet;

use daybook_ledger::SubmitError;
use daybook_schema::{LedgerIdentity, SessionEndReason, SessionNumber, UserId};

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

/// A ledger that takes nothing now is told at the next start.
fn is_later(error: &SubmitError) -> bool {
    matches!(error, SubmitError::ReadOnly { .. } | SubmitError::Locked { .. })
}

impl Service {
    /// Brings accounts and ledger together, before anything is served. A ledger that is read-only
    /// is told at the next start.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn reconcile(&self) -> Result<Reconciled, StartError> {
        let served = self.ledger.query(|state| state.identity())?.await?;
        let is_other_epoch = self.hold_to_ledger(served).await?;
        let mut reconciled = Reconciled::default();
        let result = self.reconcile_in_order(is_other_epoch, &mut reconciled).await;
        match result {
            Err(StartError::Reconcile(reason))
                if self.ledger.health().read_only_free_bytes.is_some() =>
            {
                tracing::warn!(reason, "the ledger is read-only: it is told later what it lacks");
            }
            other => other?,
        }
        self.accounts.set_served_ledger(served).await?;
        Ok(reconciled)
    }

    async fn reconcile_in_order(
        &self,
        is_other_epoch: bool,
        reconciled: &mut Reconciled,
    ) -> Result<(), StartError> {
        // Whoever was erased is not brought back by anything that follows.
        self.erase_again().await?;
        reconciled.erasures = self.accounts.erasures().await?.len();
        self.finish_erasures().await?;
        reconciled.registrations = self.finish_registrations(is_other_epoch).await?;
        self.reconcile_sessions(reconciled).await
    }

    /// Refuses accounts of another ledger; tells whether the ledger's epoch is another than when
    /// these were served last.
    async fn hold_to_ledger(&self, served: LedgerIdentity) -> Result<bool, StartError> {
        let Some((holds, epoch)) = self.accounts.served_ledger().await? else { return Ok(false) };
        if holds != served.ledger_id {
            let path = self.accounts.path().to_owned();
            let given = served.ledger_id;
            return Err(AccountsError::AnotherLedger { path, holds, given }.into());
        }
        Ok(epoch != served.epoch.number)
    }

    /// Registers in the ledger whoever is here alone: those whose registration was cut short and,
    /// where the ledger lost events, all of them.
    async fn finish_registrations(&self, all: bool) -> Result<usize, StartError> {
        let pending = self.accounts.pending_users().await?;
        let known: BTreeSet<UserId> = match all {
            true => self.ledger.query(|state| state.users.keys().copied().collect())?.await?,
            false => BTreeSet::new(),
        };
        let lost = match all {
            true => self.accounts.all_users().await?,
            false => Vec::new(),
        };
        let lost = lost.into_iter().filter(|user_id| !known.contains(user_id));
        let unknown: BTreeSet<UserId> = pending.iter().copied().chain(lost).collect();
        for user_id in &unknown {
            self.register_in_ledger(*user_id).await?;
            self.accounts.confirm_user(*user_id).await?;
        }
        Ok(unknown.len())
    }

    /// A session that one of the two alone has is over.
    async fn reconcile_sessions(&self, reconciled: &mut Reconciled) -> Result<(), StartError> {
        // With the reasons that were given when they ended.
        while self.tell_ended_sessions().await? >= usize::try_from(ENDED_AT_ONCE_MAX).unwrap_or(0) {
        }
        let in_ledger: BTreeSet<(UserId, SessionNumber)> =
            self.sessions_in_ledger().await?.into_iter().collect();
        let here: BTreeSet<(UserId, SessionNumber)> =
            self.accounts.all_sessions().await?.into_iter().collect();
        for &(user_id, number) in in_ledger.difference(&here) {
            let reason = SessionEndReason::Revoked;
            match self.tell_ended(EndedSession { user_id, number, reason }).await {
                Err(error) if is_later(&error) => {}
                other => other?,
            }
            reconciled.sessions_ended += 1;
        }
        let gone: Vec<_> = here.difference(&in_ledger).copied().collect();
        self.accounts.drop_sessions(&gone).await?;
        reconciled.sessions_dropped = gone.len();
        Ok(())
    }
}
