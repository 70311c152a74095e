//! What a service does by itself, in one place: it follows the ledger for who watches, tells it of
//! sessions that ended and of suspicions, sweeps, finishes erasures, and keeps the engine.
//!
//! | what | when |
//! |---|---|
//! | live events and heads are taken over | as they are committed |
//! | ended sessions and suspicions are told the ledger | at once; tried again after 2 s |
//! | expired sessions, old limits, links and changes are swept | each minute |
//! | erasures are brought to their end | at once, and each 30 s |
//! | flags become telemetry | each 5 s |
//! | what took longer than it may becomes telemetry | each second |
//! | outdated seasons and commitments are renewed | each minute |
//! | idle seasons expire | each minute; not while play is paused, nor for a day after |
//!
//! Each piece of work is idempotent: what a killed process began the next one goes on with.

use std::time::Duration;

use daybook_ledger::{Keeper, SubmitError, Withdrawn};
use daybook_schema::{Command, UnixMicros};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::accounts::now_seconds;
use crate::accounts::sessions::SWEPT_MAX;
use crate::error::ApiError;
use crate::service::Service;
use crate::suspicions::Suspicion;

const SWEPT_EVERY: Duration = Duration::from_secs(60);
/// What could not be done is tried again after so long.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often a session's end is looked for that nobody told of.
const ENDS_LOOKED_FOR_EVERY: Duration = Duration::from_secs(5);
/// How often an erasure is looked for that nobody told of.
const ERASURES_LOOKED_FOR_EVERY: Duration = Duration::from_secs(30);
/// How often flags are looked for that are not in `telemetry.db`.
const FLAGS_LOOKED_FOR_EVERY: Duration = Duration::from_secs(5);
const OVER_BUDGET_TOLD_EVERY: Duration = Duration::from_secs(1);

/// The work that goes on beside the routes.
pub struct Upkeep {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Upkeep {
    /// Begins it.
    #[must_use]
    pub fn start(service: &Service) -> Self {
        let stop = watch::Sender::new(false);
        let mut running = JoinSet::new();
        running.spawn(until_stopped(tell_ends(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(sweep(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(erase(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(keep(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(follow(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(flag(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(tell_flags(service.clone()), stop.subscribe()));
        running.spawn(until_stopped(tell_over_budget(service.clone()), stop.subscribe()));
        Self { stop, running }
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.running.join_next().await.is_some() {}
    }
}

async fn until_stopped(work: impl Future<Output = ()>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|is_stopped| *is_stopped) => {}
    }
}

fn log(what: &str, error: &ApiError) {
    tracing::warn!(error = %error.body().message, "{what}; tried again");
}

async fn tell_ends(service: Service) {
    loop {
        match service.tell_ended_sessions().await {
            Ok(0) => {
                let ended = service.sessions_ended.notified();
                drop(tokio::time::timeout(ENDS_LOOKED_FOR_EVERY, ended).await);
            }
            Ok(_) => {}
            Err(error) => {
                log("the ledger cannot be told which sessions ended", &error);
                sleep(TRIED_AGAIN_AFTER).await;
            }
        }
    }
}

/// Takes over what is committed: for who watches a season, and the heads that are given out.
async fn follow(service: Service) {
    loop {
        match service.ledger.subscribe(service.heads.next_seq()) {
            Ok(mut subscription) => {
                loop {
                    match subscription.next().await {
                        Ok(Some(cut)) => {
                            service.heads.push(&cut);
                            service.live.tell(&cut);
                        }
                        // The ledger was closed.
                        Ok(None) => break,
                        Err(error) => {
                            tracing::warn!(%error, "following the ledger broke off; tried again");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the ledger cannot be followed; tried again"),
        }
        sleep(TRIED_AGAIN_AFTER).await;
    }
}

/// Puts suspicions on record, as they are raised.
async fn flag(service: Service) {
    loop {
        let mut failed = Vec::new();
        for suspicion in service.suspicions.take() {
            if let Err(error) = flag_one(&service, suspicion).await {
                log("a suspicion is not on record", &error);
                failed.push(suspicion);
            }
        }
        if failed.is_empty() {
            service.suspicions.raised().await;
        } else {
            sleep(TRIED_AGAIN_AFTER).await;
            failed.into_iter().for_each(|suspicion| service.suspicions.raise(suspicion));
        }
    }
}

/// Tells flags as telemetry, once the read models have them.
async fn tell_flags(service: Service) {
    loop {
        match service.tell_flags().await {
            Ok(true) => {}
            Ok(false) => sleep(FLAGS_LOOKED_FOR_EVERY).await,
            Err(error) => {
                log("flags are not in telemetry.db", &error);
                sleep(FLAGS_LOOKED_FOR_EVERY).await;
            }
        }
    }
}

/// Tells as telemetry what took longer than it may: each metric once a second at most.
async fn tell_over_budget(service: Service) {
    loop {
        sleep(OVER_BUDGET_TOLD_EVERY).await;
        // What cannot be stored now is not worth keeping.
        if let Err(error) = service.tell_over_budget().await {
            tracing::debug!(error = %error.body().message, "what took long is not in telemetry.db");
        }
    }
}

async fn flag_one(service: &Service, suspicion: Suspicion) -> Result<(), ApiError> {
    let Suspicion { user_id, season_id, day_number, code } = suspicion;
    let current = service.ask(move |state| Some(state.seasons.get(&season_id)?.day_number));
    // In a season that ended nothing is flagged.
    let Some(current) = current.await? else { return Ok(()) };
    let day_number = day_number.unwrap_or(current);
    let flag = Command::FlagSuspicion { user_id, season_id, day_number, code };
    match service.submit_patiently(flag).await {
        Ok(_) => {
            tracing::info!(%season_id, %day_number, %code, "a suspicion is on record");
            Ok(())
        }
        // It is on record already, or the season ended this moment.
        Err(SubmitError::Rejected { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn sweep(service: Service) {
    let mut changes_from = 0;
    loop {
        if let Err(error) = sweep_once(&service, &mut changes_from).await {
            log("accounts.db was not swept", &error);
        }
        sleep(SWEPT_EVERY).await;
    }
}

async fn sweep_once(service: &Service, changes_from: &mut i64) -> Result<(), ApiError> {
    service.rate_limits.sweep();
    service.adoptions.sweep();
    loop {
        let gone = service.accounts.sweep_sessions().await?;
        service.sessions_are_over(&gone);
        if !gone.is_empty() {
            tracing::info!(sessions = gone.len(), "sessions expired");
        }
        if gone.len() < SWEPT_MAX {
            break;
        }
    }
    service.accounts.sweep_attempts(&service.settings.lockout).await?;
    service.accounts.sweep_links().await?;
    *changes_from = service.accounts.sweep_changes(*changes_from).await?;
    // Whoever registers now has not been told yet.
    let before = now_seconds() - i64::try_from(SWEPT_EVERY.as_secs()).unwrap_or(0);
    service.finish_registrations(false, before).await.map(drop)
}

/// Erasures that are begun are brought to their end, and what was erased leaves the logs.
async fn erase(service: Service) {
    while let Err(error) = service.look_for_erased().await {
        log("who was erased is not known", &error);
        sleep(TRIED_AGAIN_AFTER).await;
    }
    let (mut passes, mut erased) = (0, Vec::new());
    loop {
        if passes == 0 {
            erased = service.erased.lock().await.clone();
        }
        let is_done = async {
            let is_done = service.finish_erasures().await?;
            Ok::<_, ApiError>(service.clear_logs().await? && is_done)
        };
        match is_done.await {
            // Once more: the workers may have been copying what they read before.
            Ok(true) if passes < 1 => passes += 1,
            Ok(true) => {
                passes = 0;
                service.erased.lock().await.retain(|user_id| !erased.contains(user_id));
                let begun = service.erasure_begun.notified();
                drop(tokio::time::timeout(ERASURES_LOOKED_FOR_EVERY, begun).await);
            }
            Ok(false) => {}
            Err(error) => log("an erasure is not at its end", &error),
        }
        sleep(TRIED_AGAIN_AFTER).await;
    }
}

/// Keeps the engine: idle seasons expire, what is no longer good is withdrawn.
async fn keep(service: Service) {
    let started = Instant::now();
    loop {
        let ledger = service.ledger.clone();
        // What cannot be read might say that play is paused.
        let spared = match started.elapsed() >= service.settings.expires_after {
            true => service.spared().await.ok(),
            false => None,
        };
        let kept = tokio::task::spawn_blocking(move || -> Result<(), SubmitError> {
            let mut keeper = Keeper::new(&ledger);
            let Withdrawn { seasons_expired, commitments_renewed } = keeper.withdraw_outdated()?;
            if seasons_expired + commitments_renewed > 0 {
                tracing::info!(
                    seasons_expired,
                    commitments_renewed,
                    "outdated promises were withdrawn"
                );
            }
            if let Some(spared) = spared {
                let now = UnixMicros::new(jiff::Timestamp::now().as_microsecond());
                let seasons = keeper.expire_idle_of(now, |user_id| !spared.has(user_id))?.len();
                if seasons > 0 {
                    tracing::info!(seasons, "idle seasons expired");
                }
            }
            Ok(())
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the engine was not kept; tried again"),
            Err(error) => tracing::error!(%error, "keeping the engine panicked; tried again"),
        }
        sleep(SWEPT_EVERY).await;
    }
}
