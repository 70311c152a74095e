//! The figures as Prometheus reads them, on a listener of their own.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::figures::Figures;
use crate::server::Server;
use crate::service::Service;
use crate::settings::Connections;

type Labels = Vec<(&'static str, String)>;

/// Metrics on their way to a text.
struct Metrics(Registry);

impl Metrics {
    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Labels::new(), value)]);
    }

    /// `_total` is added to its name.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(Labels::new(), value)]);
    }
}

const fn number(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

impl Figures {
    /// As Prometheus reads them.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut metrics = Metrics(Registry::with_prefix("daybook"));
        metrics.gauge(
            "uptime_seconds",
            "How long the service has been running",
            self.uptime_seconds,
        );
        self.add_ledger(&mut metrics);
        self.add_read_models(&mut metrics);
        self.add_people(&mut metrics);
        self.add_requests(&mut metrics);
        self.add_durations(&mut metrics);
        let process = self.process;
        metrics.gauge("resident_bytes", "Memory of the process", process.resident_bytes as f64);
        metrics.gauge(
            "open_files",
            "Open files, connections among them",
            process.open_files as f64,
        );
        metrics.gauge("open_files_max", "How many may be open", process.open_files_max as f64);
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &metrics.0);
        text
    }

    fn add_ledger(&self, metrics: &mut Metrics) {
        let ledger = &self.ledger;
        metrics.counter("events", "Events in the ledger: the seq of its newest", ledger.head.seq);
        metrics.counter(
            "batches",
            "Transactions since the start, each with one sync",
            ledger.batches,
        );
        let waiting = "Commands and questions that wait for the engine";
        metrics.gauge("commands_waiting", waiting, ledger.waiting as f64);
        metrics.gauge("commands_waiting_max", "How many may wait", ledger.waiting_max as f64);
        let read_only = "1: the disk is too full to write";
        metrics.gauge("ledger_read_only", read_only, number(ledger.is_read_only));
        let locked = "How long another program has kept ledger.db locked";
        metrics.gauge("ledger_locked_seconds", locked, ledger.locked_seconds);
        metrics.gauge(
            "ledger_stopped",
            "1: nothing is committed any more",
            number(ledger.is_stopped),
        );
        metrics.gauge("ledger_log_bytes", "The write-ahead log", ledger.log_bytes as f64);
        let held = "1: a reader keeps the log from being started anew";
        metrics.gauge("ledger_log_held", held, number(ledger.is_log_held));
        let free = ledger.disk_free_bytes.map(|free| (Labels::new(), free as f64));
        metrics.gauges("disk_free_bytes", "What the disk of the ledger has left", free);
    }

    fn add_read_models(&self, metrics: &mut Metrics) {
        let labels = |name: &str| vec![("projection", name.to_owned())];
        let lags = self.projections.iter();
        let lags = lags.filter_map(|it| Some((labels(&it.name), it.lag_events? as f64)));
        metrics.gauges("projection_lag_events", "Events that a read model lacks", lags);
        let moves = |state: &str| matches!(state, "current" | "behind" | "rebuilding");
        let stopped = self.projections.iter();
        let stopped = stopped.map(|it| (labels(&it.name), number(!moves(&it.state))));
        metrics.gauges("projection_stopped", "1: a read model stands still", stopped);
        let unread = number(self.projections.is_empty());
        metrics.gauge("projections_unread", "1: game.db cannot be read", unread);
    }

    fn add_people(&self, metrics: &mut Metrics) {
        if let Some(people) = self.people {
            metrics.gauge("accounts", "Accounts", people.accounts as f64);
            metrics.gauge("sessions", "Open sessions", people.sessions as f64);
            let tokens = "Service tokens that are not revoked";
            metrics.gauge("service_tokens", tokens, people.service_tokens as f64);
        }
        let unread = number(self.people.is_none());
        metrics.gauge("accounts_unread", "1: accounts.db cannot be read", unread);
        metrics.gauge(
            "streams",
            "Streams of seasons, and readers of the feed",
            self.streams as f64,
        );
        metrics.gauge("paused", "1: play of all is paused", number(self.is_paused));
        metrics.gauge("users_paused", "Users whose play is paused", self.users_paused as f64);
        let telemetry = self.telemetry;
        metrics.counter("telemetry_stored", "Telemetry events that were stored", telemetry.stored);
        metrics.counter(
            "telemetry_refused",
            "Telemetry events that were refused",
            telemetry.refused,
        );
    }

    fn add_requests(&self, metrics: &mut Metrics) {
        let requests = self.requests.iter().map(|it| {
            let labels = vec![
                ("method", it.method.clone()),
                ("route", it.route.clone()),
                ("status", it.status.to_string()),
            ];
            (labels, it.count)
        });
        metrics.counters("requests", "Requests that were answered", requests);
        let limited = self.limited.iter().map(|it| (vec![("class", it.class.clone())], it.count));
        metrics.counters("limited", "Requests that a rate limit turned away", limited);
    }

    fn add_durations(&self, metrics: &mut Metrics) {
        let quantiles = self.durations.iter().flat_map(|it| {
            let labels = |quantile: &str| {
                vec![("metric", it.metric.clone()), ("quantile", quantile.to_owned())]
            };
            [("0.5", it.p50), ("0.95", it.p95), ("0.99", it.p99), ("1", it.max)]
                .map(|(quantile, ms)| (labels(quantile), ms / 1_000.0))
        });
        let help = "How long things took in the last whole minute and the one that runs";
        metrics.gauges("duration_seconds", help, quantiles);
        let counts = self.durations.iter();
        let counts = counts.map(|it| (vec![("metric", it.metric.clone())], it.count as f64));
        metrics.gauges("duration_samples", "How many samples these figures are of", counts);
    }
}

/// Serves `/metrics` at a listener until it is told to stop: whoever scrapes is no player, and holds
/// few connections.
pub async fn serve_metrics(listener: TcpListener, service: Service, stop: watch::Receiver<bool>) {
    let connections = Connections {
        most: 32,
        per_client_max: 8,
        header_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        stop_timeout: Duration::from_secs(1),
    };
    let (server, ready) = Server::new(listener, connections, Vec::new(), service.is_demo);
    ready.serve(Router::new().route("/metrics", get(show)).with_state(service));
    server.run(stop).await;
}

async fn show(State(service): State<Service>) -> Response {
    let text = service.figures().await.to_prometheus();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
