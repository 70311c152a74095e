//! A service token that is kept at hand.

use daybook_schema::UserId;

use crate::error::{ApiError, Code};
use crate::scopes::Scope;
use crate::tokens::TokenHash;

/// A token that a request carries.
#[derive(Debug)]
pub(crate) struct ServiceToken {
    pub(crate) name: String,
    pub(crate) hash: TokenHash,
    pub(crate) scopes: Vec<Scope>,
    /// How many ends of sessions and changes of users there were when it was looked up.
    pub(crate) ends: u64,
}

impl ServiceToken {
    /// As whom its requests are counted: like a user, under a part of its hash.
    pub(crate) fn counted_as(&self) -> UserId {
        let mut bytes = [0; 16];
        let hash = self.hash.as_str().as_bytes();
        bytes.iter_mut().zip(hash).for_each(|(byte, digit)| *byte = *digit);
        UserId::from_bytes(bytes)
    }

    /// Refuses what it may not do.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        match self.scopes.contains(&scope) {
            true => Ok(()),
            false => Err(ApiError::new(Code::Forbidden)
                .saying(format!("This token lacks the scope {scope}"))),
        }
    }
}
