//! What the engine and its operator ask for: keys, commitments, a restore.

use daybook_schema::events::{KeyRotated, LedgerRestored, LostHeads};
use daybook_schema::{Epoch, EpochNonce, KeyId, UserId};

use super::{Decision, NewEvent};
use crate::rejection::{Rejection, Rejections};

impl Decision<'_> {
    pub(super) fn renew_commitment(&self, user_id: UserId) -> Result<Vec<NewEvent>, Rejections> {
        let user = self.user(user_id)?;
        if let Some(season_id) = user.season_in_play {
            return Err(Rejection::SeasonInProgress { season_id }.into());
        }
        let current = user.next_commitment.is_some_and(|commitment| {
            Some(commitment.key_id) == self.state.current_key()
                && commitment.epoch_number == self.state.identity().epoch.number
        });
        if current {
            return Err(Rejection::CommitmentInForce.into());
        }
        Ok(vec![self.next_commitment(user_id, user.next_season_number().get())?])
    }

    pub(super) fn rotate_key(
        &self,
        key_id: KeyId,
        compromised: bool,
    ) -> Result<Vec<NewEvent>, Rejections> {
        if self.state.season_keys.iter().any(|status| status.key_id == key_id) {
            return Err(Rejection::KeyAlreadyUsed { key_id }.into());
        }
        Ok(vec![NewEvent::new(self.state.identity().ledger_id, KeyRotated { key_id, compromised })])
    }

    pub(super) fn restore(&self, nonce: EpochNonce, lost_heads: LostHeads) -> Vec<NewEvent> {
        let identity = self.state.identity();
        let epoch = Epoch { number: identity.epoch.number.saturating_add(1), nonce };
        vec![NewEvent::new(identity.ledger_id, LedgerRestored { epoch, lost_heads })]
    }
}
