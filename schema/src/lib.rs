//! The vocabulary of Daybook, and no behaviour: ids, quantities, commands, events, the bytes they
//! are stored as and the hash chain over them.
//!
//! Everything that is stored is described in `schema/FORMAT.md`; this crate is the only one that
//! writes or reads those bytes. The rules of the game are in `daybook-simulator`, the store in
//! `daybook-ledger`.
//!
//! ```
//! use daybook_schema::{Event, UserId, events::UserRegistered};
//!
//! let user = UserId::random();
//! assert!(user.to_string().starts_with("usr_"));
//!
//! let event = Event::UserRegistered(UserRegistered {});
//! let mut payload = Vec::new();
//! event.encode(&mut payload);
//! let kind = u16::from(event.kind().number());
//! assert_eq!(Event::decode(kind, event.version(), &payload), Ok(event));
//! ```

#[macro_use]
mod macros;

pub mod block;
pub mod chain;
pub mod codec;
pub mod commands;
pub mod derivation;
pub mod digest;
pub mod enumerations;
pub mod event_json;
pub mod events;
pub mod genesis;
pub mod ids;
pub mod limits;
pub mod quantities;
pub mod stored;
pub mod telemetry;

pub use block::{Block, BlockRange};
pub use chain::{CommandMark, EventHeader};
pub use codec::{PayloadError, PayloadProblem};
pub use commands::{ClientSeed, Command, StoredCommand};
pub use derivation::LedgerIdentity;
pub use enumerations::*;
pub use events::{Event, EventKind, StreamKind};
pub use genesis::{Game, Genesis, LedgerFormat};
pub use ids::*;
pub use quantities::*;
pub use stored::{Head, ParseHeadError, StoredEvent};
