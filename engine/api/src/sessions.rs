//! Sessions: begun in the ledger and in `accounts.db`, kept at hand, ended at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daybook_ledger::SubmitError;
use daybook_schema::{Command, Event, SessionEndReason, UserId};
use daybook_simulator::Rejection;
use futures_util::future::join_all;

use crate::accounts::now_seconds;
use crate::accounts::sessions::{EndedSession, NewSession, Which};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::open_session::OpenSession;
use crate::service::Service;
use crate::tokens::{Token, TokenHash};

/// Sessions that are kept at hand.
const KEPT_MAX: usize = 100_000;
const USER_AGENT_CHARACTERS_MAX: usize = 256;

impl Service {
    /// The open session of a token, as it is kept at hand.
    pub(crate) fn session_at_hand(&self, token: &TokenHash) -> Option<Arc<OpenSession>> {
        let session = self.open_sessions.get(token).map(|entry| Arc::clone(&entry))?;
        (session.expires_at > now_seconds()).then_some(session)
    }

    /// The open session of a token.
    pub(crate) async fn find_session(
        &self,
        token: &TokenHash,
    ) -> Result<Option<Arc<OpenSession>>, ApiError> {
        if let Some(session) = self.session_at_hand(token) {
            return Ok(Some(session));
        }
        let ends = self.session_ends.load(Ordering::SeqCst);
        let Some(session) = self.accounts.find_session(token).await? else { return Ok(None) };
        // What it was answered before it came to hand stood for no more than there is.
        let session = Arc::new(OpenSession::new(session, self.ledger.head().seq));
        if self.open_sessions.len() >= KEPT_MAX {
            // Every eighth goes: it is looked up again.
            let mut number = 0_u32;
            self.open_sessions.retain(|_, kept| {
                number = number.wrapping_add(1);
                !number.is_multiple_of(8) && kept.expires_at > now_seconds()
            });
        }
        // Another request may have brought it to hand meanwhile: there is one of it.
        let session = Arc::clone(&self.open_sessions.entry(token.clone()).or_insert(session));
        if self.session_ends.load(Ordering::SeqCst) != ends {
            // One ended meanwhile; it may have been this one.
            self.open_sessions.remove(token);
        }
        Ok(Some(session))
    }

    /// Forgets sessions that are over; their streams end.
    pub(crate) fn forget_sessions(&self, tokens: &[TokenHash]) {
        self.look_up_again(tokens);
        tokens.iter().for_each(|token| self.streams.end_of(token));
    }

    /// Forgets what is at hand of sessions whose user changed.
    pub(crate) fn look_up_again(&self, tokens: &[TokenHash]) {
        self.session_ends.fetch_add(1, Ordering::SeqCst);
        for token in tokens {
            self.open_sessions.remove(token);
        }
    }

    /// Begins a session: in the ledger, then here. Of nine the oldest ends. If the password is
    /// another by now, there is none.
    pub(crate) async fn begin_session(
        &self,
        user_id: UserId,
        password_hash: String,
        caller: &Caller,
    ) -> Result<Token, ApiError> {
        let token = Token::random()?;
        let group = user_id.as_bytes().iter().fold(0_usize, |sum, byte| sum + usize::from(*byte));
        let own = self.logins.get(group % self.logins.len()).ok_or(Code::Internal)?;
        let _in_order = own.lock().await;
        let accepted = match self.submit(Command::StartSession { user_id }).await {
            // The user is being erased.
            Err(SubmitError::Rejected { .. }) => {
                return Err(ApiError::new(Code::InvalidCredentials));
            }
            other => other?,
        };
        let mut replaced = Vec::new();
        let mut started = None;
        for event in &accepted.events {
            match &event.event {
                Event::SessionEnded(ended) => replaced.push(ended.session_number),
                Event::SessionStarted(session) => started = Some(session.session_number),
                _ => {}
            }
        }
        let age = i64::try_from(self.settings.session_age.as_secs()).unwrap_or(i64::MAX);
        let user_agent = caller.user_agent.as_deref();
        let new = NewSession {
            id: token.hash(),
            user_id,
            number: started.ok_or(Code::Internal)?,
            replaced,
            password_hash,
            expires_at: now_seconds().saturating_add(age),
            user_agent: user_agent
                .map(|text| text.chars().take(USER_AGENT_CHARACTERS_MAX).collect()),
            ip_address: caller.client.address.to_string(),
        };
        match self.accounts.add_session(&new).await {
            Ok(gone) => {
                // Where none ended, what is at hand stays.
                if !gone.is_empty() {
                    self.forget_sessions(&gone);
                }
                Ok(token)
            }
            Err(error) => {
                // Nobody has its token. What cannot be put down now the next start finds.
                if let Ok(gone) = self.accounts.drop_new_session(&new).await {
                    self.sessions_are_over(&gone);
                }
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
        let told = join_all(ended.iter().map(|session| self.tell_ended(*session))).await;
        let known = ended.iter().zip(&told).filter(|(_, told)| told.is_ok());
        let known: Vec<EndedSession> = known.map(|(session, _)| *session).collect();
        if !known.is_empty() {
            self.accounts.confirm_ended(&known).await?;
        }
        match told.into_iter().find_map(Result::err) {
            Some(error) => Err(error.into()),
            None => Ok(known.len()),
        }
    }

    /// The ledger has the end of a session, or has it already.
    pub(crate) async fn tell_ended(&self, ended: EndedSession) -> Result<(), SubmitError> {
        let EndedSession { user_id, number: session_number, reason } = ended;
        match self.submit_patiently(Command::EndSession { user_id, session_number, reason }).await {
            Err(SubmitError::Rejected { rejections, .. }) if is_over(rejections.first()) => Ok(()),
            other => other.map(drop),
        }
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
