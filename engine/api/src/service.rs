//! What every route has at hand: the ledger, the accounts, the guards.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use daybook_ledger::{Accepted, Ledger, Signer, Submission, SubmitError};
use daybook_monitor::{Metric, Monitor};
use daybook_projections::{GameDatabase, Reads};
use daybook_schema::{Command, UserId};
use daybook_simulator::State;
use tokio::sync::{Mutex, Notify, Semaphore, SemaphorePermit};
use tracing::Instrument;

use crate::accounts::Accounts;
use crate::adoptions::Adoptions;
use crate::error::{ApiError, Code};
use crate::heads::{Epochs, Heads};
use crate::ledger_reads::LedgerReads;
use crate::live_hub::LiveHub;
use crate::open_session::OpenSession;
use crate::open_streams::Streams;
use crate::passwords::{HashingError, Passwords};
use crate::pauses::Pauses;
use crate::rate_limits::RateLimits;
use crate::request_counts::RequestCounts;
use crate::service_token::ServiceToken;
use crate::settings::Settings;
use crate::suspicions::Suspicions;
use crate::telemetry::Telemetry;
use crate::tokens::TokenHash;
use crate::told_cuts::ToldCuts;

/// How long what a start puts right waits for its turn.
const PATIENCE: Duration = Duration::from_secs(15);
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long an analyst's question waits for those before it.
const ANALYSTS_PATIENCE: Duration = Duration::from_secs(5);
/// Users' logins are kept apart in so many groups.
const LOGIN_GROUPS: usize = 64;

/// What a service is made of.
pub struct Parts {
    /// The ledger, open for writing.
    pub ledger: Ledger,
    /// The people.
    pub accounts: Accounts,
    /// The read models' file.
    pub game_database: GameDatabase,
    /// What clients tell of themselves.
    pub telemetry: Telemetry,
    /// What records how long things take; ledger and read models have the same.
    pub monitor: Monitor,
    /// The keys directory, which remembers who was erased.
    pub keys_dir: PathBuf,
    /// Signs heads for those who ask for it.
    pub signer: Signer,
    /// How it is set up.
    pub settings: Settings,
}

/// A service: the state of every route.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

/// What every route has at hand.
pub struct Inner {
    pub(crate) ledger: Ledger,
    pub(crate) accounts: Accounts,
    pub(crate) game_database: GameDatabase,
    pub(crate) telemetry: Telemetry,
    pub(crate) monitor: Monitor,
    pub(crate) api_response: Metric,
    pub(crate) requests: RequestCounts,
    pub(crate) started: Instant,
    pub(crate) reads: Reads,
    pub(crate) keys_dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) passwords: Passwords,
    pub(crate) rate_limits: RateLimits,
    pub(crate) open_sessions: DashMap<TokenHash, Arc<OpenSession>>,
    /// Tokens of other backends, and what stands for sessions of theirs.
    pub(crate) service_tokens: DashMap<TokenHash, Arc<ServiceToken>>,
    pub(crate) token_sessions: DashMap<(TokenHash, UserId), Arc<OpenSession>>,
    /// Counts ends of sessions: what was looked up before one may be out of date.
    pub(crate) session_ends: AtomicU64,
    /// One login at a time of each user: the ledger's order is that of the accounts.
    pub(crate) logins: [Mutex<()>; LOGIN_GROUPS],
    /// Sessions ended whose ends the ledger is to be told.
    pub(crate) sessions_ended: Notify,
    /// Erased users who may still stand in `game.db` or in a log.
    pub(crate) erased: Mutex<Vec<UserId>>,
    /// One more is among them.
    pub(crate) erasure_begun: Notify,
    pub(crate) is_demo: bool,
    pub(crate) signer: Signer,
    /// The heads that are given out.
    pub(crate) heads: Heads,
    epochs: OnceLock<Epochs>,
    pub(crate) ledger_reads: LedgerReads,
    pub(crate) live: LiveHub,
    pub(crate) streams: Streams,
    /// The newest events, as those who follow are told.
    pub(crate) told_cuts: ToldCuts,
    pub(crate) suspicions: Suspicions,
    pub(crate) adoptions: Adoptions,
    pub(crate) pauses: Pauses,
    /// One analyst's question at a time: whoever plays finds connections to read.
    analysts: Semaphore,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Service {
    /// A service of these parts. Before it serves, [`reconcile`](Self::reconcile) it.
    ///
    /// # Errors
    /// [`HashingError`] where Argon2id does not take the parameters.
    pub fn new(parts: Parts, is_demo: bool) -> Result<Self, HashingError> {
        let Parts {
            ledger,
            accounts,
            game_database,
            telemetry,
            monitor,
            keys_dir,
            signer,
            settings,
        } = parts;
        let inner = Inner {
            reads: Reads::new(&game_database),
            passwords: Passwords::new(settings.hashing)?,
            rate_limits: RateLimits::new(&settings.rate_limits),
            open_sessions: DashMap::new(),
            service_tokens: DashMap::new(),
            token_sessions: DashMap::new(),
            session_ends: AtomicU64::new(0),
            logins: std::array::from_fn(|_| Mutex::new(())),
            sessions_ended: Notify::new(),
            erased: Mutex::default(),
            erasure_begun: Notify::new(),
            heads: Heads::new(ledger.head()),
            epochs: OnceLock::new(),
            ledger_reads: LedgerReads::new(&ledger),
            live: LiveHub::default(),
            streams: Streams::default(),
            told_cuts: ToldCuts::default(),
            suspicions: Suspicions::default(),
            adoptions: Adoptions::default(),
            pauses: Pauses::default(),
            analysts: Semaphore::new(1),
            ledger,
            accounts,
            game_database,
            telemetry,
            api_response: monitor.metric("api_response"),
            requests: RequestCounts::default(),
            started: Instant::now(),
            monitor,
            keys_dir,
            signer,
            settings,
            is_demo,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Tells the ledger what it was not told yet, and clears the logs of who was erased: for a
    /// process that does one thing and ends.
    pub async fn finish(&self) {
        let finished = async {
            while self.tell_ended_sessions().await? > 0 {}
            self.finish_erasures().await?;
            self.clear_logs().await
        };
        if let Err(error) = finished.await {
            tracing::warn!(error = %error.body().message, "the next start finishes what was begun");
        }
    }

    /// Waits until the questions that analysts asked before are answered.
    pub(crate) async fn analysts_turn(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let turn = tokio::time::timeout(ANALYSTS_PATIENCE, self.analysts.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| ApiError::new(Code::Overloaded))
    }

    /// The ledger's epochs. No other begins while a process serves.
    pub(crate) fn epochs(&self) -> &Epochs {
        #[expect(clippy::expect_used, reason = "`reconcile` sets them before anything is served")]
        self.epochs.get().expect("a service that is reconciled")
    }

    /// Reads which epochs there were.
    pub(crate) async fn load_epochs(&self) -> Result<(), ApiError> {
        let newest = self.ask(State::identity).await?;
        let head = self.ledger.stream_head(newest.ledger_id.into())?.await?;
        let of_ledger = match head {
            Some(head) => self.ledger_reads.read(move |reader| reader.stream_from_head(head)).await,
            None => Ok(Vec::new()),
        };
        // Set once; a second reading would give the same.
        drop(self.epochs.set(Epochs::new(newest, &of_ledger?)));
        Ok(())
    }

    /// Asks the engine for something of its state.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        Ok(self.ledger.query(question)?.await?)
    }

    /// Ends all streams, and opens no more: before the service stops.
    pub fn end_streams(&self) {
        self.streams.end_all();
    }

    /// Closes what it reads by; the ledger, the accounts and `game.db` are closed by who opened
    /// them.
    pub async fn close(&self) {
        self.reads.clone().close().await;
    }

    /// Hands a command to the engine that waits for its turn, however long others fill the queue or
    /// keep the file locked: up to a limit that no client waits for.
    pub(crate) async fn submit_patiently(&self, command: Command) -> Result<Accepted, SubmitError> {
        let tried_until = Instant::now() + PATIENCE;
        loop {
            let submitted = self.ledger.submit(Submission::new(command.clone()));
            let refused = match submitted {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            };
            match refused {
                Err(SubmitError::Overloaded | SubmitError::Locked { .. })
                    if Instant::now() < tried_until =>
                {
                    tokio::time::sleep(TRIED_AGAIN_AFTER).await;
                }
                other => return other,
            }
        }
    }

    /// Refuses what would be half done where the ledger takes nothing.
    pub(crate) fn require_writable(&self) -> Result<(), ApiError> {
        let health = self.ledger.health();
        match (health.read_only_free_bytes.is_some(), health.locked_for.is_some()) {
            (true, _) => Err(ApiError::new(Code::ReadOnly)),
            (_, true) => Err(ApiError::new(Code::Unavailable)),
            _ if health.stopped.is_some() => Err(ApiError::new(Code::Unavailable)),
            _ => Ok(()),
        }
    }

    /// Hands a command to the engine, which has so long to come to it.
    pub(crate) async fn submit(&self, command: Command) -> Result<Accepted, SubmitError> {
        let deadline = Instant::now() + self.settings.command_wait;
        self.ledger.submit(Submission::new(command).before(deadline))?.await
    }
}

/// Does something to its end, also where the client hangs up midway.
///
/// # Errors
/// What it says; [`Code::Internal`] where it panicked.
pub(crate) async fn in_full<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request panicked");
        Err(ApiError::new(Code::Internal))
    })
}
