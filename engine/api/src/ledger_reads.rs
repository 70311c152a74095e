//! Events read back from the ledger, by a few readers that all requests share.

use std::sync::{Arc, PoisonError};

use dashmap::DashMap;
use daybook_ledger::{DatabaseError, Ledger, ReadError, Reader};
use daybook_schema::UserId;
use tokio::sync::{Mutex, Semaphore};

use crate::error::{ApiError, Code};

/// Reads at the same time; who comes later waits for a turn.
const AT_ONCE_MAX: usize = 4;

/// Reads the ledger, a few at a time.
pub(crate) struct LedgerReads {
    ledger: Ledger,
    idle: Arc<std::sync::Mutex<Vec<Reader>>>,
    turns: Arc<Semaphore>,
    /// One read at a time of each user: nobody fills the line of all.
    of_users: DashMap<UserId, Arc<Mutex<()>>>,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Open(#[from] DatabaseError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl LedgerReads {
    pub(crate) fn new(ledger: &Ledger) -> Self {
        Self {
            ledger: ledger.clone(),
            idle: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            of_users: DashMap::new(),
        }
    }

    /// Reads something for a user, one after another.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn read_for<T: Send + 'static>(
        &self,
        user_id: UserId,
        work: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let own = Arc::clone(&self.of_users.entry(user_id).or_default());
        let turn = Arc::clone(&own).lock_owned().await;
        // Held until the reading is over, also where the client hung up.
        let read = self.read(move |reader| {
            let read = work(reader);
            drop(turn);
            read
        });
        let read = read.await;
        drop(own);
        self.of_users.remove_if(&user_id, |_, own| Arc::strong_count(own) == 1);
        read
    }

    /// Reads something, on a thread that may block.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where the ledger cannot be read; why is in the log.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Code::Unavailable)?;
        let (ledger, idle) = (self.ledger.clone(), Arc::clone(&self.idle));
        let reading = tokio::task::spawn_blocking(move || -> Result<T, Failed> {
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = match kept {
                Some(reader) => reader,
                None => ledger.reader()?,
            };
            let read = work(&reader)?;
            // The turn is over when the reading is, also where the client hung up.
            drop(turn);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(read)
        });
        let read = reading.await.map_err(|error| {
            tracing::error!(%error, "reading the ledger panicked");
            ApiError::new(Code::Internal)
        })?;
        read.map_err(|error| {
            tracing::error!(%error, "the ledger cannot be read");
            ApiError::new(Code::Unavailable)
        })
    }
}
