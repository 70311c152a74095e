//! What became of the requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daybook_ledger::Head;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::output::{grouped, table};

/// Heads that are kept: one of each so many answers, and the newest.
const HEADS_KEPT: usize = 10_000;
/// The longest time that is told apart, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// What became of a request.
pub(super) struct Answered {
    status: u16,
    code: String,
    is_command: bool,
    head: Option<Head>,
}

impl Answered {
    /// A command, or a read.
    pub(super) const fn well(is_command: bool, head: Option<Head>) -> Self {
        Self { status: 200, code: String::new(), is_command, head }
    }

    pub(super) const fn refused(status: u16, code: String) -> Self {
        Self { status, code, is_command: false, head: None }
    }

    /// Nothing was answered, or half of it.
    pub(super) fn failed(error: &reqwest::Error) -> Self {
        let code = match (error.is_timeout(), error.is_connect()) {
            (true, _) => "no answer in time",
            (_, true) => "no connection",
            _ => "cut off",
        };
        Self::refused(0, code.to_owned())
    }

    /// Whether the bot can do no more today, or is logged out.
    pub(super) fn is_spent(&self) -> bool {
        self.code == "SEASON_LIMIT" || self.status == 401
    }
}

#[derive(Default)]
struct Counts {
    /// From when it was due, in microseconds.
    commands: Option<Histogram<u64>>,
    reads: Option<Histogram<u64>>,
    refused: Option<Histogram<u64>>,
    second: Option<Histogram<u64>>,
    codes: BTreeMap<(u16, String), u64>,
    without_a_bot: u64,
    heads: Vec<Head>,
    newest: Option<Head>,
    answers: u64,
}

/// Counts what becomes of requests.
#[derive(Default)]
pub(super) struct Tally(Mutex<Counts>);

fn record(histogram: &mut Option<Histogram<u64>>, taken: Duration) {
    if histogram.is_none() {
        // With bounds: one without would take long times for the longest that it holds so far.
        *histogram = Histogram::new_with_bounds(1, LONGEST_US, 3).ok();
    }
    if let Some(histogram) = histogram {
        histogram.saturating_record(u64::try_from(taken.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Tally {
    /// Counts a request that was due so long ago.
    pub(super) fn count(&self, taken: Duration, answered: Answered) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        record(&mut counts.second, taken);
        if answered.status != 200 {
            record(&mut counts.refused, taken);
            *counts.codes.entry((answered.status, answered.code)).or_default() += 1;
            return;
        }
        match answered.is_command {
            true => record(&mut counts.commands, taken),
            false => record(&mut counts.reads, taken),
        }
        let Some(head) = answered.head else { return };
        counts.answers += 1;
        if counts.newest.is_none_or(|newest| newest.seq < head.seq) {
            counts.newest = Some(head);
        }
        if counts.heads.len() < HEADS_KEPT {
            counts.heads.push(head);
        } else if let Some(slot) =
            // Spread over all of them: later ones take the place of earlier ones.
            usize::try_from(
                counts.answers.wrapping_mul(0x9e37_79b9_7f4a_7c15) % counts.answers,
            )
            .ok()
            .and_then(|index| counts.heads.get_mut(index))
        {
            *slot = head;
        }
    }

    /// A request was due, and every bot was busy or had to wait.
    pub(super) fn without_a_bot(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).without_a_bot += 1;
    }

    /// How the last second went.
    pub(super) fn last_second(&self) -> String {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(second) = counts.second.take() else { return "nothing answered".to_owned() };
        let p99 = second.value_at_quantile(0.99) as f64 / 1_000.0;
        format!("{}/s, p99 {p99:.1} ms", grouped(i128::from(second.len())))
    }

    pub(super) fn report(&self, rate: u32, elapsed: Duration) -> Report {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [commands, reads, refusals] =
            [&counts.commands, &counts.reads, &counts.refused].map(Option::as_ref);
        let answered: u64 = commands.into_iter().chain(reads).map(Histogram::len).sum();
        let refused = counts.codes.iter();
        let refused = refused.map(|((status, code), count)| Refused {
            status: *status,
            code: code.clone(),
            count: *count,
        });
        Report {
            rate,
            seconds: elapsed.as_secs_f64(),
            answered,
            refused: refused.collect(),
            without_a_bot: counts.without_a_bot,
            command_latency_us: commands.map(Latency::of),
            read_latency_us: reads.map(Latency::of),
            refused_latency_us: refusals.map(Latency::of),
            heads: counts.heads.iter().copied().chain(counts.newest).collect(),
        }
    }
}

/// How long requests took from when they were due, in microseconds.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

#[derive(Serialize)]
struct Refused {
    /// 0 where nothing was answered.
    status: u16,
    code: String,
    count: u64,
}

/// What became of all.
#[derive(Serialize)]
pub(super) struct Report {
    rate: u32,
    seconds: f64,
    pub(super) answered: u64,
    refused: Vec<Refused>,
    without_a_bot: u64,
    command_latency_us: Option<Latency>,
    read_latency_us: Option<Latency>,
    refused_latency_us: Option<Latency>,
    #[serde(skip)]
    pub(super) heads: Vec<Head>,
}

#[derive(Serialize)]
pub(super) struct ReportJson<'a> {
    #[serde(flatten)]
    report: &'a Report,
    heads_kept: usize,
    /// None where no ledger was held to them.
    heads_lost: Option<usize>,
}

impl Report {
    pub(super) fn to_json(&self, lost: Option<usize>) -> ReportJson<'_> {
        ReportJson { report: self, heads_kept: self.heads.len(), heads_lost: lost }
    }

    pub(super) fn to_text(&self, lost: Option<usize>) -> String {
        let count = |count: u64| grouped(i128::from(count));
        let mut rows = vec![
            vec!["due each second".to_owned(), count(self.rate.into())],
            vec!["answered well".to_owned(), count(self.answered)],
        ];
        rows.extend(self.refused.iter().map(|refused| {
            let status =
                if refused.status == 0 { String::new() } else { format!("{} ", refused.status) };
            vec![format!("{status}{}", refused.code), count(refused.count)]
        }));
        if self.without_a_bot > 0 {
            rows.push(vec!["due without a bot: take more".to_owned(), count(self.without_a_bot)]);
        }
        rows.push(vec!["seconds".to_owned(), format!("{:.1}", self.seconds)]);
        let latencies = [
            ("commands", self.command_latency_us),
            ("reads", self.read_latency_us),
            ("refused", self.refused_latency_us),
        ];
        let latencies = latencies.into_iter().filter_map(|(name, latency)| {
            let it = latency?;
            let ms = [it.p50, it.p90, it.p99, it.p999, it.max]
                .map(|us| format!("{:.1}", us as f64 / 1e3));
            Some([name.to_owned()].into_iter().chain(ms).collect())
        });
        let head = ["milliseconds from when it was due", "p50", "p90", "p99", "p99.9", "max"];
        let held = match lost {
            None => {
                "No ledger was held to the heads that were answered: --ledger DIR does.".to_owned()
            }
            Some(lost) => format!(
                "The ledger was held to {} heads that were answered, and lacks {lost}.",
                count(self.heads.len() as u64)
            ),
        };
        format!("{}\n\n{}\n\n{held}", table(&["requests", ""], rows), table(&head, latencies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_told_as_they_are() {
        let tally = Tally::default();
        for taken in [Duration::from_micros(700), Duration::from_secs(3)] {
            tally.count(taken, Answered::well(true, None));
            tally.count(taken / 2, Answered::well(false, None));
            tally.count(taken * 2, Answered::refused(503, "OVERLOADED".to_owned()));
        }
        let report = tally.report(2, Duration::from_secs(1));
        let [commands, reads, refused] =
            [report.command_latency_us, report.read_latency_us, report.refused_latency_us]
                .map(Option::unwrap);
        assert_eq!((commands.p50, reads.p50, refused.p50), (700, 350, 1_400));
        // To a thousandth.
        assert!((2_997_000..=3_003_000).contains(&commands.max), "{}", commands.max);
        assert!((5_994_000..=6_006_000).contains(&refused.max), "{}", refused.max);
    }
}
