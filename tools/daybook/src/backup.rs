//! `daybook backup` and `daybook restore`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use daybook_backup::{Asked, Kept, Manifest, RestoreAsked, backup, keep_newest, restore};
use daybook_ledger::keys::{self, KeysError};
use daybook_ledger::{KnownHead, Reader};
use daybook_schema::{Head, LedgerId};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::backup::{BackupArguments, RestoreArguments};
use crate::keys::of_read_models;
use crate::output::{grouped, note, progress_bar, write_json, write_line};
use crate::relay::stop_on_signal;

#[derive(Serialize)]
struct BackupJson {
    path: PathBuf,
    ledger_id: LedgerId,
    head: Head,
    bytes: u64,
    removed: Vec<PathBuf>,
    left: Vec<PathBuf>,
}

#[derive(Serialize)]
struct RestoreJson {
    ledger_id: LedgerId,
    head: Head,
    is_cut: bool,
    has_keys: bool,
    accounts_given_up: usize,
}

pub(crate) fn run(arguments: &BackupArguments) -> Result<Outcome> {
    let Some(every) = arguments.every else {
        crate::runtime()?.block_on(make(arguments))?;
        return Ok(Outcome::Holds);
    };
    crate::runtime()?.block_on(async {
        let mut signal = stop_on_signal()?;
        loop {
            // One that fails is told, and the next one is tried: what was made before stays.
            tokio::select! {
                made = make(arguments) => if let Err(error) = made {
                    note(&format!("daybook: no backup was made: {error:#}"));
                },
                _ = signal.wait_for(|is_told| *is_told) => return Ok(Outcome::Holds),
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = signal.wait_for(|is_told| *is_told) => return Ok(Outcome::Holds),
            }
        }
    })
}

async fn make(arguments: &BackupArguments) -> Result<()> {
    let data_dir = arguments.data.data.clone();
    let game_db = arguments.database.path(&data_dir)?;
    let keys_dir = arguments.keys.directory(&data_dir);
    // Looked at before the copy: it must have all of them.
    let mut witnesses = match of_read_models_of(arguments, &game_db).await {
        Ok(witnesses) => witnesses,
        // They are made again: they stand in the way of no backup.
        Err(error) if game_db.exists() => {
            note(&format!("daybook: the ledger is not held to the read models: {error:#}"));
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    witnesses.extend(signed_head(&keys_dir, &data_dir)?);
    let asked = Asked {
        data_dir,
        to: arguments.to.clone(),
        game_db: Some(game_db).filter(|path| arguments.with_game_db && path.exists()),
        keys_dir: arguments.with_keys.then_some(keys_dir),
        witnesses,
        without_accounts: arguments.without_accounts,
    };
    let bar = progress_bar(0, "events");
    let (path, manifest) = backup(&asked, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await?;
    bar.finish_and_clear();
    let kept = match arguments.keep {
        Some(keep) => {
            let kept = keep_newest(&arguments.to, &path, keep as usize).await;
            kept.unwrap_or_else(|error| {
                let error = anyhow::Error::from(error);
                note(&format!(
                    "daybook: the backup is made, but older ones are not cleared: {error:#}"
                ));
                Kept::default()
            })
        }
        None => Kept::default(),
    };
    for left in &kept.left {
        note(&format!(
            "`{}` stays: the newest backup lacks events or files that it has, or is of another ledger; look at \
             it, and remove it yourself",
            left.display()
        ));
    }
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let Manifest { ledger_id, head, .. } = manifest;
    if arguments.json.json {
        let (removed, left) = (kept.removed, kept.left);
        return write_json(&BackupJson { path, ledger_id, head, bytes, removed, left });
    }
    write_line(&format!(
        "backup   {}\nledger   {ledger_id}\nhead     {head}\nsize     {} bytes in {} files\nremoved  {} older",
        path.display(),
        grouped(bytes),
        manifest.files.len(),
        kept.removed.len()
    ))
}

async fn of_read_models_of(
    arguments: &BackupArguments,
    game_db: &std::path::Path,
) -> Result<Vec<KnownHead>> {
    // It waits for SQLite on a runtime of its own.
    let (database, data, game_db) =
        (arguments.database.clone(), arguments.data.data.clone(), game_db.to_owned());
    tokio::task::spawn_blocking(move || of_read_models(&database, &data, &game_db)).await?
}

/// The signed newest head, where the keys are here.
fn signed_head(
    keys_dir: &std::path::Path,
    data_dir: &std::path::Path,
) -> Result<Option<KnownHead>> {
    match keys::load(keys_dir) {
        Ok(keys) => Ok(keys.newest_head.read(Reader::open(data_dir)?.genesis().ledger_id)?),
        Err(KeysError::Missing { .. }) => Ok(None),
        Err(error) => Err(error).context("the ledger could not be held to its newest head"),
    }
}

pub(crate) fn run_restore(arguments: &RestoreArguments) -> Result<Outcome> {
    let data_dir = arguments.data.data.clone();
    let keys_dir = arguments.keys.directory(&data_dir);
    let asked = RestoreAsked {
        backup: arguments.backup.clone(),
        data_dir,
        keys_dir: keys_dir.clone(),
        until: arguments.until,
    };
    let bar = progress_bar(0, "events");
    let done = crate::runtime()?.block_on(restore(&asked, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }))?;
    bar.finish_and_clear();
    if arguments.json.json {
        write_json(&RestoreJson {
            ledger_id: done.ledger_id,
            head: done.head,
            is_cut: done.is_cut,
            has_keys: done.has_keys,
            accounts_given_up: done.accounts_given_up,
        })?;
        return Ok(Outcome::Holds);
    }
    let keys = match (done.has_keys, keys_dir.join("signing.key").exists()) {
        (true, _) => format!("in `{}`, from the backup", keys_dir.display()),
        (false, true) => format!("in `{}`, as they are", keys_dir.display()),
        (false, false) => format!("not there: put them into `{}`", keys_dir.display()),
    };
    let next = match done.is_cut {
        true => "The next start that writes begins a new epoch.".to_owned(),
        false => format!(
            "The next start that writes begins a new epoch, unless `--known-head {}` says that nothing came after it.",
            done.head
        ),
    };
    write_line(&format!(
        "ledger   {}\nhead     {}\nkeys     {keys}\naccounts {} are not in the backup, and are given up\n\nAll sessions and links are over. {next}",
        done.ledger_id,
        done.head,
        grouped(done.accounts_given_up as u64)
    ))?;
    Ok(Outcome::Holds)
}
