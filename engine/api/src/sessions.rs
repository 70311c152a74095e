//! Sessions: begun in the ledger and in `accounts.db`, kept at hand, ended at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daybook_ledger::SubmitError;
use daybook_schema::{Command, Event, SessionEndReason, SessionNumber, UserId};
use daybook_simulator::Rejection;

use crate::accounts::now_seconds;
use crate::accounts::sessions::{EndedSession, NewSession, Session, Which};
use crate::client::Client;
use crate::error::{ApiError, Code};
use crate::service::Service;
use crate::tokens::{Token, TokenHash};

/// Sessions that are kept at hand.
const KEPT_MAX: usize = 100_000;
const USER_AGENT_CHARACTERS_MAX: usize = 256;

impl Service {
    /// The open session of a token, as it is kept at hand.
    pub(crate) fn session_at_hand(&self, token: &TokenHash) -> Option<Arc<Session>> {
        let session = self.open_sessions.get(token).map(|entry| Arc::clone(&entry))?;
        (session.expires_at > now_seconds()).then_some(session)
    }

    /// The open session of a token.
    pub(crate) async fn find_session(
        &self,
        token: &TokenHash,
    ) -> Result<Option<Arc<Session>>, ApiError> {
        if let Some(session) = self.session_at_hand(token) {
            return Ok(Some(session));
        }
        let ends = self.session_ends.load(Ordering::SeqCst);
        let Some(session) = self.accounts.find_session(token).await? else { return Ok(None) };
        let session = Arc::new(session);
        if self.open_sessions.len() >= KEPT_MAX {
            // They are looked up again.
            self.open_sessions.clear();
        }
        self.open_sessions.insert(token.clone(), Arc::clone(&session));
        if self.session_ends.load(Ordering::SeqCst) != ends {
            // One ended meanwhile; it may have been this one.
            self.open_sessions.remove(token);
        }
        Ok(Some(session))
    }

    /// Forgets sessions that are over, or whose user changed.
    pub(crate) fn forget_sessions(&self, tokens: &[TokenHash]) {
        self.session_ends.fetch_add(1, Ordering::SeqCst);
        for token in tokens {
            self.open_sessions.remove(token);
        }
    }

    /// Begins a session: in the ledger, then here. Of nine the oldest ends.
    pub(crate) async fn begin_session(
        &self,
        user_id: UserId,
        client: &Client,
        user_agent: Option<&str>,
    ) -> Result<Token, ApiError> {
        let token = Token::random()?;
        let accepted = self.submit(Command::StartSession { user_id }).await?;
        let mut replaced = Vec::new();
        let mut started = None;
        for event in &accepted.events {
            match &event.event {
                Event::SessionEnded(ended) => replaced.push(ended.session_number),
                Event::SessionStarted(session) => started = Some(session.session_number),
                _ => {}
            }
        }
        let number = started.ok_or(Code::Internal)?;
        let age = i64::try_from(self.settings.session_age.as_secs()).unwrap_or(i64::MAX);
        let new = NewSession {
            id: token.hash(),
            user_id,
            number,
            replaced,
            expires_at: now_seconds().saturating_add(age),
            user_agent: user_agent
                .map(|text| text.chars().take(USER_AGENT_CHARACTERS_MAX).collect()),
            ip_address: client.address.to_string(),
        };
        match self.accounts.add_session(&new).await {
            Ok(gone) => {
                self.forget_sessions(&gone);
                Ok(token)
            }
            Err(error) => {
                // Nobody has its token. What is not told the ledger now, the next start tells it.
                let reason = SessionEndReason::Revoked;
                drop(
                    self.submit(Command::EndSession { user_id, session_number: number, reason })
                        .await,
                );
                Err(error)
            }
        }
    }

    /// Ends sessions of a user; whoever has their tokens is out before this returns. The ledger is
    /// told soon, at the next start at the latest.
    pub(crate) async fn end_sessions(
        &self,
        user_id: UserId,
        which: Which,
        reason: SessionEndReason,
    ) -> Result<usize, ApiError> {
        let gone = self.accounts.end_sessions(user_id, which, reason).await?;
        self.sessions_are_over(&gone);
        Ok(gone.len())
    }

    /// Sessions were ended in the accounts: they are forgotten here, and the ledger is told.
    pub(crate) fn sessions_are_over(&self, gone: &[TokenHash]) {
        self.forget_sessions(gone);
        self.sessions_ended.notify_one();
    }

    /// Tells the ledger which sessions ended; tells how many were told.
    pub(crate) async fn tell_ended_sessions(&self) -> Result<usize, ApiError> {
        let ended = self.accounts.ended_sessions().await?;
        let mut told = Vec::with_capacity(ended.len());
        for session in ended {
            match self.tell_ended(session).await {
                Ok(()) => told.push(session),
                Err(error) => {
                    if !told.is_empty() {
                        self.accounts.confirm_ended(&told).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        if !told.is_empty() {
            self.accounts.confirm_ended(&told).await?;
        }
        Ok(told.len())
    }

    /// The ledger has the end of a session, or has it already.
    pub(crate) async fn tell_ended(&self, ended: EndedSession) -> Result<(), SubmitError> {
        let EndedSession { user_id, number: session_number, reason } = ended;
        match self.submit(Command::EndSession { user_id, session_number, reason }).await {
            Err(SubmitError::Rejected(rejections)) if is_over(rejections.first()) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The open sessions of a user, as the ledger has them.
    pub(crate) async fn sessions_in_ledger(
        &self,
    ) -> Result<Vec<(UserId, SessionNumber)>, SubmitError> {
        let open = self.ledger.query(|state| {
            let users = state.users.iter();
            let all = users.flat_map(|(user_id, user)| {
                user.open_sessions.iter().map(|number| (*user_id, *number))
            });
            all.collect()
        })?;
        open.await
    }
}

/// Whether a session cannot be ended because it is over, or its user is.
const fn is_over(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::SessionNotOpen { .. }
            | Rejection::UserErased { .. }
            | Rejection::UserNotFound { .. }
    )
}
