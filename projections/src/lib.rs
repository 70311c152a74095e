//! Daybook's read models: tables in `game.db` that are a function of the ledger.
//!
//! A [`Projection`] folds events into [`Changes`] of its tables. A [`Worker`] feeds it, from the
//! ledger's own [`Tail`] or from JetStream ([`JetStreamFeed`], filled by a [`Relay`]), and commits
//! rows and position in one transaction: a block that comes twice changes nothing, and [`rebuild()`]
//! makes the same rows again. [`Reads`] is what an API asks.

mod accounts;
pub mod analytics;
mod applied;
mod applier;
#[cfg(feature = "nats")]
mod bus;
mod database;
mod database_files;
mod database_url;
mod engine_feed;
mod feed;
mod filling_from_accounts;
mod folded_log;
mod game_file;
mod insert;
mod local_ledger;
mod measured_pool;
mod migrations;
mod notices;
mod position;
mod projection;
mod ranks;
mod read_models;
mod reads;
mod rebuild;
mod shared_tail;
mod sqlite;
mod status;
pub mod test_kit;
mod witnesses;
mod worker;
mod workers;

#[cfg(feature = "nats")]
pub use bus::{
    Credentials, JetStreamFeed, NatsError, NatsSettings, Relay, RelayError, RelayProgress,
    StreamStorage,
};
pub use database::{DatabaseSettings, GameDatabase};
pub use database_files::DatabaseFiles;
pub use database_url::{DatabaseUrlError, path_of_url};
pub use engine_feed::EngineFeed;
pub use feed::{Feed, FeedError, Past, Tail};
pub use filling_from_accounts::filling_waits;
pub use futures_util::future::BoxFuture;
pub use game_file::{FileLost, SetAside, Wait};
pub use local_ledger::LocalLedger;
pub use measured_pool::MeasuredPool;
pub use migrations::{
    Migrated, MigrationError, MigrationNumber, MigrationStatus, Migrations, NewMigration,
    ParseMigrationNumberError,
};
pub use notices::{Notice, NoticeHub, Watch, notices_of};
pub use position::Position;
pub use projection::{ApplyError, Changes, ProjectedEvent, Projection};
pub use read_models::{Analytics, DayEvent, Seasons, Simulins, all as all_projections};
pub use reads::boards::{BoardCursor, Leaderboard, LeaderboardRow};
pub use reads::play::{Movement, Movements, MovementsAsked};
pub use reads::{
    BetDetails, DayDetails, FlagDetails, Played, ReadError, Reads, SeasonCounts, SeasonDetails,
    SeasonSummary, SimulinDetails, StandsFor, TriggerDetails, WeekDetails, season_head,
};
pub use rebuild::{RebuildError, Rebuilt, rebuild};
pub use sqlite::{Look, connect_options, has_orphaned_log, look, path_in_sql, result_code};
pub use sqlx;
pub use status::{ProjectionState, ProjectionStatus, Stopped, status};
pub use witnesses::{disputed_heads, forget, give_over, known_heads, known_ledgers};
pub use worker::{Step, Worker, WorkerError};
pub use workers::{FeedSource, Workers};
