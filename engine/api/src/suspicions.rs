//! Suspicions on their way into the ledger. Each is put on record once a day of its season; who
//! raises the same a million times has one waiting.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use daybook_ledger::SubmitError;
use daybook_schema::{Command, DayNumber, SeasonId, SuspicionCode, UserId};
use tokio::sync::Notify;

use crate::error::ApiError;
use crate::service::Service;

/// What was suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suspicion {
    pub(crate) user_id: UserId,
    pub(crate) season_id: SeasonId,
    /// The day it concerns; none where it is the current one.
    pub(crate) day_number: Option<DayNumber>,
    pub(crate) code: SuspicionCode,
}

/// What waits to be put on record: at most one of each kind and day of a season in play.
#[derive(Debug, Default)]
pub(crate) struct Suspicions {
    waiting: Mutex<BTreeSet<Suspicion>>,
    raised: Notify,
}

impl Suspicions {
    /// Raises one: it is put on record soon.
    pub(crate) fn raise(&self, suspicion: Suspicion) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(suspicion);
        self.raised.notify_one();
    }

    fn first(&self) -> Option<Suspicion> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
    }

    fn done(&self, suspicion: &Suspicion) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(suspicion);
    }
}

impl Service {
    /// Puts on record what was raised; it goes on until it cannot.
    pub(crate) async fn flag_suspicions(&self) -> Result<(), ApiError> {
        loop {
            while let Some(suspicion) = self.suspicions.first() {
                self.flag(suspicion).await?;
                self.suspicions.done(&suspicion);
            }
            self.suspicions.raised.notified().await;
        }
    }

    async fn flag(&self, suspicion: Suspicion) -> Result<(), ApiError> {
        let Suspicion { user_id, season_id, day_number, code } = suspicion;
        let current = self.ask(move |state| Some(state.seasons.get(&season_id)?.day_number));
        // In a season that ended nothing is flagged.
        let Some(current) = current.await? else { return Ok(()) };
        let day_number = day_number.unwrap_or(current);
        let flag = Command::FlagSuspicion { user_id, season_id, day_number, code };
        match self.submit_patiently(flag).await {
            Ok(_) => {
                tracing::info!(%season_id, %day_number, %code, "a suspicion is on record");
                Ok(())
            }
            // It is on record already, or the season ended this moment.
            Err(SubmitError::Rejected { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
