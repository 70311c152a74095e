//! Blocks over NATS JetStream: a relay that can always be filled again from the ledger.

mod messages;
mod relay;
mod settings;
mod stream;
mod stream_feed;

pub use relay::{Relay, RelayError, RelayProgress};
pub use settings::{Credentials, NatsError, NatsSettings, StreamStorage};
pub use stream_feed::JetStreamFeed;
