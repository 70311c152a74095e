//! `daybook migrate`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use daybook_ledger::Reader;
use daybook_projections::{Migrated, MigrationError, MigrationNumber, Migrations, known_heads};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::read_models::{
    MigrateArguments, MigrateCommand, MigrateCommonArguments, MigratedDatabase,
};
use crate::output::{note, write_json, write_line};

#[derive(Serialize)]
struct ReportJson {
    databases: Vec<DatabaseJson>,
}

#[derive(Default, Serialize)]
struct DatabaseJson {
    database: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrations: Option<Vec<MigrationJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_back: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<String>>,
}

#[derive(Serialize)]
struct MigrationJson {
    number: String,
    name: String,
    applied: bool,
}

/// A file and its migrations.
struct Target {
    path: PathBuf,
    migrations: Migrations,
}

pub(crate) fn run(arguments: &MigrateArguments) -> Result<Outcome> {
    let runtime = crate::runtime()?;
    match &arguments.command {
        MigrateCommand::Status(common) => runtime.block_on(status(common)),
        MigrateCommand::Up { common, to } => runtime.block_on(up(common, *to)),
        MigrateCommand::Down { common, to } => runtime.block_on(down(common, *to)),
        MigrateCommand::Verify(common) => runtime.block_on(verify(common)),
        MigrateCommand::New { name, common } => new(common, name),
    }
}

fn targets(common: &MigrateCommonArguments) -> Result<Vec<Target>> {
    let data = &common.data.data;
    let mut targets = Vec::new();
    let is_meant = |database| common.database.is_none_or(|named| named == database);
    if is_meant(MigratedDatabase::Game) {
        let migrations = match &common.migrations {
            Some(directory) => Migrations::game().and_directory(directory)?,
            None => Migrations::game(),
        };
        targets.push(Target { path: common.url.path(data)?, migrations });
    }
    if is_meant(MigratedDatabase::Accounts) {
        let path = data.join("accounts.db");
        targets.push(Target { path, migrations: Migrations::accounts() });
    }
    if is_meant(MigratedDatabase::Telemetry) {
        let path = data.join("telemetry.db");
        targets.push(Target { path, migrations: Migrations::telemetry() });
    }
    Ok(targets)
}

fn of(target: &Target) -> DatabaseJson {
    DatabaseJson { database: target.path.display().to_string(), ..DatabaseJson::default() }
}

fn tell(
    common: &MigrateCommonArguments,
    report: ReportJson,
    lines: impl Fn(&DatabaseJson) -> Vec<String>,
) -> Result<()> {
    if common.json.json {
        return write_json(&report);
    }
    for database in &report.databases {
        write_line(&database.database)?;
        lines(database).iter().try_for_each(|line| write_line(&format!("  {line}")))?;
    }
    Ok(())
}

async fn status(common: &MigrateCommonArguments) -> Result<Outcome> {
    common.data.refuse_unknown_ledger()?;
    let mut databases = Vec::new();
    for target in targets(common)? {
        let all = target.migrations.status(&target.path).await?;
        let all = all.into_iter().map(|migration| MigrationJson {
            number: migration.number.to_string(),
            name: migration.name,
            applied: migration.applied,
        });
        databases.push(DatabaseJson { migrations: Some(all.collect()), ..of(&target) });
    }
    tell(common, ReportJson { databases }, |database| {
        let all = database.migrations.iter().flatten();
        let line = |migration: &MigrationJson| {
            let state = if migration.applied { "applied" } else { "pending" };
            format!("{} {state} {}", migration.number, migration.name)
        };
        all.map(line).collect()
    })?;
    Ok(Outcome::Holds)
}

/// Refuses a `game.db` that is another ledger's, before anything of it is changed.
async fn refuse_another_ledgers(common: &MigrateCommonArguments) -> Result<()> {
    common.data.refuse_unknown_ledger()?;
    let Ok(reader) = Reader::open(&common.data.data) else { return Ok(()) };
    if common.database.is_some_and(|named| named != MigratedDatabase::Game) {
        return Ok(());
    }
    let path = common.url.path(&common.data.data)?;
    match known_heads(&path, reader.genesis().ledger_id).await {
        Err(error @ MigrationError::AnotherLedger { .. }) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn up(common: &MigrateCommonArguments, to: Option<MigrationNumber>) -> Result<Outcome> {
    refuse_another_ledgers(common).await?;
    let mut databases = Vec::new();
    for target in targets(common)? {
        if let Some(parent) = target.path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("`{}` cannot be made", parent.display()))?;
        }
        let migrated = target.migrations.up(&target.path, to).await?;
        let backup = migrated.backup.as_ref().map(|path| path.display().to_string());
        databases.push(DatabaseJson { applied: Some(named(&migrated)), backup, ..of(&target) });
    }
    tell(common, ReportJson { databases }, |database| {
        changes("applied", database.applied.as_deref(), database.backup.as_deref())
    })?;
    Ok(Outcome::Holds)
}

async fn down(common: &MigrateCommonArguments, to: Option<MigrationNumber>) -> Result<Outcome> {
    refuse_another_ledgers(common).await?;
    let mut databases = Vec::new();
    let mut targets = targets(common)?;
    // Taking back is for one file at a time: game.db, unless the other is named.
    targets.truncate(1);
    for target in targets {
        let migrated = target.migrations.down(&target.path, to).await?;
        let backup = migrated.backup.as_ref().map(|path| path.display().to_string());
        databases.push(DatabaseJson { taken_back: Some(named(&migrated)), backup, ..of(&target) });
    }
    tell(common, ReportJson { databases }, |database| {
        changes("taken back", database.taken_back.as_deref(), database.backup.as_deref())
    })?;
    Ok(Outcome::Holds)
}

fn named(migrated: &Migrated) -> Vec<String> {
    migrated.numbers.iter().map(ToString::to_string).collect()
}

fn changes(what: &str, numbers: Option<&[String]>, backup: Option<&str>) -> Vec<String> {
    let mut lines: Vec<String> =
        numbers.unwrap_or_default().iter().map(|number| format!("{number} {what}")).collect();
    if lines.is_empty() {
        lines.push(format!("nothing was {what}"));
    }
    lines.extend(backup.map(|path| format!("a copy of before is `{path}`")));
    lines
}

async fn verify(common: &MigrateCommonArguments) -> Result<Outcome> {
    common.data.refuse_unknown_ledger()?;
    let mut databases = Vec::new();
    for target in targets(common)? {
        if !target.path.exists() && common.database.is_none() && !databases.is_empty() {
            continue;
        }
        let findings = target.migrations.verify(&target.path).await?;
        databases.push(DatabaseJson { findings: Some(findings), ..of(&target) });
    }
    let holds =
        databases.iter().all(|database| database.findings.iter().flatten().next().is_none());
    tell(common, ReportJson { databases }, |database| match database.findings.as_deref() {
        None | Some([]) => vec!["all holds".to_owned()],
        Some(findings) => findings.to_vec(),
    })?;
    Ok(if holds { Outcome::Holds } else { Outcome::DoesNotHold })
}

fn new(common: &MigrateCommonArguments, name: &str) -> Result<Outcome> {
    if !matches!(common.database, None | Some(MigratedDatabase::Game)) {
        bail!("migrations of your own are for game.db; the other files have ours alone");
    }
    let directory = common.migrations.clone().unwrap_or_else(|| PathBuf::from("migrations"));
    let migrations = match directory.exists() {
        true => Migrations::game().and_directory(&directory)?,
        false => Migrations::game(),
    };
    let pair = migrations.new_pair(&directory, name)?;
    write_line(&format!("{}\n{}", pair.up.display(), pair.down.display()))?;
    let directory = directory.display();
    note(&format!("write both, then: daybook migrate up --migrations {directory}"));
    Ok(Outcome::Holds)
}
