use super::*;

/// Guards: percentiles as the seed computes them, over the newest 100 samples.
#[test]
fn figures_are_the_seeds() {
    let monitor = Monitor::default();
    assert_eq!(monitor.stats("tick"), None);
    for value in (1..=150).rev() {
        monitor.record("tick", f64::from(value));
    }
    let stats = monitor.stats("tick").unwrap();
    // The newest are 100 down to 1; sorted[floor(100 · 0.5)] is 51.
    let seeds = Stats { avg: 50.5, p50: 51.0, p95: 96.0, p99: 100.0, min: 1.0, max: 100.0 };
    assert_eq!(stats, seeds);
    monitor.record("one", 7.0);
    let one = Stats { avg: 7.0, p50: 7.0, p95: 7.0, p99: 7.0, min: 7.0, max: 7.0 };
    assert_eq!(monitor.stats("one"), Some(one));
    let window = monitor.window("tick").unwrap();
    assert_eq!(window.count, 150);
    assert!((150.0..152.0).contains(&window.max), "to two digits: {window:?}");
}

/// Guards: the newest of all threads count, not the newest of each.
#[test]
fn the_newest_of_all_threads_count() {
    let monitor = Monitor::default();
    let old = monitor.clone();
    std::thread::spawn(move || (0..100).for_each(|_| old.record("tick", 1_000.0))).join().unwrap();
    (0..100).for_each(|_| monitor.record("tick", 1.0));
    assert_eq!(monitor.stats("tick").unwrap().max, 1.0);
    assert_eq!(monitor.window("tick").unwrap().count, 200);
}

/// Guards: nothing is lost while as many threads record as there are shards, and nobody waits for
/// who reads.
#[test]
fn many_threads_record_at_once() {
    let metric = Monitor::default().metric("tick");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| metric.record(1.0)));
        }
    });
    let window = metric.window().unwrap();
    assert_eq!(window.count + metric.lost(), 40_000);
}

/// Guards: a sample that finds every shard in use is counted as lost, and nobody waits.
#[test]
fn recording_never_waits() {
    let metric = Monitor::default().metric("tick");
    let held: Vec<_> = metric.inner.shards.iter().map(|shard| shard.lock().unwrap()).collect();
    metric.record(1.0);
    drop(held);
    assert_eq!((metric.lost(), metric.stats()), (1, None));
}

/// Guards: of each metric the longest over its budget is told once.
#[test]
fn what_is_over_budget_is_told_once() {
    let budgets: Budgets = ["db_query=10"].iter().map(|text| text.parse().unwrap()).collect();
    let monitor = Monitor::new(budgets);
    for value in [9.0, 12.5, 11.0] {
        monitor.record("db_query", value);
    }
    monitor.record("state_update", 5.0);
    monitor.record("other", 100.5);
    monitor.untold_metric("telemetry_write").record(5_000.0);
    let told = monitor.take_over_budget();
    let expected = [("db_query", 12.5), ("other", 100.5)];
    assert_eq!(told, expected.map(|(metric, value_ms)| OverBudget { metric, value_ms }));
    assert_eq!(monitor.take_over_budget(), []);
}

/// Guards: the seed's five budgets, and 100 ms for others.
#[test]
fn budgets_are_the_seeds() {
    let budgets = Budgets::default();
    for (metric, ms) in [
        ("render_frame", 16.67),
        ("game_tick", 8.0),
        ("api_response", 200.0),
        ("db_query", 50.0),
        ("state_update", 5.0),
        ("anything", 100.0),
    ] {
        assert_eq!(budgets.of(metric), ms, "{metric}");
    }
    for text in ["db_query", "db_query=", "=5", "db_query=0", "db_query=NaN", "a b=5"] {
        assert!(text.parse::<Budget>().is_err(), "{text}");
    }
}

/// Guards: what is no time is not recorded.
#[test]
fn what_is_no_time_is_not_recorded() {
    let monitor = Monitor::default();
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        monitor.record("tick", value);
    }
    assert_eq!(monitor.stats("tick"), None);
}
