//! How a service fares, in figures: what `daybook stats` prints and `/metrics` tells.

use std::time::Duration;

use daybook_ledger::free_bytes;
use daybook_projections::{all_projections, status};
use daybook_schema::{Head, limits};
use serde::{Deserialize, Serialize};

use crate::accounts::upkeep::PeopleFigures;
use crate::service::Service;

/// How long the read models are asked how they fare.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// How a service fares.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// How long it has been running, in seconds.
    pub uptime_seconds: f64,
    /// The ledger.
    pub ledger: LedgerFigures,
    /// The read models; none of them where `game.db` cannot be read.
    pub projections: Vec<ProjectionFigures>,
    /// Accounts and sessions; none where `accounts.db` cannot be read.
    pub people: Option<PeopleFigures>,
    /// Streams of seasons, and readers of the feed.
    pub streams: u64,
    /// Whether play of all is paused.
    pub is_paused: bool,
    /// Users whose play is paused.
    pub users_paused: u64,
    /// Requests that were answered, by route and status.
    pub requests: Vec<RequestFigures>,
    /// Requests that a rate limit turned away, by class.
    pub limited: Vec<LimitFigures>,
    /// Telemetry.
    pub telemetry: TelemetryFigures,
    /// How long things take: the last whole minute and the one that runs.
    pub durations: Vec<DurationFigures>,
    /// The process.
    pub process: ProcessFigures,
}

/// The ledger.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerFigures {
    /// Its newest event.
    pub head: Head,
    /// Transactions since the start: the events of one are a batch.
    pub batches: u64,
    /// Commands and questions that wait.
    pub waiting: u64,
    /// How many may.
    pub waiting_max: u64,
    /// Whether the disk is too full to write.
    pub is_read_only: bool,
    /// How long another program has kept it locked, in seconds; 0 where none does.
    pub locked_seconds: f64,
    /// Whether it stopped.
    pub is_stopped: bool,
    /// The write-ahead log, in bytes.
    pub log_bytes: u64,
    /// Whether a reader keeps the log from being started anew.
    pub is_log_held: bool,
    /// What the disk has left, in bytes; none where that cannot be told.
    pub disk_free_bytes: Option<u64>,
}

/// A read model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionFigures {
    /// Its name.
    pub name: String,
    /// What it is doing, as `daybook projections status` says.
    pub state: String,
    /// The newest event that it stands for.
    pub seq: u64,
    /// Events that the ledger has beyond that.
    pub lag_events: Option<u64>,
}

/// Requests of a route with a status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RequestFigures {
    /// The method.
    pub method: String,
    /// The route's pattern.
    pub route: String,
    /// The status.
    pub status: u16,
    /// How many.
    pub count: u64,
}

/// Requests that a limit turned away.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LimitFigures {
    /// The class of limits.
    pub class: String,
    /// How many.
    pub count: u64,
}

/// Telemetry events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TelemetryFigures {
    /// Stored.
    pub stored: u64,
    /// Refused, for whatever reason.
    pub refused: u64,
}

/// How long something takes, in milliseconds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct DurationFigures {
    /// What.
    pub metric: String,
    /// Samples.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// The process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessFigures {
    /// Memory, in bytes.
    pub resident_bytes: u64,
    /// Open files, connections among them.
    pub open_files: u64,
    /// How many may be open.
    pub open_files_max: u64,
}

impl Service {
    /// How it fares.
    pub async fn figures(&self) -> Figures {
        let (is_paused, users_paused) = self.pauses.count();
        let counts = self.telemetry.counts();
        let refused = counts.refused_overloaded + counts.refused_full + counts.refused_unavailable;
        let requests = self.requests.all().into_iter();
        let requests = requests.map(|(method, route, status, count)| RequestFigures {
            method: method.to_owned(),
            route,
            status,
            count,
        });
        let limited = self.rate_limits.refused().into_iter();
        let durations = self.monitor.windows().into_iter();
        Figures {
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            ledger: self.ledger_figures(),
            projections: self.projection_figures().await,
            people: self.accounts.figures().await.ok(),
            streams: self.streams.count(),
            is_paused,
            users_paused,
            requests: requests.collect(),
            limited: limited
                .map(|(class, count)| LimitFigures { class: class.to_owned(), count })
                .collect(),
            telemetry: TelemetryFigures { stored: counts.stored, refused },
            durations: durations
                .map(|(metric, window)| DurationFigures {
                    metric: metric.to_owned(),
                    count: window.count,
                    p50: window.p50,
                    p95: window.p95,
                    p99: window.p99,
                    max: window.max,
                })
                .collect(),
            process: process_figures(),
        }
    }

    fn ledger_figures(&self) -> LedgerFigures {
        let health = self.ledger.health();
        LedgerFigures {
            head: health.head,
            batches: health.batches,
            waiting: health.waiting as u64,
            waiting_max: limits::COMMANDS_WAITING_MAX as u64,
            is_read_only: health.read_only_free_bytes.is_some(),
            locked_seconds: health.locked_for.map_or(0.0, |since| since.as_secs_f64()),
            is_stopped: health.stopped.is_some(),
            log_bytes: health.log_bytes,
            is_log_held: health.is_log_held,
            disk_free_bytes: free_bytes(self.ledger.data_dir()).ok(),
        }
    }

    async fn projection_figures(&self) -> Vec<ProjectionFigures> {
        let projections = all_projections();
        let asked = status(self.game_database.path(), &projections, self.ledger.data_dir());
        // Whoever scrapes does not wait for a lock that another program holds.
        let told = tokio::time::timeout(ASKED_FOR, asked).await;
        let told = told.ok().and_then(Result::ok).unwrap_or_default();
        let figures = told.into_iter().map(|it| ProjectionFigures {
            name: it.name.to_owned(),
            state: it.state.as_str().to_owned(),
            seq: it.head.seq,
            lag_events: it.lag_events,
        });
        figures.collect()
    }
}

/// As the system tells it; 0 where it does not.
fn process_figures() -> ProcessFigures {
    let number_in = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        let word = line.unwrap_or_default().split_whitespace().next().map(str::to_owned);
        word.and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    ProcessFigures {
        resident_bytes: number_in("/proc/self/status", "VmRSS:") * 1_024,
        open_files,
        open_files_max: number_in("/proc/self/limits", "Max open files"),
    }
}
