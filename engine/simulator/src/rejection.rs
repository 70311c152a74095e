//! Why a command was refused: a player's mistake, with the values that show it.

use daybook_schema::{
    BetType, BondLevel, Coins, Commitment, DayNumber, KeyId, Pot, RulesetNumber, SeasonId,
    SessionNumber, SimulinId, SimulinPath, SuspicionCode, UnixMicros, UserId,
};

use serde::{Serialize, Serializer};

macro_rules! rejections {
    ($(
        $(#[$meta:meta])*
        $number:literal $code:literal $variant:ident
            $({ $($(#[$field_meta:meta])* $field:ident: $type:ty,)+ })?
    ,)+) => {
        /// Why a command was refused. Numbers and codes are stable and never reused.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
        #[serde(tag = "code", rename_all_fields = "camelCase")]
        pub enum Rejection {
            $(
                $(#[$meta])*
                #[serde(rename = $code)]
                $variant $({ $($(#[$field_meta])* $field: $type,)+ })?,
            )+
        }

        impl Rejection {
            /// Every code there is, with its number.
            pub const CODES: &'static [(u16, &'static str)] = &[$(($number, $code),)+];

            /// The stable number.
            #[must_use]
            pub const fn number(&self) -> u16 {
                match self {
                    $(Self::$variant { .. } => $number,)+
                }
            }

            /// The stable code.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)+
                }
            }
        }
    };
}

rejections! {
    /// No user has this id.
    #[error("no user `{user_id}` is registered")]
    1 "USER_NOT_FOUND" UserNotFound {
        /// The id.
        user_id: UserId,
    },
    /// The id is taken.
    #[error("user `{user_id}` is registered already")]
    2 "USER_ALREADY_REGISTERED" UserAlreadyRegistered {
        /// The id.
        user_id: UserId,
    },
    /// Nothing may be done in an erased user's name.
    #[error("user `{user_id}` was erased")]
    3 "USER_ERASED" UserErased {
        /// The user.
        user_id: UserId,
    },
    /// No such session is open.
    #[error("session {session_number} is not open")]
    4 "SESSION_NOT_OPEN" SessionNotOpen {
        /// The session.
        session_number: SessionNumber,
    },
    /// The user has no such season.
    #[error("no season `{season_id}` of this user")]
    10 "SEASON_NOT_FOUND" SeasonNotFound {
        /// The season.
        season_id: SeasonId,
    },
    /// The season ended.
    #[error("season is complete")]
    11 "SEASON_COMPLETE" SeasonComplete,
    /// The user's newest season was expired.
    #[error("season was expired")]
    12 "SEASON_EXPIRED" SeasonExpired,
    /// One season at a time.
    #[error("season `{season_id}` is in progress; finish or abandon it first")]
    13 "SEASON_IN_PROGRESS" SeasonInProgress {
        /// The season.
        season_id: SeasonId,
    },
    /// Too many seasons were started this UTC day.
    #[error("{max} seasons were started this UTC day already; the next day begins at {} s", next_day_at.get() / 1_000_000)]
    14 "SEASON_LIMIT" SeasonLimit {
        /// How many a day.
        max: u8,
        /// When the next may be started.
        #[serde(serialize_with = "as_seconds")]
        next_day_at: UnixMicros,
    },
    /// The player saw another commitment than the one that is in force.
    #[error("the commitment changed, expected `{current}`, got `{given}`")]
    15 "COMMITMENT_CHANGED" CommitmentChanged {
        /// What the command named.
        given: Commitment,
        /// What is in force.
        current: Commitment,
    },
    /// The user's commitment comes from a key or an epoch that is no longer good.
    #[error("the commitment is being renewed; ask for it again")]
    16 "COMMITMENT_OUTDATED" CommitmentOutdated,
    /// There is nothing to renew.
    #[error("the commitment is in force")]
    17 "COMMITMENT_IN_FORCE" CommitmentInForce,
    /// A start needs the player's part of the randomness.
    #[error("a start needs `clientSeed` or an `Idempotency-Key`")]
    18 "CLIENT_SEED_REQUIRED" ClientSeedRequired,
    /// The season key is not to be had.
    #[error("season key is not available")]
    19 "KEY_UNAVAILABLE" KeyUnavailable,
    /// A season key is put in force once.
    #[error("season key `{key_id}` was in force before")]
    20 "KEY_ALREADY_USED" KeyAlreadyUsed {
        /// The key.
        key_id: KeyId,
    },
    /// The season is neither idle long enough nor withdrawn.
    #[error("season may be expired from {} s on", expirable_at.get() / 1_000_000)]
    21 "SEASON_NOT_IDLE" SeasonNotIdle {
        /// From when on it may be expired.
        #[serde(serialize_with = "as_seconds")]
        expirable_at: UnixMicros,
    },
    /// The season's key was compromised or its epoch ended; the engine will expire it.
    #[error("season's key or epoch is no longer good; it will be expired")]
    22 "SEASON_WITHDRAWN" SeasonWithdrawn,
    /// The season started with rules that this version does not know.
    #[error("the season has ruleset {ruleset}, which this version does not know; use a newer one")]
    23 "RULESET_UNKNOWN" RulesetUnknown {
        /// Its ruleset.
        ruleset: RulesetNumber,
    },
    /// An accepted loss names what is lost.
    #[error("no lost head is named")]
    24 "NO_HEAD_LOST" NoHeadLost,
    /// Bets are for the action phase of a season in play.
    #[error("Cannot bet outside action phase")]
    30 "NOT_IN_ACTION_PHASE" NotInActionPhase,
    /// The stake is more than the balance.
    #[error("Insufficient server-validated balance")]
    31 "INSUFFICIENT_BALANCE" InsufficientBalance {
        /// The pot of the bet.
        pot_id: Pot,
        /// The stake.
        amount: Coins,
        /// The balance when the bet's turn came.
        balance: Coins,
    },
    /// The pot has a bet today.
    #[error("Duplicate bet on pot")]
    32 "DUPLICATE_BET" DuplicateBet {
        /// The pot.
        pot_id: Pot,
    },
    /// The bet's type does not allow this stake.
    #[error("Bet amount out of bounds")]
    33 "AMOUNT_NOT_ALLOWED" AmountNotAllowed {
        /// The pot of the bet.
        pot_id: Pot,
        /// The type of the bet.
        bet_type: BetType,
        /// The stake.
        amount: Coins,
        /// Smallest and largest stake allowed; none where only a fold is.
        allowed: Option<(Coins, Coins)>,
    },
    /// Less than 100 ms after the season's last accepted bet command.
    #[error("Suspicious rapid betting detected")]
    34 "RAPID_BET" RapidBet {
        /// When the next may come.
        #[serde(serialize_with = "as_seconds")]
        allowed_at: UnixMicros,
    },
    /// The player takes another day to be the current one.
    #[error("the current day is {current}, got `{expected}`")]
    35 "WRONG_DAY" WrongDay {
        /// What the command expected.
        expected: DayNumber,
        /// What it is.
        current: DayNumber,
    },
    /// The same suspicion of the same day is on record.
    #[error("{code} is flagged already for day {day_number}")]
    36 "ALREADY_FLAGGED" AlreadyFlagged {
        /// The day.
        day_number: DayNumber,
        /// The suspicion.
        #[serde(rename = "suspicion")]
        code: SuspicionCode,
    },
    /// The user has no such simulin.
    #[error("no simulin `{simulin_id}` of this user")]
    40 "SIMULIN_NOT_FOUND" SimulinNotFound {
        /// The simulin.
        simulin_id: SimulinId,
    },
    /// The simulin was retired.
    #[error("simulin `{simulin_id}` was retired")]
    41 "SIMULIN_RETIRED" SimulinRetired {
        /// The simulin.
        simulin_id: SimulinId,
    },
    /// The user has as many simulins as may be.
    #[error("at most {max} simulins at a time; retire one first")]
    42 "SIMULIN_LIMIT" SimulinLimit {
        /// How many.
        max: usize,
    },
    /// A path is chosen from cultivar on.
    #[error("a path is chosen from level {needed} on, the simulin has level {bond_level}")]
    43 "SIMULIN_TOO_YOUNG" SimulinTooYoung {
        /// Its level.
        bond_level: BondLevel,
        /// The level needed.
        needed: BondLevel,
    },
    /// A path is chosen once.
    #[error("the simulin follows the path {path} already")]
    44 "PATH_ALREADY_CHOSEN" PathAlreadyChosen {
        /// Its path.
        path: SimulinPath,
    },
}

/// Fields named `…At` are seconds since 1970, rounded up: not before then.
fn as_seconds<S: Serializer>(at: &UnixMicros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(seconds_up(*at))
}

const fn seconds_up(at: UnixMicros) -> i64 {
    at.get().div_euclid(1_000_000) + (at.get().rem_euclid(1_000_000) > 0) as i64
}

/// What kind of refusal it is: what a service makes its status of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionClass {
    /// What the command names is not there, or not this user's.
    NotFound,
    /// The command lacks something.
    Incomplete,
    /// A rule of the game stands against it.
    Rule,
    /// It is not the player's doing: the operator or the engine sees to it.
    Unavailable,
}

impl Rejection {
    /// What kind of refusal it is.
    #[must_use]
    pub const fn class(&self) -> RejectionClass {
        match self {
            Self::UserNotFound { .. }
            | Self::SessionNotOpen { .. }
            | Self::SeasonNotFound { .. }
            | Self::SimulinNotFound { .. } => RejectionClass::NotFound,
            Self::ClientSeedRequired | Self::NoHeadLost => RejectionClass::Incomplete,
            Self::KeyUnavailable
            | Self::CommitmentOutdated
            | Self::RulesetUnknown { .. }
            | Self::SeasonWithdrawn => RejectionClass::Unavailable,
            _ => RejectionClass::Rule,
        }
    }

    /// When the same command may be accepted, where time alone lifts the refusal.
    #[must_use]
    pub const fn retry_at(&self) -> Option<UnixMicros> {
        match self {
            Self::SeasonLimit { next_day_at: at, .. }
            | Self::SeasonNotIdle { expirable_at: at }
            | Self::RapidBet { allowed_at: at } => Some(*at),
            _ => None,
        }
    }

    /// Whether it passes: with time, by what the operator does, or because a day that was named
    /// comes. What was sent too early may be accepted later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::KeyUnavailable | Self::CommitmentOutdated => true,
            Self::WrongDay { expected, current } => expected.get() > current.get(),
            _ => self.retry_at().is_some(),
        }
    }
}

/// All rejections that apply to a command: one or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejections {
    first: Rejection,
    more: Vec<Rejection>,
}

impl Rejections {
    /// `Err` with all that were collected, if any were.
    pub(crate) fn refuse(collected: Vec<Rejection>) -> Result<(), Self> {
        let mut collected = collected.into_iter();
        match collected.next() {
            None => Ok(()),
            Some(first) => Err(Self { first, more: collected.collect() }),
        }
    }

    /// The rejections, in the order in which the rules were checked.
    pub fn iter(&self) -> impl Iterator<Item = &Rejection> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Whether each of them passes: the same command may then be accepted later, under the same id.
    #[must_use]
    pub fn are_passing(&self) -> bool {
        self.iter().all(Rejection::is_passing)
    }

    /// The first one.
    #[must_use]
    pub const fn first(&self) -> &Rejection {
        &self.first
    }
}

impl From<Rejection> for Rejections {
    fn from(first: Rejection) -> Self {
        Self { first, more: Vec::new() }
    }
}

/// A rejection as other programs see it: its code and values, and what to show to a person.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RejectionJson<'a> {
    #[serde(flatten)]
    rejection: &'a Rejection,
    class: RejectionClass,
    message: String,
    /// In seconds since 1970, rounded up.
    retry_at: Option<i64>,
}

impl Serialize for Rejections {
    /// A list of all that apply.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|rejection| RejectionJson {
            rejection,
            class: rejection.class(),
            message: rejection.to_string(),
            retry_at: rejection.retry_at().map(seconds_up),
        }))
    }
}

impl std::fmt::Display for Rejections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.first)?;
        self.more.iter().try_for_each(|rejection| write!(f, "; {rejection}"))
    }
}

impl std::error::Error for Rejections {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_a_code_with_its_values_a_class_and_a_sentence() {
        let allowed_at = UnixMicros::new(1_767_571_200_100_001);
        let rejected = Rejections::refuse(vec![
            Rejection::RapidBet { allowed_at },
            Rejection::DuplicateBet { pot_id: Pot::Sun },
        ]);
        let json = serde_json::to_value(rejected.unwrap_err()).unwrap();
        let expected = serde_json::json!([
            {
                "code": "RAPID_BET", "allowedAt": 1_767_571_201, "class": "rule",
                "message": "Suspicious rapid betting detected", "retryAt": 1_767_571_201
            },
            {
                "code": "DUPLICATE_BET", "potId": "sun", "class": "rule",
                "message": "Duplicate bet on pot", "retryAt": null
            },
        ]);
        assert_eq!(json, expected);
    }

    /// Guards: numbers and codes are never shared.
    #[test]
    fn numbers_and_codes_are_unique() {
        for (index, (number, code)) in Rejection::CODES.iter().enumerate() {
            let earlier = &Rejection::CODES[..index];
            assert!(earlier.iter().all(|(n, c)| n < number && c != code), "{number} {code}");
        }
    }
}
