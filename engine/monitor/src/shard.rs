//! What one thread recorded of a metric.

use hdrhistogram::Histogram;

/// Samples that count.
pub(crate) const SAMPLES_KEPT: usize = 100;
const WINDOW_NS: u64 = 60 * 1_000_000_000;
/// The longest time that a window tells from longer ones: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// A time, and when it was recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Since the monitor began.
    pub(crate) at_ns: u64,
    pub(crate) value_ms: f64,
}

/// The newest samples and two windows. Shards of one metric lie on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    ring: [Sample; SAMPLES_KEPT],
    next: usize,
    len: usize,
    windows: Option<Box<Windows>>,
}

#[derive(Debug)]
struct Windows {
    number: u64,
    current: Histogram<u32>,
    previous: Histogram<u32>,
}

impl Default for Shard {
    fn default() -> Self {
        Self { ring: [Sample::default(); SAMPLES_KEPT], next: 0, len: 0, windows: None }
    }
}

/// An empty histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u32> {
    #[expect(clippy::expect_used, reason = "the bounds are constants that hold")]
    Histogram::new_with_bounds(1, LONGEST_US, 2).expect("bounds that hold")
}

/// How long the windows are that are told of at a moment: a whole one and what runs.
pub(crate) fn window_seconds(now_ns: u64) -> f64 {
    let whole = if now_ns < WINDOW_NS { 0 } else { WINDOW_NS };
    (whole + now_ns % WINDOW_NS) as f64 / 1e9
}

impl Shard {
    pub(crate) fn record(&mut self, sample: Sample) {
        if let Some(slot) = self.ring.get_mut(self.next) {
            *slot = sample;
        }
        self.next = (self.next + 1) % SAMPLES_KEPT;
        self.len = (self.len + 1).min(SAMPLES_KEPT);
        let windows = self.windows.get_or_insert_with(|| {
            let (current, previous) = (histogram(), histogram());
            Box::new(Windows { number: 0, current, previous })
        });
        windows.turn_to(sample.at_ns / WINDOW_NS);
        windows.current.saturating_record((sample.value_ms * 1_000.0) as u64);
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        self.ring.get(..self.len).unwrap_or_default()
    }

    /// Adds what was recorded in the last whole window and the one that runs.
    pub(crate) fn add_to(&self, merged: &mut Histogram<u32>, now_ns: u64) {
        let (Some(windows), number) = (&self.windows, now_ns / WINDOW_NS) else { return };
        let is_recent = |of: u64| number.saturating_sub(of) <= 1;
        // All have the same bounds, so nothing is refused.
        if is_recent(windows.number) {
            merged.add(&windows.current).unwrap_or_default();
        }
        if windows.number > 0 && is_recent(windows.number - 1) {
            merged.add(&windows.previous).unwrap_or_default();
        }
    }
}

impl Windows {
    fn turn_to(&mut self, number: u64) {
        if number <= self.number {
            return;
        }
        if number == self.number + 1 {
            std::mem::swap(&mut self.current, &mut self.previous);
        } else {
            self.previous.reset();
        }
        self.current.reset();
        self.number = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, value_ms: f64) -> Sample {
        Sample { at_ns: second * 1_000_000_000, value_ms }
    }

    fn counted(shard: &Shard, second: u64) -> u64 {
        let mut merged = histogram();
        shard.add_to(&mut merged, second * 1_000_000_000);
        merged.len()
    }

    /// Guards: a window holds the last whole minute and the one that runs, and nothing older.
    #[test]
    fn a_window_goes_on_with_the_minutes() {
        let mut shard = Shard::default();
        shard.record(sample(10, 1.0));
        shard.record(sample(70, 2.0));
        assert_eq!(counted(&shard, 80), 2);
        assert_eq!(counted(&shard, 130), 1, "the first minute is over");
        assert_eq!(counted(&shard, 200), 0);
        shard.record(sample(200, 3.0));
        assert_eq!(counted(&shard, 200), 1);
        assert_eq!(window_seconds(30_000_000_000), 30.0);
        assert_eq!(window_seconds(90_000_000_000), 90.0);
    }
}
