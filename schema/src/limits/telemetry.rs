//! Limits of telemetry. Ages, sizes and daily amounts are settings; these are their defaults.

/// Events of one request.
pub const TELEMETRY_EVENTS_PER_REQUEST_MAX: usize = 100;
/// Bytes of one request: what beacons and requests that outlive their page have in flight together.
pub const TELEMETRY_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message.
pub const TELEMETRY_MESSAGE_BYTES_MAX: usize = 1_024;
/// Bytes of a stack.
pub const TELEMETRY_STACK_BYTES_MAX: usize = 8 * 1_024;
/// Bytes of any other text.
pub const TELEMETRY_TEXT_BYTES_MAX: usize = 256;
/// A client's time counts if it is so old at most, in milliseconds.
pub const TELEMETRY_AGE_MS_MAX: i64 = 7 * 86_400 * 1_000;
/// And so far ahead at most, in milliseconds.
pub const TELEMETRY_AHEAD_MS_MAX: i64 = 5 * 60 * 1_000;
/// Addresses are cleared after so long, in milliseconds.
pub const TELEMETRY_IP_KEPT_MS: i64 = 7 * 86_400 * 1_000;
/// Days that events are kept.
pub const TELEMETRY_KEPT_DAYS: u32 = 90;
/// Days that events are kept at least: an event that comes again must still be known.
pub const TELEMETRY_KEPT_DAYS_MIN: u32 = 8;
/// Bytes of `telemetry.db`.
pub const TELEMETRY_BYTES_MAX: u64 = 2 << 30;
/// Free bytes on its disk below which nothing more is stored.
pub const TELEMETRY_DISK_FREE_BYTES_MIN: u64 = 1 << 30;
/// Events that one user stores on a UTC day. What is larger than [`TELEMETRY_EVENT_BYTES`] counts
/// as several.
pub const TELEMETRY_EVENTS_PER_USER_DAY_MAX: u32 = 20_000;
/// Events that one client address without a session stores on a UTC day.
pub const TELEMETRY_EVENTS_PER_CLIENT_DAY_MAX: u32 = 2_000;
/// Bytes that count as one event of a day's amount.
pub const TELEMETRY_EVENT_BYTES: usize = 1_024;
/// Bytes of requests that wait to be stored; one more is answered `OVERLOADED`.
pub const TELEMETRY_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events of one transaction, not counting those of the request that passes it.
pub const TELEMETRY_EVENTS_PER_BATCH_MAX: usize = 4_096;
/// How long requests are gathered for one transaction, in milliseconds.
pub const TELEMETRY_GATHERED_MS: u64 = 25;
/// Rows that one transaction takes out or clears.
pub const TELEMETRY_ROWS_PER_SWEEP: u32 = 1_000;
/// Rows of one page of a user's own events.
pub const TELEMETRY_ROWS_PER_EXPORT: u32 = 10_000;

const _: () = {
    assert!(TELEMETRY_KEPT_DAYS >= TELEMETRY_KEPT_DAYS_MIN);
    assert!(
        TELEMETRY_KEPT_DAYS_MIN as i64 * 86_400_000 > TELEMETRY_AGE_MS_MAX + TELEMETRY_AHEAD_MS_MAX
    );
    assert!(TELEMETRY_STACK_BYTES_MAX < TELEMETRY_REQUEST_BYTES_MAX);
    assert!(TELEMETRY_REQUEST_BYTES_MAX < TELEMETRY_WAITING_BYTES_MAX);
};
