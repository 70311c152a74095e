//! Service tokens: another backend plays for its users, reads events, or asks the analyst's
//! questions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daybook_schema::{Role, SessionNumber, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::now_seconds;
use crate::accounts::service_tokens::plays_for_nobody;
use crate::accounts::sessions::Session;
use crate::accounts::users::{Named, normalized_email};
use crate::error::{ApiError, Code};
use crate::open_session::OpenSession;
use crate::scopes::Scope;
use crate::service::Service;
use crate::service_token::ServiceToken;
use crate::tokens::{Token, TokenHash};

/// Users of tokens that are kept at hand.
const KEPT_MAX: usize = 100_000;
/// A token does not expire: what is at hand is looked up again long before.
const AT_HAND_SECONDS: i64 = 365 * 86_400;
const NAME_BYTES_MAX: usize = 64;

/// A user for whom a token plays already. What else is in an account is its owner's.
#[derive(Serialize, ToSchema)]
pub(crate) struct RegisteredUser {
    /// The id.
    #[schema(value_type = String)]
    pub(crate) id: UserId,
    /// The address.
    pub(crate) email: String,
}

impl Service {
    /// The token at hand, if it was looked up since anything changed.
    pub(crate) fn token_at_hand(&self, hash: &TokenHash) -> Option<Arc<ServiceToken>> {
        let ends = self.session_ends.load(Ordering::SeqCst);
        let token = self.service_tokens.get(hash).map(|entry| Arc::clone(&entry))?;
        (token.ends == ends).then_some(token)
    }

    /// The token of a hash, unless it is revoked.
    pub(crate) async fn find_token(
        &self,
        hash: &TokenHash,
    ) -> Result<Option<Arc<ServiceToken>>, ApiError> {
        if let Some(token) = self.token_at_hand(hash) {
            return Ok(Some(token));
        }
        let ends = self.session_ends.load(Ordering::SeqCst);
        let Some((name, scopes)) = self.accounts.find_token(hash).await? else {
            self.service_tokens.remove(hash);
            return Ok(None);
        };
        let token = Arc::new(ServiceToken { name, hash: hash.clone(), scopes, ends });
        self.service_tokens.insert(hash.clone(), Arc::clone(&token));
        Ok(Some(token))
    }

    /// What stands for a session of a user for whom a token plays. Others are not there: whoever has
    /// a token learns nothing of them.
    pub(crate) async fn session_for(
        &self,
        token: &ServiceToken,
        user_id: UserId,
    ) -> Result<Arc<OpenSession>, ApiError> {
        let key = (token.hash.clone(), user_id);
        let ends = self.session_ends.load(Ordering::SeqCst);
        let at_hand = self.token_sessions.get(&key).map(|entry| Arc::clone(&entry));
        if let Some(session) = at_hand.as_ref().filter(|session| session.looked_up_at == ends) {
            return Ok(Arc::clone(session));
        }
        let role = self.accounts.bound_user(&token.name, user_id).await?;
        let Some(role) = role.filter(|role| *role != Role::Admin) else {
            self.token_sessions.remove(&key);
            return Err(ApiError::new(Code::NotFound));
        };
        let session = Session {
            id: token.hash.clone(),
            user_id,
            number: SessionNumber::MIN,
            role,
            expires_at: now_seconds() + AT_HAND_SECONDS,
        };
        let answered = at_hand.map_or(self.ledger.head().seq, |before| before.answered_seq());
        let session = Arc::new(OpenSession::of_token(session, answered, ends));
        if self.token_sessions.len() >= KEPT_MAX {
            self.token_sessions.clear();
        }
        self.token_sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// The user of an address, if a token may play for it: a backend that lost the answer when it
    /// registered somebody asks again.
    pub(crate) async fn user_of_token(
        &self,
        token: &str,
        email: &str,
    ) -> Result<Option<RegisteredUser>, ApiError> {
        let email = normalized_email(email);
        let Some(account) = self.accounts.find(Named::Email(&email)).await? else {
            return Ok(None);
        };
        let role = self.accounts.bound_user(token, account.user.id).await?;
        let is_reached = role.is_some_and(|role| role != Role::Admin);
        Ok(is_reached.then_some(RegisteredUser { id: account.user.id, email }))
    }

    /// Whether a session goes on: what may have ended while something was read.
    pub(crate) async fn goes_on(&self, session: &OpenSession) -> Result<bool, ApiError> {
        if !session.is_of_token() {
            return Ok(self.find_session(&session.id).await?.is_some());
        }
        let Some(token) = self.find_token(&session.id).await? else { return Ok(false) };
        match self.session_for(&token, session.user_id).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Code::NotFound.status() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a token; it is shown this once.
    pub(crate) async fn make_token(
        &self,
        name: &str,
        scopes: &[Scope],
        users: &[UserId],
        by: &str,
    ) -> Result<Token, ApiError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let refused =
            |what: &str| Err(ApiError::new(Code::ValidationError).saying(what.to_owned()));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
            return refused("a token's name has 1 to 64 letters, digits, `-`, `_` and `.`");
        }
        if scopes.is_empty() {
            return refused("a token needs a scope: play, read-events or analytics");
        }
        if !users.is_empty() && !scopes.contains(&Scope::Play) {
            return Err(plays_for_nobody());
        }
        let token = Token::random()?;
        self.accounts.add_service_token(name, &token.hash(), (scopes, users), by).await?;
        tracing::warn!(by, token = name, "a service token is made");
        Ok(token)
    }

    /// Lets a token play for users.
    pub(crate) async fn bind_token(&self, name: &str, users: &[UserId]) -> Result<(), ApiError> {
        // Who was not there for it is at hand nowhere.
        self.accounts.bind_token(name, users).await
    }

    /// Revokes a token: at once, and its streams end.
    pub(crate) async fn revoke_token(&self, name: &str, by: &str) -> Result<(), ApiError> {
        let hash = self.accounts.revoke_token(name, by).await?;
        self.forget_sessions(std::slice::from_ref(&hash));
        tracing::warn!(by, token = name, "a service token is revoked");
        Ok(())
    }
}
