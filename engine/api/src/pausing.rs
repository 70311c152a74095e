//! Pauses are begun and ended, and play is refused meanwhile.

use daybook_schema::UserId;

use crate::accounts::now_seconds;
use crate::accounts::pauses::Pause;
use crate::error::{ApiError, Code};
use crate::pauses::Spared;
use crate::service::Service;

/// When whoever is refused should ask again.
const RETRY_AFTER_SECONDS: u64 = 30;
/// So long after a pause nothing idle expires, in seconds: players come back first.
const NOTHING_EXPIRES_FOR: i64 = 86_400;

impl Service {
    /// Refuses what plays while play is paused.
    ///
    /// # Errors
    /// [`Code::Paused`], with the operator's reason.
    pub(crate) fn require_play(&self, user_id: UserId) -> Result<(), ApiError> {
        match self.pauses.reason_for(user_id) {
            None => Ok(()),
            Some(reason) => {
                Err(ApiError::new(Code::Paused).saying(reason).retry_after(RETRY_AFTER_SECONDS))
            }
        }
    }

    /// Brings the pauses that go on to hand.
    pub(crate) async fn load_pauses(&self) -> Result<(), ApiError> {
        let _in_order = self.pauses.in_order.lock().await;
        self.pauses.set(self.accounts.open_pauses().await?);
        Ok(())
    }

    /// Pauses play; at once.
    pub(crate) async fn pause(
        &self,
        user_id: Option<UserId>,
        reason: &str,
        by: &str,
    ) -> Result<Pause, ApiError> {
        let pause = self.accounts.pause(user_id, reason, by).await?;
        self.load_pauses().await?;
        // What was handed over before is decided and on disk when this is answered.
        match self.ledger.query(|_| ()) {
            Ok(all_before) => drop(all_before.await),
            Err(error) => tracing::warn!(%error, "the ledger takes no commands"),
        }
        tracing::warn!(by, of_all = user_id.is_none(), "play is paused");
        Ok(pause)
    }

    /// Ends a pause; at once.
    pub(crate) async fn resume(&self, user_id: Option<UserId>, by: &str) -> Result<(), ApiError> {
        self.accounts.resume(user_id, by).await?;
        self.load_pauses().await?;
        tracing::warn!(by, of_all = user_id.is_none(), "play goes on");
        Ok(())
    }

    /// Whose idle seasons do not expire: those of a pause that goes on, or ended lately.
    pub(crate) async fn spared(&self) -> Result<Spared, ApiError> {
        let lately = self.accounts.pauses_since(now_seconds() - NOTHING_EXPIRES_FOR).await?;
        let users = lately.iter().filter_map(|pause| pause.user_id).collect();
        Ok(Spared { all: lately.iter().any(|pause| pause.user_id.is_none()), users })
    }
}
