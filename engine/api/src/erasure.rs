//! Erasing a user: recorded first, then the season in play ends, then the data goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daybook_ledger::SubmitError;
use daybook_ledger::keys::{erased_users, remember_erased};
use daybook_schema::{Command, UserId};
use daybook_simulator::Rejection;

use crate::error::{ApiError, Code};
use crate::service::Service;

/// Seasons that may be begun and abandoned while one is erased: commands that were under way.
const ABANDONED_MAX: usize = 8;
/// How long telemetry is taken out at a time: a user may have stored a lot.
const TELEMETRY_ERASED_FOR: Duration = Duration::from_secs(2);
/// How many erased users a start looks for in what is left of them.
const LOOKED_FOR_MAX: usize = 1_000;

impl Service {
    /// Erases a user. From the first step on he is not there; the personal data is gone when this
    /// returns; what the ledger could not be told yet it is told soon, at the next start at the
    /// latest.
    pub(crate) async fn erase(&self, user_id: UserId) -> Result<(), ApiError> {
        let gone = self.accounts.begin_erasure(user_id).await?;
        self.forget_sessions(&gone);
        self.streams.end_of_tokens_for(user_id);
        // Whatever fails from here on, the upkeep goes on with it.
        self.erasure_begun.notify_one();
        self.finish_erasure(user_id).await.map(drop)
    }

    /// Goes on with erasures that were begun, each for itself, and tells whether all are at their
    /// end.
    pub(crate) async fn finish_erasures(&self) -> Result<bool, ApiError> {
        let mut is_done = true;
        for user_id in self.accounts.erasures().await? {
            match self.finish_erasure(user_id).await {
                Ok(is_told) => is_done &= is_told,
                Err(error) => {
                    tracing::warn!(error = %error.body().message, "an erasure is not at its end");
                    is_done = false;
                }
            }
        }
        Ok(is_done)
    }

    /// Goes on with one that was begun: the data is gone then. Tells whether the ledger has it too.
    async fn finish_erasure(&self, user_id: UserId) -> Result<bool, ApiError> {
        self.remember_erased(user_id).await?;
        let told = self.erase_in_ledger(user_id).await;
        self.accounts.erase_data(user_id).await?;
        // A pause of hers is none any more.
        self.load_pauses().await?;
        self.erased.lock().await.push(user_id);
        match told {
            Ok(()) => self.accounts.confirm_erasure(user_id).await?,
            Err(ref error) => {
                tracing::warn!(%error, "the ledger will be told of an erasure later");
            }
        }
        // A part may be left: the upkeep goes on with it.
        drop(self.erase_telemetry(user_id).await);
        Ok(told.is_ok())
    }

    /// Begins to erase those again whom the keys directory remembers, or the ledger: a copy that was
    /// put back may have brought them with it.
    pub(crate) async fn erase_again(&self) -> Result<usize, ApiError> {
        let remembered = self.remembered_erased().await?;
        let in_ledger = self.ledger.query(|state| state.users_where(|user| user.erased));
        let erased: Vec<UserId> = remembered.iter().copied().chain(in_ledger?.await?).collect();
        if erased.is_empty() {
            return Ok(0);
        }
        let here = self.accounts.among(&erased).await?;
        let alive = self.ledger.query(move |state| -> BTreeSet<UserId> {
            let is_alive = |id: &UserId| state.users.get(id).is_some_and(|user| !user.erased);
            remembered.into_iter().filter(is_alive).chain(here).collect()
        });
        let back = alive?.await?;
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
            let (rejections, repeated) =
                match self.submit_patiently(Command::EraseUser { user_id }).await {
                    Err(SubmitError::Rejected { rejections, repeated }) => (rejections, repeated),
                    other => return other.map(drop),
                };
            let season_id = match rejections.first() {
                Rejection::SeasonInProgress { season_id } => *season_id,
                Rejection::UserErased { .. } | Rejection::UserNotFound { .. } => return Ok(()),
                _ => return Err(SubmitError::Rejected { rejections, repeated }),
            };
            match self.submit_patiently(Command::AbandonSeason { user_id, season_id }).await {
                // Its key or epoch is no longer good, so that the player cannot end it.
                Err(SubmitError::Rejected { rejections, .. })
                    if matches!(rejections.first(), Rejection::SeasonWithdrawn) =>
                {
                    self.submit_patiently(Command::ExpireSeason { user_id, season_id }).await?;
                }
                // It may have ended meanwhile.
                Ok(_) | Err(SubmitError::Rejected { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.submit_patiently(Command::EraseUser { user_id }).await.map(drop)
    }

    /// Takes those whom the keys directory remembered last for those who may still stand somewhere:
    /// for a start, which does not know what the process before it came to.
    pub(crate) async fn look_for_erased(&self) -> Result<(), ApiError> {
        let mut remembered = self.remembered_erased().await?;
        let newest = remembered.split_off(remembered.len().saturating_sub(LOOKED_FOR_MAX));
        self.erased.lock().await.extend(newest);
        Ok(())
    }

    /// Takes a user's telemetry out, part by part; tells whether all of it is gone.
    async fn erase_telemetry(&self, user_id: UserId) -> Result<bool, ApiError> {
        let began = Instant::now();
        while began.elapsed() < TELEMETRY_ERASED_FOR {
            if self.telemetry.erase(user_id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes sure that nothing is left of erased users in `game.db`, in `telemetry.db` and in the
    /// logs; tells whether that is so.
    pub(crate) async fn clear_logs(&self) -> Result<bool, ApiError> {
        let erased = self.erased.lock().await.clone();
        if erased.is_empty() {
            return Ok(true);
        }
        let unread = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "the files cannot be cleared of erased users for now");
            ApiError::new(Code::Unavailable)
        };
        for user_id in &erased {
            // The workers' copy follows within a second.
            if !self.reads.is_erased(*user_id).await.map_err(|error| unread(&error))? {
                return Ok(false);
            }
        }
        // Whatever is wrong with telemetry.db, the others keep nothing because of it.
        let accounts = self.accounts.empty_log().await?;
        let game = self.game_database.empty_log().await.map_err(|error| unread(&error))?;
        let mut telemetry = true;
        for user_id in &erased {
            telemetry &= self.erase_telemetry(*user_id).await?;
        }
        Ok(accounts && game && telemetry)
    }
}
