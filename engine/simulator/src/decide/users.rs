//! Users and their sessions.

use daybook_schema::events::{SessionEnded, SessionStarted, UserErased, UserRegistered};
use daybook_schema::{SessionEndReason, SessionNumber, StreamId, UserId, limits};

use super::{Decision, NewEvent};
use crate::rejection::{Rejection, Rejections};

impl Decision<'_> {
    pub(super) fn register(&self, user_id: UserId) -> Result<Vec<NewEvent>, Rejections> {
        match self.state.users.get(&user_id) {
            Some(user) if user.erased => return Err(Rejection::UserErased { user_id }.into()),
            Some(_) => return Err(Rejection::UserAlreadyRegistered { user_id }.into()),
            None => {}
        }
        // Another stream's id: no two streams share one.
        let is_taken = user_id.as_bytes() == self.state.identity().ledger_id.as_bytes()
            || self.state.seasons.contains_key(&StreamId::from(user_id).as_season());
        if is_taken {
            return Err(Rejection::UserAlreadyRegistered { user_id }.into());
        }
        Ok(vec![NewEvent::new(user_id, UserRegistered {}), self.next_commitment(user_id, 1)?])
    }

    pub(super) fn erase(&self, user_id: UserId) -> Result<Vec<NewEvent>, Rejections> {
        let user = self.user(user_id)?;
        if let Some(season_id) = user.season_in_play {
            return Err(Rejection::SeasonInProgress { season_id }.into());
        }
        let reason = SessionEndReason::Erased;
        let ended = user
            .open_sessions
            .iter()
            .map(|&session_number| NewEvent::new(user_id, SessionEnded { session_number, reason }));
        Ok(ended.chain([NewEvent::new(user_id, UserErased {})]).collect())
    }

    pub(super) fn start_session(&self, user_id: UserId) -> Result<Vec<NewEvent>, Rejections> {
        let user = self.user(user_id)?;
        let surplus =
            (user.open_sessions.len() + 1).saturating_sub(limits::OPEN_SESSIONS_PER_USER_MAX);
        let reason = SessionEndReason::Replaced;
        let replaced =
            user.open_sessions.iter().take(surplus).map(|&session_number| {
                NewEvent::new(user_id, SessionEnded { session_number, reason })
            });
        let session_number = user.next_session_number();
        let started = NewEvent::new(user_id, SessionStarted { session_number });
        Ok(replaced.chain([started]).collect())
    }

    pub(super) fn end_session(
        &self,
        user_id: UserId,
        session_number: SessionNumber,
        reason: SessionEndReason,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let user = self.user(user_id)?;
        if !user.open_sessions.contains(&session_number) {
            return Err(Rejection::SessionNotOpen { session_number }.into());
        }
        Ok(vec![NewEvent::new(user_id, SessionEnded { session_number, reason })])
    }
}
