//! Erasing a user: recorded first, then the season in play ends, then the data goes.

use daybook_ledger::SubmitError;
use daybook_ledger::keys::{erased_users, remember_erased};
use daybook_schema::{Command, UserId};
use daybook_simulator::Rejection;

use crate::error::{ApiError, Code};
use crate::service::Service;

/// Seasons that may be begun and abandoned while one is erased: commands that were under way.
const ABANDONED_MAX: usize = 8;
/// How many erased users a start looks for in what is left of them.
const LOOKED_FOR_MAX: usize = 1_000;

impl Service {
    /// Erases a user. From the first step on he is not there; the personal data is gone when this
    /// returns; what the ledger could not be told yet it is told soon, at the next start at the
    /// latest.
    pub(crate) async fn erase(&self, user_id: UserId) -> Result<(), ApiError> {
        let gone = self.accounts.begin_erasure(user_id).await?;
        self.forget_sessions(&gone);
        self.remember_erased(user_id).await?;
        let told = self.erase_in_ledger(user_id).await;
        self.accounts.erase_data(user_id).await?;
        match told {
            Ok(()) => self.accounts.confirm_erasure(user_id).await?,
            Err(error) => {
                tracing::warn!(%user_id, %error, "the ledger will be told of an erasure later");
            }
        }
        self.erased.lock().await.push(user_id);
        self.erasure_begun.notify_one();
        Ok(())
    }

    /// Goes on with erasures that were begun, and tells whether all are at their end.
    pub(crate) async fn finish_erasures(&self) -> Result<bool, ApiError> {
        let mut is_done = true;
        for user_id in self.accounts.erasures().await? {
            self.remember_erased(user_id).await?;
            let told = self.erase_in_ledger(user_id).await;
            self.accounts.erase_data(user_id).await?;
            self.erased.lock().await.push(user_id);
            match told {
                Ok(()) => self.accounts.confirm_erasure(user_id).await?,
                Err(_) => is_done = false,
            }
        }
        Ok(is_done)
    }

    /// Begins to erase those again whom the keys directory remembers: a copy that was put back may
    /// have brought them with it.
    pub(crate) async fn erase_again(&self) -> Result<usize, ApiError> {
        let remembered = self.remembered_erased().await?;
        if remembered.is_empty() {
            return Ok(0);
        }
        let of_ledger = remembered.clone();
        let alive = self.ledger.query(move |state| -> Vec<UserId> {
            let is_alive = |id: &UserId| state.users.get(id).is_some_and(|user| !user.erased);
            of_ledger.into_iter().filter(is_alive).collect()
        });
        let alive = alive?.await?;
        let here = self.accounts.all_users().await?;
        let is_back = |id: &UserId| alive.contains(id) || here.contains(id);
        let back: Vec<UserId> = remembered.into_iter().filter(is_back).collect();
        for user_id in &back {
            self.accounts.begin_erasure(*user_id).await?;
        }
        Ok(back.len())
    }

    async fn remembered_erased(&self) -> Result<Vec<UserId>, ApiError> {
        let directory = self.keys_dir.clone();
        let remembered = tokio::task::spawn_blocking(move || erased_users(&directory)).await;
        remembered.map_err(|_| Code::Internal)?.map_err(|error| {
            tracing::error!(%error, "whom the keys directory remembers as erased cannot be read");
            ApiError::new(Code::Unavailable)
        })
    }

    async fn remember_erased(&self, user_id: UserId) -> Result<(), ApiError> {
        let directory = self.keys_dir.clone();
        let remembered =
            tokio::task::spawn_blocking(move || remember_erased(&directory, user_id)).await;
        remembered.map_err(|_| Code::Internal)?.map_err(|error| {
            tracing::error!(%error, "the keys directory cannot remember who was erased");
            ApiError::new(Code::Unavailable)
        })
    }

    /// Ends the season in play and erases the user; what is done already stays so.
    async fn erase_in_ledger(&self, user_id: UserId) -> Result<(), SubmitError> {
        for _ in 0..ABANDONED_MAX {
            let rejections = match self.submit(Command::EraseUser { user_id }).await {
                Err(SubmitError::Rejected(rejections)) => rejections,
                other => return other.map(drop),
            };
            let season_id = match rejections.first() {
                Rejection::SeasonInProgress { season_id } => *season_id,
                Rejection::UserErased { .. } | Rejection::UserNotFound { .. } => return Ok(()),
                _ => return Err(SubmitError::Rejected(rejections)),
            };
            match self.submit(Command::AbandonSeason { user_id, season_id }).await {
                // Its key or epoch is no longer good, so that the player cannot end it.
                Err(SubmitError::Rejected(rejections))
                    if matches!(rejections.first(), Rejection::SeasonWithdrawn) =>
                {
                    self.submit(Command::ExpireSeason { user_id, season_id }).await?;
                }
                // It may have ended meanwhile.
                Ok(_) | Err(SubmitError::Rejected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.submit(Command::EraseUser { user_id }).await.map(drop)
    }

    /// Takes those whom the keys directory remembered last for those who may still stand somewhere:
    /// for a start, which does not know what the process before it came to.
    pub(crate) async fn look_for_erased(&self) -> Result<(), ApiError> {
        let mut remembered = self.remembered_erased().await?;
        let newest = remembered.split_off(remembered.len().saturating_sub(LOOKED_FOR_MAX));
        self.erased.lock().await.extend(newest);
        Ok(())
    }

    /// Makes sure that nothing is left of erased users in `game.db` and in the logs; tells whether
    /// that is so.
    pub(crate) async fn clear_logs(&self) -> Result<bool, ApiError> {
        let erased = self.erased.lock().await.clone();
        let unread = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "game.db cannot be cleared of erased users for now");
            ApiError::new(Code::Unavailable)
        };
        for user_id in &erased {
            // The workers' copy follows within a second.
            if !self.reads.is_erased(*user_id).await.map_err(|error| unread(&error))? {
                return Ok(false);
            }
        }
        let accounts = self.accounts.empty_log().await?;
        let game = self.game_database.empty_log().await.map_err(|error| unread(&error))?;
        if accounts && game {
            self.erased.lock().await.retain(|user_id| !erased.contains(user_id));
        }
        Ok(accounts && game)
    }
}
