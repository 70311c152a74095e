//! `telemetry.db` as its writer has it: opened beside the work, left when it is no longer ours,
//! closed and opened again after a failure, later each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daybook_projections::sqlx::{self, Connection, SqliteConnection};
use daybook_projections::{DatabaseFiles, MigrationError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::amounts::day_of;
use super::file::{self, Means, OpenFile, meaning};
use super::shared::{Shared, StoreError, now_ms};
use super::store;

/// A file that is being opened is waited for so long: a large one of an earlier version takes
/// longer, and who waits is refused meanwhile.
const OPENING_WAITED_FOR: Duration = Duration::from_secs(2);
/// After a failure it is opened again so much later, and each time twice as late.
const OPENED_AGAIN_AFTER: Duration = Duration::from_secs(5);
const OPENED_AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(300);
/// A connection to a file that is no longer ours cannot be closed. When there are so many of these,
/// no other is opened before the next start.
const LEFT_MAX: u32 = 16;
/// How long it may take to close a file that failed.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);

/// The file, if it is open.
pub(super) struct FileInUse {
    path: PathBuf,
    shared: Arc<Shared>,
    open: Option<OpenFile>,
    opening: Option<JoinHandle<Result<OpenFile, MigrationError>>>,
    /// Failures since something was last stored.
    failures: u32,
    open_again_at: Instant,
    left: u32,
}

impl FileInUse {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>) -> Self {
        let (open, opening) = (None, None);
        let open_again_at = Instant::now();
        Self { path, shared, open, opening, failures: 0, open_again_at, left: 0 }
    }

    /// The directory that it lies in.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The connection, if the file is still the one that was opened. Where it was moved away another
    /// is opened in its place.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it is not open, or not yet.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        // Where it is not, another is opened.
        self.check().await.unwrap_or_default();
        if self.open.is_none() {
            self.open_if_due().await;
        }
        self.open.as_mut().map(|open| &mut open.connection).ok_or(StoreError::Unavailable)
    }

    /// Looks whether the file is still the one that was opened: what was written to one that was
    /// moved away meanwhile is lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it is not.
    pub(super) async fn check(&mut self) -> Result<(), StoreError> {
        let Some(open) = &self.open else { return Err(StoreError::Unavailable) };
        let now = DatabaseFiles::of(&self.path);
        let Some(reason) = open.files.difference(&now, &self.path) else { return Ok(()) };
        tracing::error!(reason, "telemetry.db was moved; another is opened in its place");
        self.shared.set_readers(None).await;
        self.open_again_at = Instant::now();
        if open.files.is_only_log_gone(&now) {
            // The connection still has what was in it, and folds it into the file, which is ours.
            self.close_open().await;
        } else {
            // SQLite would fold a log into what is no longer ours, so it is not closed.
            std::mem::forget(self.open.take());
            self.left += 1;
        }
        Err(StoreError::Unavailable)
    }

    /// Something was stored.
    pub(super) fn works(&mut self) {
        self.failures = 0;
    }

    /// What is to be done after an error, and what whoever waited is told.
    pub(super) async fn failed(&mut self, error: sqlx::Error) -> StoreError {
        tracing::warn!(%error, "telemetry.db could not be written");
        let means = meaning(&error);
        if means == Means::Passing || self.check().await.is_err() {
            return StoreError::Unavailable;
        }
        self.put_off();
        self.close().await;
        if means == Means::Damaged
            && let Err(error) = file::set_aside(&self.path, &error.to_string())
        {
            tracing::error!(%error, "telemetry.db is damaged and cannot be set aside");
        }
        StoreError::Unavailable
    }

    /// It is opened again later.
    fn put_off(&mut self) {
        let wait = OPENED_AGAIN_AFTER * 2_u32.pow(self.failures.min(8));
        self.open_again_at = Instant::now() + wait.min(OPENED_AGAIN_AFTER_AT_MOST);
        self.failures += 1;
    }

    /// Closes it, if it is still ours.
    pub(super) async fn close(&mut self) {
        if self.check().await.is_ok() {
            self.shared.set_readers(None).await;
            self.close_open().await;
        }
    }

    async fn close_open(&mut self) {
        let Some(OpenFile { connection, readers, .. }) = self.open.take() else { return };
        let closing = async {
            readers.close().await;
            connection.close().await
        };
        match timeout(CLOSED_WITHIN, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "telemetry.db was not closed; the next start folds its log in");
            }
            Err(_) => tracing::warn!("telemetry.db did not close in time"),
        }
    }

    /// Opens it on a task of its own, and waits a moment for that.
    async fn open_if_due(&mut self) {
        if self.opening.is_none() {
            if Instant::now() < self.open_again_at {
                return;
            }
            if self.left >= LEFT_MAX {
                tracing::error!(
                    "telemetry.db was moved too often: none is stored until the next start"
                );
                self.open_again_at = Instant::now() + OPENED_AGAIN_AFTER_AT_MOST;
                return;
            }
            let path = self.path.clone();
            self.opening = Some(tokio::spawn(async move { file::open(&path).await }));
        }
        let Some(opening) = &mut self.opening else { return };
        let Ok(opened) = timeout(OPENING_WAITED_FOR, opening).await else { return };
        self.opening = None;
        match opened {
            Ok(Ok(open)) => self.take(open).await,
            Ok(Err(error)) => {
                self.put_off();
                tracing::warn!(%error, "telemetry.db cannot be opened; tried again");
            }
            Err(error) => {
                self.put_off();
                tracing::error!(%error, "opening telemetry.db panicked; tried again");
            }
        }
    }

    async fn take(&mut self, mut open: OpenFile) {
        let (amounts, day) = (&self.shared.amounts, day_of(now_ms()));
        if let Err(error) = store::load_amounts(&mut open.connection, amounts, day).await {
            tracing::warn!(%error, "what was stored today cannot be read");
        }
        self.shared.set_readers(Some(open.readers.clone())).await;
        self.open = Some(open);
    }
}
