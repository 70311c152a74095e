//! Who one is: registering, logging in, new passwords.

use daybook_ledger::SubmitError;
use daybook_schema::{Command, SessionEndReason, UserId};
use daybook_simulator::Rejection;

use crate::accounts::attempts::Counter;
use crate::accounts::now_seconds;
use crate::accounts::sessions::{EndedSession, Which};
use crate::accounts::users::{Account, Named, NewUser, User};
use crate::caller::Caller;
use crate::client::{Client, Neighbourhood};
use crate::error::{ApiError, Code};
use crate::open_session::OpenSession;
use crate::passwords::Password;
use crate::service::Service;
use crate::tokens::{Kept, Token, TokenHash};

/// Who is logged in, and the cookies that say so.
pub(crate) struct LoggedIn {
    pub(crate) user: User,
    pub(crate) token: Token,
    /// None where the device is known already.
    pub(crate) device: Option<String>,
}

impl Service {
    /// Registers a user: here, pending; in the ledger; then for good. What was begun when the
    /// process was killed the next start finishes.
    ///
    /// # Errors
    /// [`Code::EmailTaken`], or what keeps the ledger from it.
    pub(crate) async fn register(&self, new: &NewUser) -> Result<(), ApiError> {
        self.accounts.add_pending(new).await?;
        match self.register_in_ledger(new.id).await {
            Ok(()) => self.accounts.confirm_user(new.id).await,
            Err(error) => {
                // Where it may have been applied the row stays, and the upkeep or the next start looks:
                // else the ledger would have a player without an account.
                let may_be_applied = matches!(
                    error,
                    SubmitError::Unavailable(_) | SubmitError::AnswerUnreadable { .. }
                );
                if !may_be_applied {
                    self.accounts.drop_pending(new.id).await?;
                }
                Err(error.into())
            }
        }
    }

    /// The ledger knows a user, or knew it before.
    pub(crate) async fn register_in_ledger(&self, user_id: UserId) -> Result<(), SubmitError> {
        match self.submit_patiently(Command::RegisterUser { user_id }).await {
            Err(SubmitError::Rejected { rejections, .. })
                if matches!(rejections.first(), Rejection::UserAlreadyRegistered { .. }) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// What registrations from a client's address are counted by.
    pub(crate) fn registrations_key(&self, client: &Client) -> [u8; 32] {
        let neighbourhood = Neighbourhood::of(client.address);
        self.accounts.secret().key_of(Kept::Registrations(neighbourhood.as_bytes()))
    }

    /// What an attempt is counted by: a known device alone, so that no neighbour can lock it out;
    /// else the address, and the client's address.
    fn counters(&self, email: &str, account: Option<&Account>, caller: &Caller) -> Vec<Counter> {
        let (secret, settings) = (self.accounts.secret(), &self.settings.lockout);
        let device = account.zip(caller.device.as_deref()).and_then(|(account, carried)| {
            let user_id = account.user.id;
            Some((user_id, secret.known_device(user_id, carried)?))
        });
        if let Some((user_id, device)) = device {
            return vec![Counter {
                key: secret.key_of(Kept::Device(user_id, device)),
                owner: Some(secret.key_of(Kept::Owner(user_id))),
                failures_max: settings.failures_max,
            }];
        }
        let neighbourhood = Neighbourhood::of(caller.client.address);
        vec![
            Counter {
                key: secret.key_of(Kept::Email(email)),
                owner: None,
                failures_max: settings.failures_max,
            },
            Counter {
                key: secret.key_of(Kept::Client(neighbourhood.as_bytes())),
                owner: None,
                failures_max: settings.client_failures_max,
            },
        ]
    }

    /// The account of an address, if the password is its own. All ways to fail take as long, and
    /// count alike.
    ///
    /// # Errors
    /// [`Code::InvalidCredentials`], [`Code::LockedOut`], [`Code::Overloaded`].
    pub(crate) async fn check_password(
        &self,
        email: &str,
        password: &Password,
        caller: &Caller,
    ) -> Result<Account, ApiError> {
        // A flood is turned away here, before it costs a write.
        let turn = self.passwords.turn().await?;
        let account = self.accounts.find(Named::Email(email)).await?;
        let counters = self.counters(email, account.as_ref(), caller);
        self.accounts.begin_attempt(&counters, &self.settings.lockout).await?;
        let stored = account.as_ref().and_then(|account| account.password_hash.as_deref());
        let is_right = self.passwords.is_right(turn, password, stored).await?;
        match account.filter(|_| is_right) {
            None => Err(ApiError::new(Code::InvalidCredentials)),
            Some(account) => {
                self.accounts.forgive(&counters).await?;
                Ok(account)
            }
        }
    }

    /// The account of a user who is logged in, if the password is his.
    pub(crate) async fn check_own_password(
        &self,
        user_id: UserId,
        password: &Password,
        caller: &Caller,
    ) -> Result<Account, ApiError> {
        let account = self.accounts.find(Named::Id(user_id)).await?.ok_or(Code::SessionExpired)?;
        self.check_password(&account.user.email, password, caller).await
    }

    /// Logs in: the session that the request came with is over.
    ///
    /// # Errors
    /// As [`Self::check_password`]; [`Code::AccountLocked`] after the right password alone.
    pub(crate) async fn log_in(
        &self,
        email: &str,
        password: &Password,
        caller: &Caller,
        old: Option<&OpenSession>,
    ) -> Result<LoggedIn, ApiError> {
        let mut account = self.check_password(email, password, caller).await?;
        if account.locked_by.is_some() {
            return Err(ApiError::new(Code::AccountLocked));
        }
        let outdated = account.password_hash.clone().filter(|it| self.passwords.is_outdated(it));
        if let Some(old_hash) = outdated
            && let Ok(turn) = self.passwords.turn().await
        {
            let fresh = self.passwords.hash(turn, password).await?;
            self.accounts.refresh_hash(account.user.id, &old_hash, &fresh).await?;
            account.password_hash = Some(fresh);
        }
        self.logged_in(account, caller, old).await
    }

    /// Begins a session of a user who has shown who he is; the one that the request came with is
    /// over.
    pub(crate) async fn logged_in(
        &self,
        account: Account,
        caller: &Caller,
        old: Option<&OpenSession>,
    ) -> Result<LoggedIn, ApiError> {
        let Account { mut user, password_hash, .. } = account;
        let secret = self.accounts.secret();
        let known =
            caller.device.as_deref().and_then(|device| secret.known_device(user.id, device));
        let device = known.is_none().then(|| secret.new_device(user.id)).transpose()?;
        if let Some(old) = old {
            let (which, reason) = (Which::One(old.number), SessionEndReason::Revoked);
            self.end_sessions(old.user_id, which, reason).await?;
            // The ledger has it before the next one begins: else that could take another's place.
            let ended = EndedSession { user_id: old.user_id, number: old.number, reason };
            self.tell_ended(ended).await?;
        }
        let token = self.begin_session(user.id, password_hash.unwrap_or_default(), caller).await?;
        user.last_login_at = Some(now_seconds());
        Ok(LoggedIn { user, token, device })
    }

    /// Sets a new password and ends all sessions; with a link it uses the link up. What failed
    /// logins led to is lifted. Gives the account as it is then.
    pub(crate) async fn set_password(
        &self,
        user_id: UserId,
        password: &Password,
        link: Option<&TokenHash>,
    ) -> Result<Account, ApiError> {
        let turn = self.passwords.turn().await?;
        let hash = self.passwords.hash(turn, password).await?;
        let gone = self.accounts.set_password(user_id, &hash, link).await?;
        self.sessions_are_over(&gone);
        let account = self.accounts.find(Named::Id(user_id)).await?.ok_or(Code::SessionExpired)?;
        self.forget_failures(&account).await?;
        Ok(Account { password_hash: Some(hash), ..account })
    }

    /// Lifts what failed logins to an account led to, from its own devices too.
    pub(crate) async fn forget_failures(&self, account: &Account) -> Result<(), ApiError> {
        let secret = self.accounts.secret();
        let email = secret.key_of(Kept::Email(&account.user.email));
        let owner = secret.key_of(Kept::Owner(account.user.id));
        self.accounts.forget_failures(&email, &owner).await
    }
}
