//! `daybook keys`.

use std::path::Path;

use anyhow::{Context, Result};
use daybook_ledger::keys::{add_season_key, init, load, random_season_key};
use daybook_ledger::{Keeper, KnownHead, Ledger, Options, Reader, Submission, ledger_path, replay};
use daybook_projections::{MigrationError, known_heads};
use daybook_schema::{Command, KeyId};
use daybook_simulator::{Keyring, State};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::opening::OpeningArguments;
use crate::arguments::read_models::GameDatabaseArgument;
use crate::arguments::{KeysArguments, KeysCommand, KeysCommonArguments};
use crate::output::{grouped, note, table, write_json, write_line};

#[derive(Serialize)]
struct KeysJson {
    directory: String,
    verifying_key: String,
    season_keys: Vec<SeasonKeyJson>,
}

#[derive(Serialize)]
struct SeasonKeyJson {
    key_id: KeyId,
    status: String,
}

#[derive(Serialize)]
struct RotationJson {
    key_id: KeyId,
    compromised: bool,
    seasons_expired: usize,
    /// In play under a key that the directory lacks: they cannot be advanced any more.
    seasons_under_lost_keys: usize,
    commitments_renewed: usize,
    head_seq: u64,
    head_hash: String,
}

pub(crate) fn run(arguments: &KeysArguments) -> Result<Outcome> {
    match &arguments.command {
        KeysCommand::Init(common) => initialise(common)?,
        KeysCommand::List(common) => list(common)?,
        KeysCommand::Rotate { common, opening, compromised } => {
            rotate(common, opening, *compromised)?;
        }
    }
    Ok(Outcome::Holds)
}

fn initialise(common: &KeysCommonArguments) -> Result<()> {
    let directory = common.keys.directory(&common.data.data);
    init(&directory, &random_season_key()?)?;
    if common.keys.keys.is_none() {
        note("warning: the keys lie in the data directory; --keys keeps them elsewhere");
    }
    report(common, None)
}

fn list(common: &KeysCommonArguments) -> Result<()> {
    load(&common.keys.directory(&common.data.data))?;
    let state = match ledger_path(&common.data.data).exists() {
        true => Some(replay(&common.data.data, None, |_, _| {})?.state),
        false => None,
    };
    report(common, state.as_ref())
}

fn report(common: &KeysCommonArguments, state: Option<&State>) -> Result<()> {
    let directory = common.keys.directory(&common.data.data);
    let keys = load(&directory)?;
    let season_keys = season_keys(&keys.season_keys, state);
    let verifying_key: String =
        keys.verifying_key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    if common.json.json {
        let directory = directory.display().to_string();
        return write_json(&KeysJson { directory, verifying_key, season_keys });
    }
    let rows = season_keys.iter().map(|key| vec![key.key_id.to_string(), key.status.clone()]);
    write_line(&format!(
        "directory      {}\nverifying key  {verifying_key}\n\n{}",
        directory.display(),
        table(&["season key", "status"], rows)
    ))
}

/// The keys of the directory, and those that the ledger needs but the directory lacks.
fn season_keys(keyring: &Keyring, state: Option<&State>) -> Vec<SeasonKeyJson> {
    let own = keyring.key_ids().map(|key_id| (*key_id, true));
    let known = state.into_iter().flat_map(|state| state.season_keys.iter());
    let lacking =
        known.filter(|known| !keyring.contains(&known.key_id)).map(|known| (known.key_id, false));
    own.chain(lacking)
        .map(|(key_id, is_here)| {
            let status = status(state, key_id);
            let status = if is_here { status } else { format!("{status}, not in this directory") };
            SeasonKeyJson { key_id, status }
        })
        .collect()
}

fn status(state: Option<&State>, key_id: KeyId) -> String {
    let known = state.and_then(|state| {
        let known = state.season_keys.iter().find(|status| status.key_id == key_id)?;
        Some((state, known))
    });
    let Some((state, known)) = known else {
        // Without a ledger, or before one was looked at, it is not known whether it will be.
        let status = if state.is_some() { "not in force yet" } else { "not in force" };
        return status.to_owned();
    };
    if state.current_key() == Some(key_id) {
        return "in force".to_owned();
    }
    let open = state.seasons.count_where(|season| season.key_id == key_id);
    let when = if known.compromised { "compromised" } else { "earlier" };
    match open {
        0 => format!("{when}, no longer needed"),
        open => format!("{when}, needed by {open} open seasons"),
    }
}

/// The heads that the read models stand for.
pub(crate) fn of_read_models(
    database: &GameDatabaseArgument,
    data: &Path,
    game_db: &Path,
) -> Result<Vec<KnownHead>> {
    if database.database_url.is_some() && !game_db.exists() {
        // What was named and is not there tells nothing, and must not be taken for telling that
        // nothing is lost.
        return Err(MigrationError::Missing { path: game_db.to_owned() }.into());
    }
    let ledger_id = Reader::open(data)?.genesis().ledger_id;
    let mut files = vec![game_db.to_owned()];
    // Another file that is named does not silence the one in its usual place.
    files
        .extend(crate::arguments::shared::game_db_path(data).ok().filter(|usual| usual != game_db));
    let heads = crate::runtime()?.block_on(async {
        let mut heads = Vec::new();
        for file in &files {
            heads.extend(known_heads(file, ledger_id).await?);
        }
        Ok::<_, MigrationError>(heads)
    });
    heads.context("the read models' positions cannot be read")
}

/// How many seasons are in play under a key that is not among these.
fn under_lost_keys(ledger: &Ledger, keyring: Keyring) -> Result<usize> {
    let counted = ledger
        .query(move |state| state.seasons.count_where(|season| !keyring.contains(&season.key_id)));
    Ok(counted?.wait()?)
}

/// Says that they stand still.
fn tell_lost(lost: usize) {
    if lost > 0 {
        note(&format!(
            "{} seasons are in play under a season key that is not in the keys directory: they cannot be advanced, \
             and end when they are abandoned or idle for 30 days; put the key back, or end them with --compromised",
            grouped(lost as u64)
        ));
    }
}

fn rotate(
    common: &KeysCommonArguments,
    opening: &OpeningArguments,
    compromised: bool,
) -> Result<()> {
    let directory = common.keys.directory(&common.data.data);
    let keys = load(&directory)?;
    let mut keyring = keys.season_keys;
    let fresh = random_season_key()?;
    keyring.insert(fresh.clone());
    let data = &common.data.data;
    let game_db = opening.database.path(data)?;
    let of_read_models = of_read_models(&opening.database, data, &game_db)?;
    let options = Options::new(data, keyring.clone())
        .newest_head(keys.newest_head)
        .known_heads(opening.known_head.clone())
        .witnesses(of_read_models)
        .accept_loss(opening.accept_loss);
    let options = match opening.accept_clock {
        Some(about) => options.accept_clock(about),
        None => options,
    };
    let ledger = Ledger::open(options)?;
    let (used, epochs) =
        ledger.query(|state| (state.season_keys.clone(), state.epochs.len()))?.wait()?;
    // A key that was never in force: one that `init` made, or that an interrupted rotation left.
    // Where the directory was read by others, they have that one too. Where the ledger lost events, any of
    // the directory may have been in force in these, and compromised.
    let may_be_known = compromised || epochs > 1;
    let waiting = keyring.key_ids().copied().find(|key_id| {
        !may_be_known
            && *key_id != fresh.key_id()
            && used.iter().all(|status| status.key_id != *key_id)
    });
    let key_id = match waiting {
        Some(key_id) => key_id,
        None => {
            // Written before it is put in force: a key that the ledger knows is never only in
            // memory.
            add_season_key(&directory, &fresh)?;
            fresh.key_id()
        }
    };
    ledger
        .submit(Submission::new(Command::RotateKey { key_id, compromised }))
        .and_then(daybook_ledger::Pending::wait)
        .context("the rotation was refused")?;
    // Those too that an interrupted rotation left.
    let withdrawn = Keeper::new(&ledger).withdraw_outdated()?;
    let lost = under_lost_keys(&ledger, keyring)?;
    let head = ledger.close().wait()?;
    let report = RotationJson {
        key_id,
        compromised,
        seasons_expired: withdrawn.seasons_expired,
        seasons_under_lost_keys: lost,
        commitments_renewed: withdrawn.commitments_renewed,
        head_seq: head.seq,
        head_hash: head.hash.to_string(),
    };
    if common.json.json {
        return write_json(&report);
    }
    tell_lost(lost);
    write_line(&format!(
        "season key   {key_id} is in force\nexpired      {} seasons\nrenewed      {} commitments\nhead         {head}",
        grouped(report.seasons_expired as u64),
        grouped(report.commitments_renewed as u64),
    ))
}
