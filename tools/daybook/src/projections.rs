//! `daybook projections status`, `rebuild` and `run`.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use daybook_ledger::Reader;
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, Projection, ProjectionState, ProjectionStatus,
    Workers, all_projections, rebuild, status,
};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::read_models::{
    FeedArguments, ProjectionsArguments, ProjectionsCommand, ProjectionsCommonArguments,
};
use crate::output::{grouped, note, progress_bar, table, write_json, write_line};
use crate::relay::stop_on_signal;

/// How often a rebuild's progress is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct StatusJson {
    projections: Vec<ProjectionJson>,
}

#[derive(Serialize)]
struct ProjectionJson {
    name: &'static str,
    version: u32,
    state: &'static str,
    head_seq: u64,
    head_hash: String,
    lag_events: Option<u64>,
    lag_seconds: Option<f64>,
    events_per_second: f64,
    rebuilt_seq: Option<u64>,
    stopped: Option<StoppedJson>,
}

#[derive(Serialize)]
struct StoppedJson {
    seq: u64,
    kind: String,
    reason: String,
}

#[derive(Serialize)]
struct RebuiltJson {
    rebuilt: Vec<RebuiltProjectionJson>,
}

#[derive(Serialize)]
struct RebuiltProjectionJson {
    name: &'static str,
    head_seq: u64,
    head_hash: String,
    seconds: f64,
}

pub(crate) fn run(arguments: &ProjectionsArguments) -> Result<Outcome> {
    let runtime = crate::runtime()?;
    match &arguments.command {
        ProjectionsCommand::Status { common, json } => {
            runtime.block_on(show_status(common, json.json))
        }
        ProjectionsCommand::Rebuild { names, common, feed, json } => {
            runtime.block_on(rebuild_all(names, (common, feed), json.json))
        }
        ProjectionsCommand::Run { common, feed } => runtime.block_on(follow(common, feed)),
    }
}

/// Where the events come from. A ledger must be there: without one no file is made.
fn source(common: &ProjectionsCommonArguments, feed: &FeedArguments) -> Result<FeedSource> {
    let source = feed.source(&common.data.data)?;
    if let FeedSource::Ledger { data_dir } = &source {
        Reader::open(data_dir)?;
    }
    Ok(source)
}

async fn open(common: &ProjectionsCommonArguments) -> Result<GameDatabase> {
    let path = common.database.path(&common.data.data)?;
    let migrations = common.migrations.clone();
    let settings = DatabaseSettings { migrations, ..DatabaseSettings::default() };
    Ok(GameDatabase::open(&path, settings).await?)
}

async fn show_status(common: &ProjectionsCommonArguments, json: bool) -> Result<Outcome> {
    let path = common.database.path(&common.data.data)?;
    if !path.exists() {
        bail!("there is no `{}`; `daybook projections run` makes it", path.display());
    }
    let all = status(&open(common).await?, &all_projections(), &common.data.data).await?;
    let is_stopped =
        |status: &ProjectionStatus| matches!(status.state, ProjectionState::Stopped(_));
    let outcome = if all.iter().any(is_stopped) { Outcome::DoesNotHold } else { Outcome::Holds };
    if json {
        write_json(&StatusJson { projections: all.into_iter().map(to_json).collect() })?;
        return Ok(outcome);
    }
    let notes: Vec<String> = all.iter().filter_map(explanation).collect();
    let rows = all.into_iter().map(|status| {
        vec![
            status.name.to_owned(),
            status.state.as_str().to_owned(),
            grouped(status.head.seq),
            status.lag_events.map_or_else(|| "?".to_owned(), grouped),
            status.lag_seconds.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.1}")),
            grouped(status.events_per_second as u64),
            status.head.hash.to_string().chars().take(16).collect(),
        ]
    });
    let head = ["projection", "state", "seq", "lag, events", "lag, s", "events/s", "hash"];
    write_line(&table(&head, rows).to_string())?;
    notes.iter().try_for_each(|note| write_line(note))?;
    Ok(outcome)
}

fn to_json(status: ProjectionStatus) -> ProjectionJson {
    let (state, rebuilt_seq, stopped) = match &status.state {
        ProjectionState::Stopped(stopped) => (status.state.as_str(), None, Some(stopped.clone())),
        ProjectionState::Rebuilding { seq } => (status.state.as_str(), Some(*seq), None),
        other => (other.as_str(), None, None),
    };
    ProjectionJson {
        name: status.name,
        version: status.version,
        state,
        head_seq: status.head.seq,
        head_hash: status.head.hash.to_string(),
        lag_events: status.lag_events,
        lag_seconds: status.lag_seconds,
        events_per_second: status.events_per_second,
        rebuilt_seq,
        stopped: stopped.map(|stopped| StoppedJson {
            seq: stopped.seq,
            kind: stopped.kind,
            reason: stopped.reason,
        }),
    }
}

fn explanation(status: &ProjectionStatus) -> Option<String> {
    let name = status.name;
    match &status.state {
        ProjectionState::Stopped(stopped) => Some(format!(
            "{name} stopped at seq {}, {}: {}",
            stopped.seq, stopped.kind, stopped.reason
        )),
        ProjectionState::Rebuilding { seq } => {
            Some(format!("{name} is being rebuilt, up to seq {}", grouped(*seq)))
        }
        ProjectionState::Outdated => Some(format!(
            "{name} is of another version or past; `daybook projections run` rebuilds it"
        )),
        ProjectionState::Current | ProjectionState::Behind | ProjectionState::Unknown => None,
    }
}

/// The projections of these names, each once.
fn named(names: &[String]) -> Result<Vec<Arc<dyn Projection>>> {
    let mut all = all_projections();
    let known: Vec<&str> = all.iter().map(|projection| projection.name()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no projection `{unknown}`; there are {}", known.join(", "));
    }
    all.retain(|projection| names.iter().any(|name| name == projection.name()));
    Ok(all)
}

async fn rebuild_all(
    names: &[String],
    (common, feed): (&ProjectionsCommonArguments, &FeedArguments),
    json: bool,
) -> Result<Outcome> {
    let projections = named(names)?;
    let source = source(common, feed)?;
    let database = open(common).await?;
    let mut feed = source.feed("rebuild");
    let rebuilt = tokio::select! {
        rebuilt = rebuild(&database, &projections, feed.as_mut()) => rebuilt?,
        never = show_progress(&database, &projections, &common.data.data) => match never {},
    };
    let rebuilt = rebuilt.iter().map(|rebuilt| RebuiltProjectionJson {
        name: rebuilt.name,
        head_seq: rebuilt.position.head.seq,
        head_hash: rebuilt.position.head.hash.to_string(),
        seconds: rebuilt.seconds,
    });
    let all: Vec<RebuiltProjectionJson> = rebuilt.collect();
    if json {
        write_json(&RebuiltJson { rebuilt: all })?;
        return Ok(Outcome::Holds);
    }
    for RebuiltProjectionJson { name, head_seq, seconds, .. } in &all {
        let rate = (*head_seq as f64 / seconds.max(f64::MIN_POSITIVE)) as u64;
        let (head_seq, rate) = (grouped(*head_seq), grouped(rate));
        write_line(&format!(
            "{name} rebuilt up to seq {head_seq} in {seconds:.1} s, {rate} events/s"
        ))?;
    }
    Ok(Outcome::Holds)
}

/// Shows on a terminal how far a rebuild has come.
async fn show_progress(
    database: &GameDatabase,
    projections: &[Arc<dyn Projection>],
    data: &Path,
) -> Infallible {
    let bar = progress_bar(0, "rebuilding");
    loop {
        tokio::time::sleep(LOOKED_AT_EVERY).await;
        if bar.is_hidden() {
            continue;
        }
        for status in status(database, projections, data).await.unwrap_or_default() {
            if let ProjectionState::Rebuilding { seq } = status.state {
                bar.set_length(status.head.seq + status.lag_events.unwrap_or(0));
                bar.set_position(seq);
                bar.set_message(status.name);
            }
        }
    }
}

async fn follow(common: &ProjectionsCommonArguments, feed: &FeedArguments) -> Result<Outcome> {
    let mut stop = stop_on_signal()?;
    let source = source(common, feed)?;
    let database = open(common).await?;
    note(&format!("keeping the read models in `{}`", database.path().display()));
    let workers = Workers::start(&database, &all_projections(), &source);
    stop.wait_for(|stop| *stop).await?;
    workers.stop().await;
    Ok(Outcome::Holds)
}
