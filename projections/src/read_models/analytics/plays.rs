//! Play sessions: commands of a user that are less than 30 minutes apart.

use daybook_schema::UserId;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::insert::{BindRow, Insert, Map, Values, insert};
use crate::projection::ApplyError;

/// After so long without a command the next one begins another session, in seconds.
const PLAY_SESSION_GAP_SECONDS: i64 = 30 * 60;

/// A user's newest play session: its first and its newest command, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct NewestPlay {
    pub(super) started_at: i64,
    pub(super) played_at: i64,
}

/// The play sessions of a batch, by user and first command: the newest command, and how many there
/// were in the batch.
#[derive(Default)]
pub(super) struct Plays(Map<(UserId, i64), (i64, u64)>);

impl Plays {
    /// Notes a command of a user's, whose newest session is given.
    pub(super) fn note(&mut self, user_id: UserId, newest: &mut Option<NewestPlay>, at: i64) {
        let goes_on = newest.filter(|play| at - play.played_at < PLAY_SESSION_GAP_SECONDS);
        let started_at = goes_on.map_or(at, |play| play.started_at);
        *newest = Some(NewestPlay { started_at, played_at: at });
        let (ended_at, commands) = self.0.entry((user_id, started_at)).or_default();
        *ended_at = at;
        *commands += 1;
    }

    pub(super) async fn store(self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        let mut plays: Vec<_> = self.0.into_iter().collect();
        plays.sort_unstable();
        insert(database, &STORE, plays).await
    }
}

const STORE: Insert = Insert {
    into: "play_sessions (user_id, started_at, ended_at, commands)",
    row: "(?, ?, ?, ?)",
    tail: "ON CONFLICT (user_id, started_at) DO UPDATE SET ended_at = excluded.ended_at, \
        commands = commands + excluded.commands",
};

impl BindRow for ((UserId, i64), (i64, u64)) {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        let ((user_id, started_at), (ended_at, commands)) = self;
        values.text(user_id)?.add(*started_at)?.add(*ended_at)?.number(*commands)?;
        Ok(())
    }
}
