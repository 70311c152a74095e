//! The operator's tasks: done by the running service where there is one, else here.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daybook_api::{
    Accounts, ErrorText, Lacking, Parts, Service, Settings, SocketPath, TASK_PATH, Task,
    TaskAnswer, Telemetry, TelemetrySettings,
};
use daybook_ledger::{KnownHead, Ledger, Options, Reader, keys};
use daybook_monitor::Monitor;
use daybook_projections::{FeedSource, Workers, all_projections};
use serde_json::Value;

use crate::arguments::user::UserCommonArguments;
use crate::keys::of_read_models;
use crate::serve::parts::{open_game_database, require_accounts};

/// How long a service may take to tell how it fares: one that is hung is told of.
const STATS_WITHIN: Duration = Duration::from_secs(10);

/// Does a task.
pub(crate) fn operate(
    common: &UserCommonArguments,
    settings: Settings,
    task: Task,
) -> Result<TaskAnswer> {
    let data = &common.data.data;
    let witnesses = match daybook_ledger::ledger_path(data).exists() {
        true => of_read_models(&common.database, data, &common.database.path(data)?)?,
        false => Vec::new(),
    };
    crate::runtime()?.block_on(async {
        match by_service(&common.data.data, &task).await? {
            Some(first) => whole_by_service(&common.data.data, task, first).await,
            None => here(common, witnesses, settings, task).await,
        }
    })
}

/// Who does it: the user of this machine.
pub(crate) fn operator() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let uid = rustix::process::getuid().as_raw();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

/// Lets the running service do it, if one runs.
pub(crate) async fn by_service(data: &Path, task: &Task) -> Result<Option<TaskAnswer>> {
    // Sockets have short names: a long one is reached through an open directory.
    let reached = SocketPath::of(data);
    let socket = reached.path();
    if !socket.exists() {
        return Ok(None);
    }
    let client = reqwest::Client::builder().unix_socket(socket).build()?;
    let request = client.post(format!("http://daybook{TASK_PATH}")).json(task);
    // Others may take long: a thousand bots, all that is held on a user.
    let request = match task {
        Task::Stats => request.timeout(STATS_WITHIN),
        _ => request,
    };
    let sent = request.send().await;
    let answer = match sent {
        Ok(answer) => answer,
        // It was left by a service that was killed.
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => return Err(error).context("the running service does not answer"),
    };
    if answer.status().is_success() {
        return Ok(Some(answer.json().await?));
    }
    let refusal: ErrorText = answer.json().await.context("the running service refused it")?;
    bail!("{}", refusal.message)
}

/// An answer with all pages of an export's telemetry.
async fn whole(task: Task, ask: impl AsyncFn(Task) -> Result<TaskAnswer>) -> Result<TaskAnswer> {
    let first = ask(task.clone()).await?;
    rest_of(task, first, ask).await
}

async fn whole_by_service(data: &Path, task: Task, first: TaskAnswer) -> Result<TaskAnswer> {
    let ask = async |task| {
        let answer = by_service(data, &task).await?;
        answer.context("the service stopped meanwhile")
    };
    rest_of(task, first, ask).await
}

/// The same answer with the pages that follow it.
async fn rest_of(
    task: Task,
    mut answer: TaskAnswer,
    ask: impl AsyncFn(Task) -> Result<TaskAnswer>,
) -> Result<TaskAnswer> {
    let Task::Export { user, .. } = task else { return Ok(answer) };
    let Some(Value::Object(export)) = &mut answer.export else { return Ok(answer) };
    while let Some(next) = export.get("telemetryNext").and_then(Value::as_i64) {
        let older = Task::Export { user: user.clone(), telemetry_before: Some(next) };
        let mut older = ask(older).await?.export.unwrap_or_default();
        let mut taken = |name: &str| older.get_mut(name).map(Value::take).unwrap_or_default();
        if let (Some(Value::Array(all)), Value::Array(more)) =
            (export.get_mut("telemetry"), taken("telemetry"))
        {
            all.extend(more);
        }
        export.insert("telemetryNext".to_owned(), taken("telemetryNext"));
    }
    Ok(answer)
}

/// Does it with no service running: the ledger is opened for it.
async fn here(
    common: &UserCommonArguments,
    witnesses: Vec<KnownHead>,
    settings: Settings,
    task: Task,
) -> Result<TaskAnswer> {
    let data = common.data.data.clone();
    let keys_dir = common.keys.directory(&data);
    let (accounts, game_db) = (data.join("accounts.db"), common.database.path(&data)?);
    if !daybook_ledger::ledger_path(&data).exists() {
        bail!(
            "there is no ledger in `{}`; `daybook serve` makes one, or name it with --data",
            data.display()
        );
    }
    if Reader::open(&data)?.genesis().is_demo {
        bail!(
            "`{}` holds a demo's ledger, which nobody logs in to; name another with --data",
            data.display()
        );
    }
    let keys = keys::load(&keys_dir)?;
    let options =
        Options::new(&data, keys.season_keys).newest_head(keys.newest_head).witnesses(witnesses);
    let ledger = tokio::task::spawn_blocking(move || Ledger::open(options)).await??;
    require_accounts(&ledger, &accounts, false).await?;
    let monitor = Monitor::default();
    let opened = Accounts::open(&accounts, &monitor).await?;
    let game_database = open_game_database(&game_db, &accounts, &monitor).await?;
    let telemetry = data.join("telemetry.db");
    let telemetry = Telemetry::open(&telemetry, TelemetrySettings::keeping_all(), &monitor).await?;
    let parts = Parts {
        ledger: ledger.clone(),
        accounts: opened.clone(),
        game_database: game_database.clone(),
        telemetry: telemetry.clone(),
        monitor,
        keys_dir,
        signer: keys.signer,
        settings,
    };
    let service = Service::new(parts, false)?;
    service.reconcile(Lacking::Refuse).await?;
    let answer = whole(task, async |task| {
        let answer = service.operate(task).await;
        answer.map_err(|error| anyhow::anyhow!("{}", error.body().message))
    })
    .await;
    // What it did is in the read models too when it ends.
    Workers::catch_up(&game_database, &all_projections(), &FeedSource::ledger(&ledger)).await?;
    service.finish().await;
    service.close().await;
    opened.close().await;
    telemetry.close().await;
    game_database.close().await?;
    ledger.close().await?;
    answer
}
