//! The facts of the game: one event each, with the payloads as they are stored.
//!
//! An event's user, season or ledger is the row's stream and is not in its payload. Fields are in
//! stored order: an event that was ever written stays readable for ever, so none of these may
//! change; a new shape is a new version (see [`crate::codec::Versioned`]).

mod restored;
mod stream_kind;
mod troubles;

pub use restored::{LedgerRestored, LostHeads};
pub use stream_kind::StreamKind;
pub use troubles::{Trouble, Troubles};

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::codec::{self, PayloadError, PayloadProblem, Versioned};
use crate::{
    AdoptionNumber, BetType, BondLevel, BondXp, ClientDigest, ClientSeedSource, Coins, Commitment,
    DayKey, DayNumber, EventHash, Hand, HandMultiplier, KeyId, Millicoins, PerPot, Pot, PotEvent,
    PotLevel, RulesetNumber, Score, SeasonNumber, Seq, SessionEndReason, SessionNumber, SimulinId,
    SimulinPath, Species, SuspicionCode, Threshold, TraitLevel, Trigger, UserId, Weather,
    WeekNumber,
};

/// What was only ever written in one version needs no more than the trait's own.
macro_rules! first_version {
    ($variant:ident) => {
        impl Versioned for $variant {}
    };
    ($variant:ident boxed) => {
        impl Versioned for $variant {}
    };
    ($variant:ident lifted) => {};
}

/// What an event holds of its payload. One that is much larger than the others, and rare, is boxed:
/// every event would else take as much.
macro_rules! held {
    ($variant:ident boxed) => { Box<$variant> };
    ($variant:ident $($lifted:ident)?) => { $variant };
}

macro_rules! events {
    ($($number:literal $name:literal $variant:ident in $stream:ident $($how:ident)?,)+) => {
        named_enum! {
            /// The kinds of events, with their stable numbers.
            pub enum EventKind {
                $(
                    #[doc = concat!("[`", stringify!($variant), "`].")]
                    $variant = $number => $name,
                )+
            }
        }

        impl EventKind {
            /// Whose stream its events belong to.
            #[must_use]
            pub const fn stream(self) -> StreamKind {
                match self {
                    $(Self::$variant => StreamKind::$stream,)+
                }
            }

            /// The version that is written today.
            #[must_use]
            pub const fn version(self) -> u16 {
                match self {
                    $(Self::$variant => <$variant as Versioned>::VERSION,)+
                }
            }
        }

        $(first_version!($variant $($how)?);)+

        /// A fact: what happened, as it is stored.
        ///
        /// As JSON it is its payload alone; the row's kind tells which it is.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $(
                #[doc = concat!("See [`", stringify!($variant), "`].")]
                $variant(held!($variant $($how)?)),
            )+
        }

        impl Event {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> EventKind {
                match self {
                    $(Self::$variant(_) => EventKind::$variant,)+
                }
            }

            /// Appends its payload as stored.
            pub fn encode(&self, into: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(payload) => codec::encode(payload, into),)+
                }
            }

            /// The version that its payload is written in: today's, but for what an earlier one
            /// wrote and today's cannot say.
            #[must_use]
            pub const fn version(&self) -> u16 {
                match self {
                    Self::LedgerRestored(payload) => payload.version(),
                    other => other.kind().version(),
                }
            }

            fn decode_kind(
                kind: EventKind,
                version: u16,
                bytes: &[u8],
            ) -> Result<Self, PayloadProblem> {
                match kind {
                    $(EventKind::$variant => {
                        $variant::decode_version(version, bytes).map(Self::from)
                    })+
                }
            }
        }

        $(
            impl From<$variant> for Event {
                fn from(payload: $variant) -> Self {
                    Self::$variant(payload.into())
                }
            }
        )+
    };
}

events! {
    1 "key_rotated" KeyRotated in Ledger,
    2 "ledger_restored" LedgerRestored in Ledger lifted,
    10 "user_registered" UserRegistered in User,
    11 "user_erased" UserErased in User,
    12 "session_started" SessionStarted in User,
    13 "session_ended" SessionEnded in User,
    14 "commitment_published" CommitmentPublished in User,
    20 "simulin_adopted" SimulinAdopted in User,
    21 "simulin_path_chosen" SimulinPathChosen in User,
    22 "simulin_retired" SimulinRetired in User,
    23 "simulin_xp_gained" SimulinXpGained in User,
    24 "simulin_level_reached" SimulinLevelReached in User,
    30 "season_started" SeasonStarted in Season boxed,
    31 "season_completed" SeasonCompleted in Season,
    32 "season_abandoned" SeasonAbandoned in Season,
    33 "season_expired" SeasonExpired in Season,
    34 "suspicion_flagged" SuspicionFlagged in Season,
    40 "day_opened" DayOpened in Season,
    41 "day_resolved" DayResolved in Season,
    42 "stipend_granted" StipendGranted in Season,
    50 "bet_placed" BetPlaced in Season,
    51 "bet_resolved" BetResolved in Season,
    60 "trigger_earned" TriggerEarned in Season,
    61 "week_evaluated" WeekEvaluated in Season,
    62 "jackpot_paid" JackpotPaid in Season,
}

impl Event {
    /// Decodes a stored payload, of any version that was ever written.
    ///
    /// # Errors
    /// [`PayloadError`] when kind or version are unknown, or the bytes are not what an encoder of
    /// that version wrote.
    pub fn decode(kind: u16, version: u16, bytes: &[u8]) -> Result<Self, PayloadError> {
        u8::try_from(kind)
            .ok()
            .and_then(EventKind::from_number)
            .ok_or(PayloadProblem::UnknownKind)
            .and_then(|kind| Self::decode_kind(kind, version, bytes))
            .map_err(|problem| PayloadError { kind, version, problem })
    }
}

/// The operator put a season key in force; seasons promised from now on are drawn from it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotated {
    /// The key in force from now on.
    pub key_id: KeyId,
    /// Whether the keys before it are known to have been compromised: seasons under them are then
    /// expired, and their commitments refused.
    pub compromised: bool,
}

/// A user began to be. Nothing personal is in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRegistered {}

/// A user's personal data was erased; nothing may be done in their name any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserErased {}

/// A user logged in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStarted {
    /// Which of the user's sessions.
    pub session_number: SessionNumber,
}

/// A user's session ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionEnded {
    /// Which of the user's sessions.
    pub session_number: SessionNumber,
    /// Why.
    pub reason: SessionEndReason,
}

/// The operator committed itself to the draws of a user's next season.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitmentPublished {
    /// The season it is for.
    pub season_number: SeasonNumber,
    /// The season key it comes from.
    pub key_id: KeyId,
    /// H(k0).
    pub commitment: Commitment,
}

/// A simulin's traits, each 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Personality {
    /// How curious.
    pub curiosity: TraitLevel,
    /// How brave.
    pub courage: TraitLevel,
    /// How warm.
    pub warmth: TraitLevel,
}

/// A user adopted a simulin.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulinAdopted {
    /// Its id.
    pub simulin_id: SimulinId,
    /// Which of the user's adoptions.
    pub adoption_number: AdoptionNumber,
    /// Its species.
    pub species: Species,
    /// Its traits.
    pub personality: Personality,
}

/// A simulin's path was chosen, once and for all.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulinPathChosen {
    /// The simulin.
    pub simulin_id: SimulinId,
    /// Its path.
    pub path: SimulinPath,
}

/// A simulin was retired.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulinRetired {
    /// The simulin.
    pub simulin_id: SimulinId,
}

/// A simulin gained bond experience.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulinXpGained {
    /// The simulin.
    pub simulin_id: SimulinId,
    /// How much.
    pub gained: BondXp,
    /// The total from now on.
    pub bond_xp: BondXp,
}

/// A simulin reached a higher level.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimulinLevelReached {
    /// The simulin.
    pub simulin_id: SimulinId,
    /// Its level from now on.
    pub bond_level: BondLevel,
}

/// A season's companion, frozen as it was at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Companion {
    /// The simulin.
    pub simulin_id: SimulinId,
    /// Its species.
    pub species: Species,
    /// Its path, if it had one.
    pub path: Option<SimulinPath>,
}

/// A user started a season.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeasonStarted {
    /// Whose season it is.
    pub user_id: UserId,
    /// Which of the user's seasons.
    pub season_number: SeasonNumber,
    /// The rules it keeps for ever.
    pub ruleset: RulesetNumber,
    /// The season key of its draws.
    pub key_id: KeyId,
    /// The commitment that the player saw.
    pub commitment: Commitment,
    /// The event that published the commitment.
    pub commitment_seq: Seq,
    /// That event's hash.
    pub commitment_hash: EventHash,
    /// Where the player's part of the randomness came from.
    pub client_seed_source: ClientSeedSource,
    /// The player's part of the randomness.
    pub client_digest: ClientDigest,
    /// k0, from which day 1's weather comes.
    pub day_key_zero: DayKey,
    /// The companion, if one was named.
    pub companion: Option<Companion>,
    /// The coins that the season starts with, from `mint`.
    pub coins: Coins,
}

/// A season's 28 days were played.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeasonCompleted {
    /// The final score.
    pub final_score: Score,
    /// The balance that went back to `mint`.
    pub coins: Coins,
    /// k28.
    pub season_secret: DayKey,
}

/// A player gave a season up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeasonAbandoned {
    /// The stakes that came back to the balance.
    pub escrow_returned: Coins,
    /// The balance, with these, that went back to `mint`.
    pub coins: Coins,
    /// k28, or none where the season key was lost.
    pub season_secret: Option<DayKey>,
}

/// A season was ended by the engine: idle for 30 days, or its key or epoch no longer good.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeasonExpired {
    /// The stakes that came back to the balance.
    pub escrow_returned: Coins,
    /// The balance, with these, that went back to `mint`.
    pub coins: Coins,
    /// k28, or none where the season key was lost.
    pub season_secret: Option<DayKey>,
}

/// Something suspicious was seen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspicionFlagged {
    /// The day it concerns.
    pub day_number: DayNumber,
    /// What was suspicious.
    pub code: SuspicionCode,
}

/// A day's morning came: bets may be placed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayOpened {
    /// The day.
    pub day_number: DayNumber,
    /// Its weather.
    pub weather: Weather,
}

/// A day was resolved: its key is revealed, and with it everything that was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayResolved {
    /// The day.
    pub day_number: DayNumber,
    /// k(day).
    pub day_key: DayKey,
    /// The pots' levels.
    pub pot_levels: PerPot<PotLevel>,
    /// The pots' events.
    pub pot_events: PerPot<PotEvent>,
    /// The troubles.
    pub troubles: Troubles,
    /// The day's score, three times in harvest.
    pub score: Score,
}

/// A balance below 50 was topped up at a morning.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StipendGranted {
    /// The day that opens.
    pub day_number: DayNumber,
    /// How many coins came from `mint`.
    pub amount: Coins,
}

/// A bet was placed; its stake is in escrow.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BetPlaced {
    /// The day.
    pub day_number: DayNumber,
    /// The pot.
    pub pot_id: Pot,
    /// How.
    pub bet_type: BetType,
    /// The stake.
    pub amount: Coins,
}

/// A bet was resolved, folds too.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BetResolved {
    /// The day.
    pub day_number: DayNumber,
    /// The pot.
    pub pot_id: Pot,
    /// The stake, which went from escrow to `house`.
    pub amount: Coins,
    /// The highest threshold reached, if the bet was won.
    pub threshold: Option<Threshold>,
    /// What came from `house` to the balance.
    pub payout: Coins,
    /// What went from `house` to `jackpot`.
    pub jackpot_share: Millicoins,
}

/// A trigger was earned.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerEarned {
    /// The day.
    pub day_number: DayNumber,
    /// Which.
    pub trigger_type: Trigger,
}

/// A week's triggers were evaluated as a hand.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeekEvaluated {
    /// The week.
    pub week_number: WeekNumber,
    /// Its hand.
    pub hand: Hand,
    /// What the hand multiplies by.
    pub multiplier: HandMultiplier,
    /// The week's score, multiplied.
    pub score: Score,
}

/// A royal flush was paid from the jackpot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JackpotPaid {
    /// The week.
    pub week_number: WeekNumber,
    /// How many coins came from `jackpot`.
    pub amount: Coins,
}
