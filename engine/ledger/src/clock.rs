//! Ledger time: a wall-clock anchor carried on by the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use daybook_schema::{UnixMicros, limits};

/// Where time comes from.
pub trait TimeSource: Send {
    /// The wall clock, which may jump.
    fn wall(&mut self) -> UnixMicros;

    /// A clock that never goes back, from any beginning.
    fn monotonic(&mut self) -> Duration;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemTimeSource {
    started: Instant,
}

impl Default for SystemTimeSource {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl TimeSource for SystemTimeSource {
    fn wall(&mut self) -> UnixMicros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMicros::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&mut self) -> Duration {
        self.started.elapsed()
    }
}

/// The time that events are recorded with: it never goes back, and a jump of the system clock
/// neither stops it nor carries it along. Where it differs from the wall clock it runs at 0.95 to
/// 1.05 of the true rate until they meet.
pub(crate) struct LedgerClock {
    source: Box<dyn TimeSource>,
    now: UnixMicros,
    monotonic: Duration,
    /// The sub-microsecond and slewing remainder would be lost in steps too small to divide.
    slew_remainder: i64,
    reported: bool,
}

impl LedgerClock {
    /// Starts at the later of the wall clock and the newest event.
    pub(crate) fn start(mut source: Box<dyn TimeSource>, newest: UnixMicros) -> Self {
        let wall = source.wall();
        let now = newest.max(wall);
        let monotonic = source.monotonic();
        let mut clock = Self { source, now, monotonic, slew_remainder: 0, reported: false };
        clock.report(wall);
        clock
    }

    /// Ledger time.
    pub(crate) fn now(&mut self) -> UnixMicros {
        let monotonic = self.source.monotonic().max(self.monotonic);
        let elapsed = i64::try_from((monotonic - self.monotonic).as_micros()).unwrap_or(i64::MAX);
        if elapsed == 0 {
            return self.now;
        }
        self.monotonic += Duration::from_micros(elapsed.unsigned_abs());
        let wall = self.source.wall();
        let difference = wall.micros_since(self.now.plus_micros(elapsed));
        let budget = elapsed.saturating_add(self.slew_remainder);
        let most = budget / limits::CLOCK_SLEW_DIVISOR;
        self.slew_remainder = budget % limits::CLOCK_SLEW_DIVISOR;
        let slew = difference.clamp(-most, most);
        self.now = self.now.plus_micros(elapsed.saturating_add(slew).max(0));
        self.report(wall);
        self.now
    }

    /// The later of wall clock and ledger time.
    pub(crate) fn latest(&mut self) -> UnixMicros {
        let now = self.now();
        self.source.wall().max(now)
    }

    fn report(&mut self, wall: UnixMicros) {
        let difference_micros = wall.micros_since(self.now);
        let large = difference_micros.saturating_abs() > limits::CLOCK_DIFFERENCE_REPORTED_MICROS;
        if large && !self.reported {
            tracing::warn!(
                difference_micros,
                "the wall clock differs from ledger time; ledger time runs on until they meet"
            );
        }
        self.reported = large;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A source whose clocks the test sets.
    #[derive(Clone, Default)]
    struct Hands(Arc<Mutex<(i64, u64)>>);

    impl Hands {
        fn pass(&self, wall_micros: i64, monotonic_micros: u64) {
            let mut hands = self.0.lock().unwrap();
            hands.0 += wall_micros;
            hands.1 += monotonic_micros;
        }
    }

    impl TimeSource for Hands {
        fn wall(&mut self) -> UnixMicros {
            UnixMicros::new(self.0.lock().unwrap().0)
        }

        fn monotonic(&mut self) -> Duration {
            Duration::from_micros(self.0.lock().unwrap().1)
        }
    }

    const YEAR: i64 = 365 * 86_400 * 1_000_000;

    /// Guards: a wall clock that jumps a year ahead or back neither stops nor moves ledger time.
    #[test]
    fn a_jump_of_the_wall_clock_changes_only_the_rate() {
        for jump in [YEAR, -YEAR] {
            let hands = Hands::default();
            hands.pass(2 * YEAR, 0);
            let mut clock = LedgerClock::start(Box::new(hands.clone()), UnixMicros::new(0));
            let before = clock.now();
            hands.pass(jump, 0);
            assert_eq!(clock.now(), before);
            hands.pass(1_000_000, 1_000_000);
            let passed = clock.now().micros_since(before);
            assert!((950_000..=1_050_000).contains(&passed), "{passed}");
        }
    }

    /// Guards: after a start behind the newest event, time goes on from that event until both meet.
    #[test]
    fn a_start_behind_the_newest_event_goes_on_from_it_until_the_clocks_meet() {
        let hands = Hands::default();
        let newest = UnixMicros::new(10_000_000);
        let mut clock = LedgerClock::start(Box::new(hands.clone()), newest);
        let mut before = clock.now();
        assert_eq!(before, newest);
        for _ in 0..300_000 {
            hands.pass(1_000, 1_000);
            let now = clock.now();
            assert!(now > before);
            before = now;
        }
        assert_eq!(before.get(), 300_000_000, "ledger time and wall clock have met");
    }

    /// Guards: a wall clock that stands still does not stop ledger time.
    #[test]
    fn a_stopped_wall_clock_does_not_stop_ledger_time() {
        let hands = Hands::default();
        let mut clock = LedgerClock::start(Box::new(hands.clone()), UnixMicros::new(0));
        hands.pass(0, 10_000_000);
        assert!(clock.now().get() >= 9_500_000);
    }
}
