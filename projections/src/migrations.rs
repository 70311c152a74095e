//! Numbered changes of `game.db` and `telemetry.db`, each up and down, each verified before it
//! counts.
//!
//! A migration is a pair of files, `0001_name.up.sql` and `0001_name.down.sql`, and may have a
//! third, `0001_name.check.sql`: a query that returns no row if the migration did what it should.
//! Each runs in a transaction of its own, after a backup; then row counts, foreign keys, SQLite's
//! own structure and the check are looked at, and if anything does not hold, all is rolled back.

mod apply_and_verify;
mod error;
mod files;
mod number;

use std::path::{Path, PathBuf};

use daybook_ledger::UnfinishedFile;
use sqlx::migrate::Migrate;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::sqlite::{APPLICATION_ID, has_orphaned_log};
use crate::sqlite::{CORRUPT, Look, connect_options, look, path_in_sql, result_code};
use apply_and_verify::{Direction, apply_verified};
pub use error::MigrationError;
pub use files::NewMigration;
use files::{Numbered, TABLE, trusted};
pub use number::{MigrationNumber, ParseMigrationNumberError};

/// A migration, and whether it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub number: MigrationNumber,
    /// Its name.
    pub name: String,
    /// Whether it was applied.
    pub applied: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were applied or taken back, in order.
    pub numbers: Vec<MigrationNumber>,
    /// The copy that was taken before; none of a file that was new.
    pub backup: Option<PathBuf>,
}

/// The migrations of one file.
#[derive(Clone, Debug)]
pub struct Migrations {
    database: &'static str,
    list: Vec<Numbered>,
}

impl Migrations {
    /// Those of `game.db`.
    #[must_use]
    pub fn game() -> Self {
        Self { database: "game", list: files::game() }
    }

    /// Those of `accounts.db`.
    #[must_use]
    pub fn accounts() -> Self {
        Self { database: "accounts", list: files::accounts() }
    }

    /// Those of `telemetry.db`.
    #[must_use]
    pub fn telemetry() -> Self {
        Self { database: "telemetry", list: files::telemetry() }
    }

    /// These and, after them, those of a directory: a team's own.
    ///
    /// # Errors
    /// [`MigrationError::File`] when a file there is not one of a pair, or has a number twice.
    pub fn and_directory(mut self, directory: &Path) -> Result<Self, MigrationError> {
        self.list.extend(files::read_directory(directory)?);
        self.list.sort_by_key(|numbered| numbered.number);
        Ok(self)
    }

    /// Makes the pair of files of a new migration of a team's own, numbered after those that there
    /// are.
    ///
    /// # Errors
    /// [`MigrationError`] when the name is none, or the files cannot be written.
    pub fn new_pair(&self, directory: &Path, name: &str) -> Result<NewMigration, MigrationError> {
        let newest = self.list.iter().filter_map(|numbered| match numbered.number {
            MigrationNumber::Teams(number) => Some(number),
            MigrationNumber::Ours(_) => None,
        });
        files::new_pair(directory, newest.max().unwrap_or(0) + 1, name)
    }

    /// Which migrations were applied.
    ///
    /// # Errors
    /// [`MigrationError`] when the file cannot be read or is of a newer version.
    pub async fn status(&self, path: &Path) -> Result<Vec<MigrationStatus>, MigrationError> {
        let applied = match path.exists() {
            true => self.looked_at(path).await?.1,
            false => Vec::new(),
        };
        let is_applied = |number| applied.iter().any(|applied| applied.number == number);
        let status = self.list.iter().map(|numbered| MigrationStatus {
            number: numbered.number,
            name: numbered.name.clone(),
            applied: is_applied(numbered.number),
        });
        Ok(status.collect())
    }

    /// Refuses a file that lacks a migration, or has one that this version does not know.
    ///
    /// # Errors
    /// [`MigrationError`], which says what to do.
    pub async fn require_current(&self, path: &Path) -> Result<(), MigrationError> {
        let status = self.status(path).await?;
        match status.iter().find(|migration| !migration.applied) {
            None => Ok(()),
            Some(MigrationStatus { number, .. }) => {
                Err(MigrationError::Pending { path: path.to_owned(), number: *number })
            }
        }
    }

    /// Applies what is pending, up to a number if one is given. The file is made where there is
    /// none.
    ///
    /// # Errors
    /// [`MigrationError`]; migrations before the one that failed stay applied.
    pub async fn up(
        &self,
        path: &Path,
        until: Option<MigrationNumber>,
    ) -> Result<Migrated, MigrationError> {
        refuse_foreign_file(path).await?;
        let mut database = self.connect(path, true).await?;
        let applied = self.applied(&mut database, path).await?;
        let pending = self.list.iter().filter(|numbered| {
            until.is_none_or(|until| numbered.number <= until)
                && !applied.iter().any(|applied| applied.number == numbered.number)
        });
        let pending: Vec<&Numbered> = pending.collect();
        let mut migrated = Migrated::default();
        for numbered in pending {
            let backup = !applied.is_empty() && migrated.backup.is_none();
            let taken = self.run(&mut database, path, backup, numbered, Direction::Up).await?;
            migrated.backup = migrated.backup.or(taken);
            migrated.numbers.push(numbered.number);
        }
        Ok(migrated)
    }

    /// Takes back what was applied, down to a number, which stays; the newest alone, if none is
    /// given.
    ///
    /// # Errors
    /// As [`Self::up`].
    pub async fn down(
        &self,
        path: &Path,
        until: Option<MigrationNumber>,
    ) -> Result<Migrated, MigrationError> {
        if !path.exists() {
            return Err(MigrationError::Missing { path: path.to_owned() });
        }
        refuse_foreign_file(path).await?;
        let mut database = self.connect(path, false).await?;
        let mut applied = self.applied(&mut database, path).await?;
        applied.sort_by_key(|applied| applied.number);
        let mut migrated = Migrated::default();
        let back = applied.iter().rev().map(|applied| applied.number);
        let back: Vec<MigrationNumber> = match until {
            Some(until) => back.take_while(|number| *number > until).collect(),
            None => back.take(1).collect(),
        };
        for number in back {
            let Some(numbered) = self.list.iter().find(|numbered| numbered.number == number) else {
                continue;
            };
            let backup = migrated.backup.is_none();
            let taken = self.run(&mut database, path, backup, numbered, Direction::Down).await?;
            migrated.backup = migrated.backup.or(taken);
            migrated.numbers.push(number);
        }
        Ok(migrated)
    }

    /// What does not hold of a file: its foreign keys, its structure, its tables and indexes. Empty
    /// if all does.
    ///
    /// # Errors
    /// [`MigrationError`] when it cannot be looked at.
    pub async fn verify(&self, path: &Path) -> Result<Vec<String>, MigrationError> {
        if !path.exists() {
            return Err(MigrationError::Missing { path: path.to_owned() });
        }
        let (mut looked, applied) = self.looked_at(path).await?;
        let database = &mut looked.connection;
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        let mut findings = match apply_and_verify::structure(database).await {
            Ok(findings) => findings,
            // What cannot even be walked is a finding too.
            Err(sqlx::Error::Database(error)) => return Ok(vec![error.to_string()]),
            Err(error) => return Err(failed(error)),
        };
        let is_applied = |number| applied.iter().any(|applied| applied.number == number);
        let pending = self.list.iter().filter(|numbered| !is_applied(numbered.number));
        let pending = pending.map(|it| format!("migration {} `{}` is pending", it.number, it.name));
        findings.extend(pending);
        findings.extend(
            apply_and_verify::drift(database, &self.those(&applied)).await.map_err(failed)?,
        );
        Ok(findings)
    }

    /// A table that an applied migration makes and that is not there: it was dropped from outside.
    /// It looks only; none where nothing was applied.
    pub(crate) async fn missing_table(
        &self,
        path: &Path,
    ) -> Result<Option<String>, MigrationError> {
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        let mut looked = look(path).await.map_err(failed)?;
        let database = &mut looked.connection;
        let tables = apply_and_verify::tables(database).await.map_err(failed)?;
        if !tables.contains(TABLE) {
            return Ok(Some(TABLE.to_owned()));
        }
        let applied = self.known_applied(database, path).await?;
        let expected = apply_and_verify::tables_of(&self.those(&applied)).await.map_err(failed)?;
        Ok(expected.into_iter().find(|table| !tables.contains(table)))
    }

    /// A table or an index that an applied migration makes and that is not there. It looks only.
    ///
    /// # Errors
    /// [`MigrationError`] when it cannot be looked at.
    pub async fn missing_object(&self, path: &Path) -> Result<Option<String>, MigrationError> {
        let (mut looked, applied) = self.looked_at(path).await?;
        let missing =
            apply_and_verify::missing(&mut looked.connection, &self.those(&applied)).await;
        missing.map_err(|source| MigrationError::Sqlite { path: path.to_owned(), source })
    }

    /// The migrations that were applied.
    fn those(&self, applied: &[Applied]) -> Vec<&Numbered> {
        let is_applied = |number| applied.iter().any(|applied| applied.number == number);
        self.list.iter().filter(|numbered| is_applied(numbered.number)).collect()
    }

    async fn connect(&self, path: &Path, create: bool) -> Result<SqliteConnection, MigrationError> {
        // Tables are made anew and swapped in: with foreign keys enforced meanwhile, dropping a
        // table would delete what refers to it. They are checked before the commit instead.
        if has_orphaned_log(path) {
            return Err(MigrationError::OrphanedLog { path: path.to_owned() });
        }
        let options = connect_options(path).foreign_keys(false).create_if_missing(create);
        let options = options.busy_timeout(std::time::Duration::from_secs(30));
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        options.connect().await.map_err(failed)
    }

    /// What was applied, without a right to write to the file.
    async fn looked_at(&self, path: &Path) -> Result<(Look, Vec<Applied>), MigrationError> {
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        let mut looked = look(path).await.map_err(failed)?;
        let tables = apply_and_verify::tables(&mut looked.connection).await.map_err(failed)?;
        let applied = match tables.is_empty() {
            true => Vec::new(),
            false => self.known_applied(&mut looked.connection, path).await?,
        };
        Ok((looked, applied))
    }

    /// What was applied; a table for it is made where there is none.
    async fn applied(
        &self,
        database: &mut SqliteConnection,
        path: &Path,
    ) -> Result<Vec<Applied>, MigrationError> {
        refuse_foreign(database, path).await?;
        let failed = |source| MigrationError::Failed { path: path.to_owned(), source };
        database.ensure_migrations_table(TABLE).await.map_err(failed)?;
        let applied = self.known_applied(database, path).await?;
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        for moved in applied.iter().filter(|applied| applied.stored != applied.number.stored()) {
            // Earlier versions gave a team the numbers after ours.
            let sql = format!("UPDATE {TABLE} SET version = ?2 WHERE version = ?1");
            sqlx::query(AssertSqlSafe(sql))
                .bind(moved.stored)
                .bind(moved.number.stored())
                .execute(&mut *database)
                .await
                .map_err(failed)?;
        }
        Ok(applied)
    }

    /// What was applied, all of it known and unchanged.
    async fn known_applied(
        &self,
        database: &mut SqliteConnection,
        path: &Path,
    ) -> Result<Vec<Applied>, MigrationError> {
        refuse_foreign(database, path).await?;
        let failed = |source| MigrationError::Failed { path: path.to_owned(), source };
        let found = database.list_applied_migrations(TABLE).await.map_err(failed)?;
        let mut all = Vec::with_capacity(found.len());
        for migration in &found {
            let (path, stored) = (path.to_owned(), migration.version);
            let of_number = |number| self.list.iter().find(|known| known.number == number);
            let is_it = |known: &&Numbered| known.is_applied_as(&migration.checksum);
            let number = MigrationNumber::from_stored(stored);
            let known = of_number(number);
            // Earlier versions gave a team the numbers after ours.
            let moved = of_number(MigrationNumber::Teams(stored)).filter(is_it);
            match (known.filter(is_it).or(moved), known) {
                (Some(it), _) => all.push(Applied { number: it.number, stored }),
                (None, Some(_)) => return Err(MigrationError::Changed { path, number }),
                (None, None) if of_number(MigrationNumber::Teams(stored)).is_some() => {
                    let number = MigrationNumber::Teams(stored);
                    return Err(MigrationError::Changed { path, number });
                }
                (None, None) => return Err(MigrationError::Newer { path, number }),
            }
        }
        Ok(all)
    }

    /// Runs one migration: a backup, a transaction, the checks, the commit.
    async fn run(
        &self,
        database: &mut SqliteConnection,
        path: &Path,
        backup: bool,
        numbered: &Numbered,
        direction: Direction,
    ) -> Result<Option<PathBuf>, MigrationError> {
        let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
        let (sql, kind) = match direction {
            Direction::Up => (numbered.up.sql.as_str(), "up"),
            Direction::Down => (numbered.down.sql.as_str(), "down"),
        };
        files::require_statement(sql, numbered, kind)?;
        let mut transaction = database.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let applied = self.known_applied(&mut transaction, path).await?;
        let is_applied = applied.iter().any(|applied| applied.number == numbered.number);
        if is_applied == (direction == Direction::Up) {
            // Another process was faster.
            transaction.rollback().await.map_err(failed)?;
            return Ok(None);
        }
        // Nobody else writes from here on, so the copy is what a rollback would leave.
        let backup = match backup {
            true => Some(self.back_up(path, numbered).await?),
            false => None,
        };
        apply_verified(transaction, numbered, direction, path).await?;
        Ok(backup)
    }

    /// A whole copy beside the file.
    async fn back_up(&self, path: &Path, numbered: &Numbered) -> Result<PathBuf, MigrationError> {
        let directory = path.parent().unwrap_or(Path::new(".")).join("backups");
        let io_failed = |source| MigrationError::Io { path: directory.clone(), source };
        std::fs::create_dir_all(&directory).map_err(io_failed)?;
        let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
        let copy = directory.join(format!("{}-{at}-before-{}.db", self.database, numbered.number));
        let mut database = self.connect(path, false).await?;
        let file = UnfinishedFile::begin(&copy).map_err(io_failed)?;
        // It holds what people are called and how they are reached.
        make_private(file.path()).map_err(io_failed)?;
        sqlx::query("VACUUM INTO ?1")
            .bind(path_in_sql(file.path()))
            .execute(&mut database)
            .await
            .map_err(|source| MigrationError::Sqlite { path: copy.clone(), source })?;
        file.finish().map_err(io_failed)?;
        Ok(copy)
    }
}

/// Makes an empty file that its owner alone may read.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// A migration that was applied.
#[derive(Clone, Copy, Debug)]
struct Applied {
    number: MigrationNumber,
    /// The number that it is stored under.
    stored: i64,
}

/// Refuses a file of somebody else's before anything of it is changed, its journal's mode for one.
pub(crate) async fn refuse_foreign_file(path: &Path) -> Result<(), MigrationError> {
    if !path.exists() {
        return Ok(());
    }
    match look(path).await {
        // What is malformed may be ours: whoever opens it sees to that.
        Ok(mut looked) => match refuse_foreign(&mut looked.connection, path).await {
            Err(error) if error.is_malformed() => Ok(()),
            other => other,
        },
        Err(error) if result_code(&error) == Some(CORRUPT) => Ok(()),
        Err(_) if has_orphaned_log(path) => Ok(()),
        Err(source) => Err(MigrationError::of_file(path, source)),
    }
}

/// Refuses a file with tables or views that no migration was ever applied to.
pub(crate) async fn refuse_foreign(
    database: &mut SqliteConnection,
    path: &Path,
) -> Result<(), MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: path.to_owned(), source };
    let id: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *database)
        .await
        .map_err(failed)?;
    let objects: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
            .fetch_all(&mut *database)
            .await
            .map_err(failed)?;
    let holds = objects.iter().find(|name| *name != TABLE);
    let Some(holds) = holds else { return Ok(()) };
    let applied: i64 = match objects.iter().any(|name| name == TABLE) {
        true => sqlx::query_scalar(trusted(&format!("SELECT count(*) FROM {TABLE}")))
            .fetch_one(database)
            .await
            .map_err(failed)?,
        false => 0,
    };
    let (path, holds) = (path.to_owned(), holds.clone());
    match applied {
        0 if id == APPLICATION_ID => Err(MigrationError::Dropped { path }),
        0 => Err(MigrationError::Foreign { path, holds }),
        _ => Ok(()),
    }
}
