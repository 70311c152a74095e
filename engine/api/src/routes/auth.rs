//! Registering, logging in and out, new passwords.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use daybook_schema::{Role, SessionEndReason, UserId};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::sessions::Which;
use crate::accounts::users::{Named, NewUser, User, normalized_email};
use crate::caller::Caller;
use crate::error::{ApiError, Code, Detail, ErrorBody};
use crate::guards::{LoggedInAs, PerhapsLoggedIn, PerhapsToken};
use crate::logins::LoggedIn;
use crate::passwords::Password;
use crate::service::{Service, in_full};
use crate::service_tokens::RegisteredUser;
use crate::tokens::{TokenHash, device_cookie, no_session_cookie, session_cookie};
use crate::validation::{Nothing, RequestBody, Valid, fault, is_unseen, reported};

/// A new account.
#[derive(Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Registration {
    /// Where the user is reached; compared in lower case.
    #[schema(format = "email", max_length = 254, example = "ada@farm.example")]
    #[garde(custom(is_email))]
    email: String,
    /// 8 to 128 characters, any Unicode; the most common ones are refused.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "a pail of cold water")]
    #[garde(skip)]
    password: Password,
    /// What others see.
    #[schema(min_length = 1, max_length = 64, example = "Ada")]
    #[garde(custom(is_name))]
    display_name: String,
    /// A picture, by https.
    #[schema(max_length = 2048, example = "https://farm.example/ada.png")]
    #[garde(inner(custom(is_https)))]
    avatar_url: Option<String>,
}

/// An address of the form that mail servers take. Under `.invalid` nobody has one: there stand the
/// addresses of placeholders.
pub(super) fn is_email(email: &str, (): &()) -> garde::Result {
    let trimmed = email.trim();
    if normalized_email(email).ends_with(".invalid") {
        return Err(garde::Error::new("must be an address that can exist"));
    }
    garde::rules::email::apply(&trimmed, ())
        .map_err(|_| garde::Error::new("must be an address such as ada@farm.example"))
}

/// A name that is seen, without control characters.
pub(super) fn is_name(name: &str, (): &()) -> garde::Result {
    let shows = name.chars().any(|it| !it.is_whitespace() && it != '\u{200d}');
    match !shows || name.chars().any(|it| it.is_control() || is_unseen(it)) {
        true => {
            Err(garde::Error::new("must have a letter or a sign, and nothing that is not seen"))
        }
        false => Ok(()),
    }
}

/// A URL that browsers load over TLS.
pub(super) fn is_https(url: &str, (): &()) -> garde::Result {
    let is_url = garde::rules::url::apply(&url, ()).is_ok();
    match is_url && url.starts_with("https://") && url.is_ascii() {
        true => Ok(()),
        false => Err(garde::Error::new("must be a URL that begins with https://")),
    }
}

/// Why a new password is refused.
fn password_faults(password: &Password) -> Vec<Detail> {
    password.fault().map(|message| fault("password", "password", message)).into_iter().collect()
}

impl RequestBody for Registration {
    fn faults(&self) -> Vec<Detail> {
        let mut faults = reported(self.validate());
        faults.extend(password_faults(&self.password));
        faults
    }
}

/// Who logs in.
#[derive(Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Login {
    /// The address of the account.
    #[schema(format = "email", max_length = 254, example = "ada@farm.example")]
    #[garde(custom(is_email))]
    email: String,
    /// Its password.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "a pail of cold water")]
    #[garde(skip)]
    password: Password,
}

impl RequestBody for Login {
    fn faults(&self) -> Vec<Detail> {
        reported(self.validate())
    }
}

/// A change of password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PasswordChange {
    /// The password as it is.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "a pail of cold water")]
    current_password: Password,
    /// The new one.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "two pails of warm water")]
    password: Password,
}

impl RequestBody for PasswordChange {
    fn faults(&self) -> Vec<Detail> {
        password_faults(&self.password)
    }
}

/// A new password by a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Reset {
    /// What stands after the `#` of the link.
    #[schema(
        min_length = 1,
        max_length = 64,
        example = "cDGM4cQ1zn7mXxwqDqSqnN0k3Wc4V9mS2d2r1Zl6y4E"
    )]
    token: String,
    /// The new password.
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 128,
             example = "two pails of warm water")]
    password: Password,
}

impl RequestBody for Reset {
    fn faults(&self) -> Vec<Detail> {
        password_faults(&self.password)
    }
}

/// A user for whom a token plays already.
#[derive(Serialize, ToSchema)]
pub(crate) struct RegisteredAnswer {
    /// The user.
    user: RegisteredUser,
}

/// A user who is logged in.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserAnswer {
    /// The user.
    pub(crate) user: User,
}

impl LoggedIn {
    fn answer(self, status: StatusCode, service: &Service) -> Response {
        let Self { user, token, device } = self;
        let mut response = (status, Json(UserAnswer { user })).into_response();
        let headers = response.headers_mut();
        headers.append(header::SET_COOKIE, session_cookie(&token, service.settings.session_age));
        if let Some(device) = device {
            headers.append(header::SET_COOKIE, device_cookie(&device));
        }
        response
    }
}

/// Makes an account and logs in; with a service token it logs nobody in, and the token may play for
/// the user from then on. It tells whether an address is taken: there is no mail that could
/// tell it to its owner alone. So a client address may try 20 times a UTC day.
#[utoipa::path(post, path = "/api/auth/register", tag = "accounts", operation_id = "register",
    security(()),
    request_body = Registration,
    responses(
        (status = 200, description = "With a token: it may play for the user of this address already", body = RegisteredAnswer),
        (status = 201, description = "The account is made; `Set-Cookie` has the session", body = UserAnswer),
        (status = 409, description = "EMAIL_TAKEN", body = ErrorBody),
    ))]
pub(crate) async fn register(
    State(service): State<Service>,
    caller: Caller,
    old: PerhapsLoggedIn,
    PerhapsToken(token): PerhapsToken,
    Valid(registration): Valid<Registration>,
) -> Result<Response, ApiError> {
    in_full(async move {
        service.require_writable()?;
        if let Some(token) = &token
            && let Some(user) = service.user_of_token(&token.name, &registration.email).await?
        {
            return Ok(Json(RegisteredAnswer { user }).into_response());
        }
        // A flood is turned away here, before it costs a write.
        let turn = match token {
            None => service.passwords.turn().await?,
            Some(_) => service.passwords.turn_of_many().await?,
        };
        // Another backend registers its users from one address; its token is limited instead.
        let counted = token.is_none().then(|| service.registrations_key(&caller.client));
        let most = service.settings.registrations_per_day_max;
        if let Some(counted) = &counted {
            service.accounts.count_registration(counted, most).await?;
        }
        let password_hash = service.passwords.hash(turn, &registration.password).await?;
        let new = NewUser {
            id: UserId::random(),
            email: normalized_email(&registration.email),
            display_name: registration.display_name.trim().to_owned(),
            avatar_url: registration.avatar_url,
            role: Role::Player,
            password_hash,
            by_token: token.as_ref().map(|token| token.name.clone()),
        };
        match service.register(&new).await {
            Err(error) if error.status() == 503 => {
                if let Some(counted) = &counted {
                    service.accounts.uncount_registration(counted).await?;
                }
                return Err(error);
            }
            other => other?,
        }
        let account = service.accounts.find(Named::Id(new.id)).await?.ok_or(Code::Internal)?;
        if token.is_some() {
            let answer = UserAnswer { user: account.user };
            return Ok((StatusCode::CREATED, Json(answer)).into_response());
        }
        let logged_in = service.logged_in(account, &caller, old.0.as_deref()).await;
        let made = "The account is made, but no session could be begun; log in";
        let logged_in = logged_in.map_err(|error| match error.status() {
            503 => error.saying(made),
            _ => error,
        })?;
        Ok(logged_in.answer(StatusCode::CREATED, &service))
    })
    .await
}

/// Logs in. Unknown address and wrong password are answered alike, and take as long. After ten
/// failures in 15 minutes every login to the address is answered 423, for a minute growing to 15.
#[utoipa::path(post, path = "/api/auth/login", tag = "accounts", operation_id = "logIn",
    request_body = Login,
    responses(
        (status = 200, description = "`Set-Cookie` has a new session", body = UserAnswer),
        (status = 401, description = "INVALID_CREDENTIALS", body = ErrorBody),
        (status = 403, description = "ACCOUNT_LOCKED, after the right password alone; CROSS_SITE", body = ErrorBody),
        (status = 423, description = "LOCKED_OUT: too many logins failed", body = ErrorBody),
    ))]
pub(crate) async fn log_in(
    State(service): State<Service>,
    caller: Caller,
    old: PerhapsLoggedIn,
    Valid(login): Valid<Login>,
) -> Result<Response, ApiError> {
    in_full(async move {
        service.require_writable()?;
        let email = normalized_email(&login.email);
        let logged_in = service.log_in(&email, &login.password, &caller, old.0.as_deref()).await?;
        Ok(logged_in.answer(StatusCode::OK, &service))
    })
    .await
}

/// Ends the session.
#[utoipa::path(post, path = "/api/auth/logout", tag = "accounts", operation_id = "logOut",
    security(("session" = [])),
    request_body = Nothing,
    responses((status = 204, description = "The session is over")))]
pub(crate) async fn log_out(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    _: Valid<Nothing>,
) -> Result<impl IntoResponse, ApiError> {
    in_full(async move {
        let which = Which::One(session.number);
        service.end_sessions(session.user_id, which, SessionEndReason::Logout).await
    })
    .await?;
    Ok(session_is_over())
}

/// An answer that takes the session's cookie away.
pub(super) fn session_is_over() -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(header::SET_COOKIE, no_session_cookie());
    (StatusCode::NO_CONTENT, headers)
}

/// Changes the password and ends all sessions; a new one begins.
#[utoipa::path(post, path = "/api/auth/password", tag = "accounts", operation_id = "changePassword",
    security(("session" = [])),
    request_body = PasswordChange,
    responses(
        (status = 200, description = "All sessions are over; `Set-Cookie` has a new one", body = UserAnswer),
        (status = 423, description = "LOCKED_OUT: too many passwords were wrong", body = ErrorBody),
    ))]
pub(crate) async fn change_password(
    State(service): State<Service>,
    caller: Caller,
    LoggedInAs(session): LoggedInAs,
    Valid(change): Valid<PasswordChange>,
) -> Result<Response, ApiError> {
    in_full(async move {
        service.require_writable()?;
        let user_id = session.user_id;
        service.check_own_password(user_id, &change.current_password, &caller).await?;
        let account = service.set_password(user_id, &change.password, None).await?;
        let logged_in = service.logged_in(account, &caller, None).await?;
        Ok(logged_in.answer(StatusCode::OK, &service))
    })
    .await
}

/// Sets a new password by a link, which is for one use and an hour. All sessions end, and a lock-out
/// is lifted.
#[utoipa::path(post, path = "/api/auth/reset", tag = "accounts", operation_id = "resetPassword",
    request_body = Reset,
    responses(
        (status = 204, description = "The password is set; `Set-Cookie` makes the device known"),
        (status = 400, description = "INVALID_LINK: used up or too old; VALIDATION_ERROR", body = ErrorBody),
    ))]
pub(crate) async fn reset_password(
    State(service): State<Service>,
    Valid(reset): Valid<Reset>,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    in_full(async move {
        let link = TokenHash::of(&reset.token).ok_or(Code::InvalidLink)?;
        let user_id = service.accounts.reset_link(&link).await?.ok_or(Code::InvalidLink)?;
        service.set_password(user_id, &reset.password, Some(&link)).await?;
        // Whoever has the link is the user: no neighbour's failures keep him out from here.
        let device = service.accounts.secret().new_device(user_id)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::SET_COOKIE, device_cookie(&device));
        Ok((StatusCode::NO_CONTENT, headers))
    })
    .await
}
