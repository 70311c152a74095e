//! Passwords: what may be one, and how they are hashed without taking the machine.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::error::{ApiError, Code};
use crate::settings::Hashing;

/// Characters of a password.
pub(crate) const LENGTH_MIN: usize = 8;
/// Characters of a password.
pub(crate) const LENGTH_MAX: usize = 128;

/// The most common passwords, in lower case, of eight characters or more. From the frequency lists
/// of zxcvbn (MIT).
const COMMON: &str = include_str!("common_passwords.txt");

fn common() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| COMMON.lines().collect())
}

/// A password as it came. It is printed nowhere, and overwritten when it is dropped.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Password(Zeroizing<String>);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    /// A password that a person typed.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// What keyboards write in different ways is one password (NFKC).
    fn normalized(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.nfkc().collect())
    }

    /// Why it may not be a new password, if it may not.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let length = self.0.chars().count();
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            return Some("must have 8 to 128 characters");
        }
        let lower = Zeroizing::new(self.normalized().to_lowercase());
        common().contains(lower.as_str()).then_some("is one of the most common passwords")
    }
}

/// Hashes and compares passwords, a bounded number at a time.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    settings: Hashing,
    params: Params,
    /// What an unknown address's password is compared with: it takes as long.
    decoy: Arc<str>,
    /// A wrong password is not answered sooner: a hash of other parameters takes another time.
    answered_after: Duration,
}

/// Argon2id does not take these parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("argon2id does not take these parameters: {0}")]
pub struct HashingError(argon2::Error);

/// Who waits is counted as long as he does.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub(crate) fn new(settings: Hashing) -> Result<Self, HashingError> {
        let params =
            Params::new(settings.memory_kib, settings.passes, 1, None).map_err(HashingError)?;
        let mut passwords = Self {
            turns: Arc::new(Semaphore::new(settings.at_once_max.max(1))),
            waiting: Arc::default(),
            settings,
            params,
            decoy: Arc::from(""),
            answered_after: Duration::ZERO,
        };
        // The first one also fetches its memory.
        drop(hash(passwords.params.clone(), &Zeroizing::new("decoy".to_owned())));
        let began = Instant::now();
        let decoy = hash(passwords.params.clone(), &Zeroizing::new("decoy".to_owned()));
        passwords.decoy = Arc::from(decoy.ok_or(HashingError(argon2::Error::OutputTooShort))?);
        passwords.answered_after = began.elapsed() * 3 / 2;
        Ok(passwords)
    }

    /// Waits for a turn to hash: before anything is written for who asks.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where too many wait.
    pub(crate) async fn turn(&self) -> Result<Turn, ApiError> {
        self.turn_among(self.settings.waiting_max).await
    }

    /// The same for who asks for many: half of the places are left to others.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where half of those who may are waiting.
    pub(crate) async fn turn_of_many(&self) -> Result<Turn, ApiError> {
        self.turn_among(self.settings.waiting_max.div_ceil(2)).await
    }

    async fn turn_among(&self, waiting_max: usize) -> Result<Turn, ApiError> {
        let overloaded = || ApiError::new(Code::Overloaded);
        let waits = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waits >= waiting_max {
            return Err(overloaded());
        }
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(self.settings.wait, turn).await {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            _ => Err(overloaded()),
        }
    }

    /// The hash of a new password, in PHC's form.
    ///
    /// # Errors
    /// [`Code::Internal`] where Argon2id fails.
    pub(crate) async fn hash(&self, turn: Turn, password: &Password) -> Result<String, ApiError> {
        let (params, text) = (self.params.clone(), password.normalized());
        let hashed = turn.take(move || hash(params, &text)).await?;
        hashed.ok_or_else(|| ApiError::new(Code::Internal))
    }

    /// Whether a password is the one that was hashed. Without a hash it is not, and that takes as
    /// long. The turn is given back.
    ///
    /// # Errors
    /// [`Code::Internal`] where the thread fails.
    pub(crate) async fn is_right(
        &self,
        turn: Turn,
        password: &Password,
        stored: Option<&str>,
    ) -> Result<bool, ApiError> {
        let compared: Arc<str> = stored.map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        let (text, is_known) = (password.normalized(), stored.is_some());
        let until = Instant::now() + self.answered_after;
        let is_right = turn.take(move || {
            PasswordHash::new(&compared)
                .is_ok_and(|hash| Argon2::default().verify_password(text.as_bytes(), &hash).is_ok())
        });
        let is_right = is_right.await? && is_known;
        if !is_right {
            tokio::time::sleep_until(until.into()).await;
        }
        Ok(is_right)
    }

    /// Whether a hash was made with other parameters than today's.
    pub(crate) fn is_outdated(&self, stored: &str) -> bool {
        let parsed = PasswordHash::new(stored).ok();
        let params = parsed.and_then(|hash| Params::try_from(&hash).ok());
        params.is_none_or(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                != (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
        })
    }
}

/// One of the few that may hash now; dropped, it is another's turn.
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Turn {
    /// Does the work on a thread of its own; the turn lasts as long.
    async fn take<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(self.0);
            done
        });
        done.await.map_err(|_| ApiError::new(Code::Internal))
    }
}

fn hash(params: Params, password: &Zeroizing<String>) -> Option<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_and_short_passwords_are_refused_and_any_unicode_is_taken() {
        let fault = |text: &str| Password::new(text.to_owned()).fault();
        assert_eq!(fault("seven77"), Some("must have 8 to 128 characters"));
        assert_eq!(fault(&"x".repeat(129)), Some("must have 8 to 128 characters"));
        assert_eq!(fault("Password"), Some("is one of the most common passwords"));
        assert_eq!(fault("ｐａｓｓｗｏｒｄ"), Some("is one of the most common passwords"));
        assert_eq!(fault("日本語のパスワード"), None);
        assert_eq!(fault("correct horse"), None);
    }

    /// Guards: a password is printed nowhere.
    #[test]
    fn a_password_is_not_printed() {
        let password = Password::new("correct horse".to_owned());
        assert_eq!(format!("{password:?}"), "Password");
    }
}
