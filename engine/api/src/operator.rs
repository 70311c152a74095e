//! The operator's tasks about people: the same whether a service runs or not.

use daybook_schema::{Role, UserId};
use serde::{Deserialize, Serialize};

use crate::accounts::pauses::Pause;
use crate::accounts::service_tokens::ListedToken;
use crate::accounts::users::{Account, LockedBy, Named, NewUser, normalized_email};
use crate::bots::BotSession;
use crate::error::{ApiError, Code};
use crate::export::Export;
use crate::figures::Figures;
use crate::passwords::Password;
use crate::scopes::Scope;
use crate::service::Service;
use crate::tokens::Token;
use crate::validation::is_unseen;

/// Players are told the reason of a pause.
const REASON_CHARACTERS_MAX: usize = 500;

/// What the operator asks for. A user is named by address or id.
#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "task", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Task {
    /// Makes an account.
    Create {
        /// The address.
        email: String,
        /// What others see.
        display_name: String,
        /// What the user may do.
        role: Role,
        /// The password.
        password: String,
    },
    /// Shows a user.
    Show {
        /// The user.
        user: String,
    },
    /// Sets a role.
    SetRole {
        /// The user.
        user: String,
        /// What the user may do.
        role: Role,
    },
    /// Makes a link to set a new password.
    ResetPassword {
        /// The user.
        user: String,
    },
    /// Sets a password and ends all sessions.
    SetPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Gives all that is held.
    Export {
        /// The user.
        user: String,
        /// The `telemetryNext` of the answer before, for older telemetry.
        #[serde(default)]
        telemetry_before: Option<i64>,
    },
    /// Locks the account and ends its sessions.
    Lock {
        /// The user.
        user: String,
    },
    /// Lifts the lock.
    Unlock {
        /// The user.
        user: String,
    },
    /// Erases the user.
    Erase {
        /// The user.
        user: String,
    },
    /// Pauses play.
    Pause {
        /// Whose; that of all without it.
        user: Option<String>,
        /// What players are told.
        reason: String,
        /// Who does it.
        by: String,
    },
    /// Makes a service token.
    MakeToken {
        /// What it is called.
        name: String,
        /// What it may do.
        scopes: Vec<Scope>,
        /// For whom it may play.
        users: Vec<String>,
        /// Who does it.
        by: String,
    },
    /// Lets a service token play for more users.
    BindToken {
        /// What it is called.
        name: String,
        /// For whom.
        users: Vec<String>,
    },
    /// Revokes a service token.
    RevokeToken {
        /// What it is called.
        name: String,
        /// Who does it.
        by: String,
    },
    /// Lists the service tokens.
    ListTokens,
    /// Tells how the service fares.
    Stats,
    /// Makes accounts of bots, with sessions.
    Bots {
        /// How many.
        count: u32,
    },
    /// Ends a pause.
    Resume {
        /// Whose; that of all without it.
        user: Option<String>,
        /// Who does it.
        by: String,
    },
}

/// What became of a task.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAnswer {
    /// The user's id; of what concerns all it is `all`.
    pub id: String,
    /// The user, unless erased.
    pub user: Option<serde_json::Value>,
    /// Whether the account is locked.
    pub is_locked: bool,
    /// The link, where one was made.
    pub link: Option<String>,
    /// All that is held, where that was asked for.
    pub export: Option<serde_json::Value>,
    /// The service token, where one was made: it is shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The service tokens, where these were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<ListedToken>>,
    /// The bots, where some were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bots: Option<Vec<BotSession>>,
    /// How the service fares, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// The pause, where one was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// What is answered where no user is meant.
fn answer_of_all() -> TaskAnswer {
    TaskAnswer {
        id: "all".to_owned(),
        user: None,
        is_locked: false,
        link: None,
        export: None,
        token: None,
        tokens: None,
        bots: None,
        figures: None,
        pause: None,
    }
}

fn answer_of(account: &Account) -> TaskAnswer {
    TaskAnswer {
        id: account.user.id.to_string(),
        user: serde_json::to_value(&account.user).ok(),
        is_locked: account.locked_by.is_some(),
        ..answer_of_all()
    }
}

impl Service {
    /// Locks an account: nobody logs in to it any more, and whoever was is out.
    pub(crate) async fn lock(&self, user_id: UserId, locked_by: LockedBy) -> Result<(), ApiError> {
        let gone = self.accounts.lock(user_id, locked_by).await?;
        self.sessions_are_over(&gone);
        self.streams.end_of_tokens_for(user_id);
        Ok(())
    }

    async fn named(&self, user: &str) -> Result<Account, ApiError> {
        let email = normalized_email(user);
        let named = match user.parse() {
            Ok(user_id) => Named::Id(user_id),
            Err(_) => Named::Email(&email),
        };
        let unknown = || ApiError::new(Code::NotFound).saying(format!("there is no user `{user}`"));
        self.accounts.find(named).await?.ok_or_else(unknown)
    }

    async fn all_named(&self, users: &[String]) -> Result<Vec<UserId>, ApiError> {
        let mut found = Vec::with_capacity(users.len());
        for user in users {
            let user = self.named(user).await?.user;
            if user.role == Role::Admin {
                let admin = format!("`{}` is an admin: no token plays for one", user.email);
                return Err(ApiError::new(Code::ValidationError).saying(admin));
            }
            found.push(user.id);
        }
        Ok(found)
    }

    async fn perhaps_named(&self, user: Option<String>) -> Result<Option<Account>, ApiError> {
        match user {
            Some(user) => Ok(Some(self.named(&user).await?)),
            None => Ok(None),
        }
    }

    /// Does a task of the operator's.
    ///
    /// # Errors
    /// [`ApiError`], with a message for the operator.
    pub async fn operate(&self, task: Task) -> Result<TaskAnswer, ApiError> {
        let (user_id, mut answer) = match task {
            Task::Create { email, display_name, role, password } => {
                (self.create(email, display_name, role, password).await?, None)
            }
            Task::Show { user } => (self.named(&user).await?.user.id, None),
            Task::SetRole { user, role } => {
                let user_id = self.named(&user).await?.user.id;
                self.accounts.set_role(user_id, role).await?;
                // Who is logged in has the new role at once.
                self.look_up_again(&self.accounts.tokens_of(user_id).await?);
                if role == Role::Admin {
                    self.streams.end_of_tokens_for(user_id);
                }
                (user_id, None)
            }
            Task::ResetPassword { user } => {
                let account = self.named(&user).await?;
                let mut answer = answer_of(&account);
                answer.link = Some(self.reset_link(account.user.id).await?);
                (account.user.id, Some(answer))
            }
            Task::SetPassword { user, password } => {
                let user_id = self.named(&user).await?.user.id;
                let password = sound(password)?;
                self.set_password(user_id, &password, None).await?;
                (user_id, None)
            }
            Task::Export { user, telemetry_before } => {
                let account = self.named(&user).await?;
                let mut answer = answer_of(&account);
                let export: Export = self.export(account.user.id, None, telemetry_before).await?;
                answer.export = serde_json::to_value(export).ok();
                (account.user.id, Some(answer))
            }
            Task::Lock { user } => {
                let user_id = self.named(&user).await?.user.id;
                self.lock(user_id, LockedBy::Operator).await?;
                (user_id, None)
            }
            Task::Unlock { user } => {
                let account = self.named(&user).await?;
                self.accounts.unlock(account.user.id).await?;
                self.forget_failures(&account).await?;
                (account.user.id, None)
            }
            Task::Erase { user } => {
                let account = self.named(&user).await?;
                self.erase(account.user.id).await?;
                let answer = TaskAnswer { user: None, is_locked: false, ..answer_of(&account) };
                (account.user.id, Some(answer))
            }
            Task::MakeToken { name, scopes, users, by } => {
                // Who is not there is told before the token is made.
                let users = self.all_named(&users).await?;
                let token = self.make_token(&name, &scopes, &users, &by).await?;
                let token = Some(token.as_str().to_owned());
                return Ok(TaskAnswer { id: name, token, ..answer_of_all() });
            }
            Task::BindToken { name, users } => {
                let users = self.all_named(&users).await?;
                self.bind_token(&name, &users).await?;
                return Ok(TaskAnswer { id: name, ..answer_of_all() });
            }
            Task::RevokeToken { name, by } => {
                self.revoke_token(&name, &by).await?;
                return Ok(TaskAnswer { id: name, ..answer_of_all() });
            }
            Task::ListTokens => {
                let tokens = Some(self.accounts.list_tokens().await?);
                return Ok(TaskAnswer { tokens, ..answer_of_all() });
            }
            Task::Bots { count } => {
                let bots = Some(self.make_bots(count).await?);
                return Ok(TaskAnswer { bots, ..answer_of_all() });
            }
            Task::Stats => {
                let figures = Some(self.figures().await);
                return Ok(TaskAnswer { figures, ..answer_of_all() });
            }
            Task::Pause { user, reason, by } => {
                let account = self.perhaps_named(user).await?;
                check_reason(&reason)?;
                let user_id = account.as_ref().map(|account| account.user.id);
                let pause = Some(self.pause(user_id, reason.trim(), &by).await?);
                let answer = account.as_ref().map_or_else(answer_of_all, answer_of);
                return Ok(TaskAnswer { pause, ..answer });
            }
            Task::Resume { user, by } => {
                let account = self.perhaps_named(user).await?;
                self.resume(account.as_ref().map(|account| account.user.id), &by).await?;
                return Ok(account.as_ref().map_or_else(answer_of_all, answer_of));
            }
        };
        match answer.take() {
            Some(answer) => Ok(answer),
            None => Ok(answer_of(&self.named(&user_id.to_string()).await?)),
        }
    }

    async fn create(
        &self,
        email: String,
        display_name: String,
        role: Role,
        password: String,
    ) -> Result<UserId, ApiError> {
        crate::routes::check_profile(&email, &display_name)?;
        let password = sound(password)?;
        let turn = self.passwords.turn().await?;
        let new = NewUser {
            id: UserId::random(),
            email: normalized_email(&email),
            display_name,
            avatar_url: None,
            role,
            password_hash: self.passwords.hash(turn, &password).await?,
            by_token: None,
        };
        self.register(&new).await?;
        Ok(new.id)
    }

    async fn reset_link(&self, user_id: UserId) -> Result<String, ApiError> {
        let token = Token::random()?;
        let age = i64::try_from(self.settings.reset_link_age.as_secs()).unwrap_or(i64::MAX);
        self.accounts.add_reset_link(user_id, &token.hash(), age).await?;
        // After the `#`: browsers send it to nobody, so no log has it.
        Ok(format!("{}/reset#{}", self.settings.public_url.as_str(), token.as_str()))
    }
}

fn check_reason(reason: &str) -> Result<(), ApiError> {
    let is_shown =
        !reason.trim().is_empty() && !reason.chars().any(|it| it.is_control() || is_unseen(it));
    match is_shown && reason.chars().count() <= REASON_CHARACTERS_MAX {
        true => Ok(()),
        false => Err(ApiError::new(Code::ValidationError).saying(format!(
            "the reason must have 1 to {REASON_CHARACTERS_MAX} characters in one line: players read it"
        ))),
    }
}

fn sound(password: String) -> Result<Password, ApiError> {
    let password = Password::new(password);
    match password.fault() {
        None => Ok(password),
        Some(fault) => {
            Err(ApiError::new(Code::ValidationError).saying(format!("the password {fault}")))
        }
    }
}
