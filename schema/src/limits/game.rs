//! Limits of the game, which its rules rest on.

/// Days of a season.
pub const DAYS_PER_SEASON: u8 = 28;
/// Days of a week.
pub const DAYS_PER_WEEK: u8 = 7;
/// Weeks of a season.
pub const WEEKS_PER_SEASON: u8 = DAYS_PER_SEASON / DAYS_PER_WEEK;
/// Pots, and so bets of a day or of one command.
pub const POTS: usize = 4;
/// Troubles of a day.
pub const TROUBLES_PER_DAY_MAX: usize = 2;
/// The largest bet, in coins.
pub const BET_COINS_MAX: u64 = 10_000;
/// The stake that counts for a score: what is staked beyond it wins coins and no score.
pub const SCORE_BET_COINS_MAX: u64 = 100;
/// The largest amount of coins there can be: their millicoins fit an `i64`, and every one is exact
/// in JSON.
pub const COINS_MAX: u64 = 1_000_000_000_000_000;
/// The largest bond level.
pub const BOND_LEVEL_MAX: u8 = 25;
/// Companions of a user that are not retired.
pub const SIMULINS_PER_USER_MAX: usize = 3;
/// Seasons that a user may start in a UTC day.
pub const SEASONS_STARTED_PER_DAY_MAX: u8 = 4;
/// Sessions of a user that may be open at once; one more ends the oldest.
pub const OPEN_SESSIONS_PER_USER_MAX: usize = 8;
/// Ids of seasons and simulins derive and are not remembered: of those that a user had, so many of
/// the newest are told from unknown ones. Over several epochs each has its share of these.
pub const DERIVED_NUMBERS_SEARCHED_MAX: u32 = 256;
/// The epochs, the newest first, in which they are looked for.
pub const DERIVED_EPOCHS_SEARCHED_MAX: usize = 4;
/// A season may be expired this long after its start or last advance.
pub const SEASON_IDLE_MICROS_MAX: i64 = 30 * 86_400 * 1_000_000;
/// Bet commands of a season must lie at least this far apart.
pub const BET_INTERVAL_MICROS_MIN: i64 = 100_000;
/// The engine expires no idle season before its process has run this long.
pub const EXPIRY_GRACE_MICROS: i64 = 3_600 * 1_000_000;

const _: () = {
    assert!(DAYS_PER_SEASON == WEEKS_PER_SEASON * DAYS_PER_WEEK);
    assert!(COINS_MAX <= i64::MAX as u64 / 1_000, "millicoins must fit an i64");
    assert!(COINS_MAX < 1 << 53, "coins must be exact in JSON");
};
