//! `daybook stats`: how a running service fares.

use anyhow::{Result, bail};
use daybook_api::{Figures, Task};

use crate::Outcome;
use crate::arguments::stats::StatsArguments;
use crate::operate::by_service;
use crate::output::{grouped, table, write_json, write_line};

pub(crate) fn run(arguments: &StatsArguments) -> Result<Outcome> {
    let data = &arguments.data.data;
    let answer = crate::runtime()?.block_on(by_service(data, &Task::Stats))?;
    let Some(figures) = answer.and_then(|answer| answer.figures) else {
        bail!(
            "no service runs in `{}`; start one, or name its directory with --data",
            data.display()
        )
    };
    match arguments.json.json {
        true => write_json(&figures)?,
        false => write_line(&text(&figures))?,
    }
    Ok(Outcome::Holds)
}

fn text(figures: &Figures) -> String {
    let ledger = &figures.ledger;
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let mib = |bytes: u64| format!("{} MiB", grouped((bytes >> 20) as i128));
    let mut rows = vec![
        ("running for", format!("{} s", grouped(figures.uptime_seconds as i128))),
        ("head", ledger.head.to_string()),
        ("batches", grouped(i128::from(ledger.batches))),
        (
            "commands waiting",
            format!("{} of {}", ledger.waiting, grouped(i128::from(ledger.waiting_max))),
        ),
        ("stopped", yes(ledger.is_stopped)),
        ("read-only", yes(ledger.is_read_only)),
        ("locked for", format!("{:.0} s", ledger.locked_seconds)),
        ("write-ahead log", mib(ledger.log_bytes)),
        ("log held by a reader", yes(ledger.is_log_held)),
        ("disk left", ledger.disk_free_bytes.map_or("-".to_owned(), mib)),
        ("paused", yes(figures.is_paused)),
        ("users paused", grouped(i128::from(figures.users_paused))),
        ("streams", grouped(i128::from(figures.streams))),
        ("telemetry stored", grouped(i128::from(figures.telemetry.stored))),
        ("telemetry refused", grouped(i128::from(figures.telemetry.refused))),
        ("memory", mib(figures.process.resident_bytes)),
        (
            "open files",
            format!("{} of {}", figures.process.open_files, figures.process.open_files_max),
        ),
    ];
    if let Some(people) = figures.people {
        rows.push(("accounts", grouped(i128::from(people.accounts))));
        rows.push(("sessions", grouped(i128::from(people.sessions))));
        rows.push(("service tokens", grouped(i128::from(people.service_tokens))));
    }
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
    let parts = [
        table(&["the service", ""], rows).to_string(),
        projections(figures),
        durations(figures),
        requests(figures),
    ];
    parts.join("\n\n")
}

fn projections(figures: &Figures) -> String {
    let rows = figures.projections.iter().map(|it| {
        let lag = it.lag_events.map_or("-".to_owned(), |lag| grouped(i128::from(lag)));
        vec![it.name.clone(), it.state.clone(), grouped(i128::from(it.seq)), lag]
    });
    table(&["read model", "state", "event", "lag"], rows).to_string()
}

fn durations(figures: &Figures) -> String {
    let rows = figures.durations.iter().map(|it| {
        let ms = [it.p50, it.p95, it.p99, it.max].map(|ms| format!("{ms:.2}"));
        [it.metric.clone(), grouped(i128::from(it.count))].into_iter().chain(ms).collect()
    });
    table(&["milliseconds, last minute", "samples", "p50", "p95", "p99", "max"], rows).to_string()
}

fn requests(figures: &Figures) -> String {
    let rows = figures.requests.iter().map(|it| {
        let route = format!("{} {}", it.method, it.route);
        vec![route, it.status.to_string(), grouped(i128::from(it.count))]
    });
    let limited = figures.limited.iter().filter(|it| it.count > 0);
    let limited = limited.map(|it| {
        vec![
            format!("turned away by the limit `{}`", it.class),
            "429".to_owned(),
            grouped(i128::from(it.count)),
        ]
    });
    table(&["requests", "status", "count"], rows.chain(limited)).to_string()
}
