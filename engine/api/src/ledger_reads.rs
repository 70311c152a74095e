//! Events read back from the ledger, by a few readers that all requests share.

use std::sync::{Arc, Mutex, PoisonError};

use daybook_ledger::{DatabaseError, Ledger, ReadError, Reader};
use tokio::sync::Semaphore;

use crate::error::{ApiError, Code};

/// Reads at the same time; who comes later waits for a turn.
const AT_ONCE_MAX: usize = 4;

/// Reads the ledger, a few at a time.
pub(crate) struct LedgerReads {
    ledger: Ledger,
    idle: Arc<Mutex<Vec<Reader>>>,
    turns: Semaphore,
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
        Self { ledger: ledger.clone(), idle: Arc::default(), turns: Semaphore::new(AT_ONCE_MAX) }
    }

    /// Reads something, on a thread that may block.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where the ledger cannot be read; why is in the log.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _turn = self.turns.acquire().await.map_err(|_| Code::Unavailable)?;
        let (ledger, idle) = (self.ledger.clone(), Arc::clone(&self.idle));
        let reading = tokio::task::spawn_blocking(move || -> Result<T, Failed> {
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let reader = match kept {
                Some(reader) => reader,
                None => ledger.reader()?,
            };
            let read = work(&reader)?;
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
