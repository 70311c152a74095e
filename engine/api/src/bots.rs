//! Accounts of bots, with sessions and no password, for `daybook load`.

use std::net::{IpAddr, Ipv4Addr};

use daybook_schema::{Role, UserId};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::accounts::users::NewUser;
use crate::caller::Caller;
use crate::client::Client;
use crate::error::{ApiError, Code};
use crate::service::Service;

/// Bots that are made by one task.
pub const BOTS_AT_ONCE_MAX: u32 = 500;
/// What no password hashes to.
const NO_PASSWORD: &str = "!";

/// A bot that is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BotSession {
    /// The user.
    pub user_id: UserId,
    /// The session's token, as its cookie has it.
    pub session: String,
}

impl Service {
    /// Makes bots and logs them in. Their addresses are ones that nobody can have.
    pub(crate) async fn make_bots(&self, count: u32) -> Result<Vec<BotSession>, ApiError> {
        if count == 0 || count > BOTS_AT_ONCE_MAX {
            let most = format!("1 to {BOTS_AT_ONCE_MAX} bots are made at a time");
            return Err(ApiError::new(Code::ValidationError).saying(most));
        }
        try_join_all((0..count).map(|_| self.make_bot())).await
    }

    async fn make_bot(&self) -> Result<BotSession, ApiError> {
        let user_id = UserId::random();
        let new = NewUser {
            id: user_id,
            email: format!("bot+{user_id}@bots.invalid"),
            display_name: "bot".to_owned(),
            avatar_url: None,
            role: Role::Player,
            password_hash: NO_PASSWORD.to_owned(),
            by_token: None,
        };
        self.register(&new).await?;
        let caller = Caller {
            client: Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), country: None },
            device: None,
            user_agent: Some("daybook load".to_owned()),
        };
        let token = self.begin_session(user_id, NO_PASSWORD.to_owned(), &caller).await?;
        // It is at hand then: a thousand bots from one address would else be looked up as strangers are.
        self.find_session(&token.hash()).await?;
        Ok(BotSession { user_id, session: token.as_str().to_owned() })
    }
}
