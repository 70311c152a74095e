//! How long things take: the newest samples of each metric, windows of a minute, and budgets.
//!
//! Recording never waits: each thread has a shard of its own, and takes another where that is in
//! use. Who asks for figures gets those of all shards together.
//!
//! ```
//! use daybook_monitor::Monitor;
//!
//! let monitor = Monitor::default();
//! let sum: u64 = monitor.measure("adding", || (1..=100).sum());
//! assert_eq!(sum, 5_050);
//! let stats = monitor.stats("adding").unwrap();
//! assert!(stats.min <= stats.p50 && stats.p50 <= stats.max);
//! ```

mod budgets;
mod shard;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Instant;

use dashmap::DashMap;

pub use budgets::{Budget, BudgetError, Budgets};
use shard::{SAMPLES_KEPT, Sample, Shard};

/// Shards of a metric at most.
const SHARDS_MAX: usize = 16;

/// All metrics of a process, by their names. A clone is the same monitor.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    budgets: Budgets,
    began: Instant,
    metrics: DashMap<&'static str, Metric>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { budgets: Budgets::default(), began: Instant::now(), metrics: DashMap::new() }
    }
}

/// One metric, at hand. A clone is the same metric.
#[derive(Clone, Debug)]
pub struct Metric {
    inner: Arc<MetricInner>,
}

#[derive(Debug)]
struct MetricInner {
    began: Instant,
    budget_ms: f64,
    /// Whether what is over budget is told of.
    is_told: bool,
    shards: Box<[Mutex<Shard>]>,
    /// The bits of the longest time over budget that nobody was told of yet; 0 for none.
    over_budget: AtomicU64,
    /// Samples that found every shard in use.
    lost: AtomicU64,
}

/// Figures of the newest 100 samples, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The mean.
    pub avg: f64,
    /// The sample at half of the sorted samples' number, rounded down; so are the others.
    pub p50: f64,
    /// At 95 of 100.
    pub p95: f64,
    /// At 99 of 100.
    pub p99: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
}

/// Figures of the last whole minute and the one that runs, in milliseconds, to two digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How long it is, in seconds.
    pub seconds: f64,
    /// Samples.
    pub count: u64,
    /// The mean.
    pub avg: f64,
    /// Half of the samples took no longer.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Something took longer than it may.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverBudget {
    /// The metric.
    pub metric: &'static str,
    /// The longest time since it was last told, in milliseconds.
    pub value_ms: f64,
}

/// Measures until it is dropped.
#[must_use = "it measures until it is dropped"]
#[derive(Debug)]
pub struct Timer {
    metric: Metric,
    started: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.metric.record_since(self.started);
    }
}

impl Monitor {
    /// A monitor with budgets of one's own.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        Self { inner: Arc::new(Inner { budgets, ..Inner::default() }) }
    }

    /// A metric by its name, to be kept at hand where it is recorded often.
    #[must_use]
    pub fn metric(&self, name: &'static str) -> Metric {
        self.named(name, true)
    }

    /// The same of one that is not told of when it is over its budget.
    #[must_use]
    pub fn untold_metric(&self, name: &'static str) -> Metric {
        self.named(name, false)
    }

    fn named(&self, name: &'static str, is_told: bool) -> Metric {
        if let Some(known) = self.inner.metrics.get(name) {
            return known.clone();
        }
        let new = || Metric::new(self.inner.began, self.inner.budgets.of(name), is_told);
        self.inner.metrics.entry(name).or_insert_with(new).clone()
    }

    /// Does something and records how long it took.
    pub fn measure<T>(&self, metric: &'static str, work: impl FnOnce() -> T) -> T {
        self.metric(metric).measure(work)
    }

    /// Waits for something and records how long it took.
    pub async fn measure_async<T>(&self, metric: &'static str, work: impl Future<Output = T>) -> T {
        self.metric(metric).measure_async(work).await
    }

    /// Records a time, in milliseconds.
    pub fn record(&self, metric: &'static str, value_ms: f64) {
        self.metric(metric).record(value_ms);
    }

    /// Figures of a metric's newest 100 samples; none where there is no sample.
    #[must_use]
    pub fn stats(&self, metric: &str) -> Option<Stats> {
        self.inner.metrics.get(metric)?.stats()
    }

    /// Figures of a metric's last whole minute and the one that runs; none where there is no
    /// sample.
    #[must_use]
    pub fn window(&self, metric: &str) -> Option<Window> {
        self.inner.metrics.get(metric)?.window()
    }

    /// The windows of all metrics that have a sample, by their names.
    #[must_use]
    pub fn windows(&self) -> Vec<(&'static str, Window)> {
        // Looked at after the map is given back: whoever records meanwhile is not held up.
        let metrics = self.inner.metrics.iter();
        let metrics: Vec<(&'static str, Metric)> =
            metrics.map(|it| (*it.key(), it.value().clone())).collect();
        let windows = metrics.iter().filter_map(|(name, metric)| Some((*name, metric.window()?)));
        let mut windows: Vec<_> = windows.collect();
        windows.sort_unstable_by_key(|(name, _)| *name);
        windows
    }

    /// What took longer than it may since this was last asked: of each metric the longest. Whoever
    /// asks once a second is told of each metric once a second at most.
    #[must_use]
    pub fn take_over_budget(&self) -> Vec<OverBudget> {
        let metrics = self.inner.metrics.iter();
        let mut over: Vec<OverBudget> = metrics
            .filter_map(|it| {
                let bits = it.inner.over_budget.swap(0, Ordering::Relaxed);
                (bits > 0).then(|| OverBudget { metric: it.key(), value_ms: f64::from_bits(bits) })
            })
            .collect();
        over.sort_unstable_by_key(|over| over.metric);
        over
    }
}

thread_local! {
    /// Where this thread looks for a shard first.
    static FIRST_SHARD: Cell<usize> = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed))
    };
}

impl Metric {
    fn new(began: Instant, budget_ms: f64, is_told: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = cores.next_power_of_two().clamp(2, SHARDS_MAX);
        let inner = MetricInner {
            began,
            budget_ms,
            is_told,
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            over_budget: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins to measure: what this gives records when it is dropped.
    pub fn start(&self) -> Timer {
        Timer { metric: self.clone(), started: Instant::now() }
    }

    /// Does something and records how long it took.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.record_since(started);
        done
    }

    /// Waits for something and records how long it took.
    pub async fn measure_async<T>(&self, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.record_since(started);
        done
    }

    /// Records the time since a moment.
    pub fn record_since(&self, started: Instant) {
        let now = Instant::now();
        self.record_at(now.saturating_duration_since(started).as_secs_f64() * 1_000.0, now);
    }

    /// Records a time, in milliseconds. What is no time (below zero, not a number) is not recorded.
    pub fn record(&self, value_ms: f64) {
        self.record_at(value_ms, Instant::now());
    }

    fn record_at(&self, value_ms: f64, now: Instant) {
        let inner = &*self.inner;
        if !value_ms.is_finite() || value_ms < 0.0 {
            return;
        }
        let at_ns = now.saturating_duration_since(inner.began).as_nanos();
        let sample = Sample { at_ns: u64::try_from(at_ns).unwrap_or(u64::MAX), value_ms };
        if inner.is_told && value_ms > inner.budget_ms {
            // Of numbers that are not below zero the larger one has the larger bits.
            inner.over_budget.fetch_max(value_ms.to_bits(), Ordering::Relaxed);
        }
        let first = FIRST_SHARD.with(Cell::get);
        for turn in 0..inner.shards.len() {
            let index = first.wrapping_add(turn) % inner.shards.len();
            let Some(shard) = inner.shards.get(index) else { break };
            match shard.try_lock() {
                Ok(mut shard) => return shard.record(sample),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return poisoned.into_inner().record(sample);
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        inner.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Samples that were not recorded: every shard was in use.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    fn each_shard(&self, mut look: impl FnMut(&Shard)) {
        for shard in &self.inner.shards {
            look(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn stats(&self) -> Option<Stats> {
        let mut samples = Vec::new();
        self.each_shard(|shard| samples.extend_from_slice(shard.samples()));
        samples.sort_unstable_by_key(|sample| std::cmp::Reverse(sample.at_ns));
        samples.truncate(SAMPLES_KEPT);
        let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.value_ms).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        // As the seed has it: the sample at the floor of the share of their number.
        let at = |hundredths: usize| sorted.get(sorted.len() * hundredths / 100).copied();
        Some(Stats {
            avg: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p50: at(50)?,
            p95: at(95)?,
            p99: at(99)?,
            min,
            max,
        })
    }

    fn window(&self) -> Option<Window> {
        let now_ns = u64::try_from(self.inner.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut merged = shard::histogram();
        self.each_shard(|shard| shard.add_to(&mut merged, now_ns));
        if merged.is_empty() {
            return None;
        }
        let ms = |us: u64| us as f64 / 1_000.0;
        Some(Window {
            seconds: shard::window_seconds(now_ns),
            count: merged.len(),
            avg: merged.mean() / 1_000.0,
            p50: ms(merged.value_at_quantile(0.5)),
            p95: ms(merged.value_at_quantile(0.95)),
            p99: ms(merged.value_at_quantile(0.99)),
            max: ms(merged.max()),
        })
    }
}

#[cfg(test)]
mod tests;
