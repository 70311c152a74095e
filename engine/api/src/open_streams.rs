//! Which streams are open, and what ends them: their session, a newer one in their place, a stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use daybook_schema::UserId;
use tokio::sync::watch;

use crate::error::{ApiError, Code};
use crate::open_session::OpenSession;
use crate::service_token::ServiceToken;
use crate::tokens::TokenHash;

/// Streams of one user at the same time; one more takes the place of the oldest.
const PER_USER_MAX: usize = 8;
/// Those that ended and whose client does not read their end hold memory too: there are no more of
/// both than so many.
const WITH_ENDED_MAX: usize = 2 * PER_USER_MAX;
/// Readers of the ledger's events with one token.
const FEEDS_PER_TOKEN_MAX: usize = 1_024;
/// How long who has so many should wait.
const RETRY_AFTER_SECONDS: u64 = 15;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The season is over: nothing more comes.
    Season,
    /// The session is over, or the token may not play for the user any more.
    Session,
    /// The user opened more than there may be, and this was the oldest.
    Replaced,
    /// The service stops; it may be back soon.
    Stopping,
}

impl Ended {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Season => "season_over",
            Self::Session => "session_over",
            Self::Replaced => "replaced",
            Self::Stopping => "stopping",
        }
    }
}

type End = watch::Sender<Option<Ended>>;

/// An open stream.
#[derive(Debug)]
struct Open {
    user_id: UserId,
    token: TokenHash,
    /// Whether a service token opened it.
    is_of_token: bool,
    end: End,
}

impl Open {
    fn end(&self, why: Ended) {
        self.end.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(why);
            is_first
        });
    }
}

/// The open streams, oldest first, by their users and by their sessions.
#[derive(Debug, Default)]
pub(crate) struct Streams(Arc<All>);

#[derive(Debug, Default)]
struct All {
    is_stopping: AtomicBool,
    of_users: DashMap<UserId, Vec<Arc<Open>>>,
    of_sessions: DashMap<TokenHash, Vec<Arc<Open>>>,
    /// Opening one and stopping all do not overlap.
    order: Mutex<()>,
}

/// A stream's place among the open ones; dropped, it is free.
pub(crate) struct Place {
    all: Arc<All>,
    open: Arc<Open>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Streams {
    /// Opens one.
    ///
    /// # Errors
    /// [`Code::Unavailable`] once the service is about to stop, [`Code::RateLimited`] where too many
    /// that ended are not read to their end.
    pub(crate) fn open(&self, session: &OpenSession) -> Result<Place, ApiError> {
        let whose = (session.user_id, session.id.clone(), session.is_of_token());
        self.open_one(whose, PER_USER_MAX, WITH_ENDED_MAX)
    }

    /// Opens a reader of the ledger's events; none is ended for another.
    ///
    /// # Errors
    /// [`Code::Unavailable`] once the service is about to stop, [`Code::RateLimited`] where the token
    /// has too many.
    pub(crate) fn open_feed(&self, token: &ServiceToken) -> Result<Place, ApiError> {
        let most = FEEDS_PER_TOKEN_MAX;
        self.open_one((token.counted_as(), token.hash.clone(), true), most, most)
    }

    fn open_one(
        &self,
        (user_id, token, is_of_token): (UserId, TokenHash, bool),
        open_max: usize,
        with_ended_max: usize,
    ) -> Result<Place, ApiError> {
        let all = &self.0;
        let _order = all.order.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_stopping.load(Ordering::SeqCst) {
            return Err(ApiError::new(Code::Unavailable));
        }
        let (end, ended) = watch::channel(None);
        let open = Arc::new(Open { user_id, token: token.clone(), is_of_token, end });
        let mut of_user = all.of_users.entry(user_id).or_default();
        if of_user.len() >= with_ended_max {
            return Err(ApiError::new(Code::RateLimited).retry_after(RETRY_AFTER_SECONDS));
        }
        of_user.push(Arc::clone(&open));
        let surplus = of_user.len().saturating_sub(open_max);
        // Those that end leave by themselves.
        of_user.iter().take(surplus).for_each(|oldest| oldest.end(Ended::Replaced));
        drop(of_user);
        all.of_sessions.entry(token).or_default().push(Arc::clone(&open));
        Ok(Place { all: Arc::clone(all), open, ended })
    }

    /// How many are open.
    pub(crate) fn count(&self) -> u64 {
        self.0.of_users.iter().map(|streams| streams.len() as u64).sum()
    }

    /// A session is over.
    pub(crate) fn end_of(&self, token: &TokenHash) {
        if let Some(streams) = self.0.of_sessions.get(token) {
            streams.iter().for_each(|stream| stream.end(Ended::Session));
        }
    }

    /// No token may play for a user any more: what tokens are told of him ends.
    pub(crate) fn end_of_tokens_for(&self, user_id: UserId) {
        if let Some(streams) = self.0.of_users.get(&user_id) {
            let of_tokens = streams.iter().filter(|stream| stream.is_of_token);
            of_tokens.for_each(|stream| stream.end(Ended::Session));
        }
    }

    /// The service stops.
    pub(crate) fn end_all(&self) {
        let _order = self.0.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.is_stopping.store(true, Ordering::SeqCst);
        for streams in &self.0.of_users {
            streams.iter().for_each(|stream| stream.end(Ended::Stopping));
        }
    }
}

impl Place {
    /// Why it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        *self.ended.borrow()
    }

    /// Waits until it ends.
    pub(crate) async fn wait_for_end(&mut self) {
        // The sender lives as long as the place.
        drop(self.ended.wait_for(Option::is_some).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_other = |other: &Arc<Open>| !Arc::ptr_eq(other, &self.open);
        let Open { user_id, token, .. } = &*self.open;
        if let Some(mut streams) = self.all.of_users.get_mut(user_id) {
            streams.retain(is_other);
        }
        self.all.of_users.remove_if(user_id, |_, streams| streams.is_empty());
        if let Some(mut streams) = self.all.of_sessions.get_mut(token) {
            streams.retain(is_other);
        }
        self.all.of_sessions.remove_if(token, |_, streams| streams.is_empty());
    }
}
