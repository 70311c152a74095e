//! Who one is: registering, logging in, new passwords.

use daybook_ledger::SubmitError;
use daybook_schema::{Command, UserId};
use daybook_simulator::Rejection;

use crate::accounts::attempts::Counter;
use crate::accounts::users::{Account, Named, NewUser, User};
use crate::client::{Client, Neighbourhood};
use crate::error::{ApiError, Code};
use crate::passwords::Password;
use crate::service::Service;
use crate::tokens::{Counted, Token, TokenHash};

/// Where a request that has a password comes from.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    /// The device cookie that it carries.
    pub(crate) device: Option<String>,
    pub(crate) user_agent: Option<String>,
}

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
                // It may have been applied where the engine stopped: the next start looks.
                if !matches!(error, SubmitError::Unavailable(_)) {
                    self.accounts.drop_pending(new.id).await?;
                }
                Err(error.into())
            }
        }
    }

    /// The ledger knows a user, or knew it before.
    pub(crate) async fn register_in_ledger(&self, user_id: UserId) -> Result<(), SubmitError> {
        match self.submit(Command::RegisterUser { user_id }).await {
            Err(SubmitError::Rejected(rejections))
                if matches!(rejections.first(), Rejection::UserAlreadyRegistered { .. }) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Counts a registration from a client's address.
    pub(crate) async fn count_registration(&self, client: &Client) -> Result<(), ApiError> {
        let neighbourhood = Neighbourhood::of(client.address);
        let counted = Counted::Registrations(neighbourhood.as_bytes());
        let key = self.accounts.secret().key_of(counted);
        self.accounts.count_registration(&key, self.settings.registrations_per_day_max).await
    }

    /// What an attempt is counted by: the address, or the device where it is known; and the
    /// client's address.
    fn counters(&self, email: &str, account: Option<&Account>, caller: &Caller) -> [Counter; 2] {
        let (secret, settings) = (self.accounts.secret(), &self.settings.lockout);
        let device = account.zip(caller.device.as_deref()).and_then(|(account, carried)| {
            let user_id = account.user.id;
            secret.known_device(user_id, carried).map(|device| Counted::Device(user_id, device))
        });
        let neighbourhood = Neighbourhood::of(caller.client.address);
        [
            Counter {
                key: secret.key_of(device.unwrap_or(Counted::Email(email))),
                failures_max: settings.failures_max,
            },
            Counter {
                key: secret.key_of(Counted::Client(neighbourhood.as_bytes())),
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
        let account = self.accounts.find(Named::Email(email)).await?;
        let counters = self.counters(email, account.as_ref(), caller);
        self.accounts.begin_attempt(&counters, &self.settings.lockout).await?;
        let stored = account.as_ref().and_then(|account| account.password_hash.as_deref());
        let is_right = match self.passwords.is_right(password, stored).await {
            Ok(is_right) => is_right,
            Err(error) => {
                // Nothing was looked at: that is no failure.
                self.accounts.forgive_one(&counters).await?;
                return Err(error);
            }
        };
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

    /// Logs in.
    ///
    /// # Errors
    /// As [`Self::check_password`]; [`Code::AccountLocked`] after the right password alone.
    pub(crate) async fn log_in(
        &self,
        email: &str,
        password: &Password,
        caller: &Caller,
    ) -> Result<LoggedIn, ApiError> {
        let account = self.check_password(email, password, caller).await?;
        if account.is_locked {
            return Err(ApiError::new(Code::AccountLocked));
        }
        let user_id = account.user.id;
        let outdated = account.password_hash.as_deref();
        if outdated.is_some_and(|stored| self.passwords.is_outdated(stored))
            && let Ok(fresh) = self.passwords.hash(password).await
        {
            self.accounts.refresh_hash(user_id, &fresh).await?;
        }
        self.logged_in(user_id, caller).await
    }

    /// Begins a session of a user who has shown who he is.
    pub(crate) async fn logged_in(
        &self,
        user_id: UserId,
        caller: &Caller,
    ) -> Result<LoggedIn, ApiError> {
        let user_agent = caller.user_agent.as_deref();
        let token = self.begin_session(user_id, &caller.client, user_agent).await?;
        let account = self.accounts.find(Named::Id(user_id)).await?;
        let user = account.ok_or(Code::InvalidCredentials)?.user;
        let secret = self.accounts.secret();
        let known =
            caller.device.as_deref().and_then(|device| secret.known_device(user_id, device));
        let device = known.is_none().then(|| secret.new_device(user_id)).transpose()?;
        Ok(LoggedIn { user, token, device })
    }

    /// Sets a new password and ends all sessions; with a link it uses the link up. What failed
    /// logins led to is lifted.
    pub(crate) async fn set_password(
        &self,
        user_id: UserId,
        password: &Password,
        link: Option<&TokenHash>,
    ) -> Result<(), ApiError> {
        let hash = self.passwords.hash(password).await?;
        let gone = self.accounts.set_password(user_id, &hash, link).await?;
        self.sessions_are_over(&gone);
        if let Some(account) = self.accounts.find(Named::Id(user_id)).await? {
            let key = self.accounts.secret().key_of(Counted::Email(&account.user.email));
            self.accounts.forget_failures(&key).await?;
        }
        Ok(())
    }
}
