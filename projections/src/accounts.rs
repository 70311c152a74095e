//! `accounts.db`, the truth about people: how it is made, and what it takes over from earlier
//! versions.
//!
//! `users`, `sessions` and the names of simulins in `game.db` are copies: the process that has
//! `accounts.db` fills them by the number of the newest change, so that a new `game.db` gets them
//! all. Elsewhere placeholders stand in their place.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteSynchronous;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::migrations::{MigrationError, Migrations};
use crate::sqlite::{connect_options, look};

/// Brings `accounts.db` to this version, if it is there, and moves into it what earlier versions
/// had in `game.db` alone; it is made for that.
///
/// # Errors
/// [`MigrationError`] when one of them cannot be read or written.
pub(crate) async fn open_accounts(accounts: &Path, game_db: &Path) -> Result<(), MigrationError> {
    let failed = |source| MigrationError::Sqlite { path: game_db.to_owned(), source };
    let unmoved = match game_db.exists() {
        true => unmoved(game_db).await.map_err(failed)?,
        false => None,
    };
    if accounts.exists() || unmoved.is_some() {
        Migrations::accounts().up(accounts, None).await?;
    }
    let Some(unmoved) = unmoved else { return Ok(()) };
    let failed = |source| MigrationError::Sqlite { path: accounts.to_owned(), source };
    unmoved.move_into(accounts).await.map_err(failed)
}

/// Whether a file was filled from accounts before, or holds nothing that was ever an account's.
async fn is_filled(database: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    let has = async |database: &mut SqliteConnection, name: &'static str| {
        let found: i64 = sqlx::query_scalar(table).bind(name).fetch_one(database).await?;
        Ok::<_, sqlx::Error>(found > 0)
    };
    if !has(&mut *database, "simulin_names").await? {
        return Ok(true);
    }
    if !has(&mut *database, "filled_accounts").await? {
        return Ok(false);
    }
    let marks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM filled_accounts").fetch_one(database).await?;
    Ok(marks > 0)
}

/// The rows of a table as a JSON array of objects.
pub(crate) const USERS_AS_JSON: &str = "json_group_array(json_object('id', id, 'email', email, \
    'display_name', display_name, 'avatar_url', avatar_url, 'role', role, \
    'created_at', created_at, 'last_login_at', last_login_at))";
pub(crate) const SESSIONS_AS_JSON: &str = "json_group_array(json_object('id', id, 'user_id', user_id, \
    'expires_at', expires_at, 'created_at', created_at, 'user_agent', user_agent, \
    'ip_address', ip_address))";
pub(crate) const NAMES_AS_JSON: &str =
    "json_group_array(json_object('simulin_id', simulin_id, 'name', name))";

/// And those arrays as rows.
pub(crate) const INSERT_USERS: &str = "INSERT INTO users (id, email, display_name, avatar_url, role, \
    created_at, last_login_at) SELECT value->>'id', value->>'email', value->>'display_name', \
    value->>'avatar_url', value->>'role', value->>'created_at', value->>'last_login_at' \
    FROM json_each(?1) WHERE true ON CONFLICT";
pub(crate) const INSERT_SESSIONS: &str = "INSERT INTO sessions (id, user_id, expires_at, created_at, \
    user_agent, ip_address) SELECT value->>'id', value->>'user_id', value->>'expires_at', \
    value->>'created_at', value->>'user_agent', value->>'ip_address' \
    FROM json_each(?1) WHERE true ON CONFLICT";
pub(crate) const INSERT_NAMES: &str = "INSERT INTO simulin_names (simulin_id, name) \
    SELECT value->>'simulin_id', value->>'name' FROM json_each(?1) WHERE true ON CONFLICT";

/// The same into accounts, which know whose it is.
const INSERT_NAMES_OF_USERS: &str = "INSERT INTO simulin_names (simulin_id, name, user_id) \
    SELECT value->>'simulin_id', value->>'name', value->>'user_id' FROM json_each(?1) \
    WHERE true ON CONFLICT";

/// One text that a statement gives.
pub(crate) async fn text(
    database: &mut SqliteConnection,
    sql: String,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(database).await
}

/// A statement that takes one text.
pub(crate) async fn put(
    database: &mut SqliteConnection,
    sql: String,
    json: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).bind(json.to_owned()).execute(database).await.map(drop)
}

/// What an earlier version kept in `game.db` alone: users, sessions and names, as JSON arrays.
struct Unmoved([String; 3]);

/// What was not moved into accounts yet, if there is anything.
async fn unmoved(game_db: &Path) -> Result<Option<Unmoved>, sqlx::Error> {
    let mut from = look(game_db).await?.connection;
    if is_filled(&mut from).await? {
        return Ok(None);
    }
    let own = "email <> 'erased+' || id || '@erased.invalid'";
    let users = format!("SELECT {USERS_AS_JSON} FROM users WHERE {own}");
    let sessions = format!(
        "SELECT {SESSIONS_AS_JSON} FROM sessions WHERE user_id IN (SELECT id FROM users WHERE {own})"
    );
    let names = "SELECT json_group_array(json_object('simulin_id', simulin_id, 'name', named.name, \
        'user_id', user_id)) FROM simulin_names AS named LEFT JOIN simulins ON simulins.id = simulin_id";
    let names = names.to_owned();
    let unmoved = [
        text(&mut from, users).await?,
        text(&mut from, sessions).await?,
        text(&mut from, names).await?,
    ];
    Ok(unmoved.iter().any(|rows| rows != "[]").then_some(Unmoved(unmoved)))
}

impl Unmoved {
    /// What is there already stays.
    async fn move_into(self, accounts: &Path) -> Result<(), sqlx::Error> {
        // Synced before it is answered.
        let options = connect_options(accounts).synchronous(SqliteSynchronous::Full);
        let mut accounts = options.busy_timeout(Duration::from_secs(30)).connect().await?;
        let mut transaction = accounts.begin_with("BEGIN IMMEDIATE").await?;
        // What these accounts ever knew is theirs, also where it is gone; a session needs its user.
        let unknown = |kind: &str, id: &str| {
            format!(
                "WHERE NOT EXISTS (SELECT 1 FROM changes WHERE kind = '{kind}' AND id = value->>'{id}')"
            )
        };
        let has_user = "AND EXISTS (SELECT 1 FROM users WHERE id = value->>'user_id')";
        let tables = [
            (INSERT_USERS, unknown("user", "id")),
            (INSERT_SESSIONS, format!("{} {has_user}", unknown("session", "id"))),
            (INSERT_NAMES_OF_USERS, unknown("simulin_name", "simulin_id")),
        ];
        for ((insert, which), rows) in tables.iter().zip(&self.0) {
            let statement = insert.replace("WHERE true", which);
            put(&mut transaction, format!("{statement} DO NOTHING"), rows).await?;
        }
        transaction.commit().await?;
        accounts.close().await
    }
}
