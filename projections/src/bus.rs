//! Blocks over NATS JetStream: a relay that can always be filled again from the ledger.

mod feed;
mod relay;
mod settings;
mod stream;

pub use feed::JetStreamFeed;
pub use relay::{Relay, RelayError, RelayProgress};
pub use settings::{Credentials, NatsError, NatsSettings, StreamStorage};
