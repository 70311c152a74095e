//! What a service is made of, opened: keys, ledger, accounts, read models. Where there is nothing
//! all of it is made; where something is missing that was there, nothing is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use daybook_api::{Accounts, AccountsError, Parts, Settings, Telemetry, TelemetrySettings};
use daybook_ledger::keys::{self, Keys, KeysError};
use daybook_ledger::{
    DatabaseError, KnownLedger, Ledger, NewLedger, Options, Reader, Restored, Signer, Submission,
    VerifyingKey, WriterLock, create_directories,
};
use daybook_monitor::Monitor;
use daybook_projections::{
    DatabaseSettings, GameDatabase, MigrationError, Migrations, SetAside, has_orphaned_log,
    known_ledgers,
};
use daybook_schema::Command;
use daybook_simulator::{Keyring, State};

use crate::arguments::opening::OpeningArguments;
use crate::arguments::serve::ServeArguments;
use crate::keys::of_read_models;
use crate::output::note;

/// What is looked at before anything is opened.
pub(crate) struct Opening {
    pub(crate) is_demo: bool,
    season_keys: Keyring,
    signer: Signer,
    verifying_key: VerifyingKey,
    keys_dir: PathBuf,
    game_db: PathBuf,
    options: Options,
    monitor: Monitor,
}

/// What was opened.
pub(crate) struct OpenedParts {
    pub(crate) parts: Parts,
    pub(crate) signer: Signer,
    pub(crate) verifying_key: VerifyingKey,
}

impl Opening {
    /// Looks at what there is, and makes keys where there is nothing.
    pub(crate) fn prepare(arguments: &ServeArguments, lock: Option<WriterLock>) -> Result<Self> {
        let data = &arguments.data.data;
        let keys_dir = arguments.keys.directory(data);
        let is_demo = is_demo(data)?;
        match (is_demo, arguments.demo) {
            (Some(true), false) => bail!(
                "`{}` holds a demo's ledger, whose draws can be foreseen: name another directory with --data, or \
                 serve it to look around with --demo",
                data.display()
            ),
            (Some(false), true) => {
                bail!("`{}` holds no demo's ledger; leave --demo out", data.display())
            }
            (None, true) => bail!(
                "there is no demo in `{}`; `daybook demo` makes one, or name it with --data",
                data.display()
            ),
            _ => {}
        }
        if is_demo.is_none() && Restored::read(data)?.is_some() {
            bail!("a restore into `{}` was cut off: do the same restore again", data.display());
        }
        create_directories(data).with_context(|| {
            format!("`{}` cannot be made; name another directory with --data", data.display())
        })?;
        // From here on nobody else makes anything here.
        let lock = match lock {
            Some(lock) => lock,
            None => WriterLock::take(data)?,
        };
        let Keys { season_keys, verifying_key, signer, newest_head } =
            load_or_make(&keys_dir, is_demo.is_some(), arguments.keys.keys.is_none())?;
        let game_db = arguments.opening.database.path(data)?;
        let options = Options::new(data, season_keys.clone())
            .newest_head(newest_head)
            .create(NewLedger::random());
        let options = match is_demo.is_some() {
            // It tells nothing that could be read; opening it sets its log aside.
            true if has_orphaned_log(&game_db) => options,
            true => options_of_known(options, &arguments.opening, data, &game_db)?,
            false => {
                refuse_old_files(arguments, &game_db)?;
                options.known_ledgers(known(&game_db, data)?)
            }
        };
        let monitor = Monitor::new(arguments.budgets());
        let options = options.lock(lock).monitor(monitor.clone());
        let instead_of = arguments.instead_of.iter();
        let options = instead_of.fold(options, |options, ledger| options.instead_of(*ledger));
        let is_demo = is_demo == Some(true);
        Ok(Self {
            is_demo,
            season_keys,
            signer,
            verifying_key,
            keys_dir,
            game_db,
            options,
            monitor,
        })
    }

    /// Opens all of it.
    pub(crate) async fn open(
        self,
        arguments: &ServeArguments,
        settings: Settings,
    ) -> Result<OpenedParts> {
        let Self {
            is_demo,
            season_keys,
            signer,
            verifying_key,
            keys_dir,
            game_db,
            options,
            monitor,
        } = self;
        let data = arguments.data.data.clone();
        require_migrated(&game_db).await?;
        let ledger = tokio::task::spawn_blocking(move || Ledger::open(options)).await??;
        let in_force = ledger.query(|state| state.current_key())?.await?;
        if let Some(key_id) = in_force.filter(|key_id| !season_keys.contains(key_id)) {
            bail!(
                "the season key in force, {key_id}, is not in `{}`: name its directory with --keys, put it back, or \
                 put another in force with `daybook keys rotate`",
                keys_dir.display()
            );
        }
        if in_force.is_none() {
            let key_id = season_keys.key_ids().next().copied();
            let key_id = key_id.context("the keys directory has no season key")?;
            let rotate = Command::RotateKey { key_id, compromised: false };
            ledger.submit(Submission::new(rotate))?.await?;
        }
        let accounts = data.join("accounts.db");
        require_accounts(&ledger, &accounts, is_demo || arguments.new_accounts).await?;
        let is_gone = !std::fs::metadata(&accounts).is_ok_and(|found| found.len() > 0);
        if arguments.new_accounts && is_gone && game_db.exists() {
            bail!(
                "`{}` may hold the last copies of the accounts that are given up: move it away first; it is made again",
                game_db.display()
            );
        }
        let opened = Accounts::open(&accounts, &monitor).await?;
        let game_database = open_game_database(&game_db, &accounts, &monitor).await?;
        let telemetry = data.join("telemetry.db");
        // A demo's clock is simulated: what its bots told is as old as that.
        let kept_days = if is_demo { u32::MAX } else { settings.telemetry.kept_days };
        let telemetry_settings = TelemetrySettings { kept_days, ..settings.telemetry };
        let telemetry = Telemetry::open(&telemetry, telemetry_settings, &monitor).await?;
        if game_database.is_locked().await.unwrap_or(false) {
            note(&format!(
                "another program keeps `{}` locked: the read models stand still until it lets go; end it",
                game_db.display()
            ));
        }
        let parts = Parts {
            ledger,
            accounts: opened,
            game_database,
            telemetry,
            monitor,
            keys_dir,
            signer: signer.clone(),
            settings,
        };
        Ok(OpenedParts { parts, signer, verifying_key })
    }
}

/// A new ledger in the place of another takes neither its people nor its read models over.
fn refuse_old_files(arguments: &ServeArguments, game_db: &Path) -> Result<()> {
    let accounts = arguments.data.data.join("accounts.db");
    let old = [accounts.as_path(), game_db].into_iter().find(|path| path.exists());
    match old.filter(|_| !arguments.instead_of.is_empty()) {
        None => Ok(()),
        Some(old) => bail!(
            "`{}` is of the ledger that is gone, and a new one cannot use it: move it away first",
            old.display()
        ),
    }
}

/// Refuses to make accounts where the ledger has people, before anything is made.
pub(crate) async fn require_accounts(
    ledger: &Ledger,
    accounts: &Path,
    may_be_given_up: bool,
) -> Result<()> {
    let is_there = std::fs::metadata(accounts).is_ok_and(|found| found.len() > 0);
    let alive = |state: &State| state.users.count_where(|user| !user.erased);
    let users = ledger.query(alive)?.await?;
    match is_there || users == 0 || may_be_given_up {
        true => Ok(()),
        false => Err(AccountsError::Missing { path: accounts.to_owned(), users }.into()),
    }
}

/// Whether the ledger of a directory is a demo's, if there is one.
fn is_demo(data: &Path) -> Result<Option<bool>> {
    match Reader::open(data) {
        Ok(reader) => Ok(Some(reader.genesis().is_demo)),
        Err(DatabaseError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The keys; where there is neither ledger nor keys these are made.
fn load_or_make(directory: &Path, has_ledger: bool, is_usual_place: bool) -> Result<Keys> {
    match keys::load(directory) {
        Err(KeysError::Missing { path }) if has_ledger => bail!(
            "there are no keys in `{}`, and the ledger needs its own: put them back, or name their directory with \
             --keys",
            path.display()
        ),
        Err(KeysError::Missing { .. }) => {}
        other => return Ok(other?),
    }
    keys::init(directory, &keys::random_season_key()?)?;
    let where_to = match is_usual_place {
        true => "; --keys keeps them elsewhere, off the data's disk and out of its backups",
        false => "",
    };
    note(&format!("made keys in `{}`{where_to}", directory.display()));
    Ok(keys::load(directory)?)
}

/// Ledgers that read models and accounts tell of, where there is none.
fn known(game_db: &Path, data: &Path) -> Result<Vec<KnownLedger>> {
    let accounts = data.join("accounts.db");
    crate::runtime()?.block_on(async {
        let known = known_ledgers(game_db).await;
        let mut known = known.context("the read models' positions cannot be read")?;
        let source = format!("`{}`", accounts.display());
        let served = Accounts::served_by(&accounts).await?;
        known.extend(served.map(|ledger_id| KnownLedger { ledger_id, source }));
        Ok(known)
    })
}

/// Holds a ledger to what is known of it.
fn options_of_known(
    options: Options,
    opening: &OpeningArguments,
    data: &Path,
    game_db: &Path,
) -> Result<Options> {
    let options = options
        .known_heads(opening.known_head.clone())
        .witnesses(of_read_models(&opening.database, data, game_db)?)
        .accept_loss(opening.accept_loss);
    Ok(match opening.accept_clock {
        Some(about) => options.accept_clock(about),
        None => options,
    })
}

/// A start that is refused for this must not have migrated the other files: the version before could
/// not go on with them.
async fn require_migrated(game_db: &Path) -> Result<()> {
    if !std::fs::metadata(game_db).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    match Migrations::game().require_current(game_db).await {
        Err(error @ MigrationError::Pending { .. }) => Err(error.into()),
        // What else is wrong with it is looked at when it is opened.
        _ => Ok(()),
    }
}

pub(crate) async fn open_game_database(
    game_db: &Path,
    accounts: &Path,
    monitor: &Monitor,
) -> Result<GameDatabase> {
    let accounts = Some(accounts.to_owned());
    let monitor = monitor.clone();
    let settings = DatabaseSettings { accounts, monitor, ..DatabaseSettings::default() };
    let database = GameDatabase::open(game_db, settings).await?;
    if let Some(SetAside { path, reason }) = database.set_aside() {
        note(&format!(
            "the file of the read models was set aside as `{}`: {reason}; the tables are made anew. Look at it \
             before you remove it: its positions may tell of lost events, and tables of your own are in it alone",
            path.display()
        ));
    }
    Ok(database)
}
