//! What the engine can be asked for, and the form of it that is hashed.

use bincode::Encode;
use bincode::enc::Encoder;
use bincode::error::EncodeError;
use serde::{Deserialize, Serialize};

use crate::events::LostHeads;
use crate::{
    BetType, ClientDigest, Coins, CommandHash, Commitment, DayNumber, EpochNonce, KeyId, Pot,
    SeasonId, SessionEndReason, SessionNumber, SimulinId, SimulinPath, Species, SuspicionCode,
    UserId, codec, digest, limits,
};

/// Where the player's part of a season's randomness comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum ClientSeed {
    /// The digest of the 32 bytes that the player sent as `clientSeed`.
    Digest(ClientDigest),
    /// The command's own id.
    CommandId,
}

impl ClientSeed {
    /// The part of a player that sent 32 bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::Digest(client_digest(crate::ClientSeedSource::ClientSeed, seed))
    }
}

/// The player's part: a digest of the tag byte of where it came from and the bytes.
#[must_use]
pub fn client_digest(source: crate::ClientSeedSource, bytes: &[u8]) -> ClientDigest {
    ClientDigest::new(digest::CLIENT_SEED.derive(&[&[source.number()], bytes]))
}

/// One bet of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BetOrder {
    /// The pot.
    pub pot_id: Pot,
    /// How.
    pub bet_type: BetType,
    /// The stake.
    pub amount: Coins,
}

/// The bets of one command: one to four, in the order in which the balance falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BetOrders([Option<BetOrder>; limits::POTS]);

/// A command held no bet or more than four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a command places 1 to {} bets, got {given}", limits::POTS)]
pub struct BetOrdersError {
    /// How many were given.
    pub given: usize,
}

impl BetOrders {
    /// The bets of a command.
    ///
    /// # Errors
    /// [`BetOrdersError`] unless there are one to four.
    pub fn new(bets: &[BetOrder]) -> Result<Self, BetOrdersError> {
        if bets.is_empty() || bets.len() > limits::POTS {
            return Err(BetOrdersError { given: bets.len() });
        }
        let mut given = bets.iter().copied();
        Ok(Self([given.next(), given.next(), given.next(), given.next()]))
    }

    /// A command's only bet.
    #[must_use]
    pub const fn single(bet: BetOrder) -> Self {
        Self([Some(bet), None, None, None])
    }

    /// The bets in their order.
    pub fn iter(&self) -> impl Iterator<Item = &BetOrder> {
        self.0.iter().flatten()
    }
}

impl Encode for BetOrders {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.iter().count().encode(encoder)?;
        self.iter().try_for_each(|bet| bet.encode(encoder))
    }
}

macro_rules! commands {
    ($(
        $(#[$meta:meta])*
        $number:literal $variant:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)+
        }
    )+) => {
        /// What the engine can be asked for. A season's command names its user too: a command's id
        /// is the user's own, and a season of another user is not found.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command {
            $(
                $(#[$meta])*
                $variant {
                    $($(#[$field_meta])* $field: $type,)+
                },
            )+
        }

        impl Command {
            /// The number of its kind, the first byte of its stored form.
            #[must_use]
            pub const fn number(&self) -> u8 {
                match self {
                    $(Self::$variant { .. } => $number,)+
                }
            }

            /// Its name in logs.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($variant),)+
                }
            }

            /// Its stored form: the number of its kind, then its fields in order.
            #[must_use]
            pub fn to_stored(&self) -> StoredCommand {
                let mut bytes = Vec::with_capacity(64);
                bytes.push(self.number());
                match self {
                    $(Self::$variant { $($field,)+ } => {
                        $(codec::encode($field, &mut bytes);)+
                    })+
                }
                StoredCommand(bytes)
            }
        }
    };
}

commands! {
    /// A user begins to be.
    1 RegisterUser {
        /// The new user.
        user_id: UserId,
    }
    /// A user's personal data was erased. No season may be in play; open sessions end.
    2 EraseUser {
        /// The user.
        user_id: UserId,
    }
    /// A user logs in.
    3 StartSession {
        /// The user.
        user_id: UserId,
    }
    /// A session of a user ends.
    4 EndSession {
        /// The user.
        user_id: UserId,
        /// Which session.
        session_number: SessionNumber,
        /// Why.
        reason: SessionEndReason,
    }
    /// A user adopts a simulin.
    10 AdoptSimulin {
        /// The user.
        user_id: UserId,
        /// Its species.
        species: Species,
    }
    /// A user chooses a simulin's path, once.
    11 ChooseSimulinPath {
        /// The user.
        user_id: UserId,
        /// The simulin.
        simulin_id: SimulinId,
        /// Its path.
        path: SimulinPath,
    }
    /// A user retires a simulin.
    12 RetireSimulin {
        /// The user.
        user_id: UserId,
        /// The simulin.
        simulin_id: SimulinId,
    }
    /// A user starts a season.
    20 StartSeason {
        /// The user.
        user_id: UserId,
        /// The commitment that the player saw.
        commitment: Commitment,
        /// The player's part of the randomness.
        client_seed: ClientSeed,
        /// The companion, if one comes along.
        simulin_id: Option<SimulinId>,
    }
    /// A user bets on one to four pots: all or none.
    21 PlaceBets {
        /// The user.
        user_id: UserId,
        /// The season.
        season_id: SeasonId,
        /// The bets.
        bets: BetOrders,
    }
    /// A user lets a day resolve and the next one open.
    22 AdvanceDay {
        /// The user.
        user_id: UserId,
        /// The season.
        season_id: SeasonId,
        /// The day that the user takes to be the current one.
        expected_day: DayNumber,
    }
    /// A user gives a season up.
    23 AbandonSeason {
        /// The user.
        user_id: UserId,
        /// The season.
        season_id: SeasonId,
    }
    /// The engine ends a season that is idle, or whose key or epoch is no longer good.
    30 ExpireSeason {
        /// Whose season it is.
        user_id: UserId,
        /// The season.
        season_id: SeasonId,
    }
    /// The engine flags what was suspicious in a season.
    31 FlagSuspicion {
        /// Whose season it is.
        user_id: UserId,
        /// The season.
        season_id: SeasonId,
        /// The day it concerns, not later than the current one.
        day_number: DayNumber,
        /// What was suspicious.
        code: SuspicionCode,
    }
    /// The engine publishes a user's commitment anew, after a rotation or a restore.
    32 RenewCommitment {
        /// The user.
        user_id: UserId,
    }
    /// The operator puts a season key in force.
    40 RotateKey {
        /// The key.
        key_id: KeyId,
        /// Whether the keys before it are known to others.
        compromised: bool,
    }
    /// The ledger was put back from a backup. Which events are lost is not known.
    41 RestoreLedger {
        /// Fresh random bytes.
        nonce: EpochNonce,
    }
    /// The operator accepts that events are lost.
    42 AcceptLoss {
        /// Fresh random bytes.
        nonce: EpochNonce,
        /// Heads that were known of and that the ledger lacks: at least one.
        lost_heads: LostHeads,
    }
}

impl Command {
    /// Whose command it is; a command's id is scoped to it. The ledger's own have none.
    #[must_use]
    pub const fn user_id(&self) -> Option<UserId> {
        match self {
            Self::RegisterUser { user_id }
            | Self::EraseUser { user_id }
            | Self::StartSession { user_id }
            | Self::EndSession { user_id, .. }
            | Self::AdoptSimulin { user_id, .. }
            | Self::ChooseSimulinPath { user_id, .. }
            | Self::RetireSimulin { user_id, .. }
            | Self::StartSeason { user_id, .. }
            | Self::PlaceBets { user_id, .. }
            | Self::AdvanceDay { user_id, .. }
            | Self::AbandonSeason { user_id, .. }
            | Self::ExpireSeason { user_id, .. }
            | Self::FlagSuspicion { user_id, .. }
            | Self::RenewCommitment { user_id } => Some(*user_id),
            Self::RotateKey { .. } | Self::RestoreLedger { .. } | Self::AcceptLoss { .. } => None,
        }
    }

    /// Whether it is the operator's, also where it is about a user.
    #[must_use]
    pub const fn is_operators(&self) -> bool {
        matches!(
            self,
            Self::ExpireSeason { .. }
                | Self::FlagSuspicion { .. }
                | Self::RenewCommitment { .. }
                | Self::RotateKey { .. }
                | Self::RestoreLedger { .. }
                | Self::AcceptLoss { .. }
        )
    }
}

/// A command as it is hashed: a form that can be made again from its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCommand(Vec<u8>);

impl StoredCommand {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first 16 bytes of its hash.
    #[must_use]
    pub fn hash(&self) -> CommandHash {
        let hash = digest::COMMAND.derive(&[&self.0]);
        let mut first = [0; 16];
        first.copy_from_slice(hash.split_at(16).0);
        CommandHash::new(first)
    }
}
