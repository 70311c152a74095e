//! Every limit of Daybook in one place, each with its unit, held together by compile-time
//! assertions: of the game, the engine, the bus, the read models and
//! telemetry.

mod bus;
mod engine;
mod game;
mod read_models;
mod telemetry;

pub use bus::*;
pub use engine::*;
pub use game::*;
pub use read_models::*;
pub use telemetry::*;

const _: () = {
    assert!(EVENTS_PER_COMMAND_MAX > OPEN_SESSIONS_PER_USER_MAX, "an erasure ends every session");
    assert!(EVENTS_PER_APPLY_MAX >= EVENTS_PER_BLOCK_MAX);
};
