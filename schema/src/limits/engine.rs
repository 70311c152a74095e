//! Limits of the engine: commands, batches, the ring, the log, memory, snapshots, ids and clocks.

/// Lost heads that one accepted loss names.
pub const LOST_HEADS_MAX: usize = 8;
/// Bytes of a game's name in the genesis.
pub const GAME_NAME_BYTES_MAX: usize = 32;
/// Events of one command: 4 bets resolved, the day, 5 triggers, XP, level, hand, jackpot, XP,
/// level, completion and commitment are 17.
pub const EVENTS_PER_COMMAND_MAX: usize = 32;
/// Bytes of an event's payload.
pub const PAYLOAD_BYTES_MAX: usize = 512;
/// Commands waiting for the state thread; one more is answered `OVERLOADED`.
pub const COMMANDS_WAITING_MAX: usize = 16_384;
/// Commands of one transaction.
pub const COMMANDS_PER_BATCH_MAX: usize = 4_096;
/// Events of one transaction, not counting those of the command that passes it.
pub const EVENTS_PER_BATCH_MAX: usize = 16_384;
/// Where the last sync took so long, or the present one does, nothing is decided while a sync is
/// under way; in milliseconds.
pub const SYNC_SLOW_MS: u64 = 100;
/// Commands of bots that wait for their answers at once.
pub const BOT_COMMANDS_WAITING_MAX: usize = 8_192;
/// Rows that a search looks at in one short transaction.
pub const ROWS_PER_SEARCH: u64 = 1 << 16;
/// Rows that a reader takes in one short transaction.
pub const ROWS_PER_READ: usize = 4_096;
/// Events that are shared at once by all who follow an engine.
pub const EVENTS_PER_CUT_MAX: usize = 256;
/// The newest events that are kept for those who follow; who is further behind has the file read.
pub const EVENTS_IN_RING_MAX: usize = 1 << 16;
/// Threads that read the file for those who are behind, all together.
pub const CATCH_UP_THREADS: usize = 2;
/// Events that are read at once for one who is behind.
pub const EVENTS_PER_CATCH_UP_MAX: u64 = 1_024;
/// The write-ahead log is checkpointed beside the work from this size on, in bytes.
pub const WAL_BYTES_CHECKPOINT: u64 = 1024 * 1024;
/// From this size on the writer waits for a checkpoint that starts the log anew, in bytes.
pub const WAL_BYTES_RESTART: u64 = 128 * 1024 * 1024;
/// How long a checkpoint that starts the log anew waits for readers, in milliseconds; play waits as
/// long.
pub const WAL_RESTART_WAIT_MS: u64 = 100;
/// Seasons without a reveal that a verification lists; it counts them all.
pub const UNREVEALED_LISTED_MAX: usize = 100;
/// A page of `ledger.db`, in bytes.
pub const LEDGER_PAGE_BYTES: u32 = 16_384;
/// SQLite's page cache of a connection, in KiB.
pub const CACHE_KIB: u32 = 16_384;
/// How long a connection waits for another's lock, in milliseconds.
pub const BUSY_TIMEOUT_MS: u64 = 5_000;
/// How long the writer waits for another program's lock before new commands are refused, in
/// milliseconds.
pub const WRITER_BUSY_TIMEOUT_MS: u64 = 1_000;
/// What the engine holds in memory for a user, in bytes at most, whatever the number of events: the
/// record of the state, the user's stream and number of seasons.
pub const USER_MEMORY_BYTES: usize = 1_024;
/// What it holds for a season in play, in bytes at most; a season that ended is not held.
pub const SEASON_MEMORY_BYTES: usize = 2_048;
/// What it holds for a user beside, so that the ids of the user's commands can be remembered, in
/// bytes at most.
pub const SCOPE_MEMORY_BYTES: usize = 768;
/// What it holds for an applied command that is remembered, in bytes at most.
pub const APPLIED_ID_MEMORY_BYTES: usize = 256;
/// What it holds for a refused command that is remembered, in bytes at most.
pub const REFUSED_ID_MEMORY_BYTES: usize = 2_048;
/// Snapshots that are kept; older ones are removed.
pub const SNAPSHOTS_KEPT: usize = 2;
/// A snapshot is made when so many events have come since the one before.
pub const SNAPSHOT_EVENTS: u64 = 1 << 17;
/// Where there are many users and seasons in play it is made when so many events for each of these
/// have come, if that is more.
pub const SNAPSHOT_EVENTS_PER_ENTRY: u64 = 4;
/// Committed rows that wait for the snapshot's thread, at most; what is more it reads from the file.
pub const ROWS_HANDED_MAX: usize = 1 << 19;
/// Threads that read ahead where a whole ledger is gone through, at most; no more than there are cores.
pub const READ_AHEAD_THREADS_MAX: usize = 4;
/// The newest head is written into the keys directory at most so often, in milliseconds.
pub const NEWEST_HEAD_INTERVAL_MS: u64 = 1_000;
/// Free bytes on the ledger's disk below which it is read-only: what folding the write-ahead log
/// in, a snapshot and the batches under way may still need.
pub const DISK_FREE_BYTES_MIN: u64 = WAL_BYTES_RESTART + 64 * 1024 * 1024;
/// Ids of applied commands that are remembered of one scope: of a user, or of the operator.
pub const APPLIED_IDS_PER_SCOPE_MAX: usize = 4_096;
/// Ids of applied commands that are remembered in all; past it the scope with most forgets.
pub const APPLIED_IDS_MAX: usize = 1 << 20;
/// Ids of refused commands that are remembered of one scope. Of users who are not registered none
/// is.
pub const REFUSED_IDS_PER_SCOPE_MAX: usize = 64;
/// Ids of refused commands that are remembered in all.
pub const REFUSED_IDS_MAX: usize = 1 << 18;
/// Command ids are forgotten this long after the time in them, by ledger time.
pub const COMMAND_ID_WINDOW_MICROS: i64 = 24 * 3_600 * 1_000_000;
/// A command's id may lie this far ahead of the later of wall clock and ledger time.
pub const COMMAND_ID_AHEAD_MICROS_MAX: i64 = 60 * 1_000_000;
/// A start without a snapshot remembers the ids whose time is later than this long before the
/// newest event.
pub const COMMAND_ID_RECOVERED_MICROS: i64 = 60 * 1_000_000;
/// Ledger time meets the wall clock at 0.95 to 1.05 of the true rate: one part in this many.
pub const CLOCK_SLEW_DIVISOR: i64 = 20;
/// A wall clock that is further ahead of the newest event at a start must be confirmed.
pub const CLOCK_AHEAD_MICROS_MAX: i64 = 31 * 86_400 * 1_000_000;
/// A time that confirms a clock may be so far from it.
pub const CLOCK_ACCEPTED_MICROS: i64 = 86_400 * 1_000_000;
/// A difference between wall clock and ledger time that is reported.
pub const CLOCK_DIFFERENCE_REPORTED_MICROS: i64 = 5_000_000;

const _: () = {
    assert!(EVENTS_PER_COMMAND_MAX >= 17 && EVENTS_PER_COMMAND_MAX <= u8::MAX as usize);
    assert!(COMMANDS_WAITING_MAX >= COMMANDS_PER_BATCH_MAX);
    assert!(EVENTS_PER_BATCH_MAX >= EVENTS_PER_COMMAND_MAX);
    assert!(WAL_BYTES_CHECKPOINT < WAL_BYTES_RESTART);
    assert!(DISK_FREE_BYTES_MIN > WAL_BYTES_RESTART, "what is in the log must fit the ledger");
    assert!(SNAPSHOTS_KEPT >= 2, "one may be damaged");
    assert!(
        COMMANDS_PER_BATCH_MAX <= APPLIED_IDS_PER_SCOPE_MAX,
        "an id must outlive the batch that it is applied in"
    );
    assert!(APPLIED_IDS_PER_SCOPE_MAX < APPLIED_IDS_MAX);
    assert!(REFUSED_IDS_PER_SCOPE_MAX < REFUSED_IDS_MAX);
    assert!(COMMAND_ID_RECOVERED_MICROS <= COMMAND_ID_WINDOW_MICROS);
    assert!(
        COMMAND_ID_AHEAD_MICROS_MAX <= COMMAND_ID_RECOVERED_MICROS,
        "an id that was accepted from ahead must still be remembered after a restart"
    );
};
