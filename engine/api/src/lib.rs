//! Daybook over HTTP: accounts and sessions, and the guards that all requests pass.
//!
//! A [`Service`] is made of a ledger, [`Accounts`] and the read models. It is reconciled, its
//! [`Upkeep`] is started, and [`router`] is served by a [`Server`]. [`Task`] is what an operator
//! asks for.

mod accounts;
mod adoptions;
mod answers;
mod body_wait;
mod bots;
mod caller;
mod client;
mod commands;
mod erasure;
mod error;
mod export;
mod feed;
mod figures;
mod guards;
mod headers;
mod heads;
mod ledger_reads;
mod live_hub;
mod live_stream;
mod logins;
mod metrics;
mod odds;
mod open_session;
mod open_streams;
mod openapi;
mod operator;
mod operator_socket;
mod own_telemetry;
mod passwords;
mod pauses;
mod pausing;
mod private_file;
mod rate_limits;
mod reading;
mod recall;
mod reconcile;
mod request_counts;
mod routes;
mod schema_faults;
mod scopes;
mod seasons;
mod server;
mod service;
mod service_token;
mod service_tokens;
mod sessions;
mod settings;
mod suspicions;
mod telemetry;
mod tokens;
mod told_cuts;
mod upkeep;
mod validation;
mod watched;

pub use accounts::pauses::Pause;
pub use accounts::service_tokens::ListedToken;
pub use accounts::{Accounts, AccountsError, AccountsLost};
pub use bots::{BOTS_AT_ONCE_MAX, BotSession};
pub use error::{ApiError, Code, Detail, ErrorBody, ErrorText};
pub use figures::Figures;
pub use metrics::serve_metrics;
pub use operator::{Task, TaskAnswer};
pub use operator_socket::{OperatorSocket, SocketPath, TASK_PATH};
pub use passwords::{HashingError, Password};
pub use reconcile::{Lacking, Reconciled, StartError};
pub use routes::{document, guarded, router};
pub use scopes::{Scope, ScopeError};
pub use server::{Ready, Server};
pub use service::{Parts, Service};
pub use settings::{
    ClientHeader, Connections, Hashing, Lockout, PublicUrl, PublicUrlError, RateLimit,
    RateLimitError, RateLimits, Settings, TelemetrySettings, TrustedProxy, TrustedProxyError,
};
pub use telemetry::{
    ClientEvent, Compared, ComparedDay, StoreError, Telemetry, TelemetryCounts, TelemetryError,
    compare,
};
pub use upkeep::Upkeep;
