//! Where a request that logs in comes from.

use crate::client::Client;

/// Where a request that has a password comes from.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    /// The device cookie that it carries.
    pub(crate) device: Option<String>,
    pub(crate) user_agent: Option<String>,
}
