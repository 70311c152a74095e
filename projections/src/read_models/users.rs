//! The rows of `users` that read models refer to. Accounts are the API's; where there is none, or
//! it was erased, a placeholder stands in its place.

use daybook_schema::{EventKind, Seq, UnixMicros, UserId};
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::insert::write;
use crate::projection::{ApplyError, ProjectedEvent};

/// What a placeholder is called: nothing of a person's.
const DISPLAY_NAME: &str = "player";

/// A user without an account: id, address, name, time.
#[derive(Serialize)]
pub(super) struct Placeholder(UserId, String, &'static str, i64);

impl Placeholder {
    pub(super) fn new(user: UserId, at: UnixMicros) -> Self {
        Self(user, format!("erased+{user}@erased.invalid"), DISPLAY_NAME, at.seconds())
    }
}

/// An event that brings a row which refers to a user.
pub(super) struct Referring {
    seq: Seq,
    kind: EventKind,
    user: UserId,
}

impl Referring {
    pub(super) fn new(event: &ProjectedEvent, user: UserId) -> Self {
        Self { seq: event.stored.header.seq, kind: event.stored.event.kind(), user }
    }
}

/// Makes the rows where there are none. An account's own is left as it is, but for its time, which
/// is that of the ledger's event.
pub(super) async fn add(
    database: &mut SqliteConnection,
    users: &[Placeholder],
) -> Result<(), ApplyError> {
    let statement = "INSERT INTO users (id, email, display_name, created_at) \
        SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?1) WHERE true \
        ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at \
        WHERE users.created_at <> excluded.created_at";
    write(database, statement, users).await
}

/// That the users are there whom events bring rows of. SQLite would look that up for every row, as
/// a foreign key; the workers' connections leave it to this.
pub(super) async fn require(
    database: &mut SqliteConnection,
    referring: &[Referring],
) -> Result<(), ApplyError> {
    if referring.is_empty() {
        return Ok(());
    }
    let ids: Vec<UserId> = referring.iter().map(|referring| referring.user).collect();
    let statement = "SELECT value FROM json_each(?1) WHERE value NOT IN (SELECT id FROM users)";
    let ids = serde_json::to_string(&ids)?;
    let missing: Option<String> =
        sqlx::query_scalar(statement).bind(ids).fetch_optional(database).await?;
    let missing =
        missing.and_then(|missing| referring.iter().find(|it| it.user.to_string() == missing));
    match missing {
        Some(Referring { seq, kind, user }) => Err(ApplyError::Event {
            seq: *seq,
            kind: *kind,
            reason: format!("user {user} is not in `users`: his row was removed"),
        }),
        None => Ok(()),
    }
}

/// Puts placeholders in the place of accounts that are gone, by a JSON array of their ids.
pub(crate) const ERASE_ACCOUNTS: &str = "UPDATE users SET email = 'erased+' || id || '@erased.invalid', \
    display_name = 'player', avatar_url = NULL, role = 'player', last_login_at = NULL \
    WHERE id IN (SELECT value FROM json_each(?1))";

/// Puts placeholders in the place of all accounts.
pub(crate) const ERASE_ALL_ACCOUNTS: &str = "UPDATE users SET email = 'erased+' || id || '@erased.invalid', \
    display_name = 'player', avatar_url = NULL, role = 'player', last_login_at = NULL \
    WHERE email <> 'erased+' || id || '@erased.invalid'";

/// Puts placeholders in the place of users whose address is another's now.
pub(crate) const ERASE_REPLACED: &str = "UPDATE users SET email = 'erased+' || id || '@erased.invalid', \
    display_name = 'player', avatar_url = NULL, role = 'player', last_login_at = NULL \
    WHERE email = 'filling+' || id || '@filling.invalid'";

/// The table that read models share.
pub(crate) const TABLE: &str = "users";

/// While new tables are put in place: users get the ledger's time, and placeholders go of users
/// that the ledger has no more, where its loss was accepted. Whoever was registered before the time
/// that the new tables stand for is among them, or is none of the ledger's.
pub(crate) async fn put_in_place(
    database: &mut SqliteConnection,
    stands_for: UnixMicros,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE main.users SET created_at = made.created_at FROM beside.users AS made \
         WHERE made.id = users.id AND made.created_at <> users.created_at",
    )
    .execute(&mut *database)
    .await?;
    sqlx::query(
        "DELETE FROM main.users WHERE created_at < ?1 \
         AND email = 'erased+' || id || '@erased.invalid' \
         AND id NOT IN (SELECT id FROM beside.users) \
         AND NOT EXISTS (SELECT 1 FROM main.seasons WHERE user_id = users.id) \
         AND NOT EXISTS (SELECT 1 FROM main.simulins WHERE user_id = users.id) \
         AND NOT EXISTS (SELECT 1 FROM main.leaderboard_entries WHERE user_id = users.id) \
         AND NOT EXISTS (SELECT 1 FROM main.sessions WHERE user_id = users.id)",
    )
    .bind(stands_for.seconds())
    .execute(database)
    .await?;
    Ok(())
}

/// Puts placeholders in the place of what was there.
pub(super) async fn erase(
    database: &mut SqliteConnection,
    users: &[Placeholder],
) -> Result<(), ApplyError> {
    let statement = "UPDATE users SET email = gone.value->>1, display_name = gone.value->>2, \
        avatar_url = NULL, last_login_at = NULL \
        FROM json_each(?1) AS gone WHERE users.id = gone.value->>0";
    write(database, statement, users).await
}
