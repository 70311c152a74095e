//! Logins: when each user logged in, for how long, and how it ended.

use daybook_schema::{Event, SessionEndReason, UserId};
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::insert::write;
use crate::projection::{ApplyError, ProjectedEvent};

/// The sessions that began and ended in a batch.
#[derive(Default)]
pub(super) struct Logins {
    started: Vec<Started>,
    ended: Vec<Ended>,
}

/// User, session number, time.
#[derive(Serialize)]
struct Started(UserId, u32, i64);

/// User, session number, time, reason.
#[derive(Serialize)]
struct Ended(UserId, u32, i64, SessionEndReason);

impl Logins {
    pub(super) fn fold(&mut self, event: &ProjectedEvent) {
        let header = &event.stored.header;
        let (user_id, at) = (header.stream.as_user(), header.recorded_at.seconds());
        match &event.stored.event {
            Event::SessionStarted(started) => {
                self.started.push(Started(user_id, started.session_number.get(), at));
            }
            Event::SessionEnded(ended) => {
                self.ended.push(Ended(user_id, ended.session_number.get(), at, ended.reason));
            }
            _ => {}
        }
    }

    pub(super) async fn store(&self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        let started = "INSERT INTO login_sessions (user_id, session_number, started_at) \
            SELECT value->>0, value->>1, value->>2 FROM json_each(?1)";
        write(database, started, &self.started).await?;
        let ended = "UPDATE login_sessions SET ended_at = ended.value->>2, reason = ended.value->>3 \
            FROM json_each(?1) AS ended WHERE user_id = ended.value->>0 \
            AND session_number = ended.value->>1";
        write(database, ended, &self.ended).await
    }
}
