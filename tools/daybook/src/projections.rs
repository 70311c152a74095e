//! `daybook projections status`, `rebuild` and `run`.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daybook_ledger::{DatabaseError, KnownHead, Reader, Standing};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, MigrationError, Projection, ProjectionState,
    ProjectionStatus, SetAside, Wait, Workers, all_projections, filling_waits, forget, give_over,
    known_heads, rebuild, status,
};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::read_models::{
    FeedArguments, ForgottenArguments, ProjectionsArguments, ProjectionsCommand,
    ProjectionsCommonArguments,
};
use crate::hints::{GIVE_OVER, SEE_TO_IT};
use crate::output::{grouped, note, progress_bar, table, write_json, write_line};
use crate::relay::stop_on_signal;

/// How often a rebuild's progress is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct StatusJson {
    projections: Vec<ProjectionJson>,
    accounts_wait: Option<WaitJson>,
    /// Heads that files beside tell of and that the ledger lacks.
    lost_heads: Vec<String>,
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
    waits: Option<WaitJson>,
}

#[derive(Serialize)]
struct WaitJson {
    reason: String,
    since: i64,
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
            common.data.refuse_unknown_ledger()?;
            runtime.block_on(show_status(common, json.json))
        }
        ProjectionsCommand::Rebuild { names, common, feed, json } => {
            runtime.block_on(rebuild_all(names, common, feed, json.json))
        }
        ProjectionsCommand::Forget { forgotten, common, json } => {
            common.data.refuse_unknown_ledger()?;
            runtime.block_on(forget_positions(forgotten, common, json.json))
        }
        ProjectionsCommand::Run { common, feed } => runtime.block_on(follow(common, feed)),
    }
}

/// Where the events come from. A ledger must be there: without one no file is made.
fn source(common: &ProjectionsCommonArguments, feed: &FeedArguments) -> Result<FeedSource> {
    let source = feed.source(&common.data.data)?;
    if let FeedSource::Ledger(ledger) = &source {
        Reader::open(ledger.data_dir())?;
    }
    Ok(source)
}

async fn open(common: &ProjectionsCommonArguments) -> Result<GameDatabase> {
    let path = common.database.path(&common.data.data)?;
    if let Ok(reader) = Reader::open(&common.data.data) {
        // Refused before anything of it, or of the people in it, is touched. What cannot be read is
        // set aside.
        let known = known_heads(&path, reader.genesis().ledger_id).await;
        if let Err(error @ MigrationError::AnotherLedger { .. }) = known {
            return Err(error.into());
        }
    }
    let migrations = common.migrations.clone();
    let accounts = Some(common.data.data.join("accounts.db"));
    let settings = DatabaseSettings { migrations, accounts, ..DatabaseSettings::default() };
    let database = GameDatabase::open(&path, settings).await?;
    if let Some(SetAside { path, reason }) = database.set_aside() {
        note(&format!(
            "the file of the read models was set aside as `{}`: {reason}; the tables are made anew. Look at it \
             before you remove it: its positions may tell of lost events, and tables of your own are in it alone",
            path.display()
        ));
    }
    Ok(database)
}

async fn show_status(common: &ProjectionsCommonArguments, json: bool) -> Result<Outcome> {
    let path = common.database.path(&common.data.data)?;
    if !path.exists() {
        // What was set aside, and the copies before migrations, tell of lost events all the same.
        let lost = lost_witnesses(&path, &common.data.data).await;
        if lost.is_empty() {
            bail!("there is no `{}`; `daybook projections run` makes it", path.display());
        }
        if json {
            let report = StatusJson {
                projections: Vec::new(),
                accounts_wait: None,
                lost_heads: lost.into_json(),
            };
            write_json(&report)?;
        } else {
            lost.lines().try_for_each(|line| write_line(&line))?;
        }
        return Ok(Outcome::DoesNotHold);
    }
    let all = status(&path, &all_projections(), &common.data.data).await.with_context(|| {
        let path = path.display();
        format!("`{path}` cannot be looked at; `daybook projections run` makes its tables where they are gone")
    })?;
    let stands_still =
        |status: &ProjectionStatus| status.state.needs_operator() || status.waits.is_some();
    let filling = filling_waits(&path);
    let lost = lost_witnesses(&path, &common.data.data).await;
    let outcome = match filling.is_some() || !lost.is_empty() || all.iter().any(stands_still) {
        true => Outcome::DoesNotHold,
        false => Outcome::Holds,
    };
    if json {
        let projections = all.into_iter().map(to_json).collect();
        write_json(&StatusJson {
            projections,
            accounts_wait: filling.map(wait_json),
            lost_heads: lost.into_json(),
        })?;
        return Ok(outcome);
    }
    let explained = |status: &ProjectionStatus| {
        let waits = status.waits.as_ref().map(|wait| waiting(status.name, wait));
        [explanation(status), waits]
    };
    let mut notes: Vec<String> = all.iter().flat_map(explained).flatten().collect();
    notes.extend(filling.map(|wait| waiting("the filling from accounts.db", &wait)));
    notes.extend(lost.lines());
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
        waits: status.waits.map(wait_json),
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
            "{name} is of another version, or stands for events whose loss was accepted; `daybook projections \
             run` rebuilds it"
        )),
        ProjectionState::LedgerBehind { newest } => Some(format!(
            "{name} stands for {}, and the ledger ends at {newest}: {SEE_TO_IT}",
            status.head
        )),
        ProjectionState::LedgerDiffers { found } => Some(format!(
            "{name} stands for {}, and the ledger has {found}: {SEE_TO_IT}",
            status.head
        )),
        ProjectionState::AnotherLedger { holds, given } => Some(format!(
            "{name} is of ledger {holds}, and the one at hand is {given}: {GIVE_OVER}"
        )),
        ProjectionState::FileLost => Some(format!(
            "{name} is not kept: the process that did ended; `daybook projections run` makes the tables anew \
             where that is needed"
        )),
        ProjectionState::Current | ProjectionState::Behind | ProjectionState::Unknown => None,
    }
}

#[derive(Serialize)]
struct ForgottenJson {
    forgotten: usize,
    set_aside: Option<String>,
}

async fn forget_positions(
    arguments: &ForgottenArguments,
    common: &ProjectionsCommonArguments,
    json: bool,
) -> Result<Outcome> {
    let path = common.database.path(&common.data.data)?;
    if !path.exists() {
        bail!("there is no `{}`; name another file with DATABASE_URL", path.display());
    }
    let told = match (arguments.position, arguments.ledger) {
        (Some(head), _) => {
            let reader = Reader::open(&common.data.data).ok();
            if let Some(reader) = &reader
                && reader.has(head)?
            {
                bail!("the ledger has {head}: there is nothing to forget");
            }
            // Opened first: a migration may be due, and what another process left is seen to.
            let database = open(common).await?;
            let ledger_id = reader.map(|reader| reader.genesis().ledger_id);
            let forgotten = forget(database.path(), head, ledger_id).await?;
            if forgotten == 0 {
                bail!("no position is {head}; `daybook projections status` shows them");
            }
            ForgottenJson { forgotten, set_aside: None }
        }
        (None, Some(ledger)) => {
            match Reader::open(&common.data.data) {
                Ok(reader) if reader.genesis().ledger_id == ledger => {
                    bail!("`{ledger}` is the ledger of --data; name a position with --position")
                }
                Ok(_) | Err(DatabaseError::Missing { .. }) => {}
                // It may be that very ledger, and this file the last that tells of it.
                Err(error) => return Err(error.into()),
            }
            match give_over(&path, ledger).await? {
                Some(aside) => {
                    let set_aside = Some(aside.display().to_string());
                    ForgottenJson { forgotten: 0, set_aside }
                }
                None => bail!("no position in `{}` is of {ledger}", path.display()),
            }
        }
        (None, None) => bail!("name what is wrong with --position or --ledger"),
    };
    match (json, &told.set_aside) {
        (true, _) => write_json(&told)?,
        (false, Some(aside)) => write_line(&format!(
            "the file is now `{aside}`; `daybook projections run` makes the tables anew"
        ))?,
        (false, None) => write_line(&format!(
            "{} positions are disputed now; `daybook projections run` makes their tables anew",
            told.forgotten
        ))?,
    }
    Ok(Outcome::Holds)
}

/// What tells of events that the ledger lacks, what was set aside or kept before a migration
/// included; also that this cannot be looked at.
async fn lost_witnesses(path: &Path, data: &Path) -> LostWitnesses {
    let mut found = LostWitnesses::default();
    let Ok(reader) = Reader::open(data) else { return found };
    match known_heads(path, reader.genesis().ledger_id).await {
        Ok(known) => {
            let is_lost = |known: &&KnownHead| {
                matches!(reader.standing(known.head, known.epoch), Ok(Standing::Lost { .. }))
            };
            found.heads = known.iter().filter(is_lost).map(ToString::to_string).collect();
        }
        // Which ledger it is of is told by each projection.
        Err(MigrationError::AnotherLedger { .. }) => {}
        Err(error) => found.unread = Some(error.to_string()),
    }
    found
}

/// What tells of events that the ledger lacks.
#[derive(Default)]
struct LostWitnesses {
    heads: Vec<String>,
    /// What might tell too, and cannot be looked at.
    unread: Option<String>,
}

impl LostWitnesses {
    fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.unread.is_none()
    }

    /// In words, with what to do.
    fn lines(&self) -> impl Iterator<Item = String> {
        let heads = self.heads.iter().map(|head| format!("the ledger lacks {head}: {SEE_TO_IT}"));
        heads.chain(self.unread.iter().map(|unread| format!("{unread}; {VERIFY_WHOLE}")))
    }

    fn into_json(self) -> Vec<String> {
        let unread = self.unread.map(|unread| format!("what cannot be looked at ({unread})"));
        self.heads.into_iter().chain(unread).collect()
    }
}

/// How it is known that a ledger is whole.
const VERIFY_WHOLE: &str = "`daybook verify --full` tells whether the ledger is whole";

fn wait_json(Wait { reason, since }: Wait) -> WaitJson {
    WaitJson { reason, since }
}

fn waiting(name: &str, Wait { reason, since }: &Wait) -> String {
    let since =
        jiff::Timestamp::from_second(*since).map_or_else(|_| "?".to_owned(), |at| at.to_string());
    format!("{name} waits since {since}: {reason}")
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
    common: &ProjectionsCommonArguments,
    feed: &FeedArguments,
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
        for status in status(database.path(), projections, data).await.unwrap_or_default() {
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
    let mut workers = Workers::start(&database, &all_projections(), &source);
    tokio::select! {
        stopped = stop.wait_for(|stop| *stop) => drop(stopped?),
        lost = workers.file_lost() => return Err(lost.into()),
    }
    workers.stop().await;
    database.close().await?;
    Ok(Outcome::Holds)
}
