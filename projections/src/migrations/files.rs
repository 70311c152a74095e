//! Where migrations come from: those that the program carries, and those of a directory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sqlx::AssertSqlSafe;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType};

use super::error::MigrationError;
use super::number::MigrationNumber;

/// The table that sqlx keeps of what was applied.
pub(super) const TABLE: &str = "_sqlx_migrations";

/// A statement that is ours or the operator's own, from a file of theirs.
pub(super) fn trusted(sql: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.to_owned())
}

/// A comment that says which tables' row counts a migration means to change.
const CHANGES_ROWS: &str = "-- changes rows of:";

/// A migration with its number, both ways and its check.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub(super) number: MigrationNumber,
    pub(super) name: String,
    pub(super) up: Migration,
    pub(super) down: Migration,
    pub(super) check: Option<String>,
    /// The checksum that the way up has where its lines end as on Windows.
    checksum_with_crlf: Cow<'static, [u8]>,
}

impl Numbered {
    /// Line endings are made `\n`: the same files, checked out elsewhere, are the same migration.
    fn new(
        number: MigrationNumber,
        name: &str,
        up: String,
        down: String,
        check: Option<String>,
    ) -> Self {
        let migration = |sql: String, kind| {
            let description = Cow::Owned(name.replace('_', " "));
            Migration::new(
                number.stored(),
                description,
                kind,
                AssertSqlSafe(sql).into_sql_str(),
                false,
            )
        };
        let [up, down] = [up, down].map(|sql| sql.replace("\r\n", "\n"));
        let with_crlf = migration(up.replace('\n', "\r\n"), MigrationType::ReversibleUp);
        Self {
            number,
            name: name.to_owned(),
            up: migration(up, MigrationType::ReversibleUp),
            down: migration(down, MigrationType::ReversibleDown),
            check,
            checksum_with_crlf: with_crlf.checksum,
        }
    }

    /// Whether this is what was applied, by its checksum; earlier versions took line endings as
    /// they were.
    pub(super) fn is_applied_as(&self, checksum: &[u8]) -> bool {
        [&self.up.checksum, &self.checksum_with_crlf]
            .into_iter()
            .any(|own| own.as_ref() == checksum)
    }

    /// The tables that may have another number of rows afterwards.
    pub(super) fn changes_rows_of(&self) -> Vec<&str> {
        [self.up.sql.as_str(), self.down.sql.as_str()]
            .into_iter()
            .flat_map(str::lines)
            .filter_map(|line| line.trim().strip_prefix(CHANGES_ROWS))
            .flat_map(|tables| tables.split(',').map(str::trim))
            .collect()
    }
}

macro_rules! carried {
    ($directory:literal: $($number:literal $name:literal,)+) => {
        vec![$(
            Numbered::new(MigrationNumber::Ours($number.parse().unwrap_or(0)), $name,
                include_str!(concat!("../../migrations/", $directory, "/", $number, "_", $name, ".up.sql"))
                    .to_owned(),
                include_str!(concat!("../../migrations/", $directory, "/", $number, "_", $name, ".down.sql"))
                    .to_owned(), None),
        )+]
    };
}

pub(super) fn game() -> Vec<Numbered> {
    carried!("game": "0001" "seed_tables", "0002" "read_models", "0003" "simulin_names",
             "0004" "disputed_positions", "0005" "filled_accounts",
             "0006" "what_analysts_ask", "0007" "flags", "0008" "analytics",)
}

pub(super) fn accounts() -> Vec<Numbered> {
    carried!("accounts": "0001" "accounts", "0002" "logging_in", "0003" "operation",)
}

pub(super) fn telemetry() -> Vec<Numbered> {
    carried!("telemetry": "0001" "telemetry_events", "0002" "intake",)
}

/// Statements that would take a migration out of its transaction or its file.
const REFUSED: [&str; 10] = [
    "BEGIN",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "ATTACH",
    "DETACH",
    "VACUUM",
    "PRAGMA",
];

/// SQL without its comments and without what stands in quotes.
fn bare(sql: &str) -> String {
    let mut bare = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let opened = [("--", "\n"), ("/*", "*/"), ("'", "'"), ("\"", "\""), ("`", "`"), ("[", "]")]
            .into_iter()
            .find_map(|(opens, closes)| Some((rest.strip_prefix(opens)?, closes)));
        if let Some((inside, closes)) = opened {
            rest = inside.split_once(closes).map_or("", |(_, behind)| behind);
            bare.push(' ');
        } else {
            rest = rest.strip_prefix(first).unwrap_or_default();
            bare.push(first);
        }
    }
    bare
}

/// Refuses a file that nobody has written anything into yet: once it was applied, it could not be
/// changed.
pub(super) fn require_statement(
    sql: &str,
    numbered: &Numbered,
    kind: &str,
) -> Result<(), MigrationError> {
    let is_empty = bare(sql).chars().all(|letter| letter.is_whitespace() || letter == ';');
    match is_empty {
        true => Err(MigrationError::File {
            path: PathBuf::from(format!(
                "{:04}_{}.{kind}.sql",
                numbered.number.get(),
                numbered.name
            )),
            problem: "has no statement; write `SELECT 1;` where nothing is to be done".to_owned(),
        }),
        false => Ok(()),
    }
}

/// The first word of the first statement that a migration may not have.
fn refused_statement(sql: &str) -> Option<&'static str> {
    let plain = bare(sql);
    let mut is_in_trigger = false;
    plain.split(';').find_map(|statement| {
        let mut words = statement.split_whitespace().map(str::to_uppercase);
        let first = words.next()?;
        // CREATE [TEMP] TRIGGER: its body goes on to an END.
        is_in_trigger |= first == "CREATE" && words.take(2).any(|word| word == "TRIGGER");
        let is_its_end = first == "END" && std::mem::take(&mut is_in_trigger);
        REFUSED.into_iter().find(|refused| *refused == first && !is_its_end)
    })
}

/// The files of one migration in a directory.
#[derive(Default)]
struct Found {
    name: String,
    up: Option<String>,
    down: Option<String>,
    check: Option<String>,
}

/// The migrations of a directory, a team's own: their numbers are none of ours.
pub(super) fn read_directory(directory: &Path) -> Result<Vec<Numbered>, MigrationError> {
    let refuse = |path: &Path, problem: &str| MigrationError::File {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let io_failed = |source| MigrationError::Io { path: directory.to_owned(), source };
    let mut found: BTreeMap<MigrationNumber, Found> = BTreeMap::new();
    let entries = std::fs::read_dir(directory)
        .map_err(|error| refuse(directory, &format!("cannot be read: {error}")))?;
    for entry in entries {
        let path = entry.map_err(io_failed)?.path();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !file_name.ends_with(".sql") {
            continue;
        }
        let parts = parse_name(&file_name);
        let (number, name, kind) = parts.ok_or_else(|| {
            refuse(&path, "is not named as a migration, such as 0001_add_teams.up.sql")
        })?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| refuse(&path, &format!("cannot be read: {error}")))?;
        if text.starts_with('\u{feff}') || text.contains('\0') {
            return Err(refuse(&path, "begins with a byte-order mark or has a NUL: write it anew"));
        }
        if let Some(word) = refused_statement(&text) {
            let problem =
                format!("has the statement {word}, which would leave its transaction or file");
            return Err(refuse(&path, &problem));
        }
        let migration = found.entry(number).or_default();
        if !migration.name.is_empty() && migration.name != name {
            return Err(refuse(&path, "has the number of another migration"));
        }
        name.clone_into(&mut migration.name);
        let of_kind = match kind {
            "up" => &mut migration.up,
            "down" => &mut migration.down,
            _ => &mut migration.check,
        };
        if of_kind.replace(text).is_some() {
            return Err(refuse(&path, "has the number of another migration"));
        }
    }
    let numbered = found.into_iter().map(|(number, found)| {
        let both = found.up.zip(found.down);
        let alone = || {
            let path = directory.join(format!("{:04}_{}", number.get(), found.name));
            refuse(&path, "needs both an .up.sql and a .down.sql")
        };
        let (up, down) = both.ok_or_else(alone)?;
        Ok(Numbered::new(number, &found.name, up, down, found.check))
    });
    numbered.collect()
}

/// Number, name and kind of `0001_add_teams.up.sql`.
fn parse_name(file_name: &str) -> Option<(MigrationNumber, &str, &str)> {
    let (stem, kind) = file_name.strip_suffix(".sql")?.rsplit_once('.')?;
    let (number, name) = stem.split_once('_')?;
    let is_kind = ["up", "down", "check"].contains(&kind);
    let number = MigrationNumber::of_file(number, MigrationNumber::Teams)?;
    (is_kind && !name.is_empty()).then_some((number, name, kind))
}

/// The files of a new migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMigration {
    /// The way up.
    pub up: PathBuf,
    /// The way down.
    pub down: PathBuf,
}

pub(super) fn new_pair(
    directory: &Path,
    number: i64,
    name: &str,
) -> Result<NewMigration, MigrationError> {
    let is_plain =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(MigrationError::File {
            path: PathBuf::from(name),
            problem: "is no name of a migration: lower-case letters, digits and _".to_owned(),
        });
    }
    let path_of = |kind: &str| directory.join(format!("{number:04}_{name}.{kind}.sql"));
    let pair = NewMigration { up: path_of("up"), down: path_of("down") };
    let io_failed = |source| MigrationError::Io { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(io_failed)?;
    for path in [&pair.up, &pair.down] {
        let mut file = std::fs::File::create_new(path)
            .map_err(|source| MigrationError::Io { path: path.clone(), source })?;
        let text = "-- Says whether it rebuilds (the tables can be made again from the ledger) or moves data.\n";
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(io_failed)?;
    }
    Ok(pair)
}
