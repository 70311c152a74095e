//! The rules of the game as pure functions.
//!
//! [`decide`] turns a command into events or a list of rejections; [`evolve`] applies an event and
//! cannot fail. Time and season keys are arguments: no clock, no input or output, no operating
//! system's randomness and no float reaches a result, and no order of a hash map is ever told
//! ([`Table`]). So the same ledger gives the same state, byte for byte, on every machine.
//!
//! The rules themselves are written down in `RULEBOOK.md` beside this crate.
#![deny(clippy::float_arithmetic, clippy::disallowed_types, clippy::disallowed_methods)]

mod accounts;
mod bond;
mod compromised_keys;
mod decide;
mod draws;
mod evolve;
mod hands;
mod list;
pub mod odds;
mod payouts;
mod reconstruct;
mod rejection;
mod ruleset_1;
mod rulesets;
mod season_keys;
mod stakes;
mod state;
pub mod streams;
mod table;
mod transfers;

pub use accounts::{Accounts, Unbalanced};
pub use bond::{level_for, xp_to_leave};
pub use decide::{Context, NewEvent, decide};
pub use draws::{DayDraw, Generator, PotDraw, draw_day, draw_weather};
pub use evolve::evolve;
pub use hands::{WeekTriggers, evaluate_hand, hand_multiplier};
pub use list::List;
pub use payouts::{multiplier, pays};
pub use reconstruct::{AuditKeys, IncompleteCommand, reconstruct};
pub use rejection::{Rejection, RejectionClass, Rejections};
pub use ruleset_1::{RULESET_1, TROUBLE_COUNTS_PERCENT};
pub use rulesets::{
    BetTypeMultipliers, PerWeather, PotEventChances, Rules, Rulesets, ThresholdMultipliers,
};
pub use season_keys::{
    Keyring, SeasonKey, SeasonKeyRequest, SeasonKeys, commitment_of, day_seed, previous_key,
};
pub use stakes::bet_bounds;
pub use state::{
    EndedSeason, MalformedState, PlacedBet, PublishedCommitment, Season, SeasonEnd,
    SeasonKeyStatus, Simulin, State, User,
};
pub use table::Table;
