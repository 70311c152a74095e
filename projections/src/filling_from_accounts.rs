//! Filling the read models from `accounts.db`, by the number of the newest change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook_schema::limits;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::watch;

use crate::accounts::{
    INSERT_NAMES, INSERT_SESSIONS, INSERT_USERS, NAMES_AS_JSON, SESSIONS_AS_JSON, USERS_AS_JSON,
    put, text,
};
use crate::database::{FileError, GameDatabase};
use crate::folded_log;
use crate::game_file::{self, FileLost, Wait};
use crate::read_models::users;
use crate::sqlite::{look, real};

/// What the filling is called where it says why it waits.
const FILLING: &str = "accounts";
/// How often accounts are looked at for changes.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(500);

/// How far accounts were filled in: which accounts, the newest change and its stamp.
type Mark = (String, i64, Option<i64>);

/// Rows, and the ids of those that are gone, as JSON arrays.
struct ChangedRows {
    users: String,
    users_gone: String,
    sessions: String,
    sessions_gone: String,
    names: String,
    names_gone: String,
}

/// What changed in accounts, up to a number.
struct Changes {
    accounts_id: String,
    number: i64,
    stamp: Option<i64>,
    /// Whether it is from the beginning: what was filled in before is other accounts', or newer
    /// than these.
    is_anew: bool,
    is_more: bool,
    rows: ChangedRows,
}

/// Why accounts are not filled in for now, and since when, as the process says that does it.
#[must_use]
pub fn filling_waits(game_db: &Path) -> Option<Wait> {
    game_file::wait_of(&real(game_db), FILLING).0
}

/// Fills read models from accounts.
pub(crate) struct Filler {
    accounts: PathBuf,
    database: GameDatabase,
}

impl Filler {
    pub(crate) fn new(accounts: &Path, database: &GameDatabase) -> Self {
        Self { accounts: accounts.to_owned(), database: database.clone() }
    }

    /// Fills in whatever changes, until it is told to stop.
    ///
    /// # Errors
    /// When the file is lost to this process.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), FileLost> {
        while !*stop.borrow() {
            match self.fill().await {
                Ok(()) => self.database.file.say_goes_on(FILLING),
                Err(FileError::Lost(lost)) => return Err(lost),
                Err(error) => {
                    if let FileError::Sqlite(error) = &error {
                        self.database.judge(error).await?;
                    }
                    self.database.file.say_waits(FILLING, &error.to_string());
                    tracing::warn!(%error, "accounts are not filled in for now; tried again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOKED_AT_EVERY) => {}
                _ = stop.changed() => break,
            }
        }
        Ok(())
    }

    /// Fills in all that there is.
    pub(crate) async fn fill(&self) -> Result<(), FileError> {
        while self.accounts.exists() && self.fill_some().await? {}
        Ok(())
    }

    /// Fills in some changes; tells whether there are more.
    async fn fill_some(&self) -> Result<bool, FileError> {
        let mut accounts = look(&self.accounts).await.map_err(FileError::Accounts)?.connection;
        let mut live = self.database.connect_writer().await?;
        let mark = "SELECT accounts_id, change_number, change_stamp FROM filled_accounts";
        let mark: Option<Mark> = sqlx::query_as(mark).fetch_optional(&mut *live).await?;
        let changes = changes_after(&mut accounts, mark).await.map_err(FileError::Accounts)?;
        let is_more = match &changes {
            None => false,
            Some(changes) => {
                let _writing = self.database.writing.lock().await;
                self.database.file.check()?;
                let mut transaction = live.begin_with("BEGIN IMMEDIATE").await?;
                write(&mut transaction, changes).await?;
                transaction.commit().await?;
                self.database.file.check()?;
                changes.is_more
            }
        };
        folded_log::keep_short(&self.database, &mut live).await?;
        live.close().await?;
        Ok(is_more)
    }
}

/// What changed after a mark; nothing if nothing did. A mark of other accounts, or of a newer copy
/// of these, counts for none.
async fn changes_after(
    accounts: &mut SqliteConnection,
    mark: Option<Mark>,
) -> Result<Option<Changes>, sqlx::Error> {
    // All of one moment.
    let mut moment = accounts.begin().await?;
    let accounts_id: String =
        sqlx::query_scalar("SELECT id FROM identity").fetch_one(&mut *moment).await?;
    let number_at = async |moment: &mut SqliteConnection, after: i64, most: i64| {
        let newest = "SELECT coalesce(max(number), 0) FROM \
            (SELECT number FROM changes WHERE number > ?1 ORDER BY number LIMIT ?2)";
        sqlx::query_scalar::<_, i64>(newest).bind(after).bind(most).fetch_one(moment).await
    };
    let newest = number_at(&mut moment, 0, -1).await?;
    let stamp_of = "SELECT stamp FROM changes WHERE number = ?1";
    let (of, after, stamp) = mark.unwrap_or_default();
    let found: Option<i64> =
        sqlx::query_scalar(stamp_of).bind(after).fetch_optional(&mut *moment).await?;
    // A number that is there with another stamp was given again, in an older copy that was put
    // back.
    if of != accounts_id && after > 0 && newest == 0 {
        let error = format!(
            "accounts.db is empty, and game.db was filled from others with {after} changes, whose copies may be \
             the last: put that accounts.db back, or remove game.db to give these people up"
        );
        return Err(sqlx::Error::Io(std::io::Error::other(error)));
    }
    let swept: i64 = sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM swept_changes")
        .fetch_one(&mut *moment)
        .await?;
    let mark = (of == accounts_id && found == stamp && after >= swept).then_some(after);
    let after = mark.unwrap_or(0);
    if mark.is_some() && after == newest {
        return Ok(None);
    }
    let number = number_at(&mut moment, after, limits::ACCOUNT_CHANGES_PER_FILL_MAX).await?;
    let stamp: Option<i64> =
        sqlx::query_scalar(stamp_of).bind(number).fetch_optional(&mut *moment).await?;
    let changes = Changes {
        accounts_id,
        number,
        stamp,
        is_anew: mark.is_none(),
        is_more: number < newest,
        rows: changed_rows(&mut moment, after, number).await?,
    };
    moment.commit().await?;
    Ok(Some(changes))
}

/// What changed after a number, up to another one.
async fn changed_rows(
    moment: &mut SqliteConnection,
    after: i64,
    number: i64,
) -> Result<ChangedRows, sqlx::Error> {
    let changed = |kind: &str| {
        format!(
            "(SELECT id FROM changes WHERE kind = '{kind}' AND number > {after} AND number <= {number})"
        )
    };
    let gone = |kind: &str, table: &str, id: &str| {
        let changed = changed(kind);
        format!(
            "SELECT json_group_array(DISTINCT id) FROM {changed} WHERE id NOT IN (SELECT {id} FROM {table})"
        )
    };
    let (users, sessions, names) = (changed("user"), changed("session"), changed("simulin_name"));
    // A session's user must be there, though it changed later.
    let users = format!(
        "SELECT {USERS_AS_JSON} FROM users WHERE id IN {users} \
         OR id IN (SELECT user_id FROM sessions WHERE id IN {sessions})"
    );
    let sessions = format!("SELECT {SESSIONS_AS_JSON} FROM sessions WHERE id IN {sessions}");
    let names = format!("SELECT {NAMES_AS_JSON} FROM simulin_names WHERE simulin_id IN {names}");
    Ok(ChangedRows {
        users: text(moment, users).await?,
        users_gone: text(moment, gone("user", "users", "id")).await?,
        sessions: text(moment, sessions).await?,
        sessions_gone: text(moment, gone("session", "sessions", "id")).await?,
        names: text(moment, names).await?,
        names_gone: text(moment, gone("simulin_name", "simulin_names", "simulin_id")).await?,
    })
}

async fn write(live: &mut SqliteConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    if changes.is_anew {
        for statement in [
            users::ERASE_ALL_ACCOUNTS,
            "DELETE FROM sessions",
            "UPDATE simulins SET name = species WHERE id IN (SELECT simulin_id FROM simulin_names)",
            "DELETE FROM simulin_names",
        ] {
            sqlx::query(statement).execute(&mut *live).await?;
        }
    }
    for (statement, goes_on, json) in steps(&changes.rows) {
        put(live, format!("{statement}{goes_on}"), json).await?;
    }
    if !changes.is_more {
        // Whose address went to another without a change of his own: his row was replaced.
        sqlx::query(users::ERASE_REPLACED).execute(&mut *live).await?;
    }
    sqlx::query(
        "INSERT OR REPLACE INTO filled_accounts (id, accounts_id, change_number, change_stamp) \
         VALUES (1, ?1, ?2, ?3)",
    )
    .bind(&changes.accounts_id)
    .bind(changes.number)
    .bind(changes.stamp)
    .execute(live)
    .await?;
    Ok(())
}

/// The statements that write changed rows: a beginning, how it goes on, and the rows.
fn steps(rows: &ChangedRows) -> [(&'static str, &'static str, &String); 9] {
    // Addresses may have gone from one to another: whoever has one that is another's now gets his
    // own when his change is filled in.
    [
        (
            "UPDATE users SET email = 'filling+' || id || '@filling.invalid' WHERE id IN \
             (SELECT value->>'id' FROM json_each(?1)) OR email IN (SELECT value->>'email' FROM json_each(?1))",
            "",
            &rows.users,
        ),
        (
            INSERT_USERS,
            " (id) DO UPDATE SET email = excluded.email, display_name = excluded.display_name, \
             avatar_url = excluded.avatar_url, role = excluded.role, \
             last_login_at = excluded.last_login_at",
            &rows.users,
        ),
        (users::ERASE_ACCOUNTS, "", &rows.users_gone),
        (
            INSERT_SESSIONS,
            " (id) DO UPDATE SET user_id = excluded.user_id, expires_at = excluded.expires_at, \
             created_at = excluded.created_at, user_agent = excluded.user_agent, \
             ip_address = excluded.ip_address",
            &rows.sessions,
        ),
        (
            "DELETE FROM sessions WHERE id IN (SELECT value FROM json_each(?1))",
            "",
            &rows.sessions_gone,
        ),
        (INSERT_NAMES, " (simulin_id) DO UPDATE SET name = excluded.name", &rows.names),
        (
            "UPDATE simulins SET name = named.value->>'name' FROM json_each(?1) AS named \
             WHERE simulins.id = named.value->>'simulin_id'",
            "",
            &rows.names,
        ),
        (
            "DELETE FROM simulin_names WHERE simulin_id IN (SELECT value FROM json_each(?1))",
            "",
            &rows.names_gone,
        ),
        (
            "UPDATE simulins SET name = species WHERE id IN (SELECT value FROM json_each(?1))",
            "",
            &rows.names_gone,
        ),
    ]
}
