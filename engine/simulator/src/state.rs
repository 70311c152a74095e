//! The state of the game: what is in play, and a small bounded record a user.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use daybook_schema::events::Companion;
use daybook_schema::{
    AdoptionNumber, BetType, BondLevel, BondXp, ClientDigest, Coins, Commitment, DayKey, DayNumber,
    Epoch, EventHash, Genesis, KeyId, LedgerIdentity, Millicoins, PerPot, RulesetNumber, SeasonId,
    SeasonNumber, Seq, SessionNumber, SimulinId, SimulinPath, Species, UnixMicros, UserId, Weather,
    codec, digest,
};

use crate::accounts::{Accounts, Unbalanced};
use crate::hands::WeekTriggers;
use crate::list::List;
use crate::season_keys::SeasonKeyRequest;
use crate::table::Table;

/// A season key's place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SeasonKeyStatus {
    /// The key.
    pub key_id: KeyId,
    /// Whether it is known to others: seasons under it are expired.
    pub compromised: bool,
}

/// A commitment as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PublishedCommitment {
    /// The season it is for.
    pub season_number: SeasonNumber,
    /// The season key.
    pub key_id: KeyId,
    /// The number of the epoch it was published in.
    pub epoch_number: u32,
    /// H(k0).
    pub commitment: Commitment,
    /// The event that published it.
    pub seq: Seq,
    /// That event's hash.
    pub hash: EventHash,
}

/// How a user's newest season ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SeasonEnd {
    /// After day 28.
    Completed,
    /// Given up.
    Abandoned,
    /// Ended by the engine.
    Expired,
}

/// A user's newest season, if it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EndedSeason {
    /// The season.
    pub season_id: SeasonId,
    /// How it ended.
    pub end: SeasonEnd,
}

/// A companion that is not retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Simulin {
    /// Its id.
    pub simulin_id: SimulinId,
    /// Its species.
    pub species: Species,
    /// Its path, once chosen.
    pub path: Option<SimulinPath>,
    /// Its experience.
    pub bond_xp: BondXp,
    /// Its level.
    pub bond_level: BondLevel,
}

/// What is remembered of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct User {
    /// Whether the user was erased.
    pub erased: bool,
    /// How many sessions were ever started.
    pub session_count: u32,
    /// The sessions that are open, oldest first.
    pub open_sessions: List<SessionNumber>,
    /// How many simulins were ever adopted.
    pub adoption_count: u32,
    /// Those that are not retired.
    pub simulins: List<Simulin>,
    /// How many seasons were ever started.
    pub season_count: u32,
    /// The newest UTC day on which a season was started, and how many were.
    pub started_on_day: (i64, u8),
    /// The season in play.
    pub season_in_play: Option<SeasonId>,
    /// The newest season, if it ended.
    pub newest_ended: Option<EndedSeason>,
    /// The commitment for the next season.
    pub next_commitment: Option<PublishedCommitment>,
}

impl User {
    /// The number of the user's next season.
    #[must_use]
    pub const fn next_season_number(&self) -> SeasonNumber {
        SeasonNumber::clamped(self.season_count.saturating_add(1))
    }

    /// The number of the user's next adoption.
    #[must_use]
    pub const fn next_adoption_number(&self) -> AdoptionNumber {
        AdoptionNumber::clamped(self.adoption_count.saturating_add(1))
    }

    /// The number of the user's next session.
    #[must_use]
    pub const fn next_session_number(&self) -> SessionNumber {
        SessionNumber::clamped(self.session_count.saturating_add(1))
    }

    /// A simulin that is not retired.
    #[must_use]
    pub fn simulin(&self, id: SimulinId) -> Option<&Simulin> {
        self.simulins.iter().find(|simulin| simulin.simulin_id == id)
    }

    pub(crate) fn simulin_mut(&mut self, id: SimulinId) -> Option<&mut Simulin> {
        self.simulins.iter_mut().find(|simulin| simulin.simulin_id == id)
    }
}

/// A bet of the current day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PlacedBet {
    /// How.
    pub bet_type: BetType,
    /// The stake.
    pub amount: Coins,
}

impl PlacedBet {
    /// Whether it counts for triggers and experience: no fold, and 10 coins or more.
    #[must_use]
    pub const fn qualifies(&self) -> bool {
        !matches!(self.bet_type, BetType::Fold) && self.amount.get() >= 10
    }
}

/// A season in play.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Season {
    /// Whose.
    pub user_id: UserId,
    /// Which of the user's.
    pub season_number: SeasonNumber,
    /// Its rules.
    pub ruleset: RulesetNumber,
    /// Its season key.
    pub key_id: KeyId,
    /// The number of the epoch in which it was promised.
    pub epoch_number: u32,
    /// The player's part of the randomness.
    pub client_digest: ClientDigest,
    /// The newest key revealed: that of the day before the current one.
    pub revealed_key: DayKey,
    /// The companion, as it was at the start.
    pub companion: Option<Companion>,
    /// The current day.
    pub day_number: DayNumber,
    /// Its weather.
    pub weather: Weather,
    /// The balance, in coins.
    pub balance: i64,
    /// The stakes of the current day, in coins.
    pub escrow: i64,
    /// The bets of the current day.
    pub bets: PerPot<Option<PlacedBet>>,
    /// When the newest bet command was accepted.
    pub last_bet_at: Option<UnixMicros>,
    /// When the season started or last advanced.
    pub last_progress_at: UnixMicros,
    /// What went to the jackpot from its stakes.
    pub jackpot_contribution: Millicoins,
    /// What it won from the jackpot, in coins.
    pub jackpot_won: Coins,
    /// The day scores of the current week.
    pub week_day_scores: u64,
    /// The scores of the weeks that ended.
    pub week_scores: u64,
    /// The triggers of the current week.
    pub week_triggers: WeekTriggers,
    /// The suspicions flagged, as sets of codes a day.
    pub suspicions: BTreeMap<DayNumber, u8>,
}

impl Season {
    /// The balance as coins; a balance is never below zero while the rules hold.
    #[must_use]
    pub fn coins(&self) -> Coins {
        Coins::clamped(u64::try_from(self.balance).unwrap_or(0))
    }

    /// The stakes in escrow as coins.
    #[must_use]
    pub fn escrow_coins(&self) -> Coins {
        Coins::clamped(u64::try_from(self.escrow).unwrap_or(0))
    }
}

/// The state of the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// hash(0): what ties the state to one ledger.
    pub genesis_hash: EventHash,
    pub(crate) genesis: Genesis,
    /// The epochs, the newest last.
    pub epochs: List<Epoch>,
    /// The season keys that were ever in force, the current one last.
    pub season_keys: List<SeasonKeyStatus>,
    /// The accounts.
    pub accounts: Accounts,
    /// All users.
    pub users: Table<UserId, User>,
    /// The seasons in play.
    pub seasons: Table<SeasonId, Season>,
}

impl State {
    /// The state of a ledger with no events.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self {
            genesis_hash: genesis.hash(),
            genesis,
            epochs: List::from(vec![Epoch::FIRST]),
            season_keys: List::default(),
            accounts: Accounts::default(),
            users: Table::default(),
            seasons: Table::default(),
        }
    }

    /// What the ledger began with.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The ledger and its current epoch.
    #[must_use]
    pub fn identity(&self) -> LedgerIdentity {
        let epoch = self.epochs.last().copied().unwrap_or(Epoch::FIRST);
        LedgerIdentity { ledger_id: self.genesis.ledger_id, epoch }
    }

    /// The ledger and one of its epochs.
    #[must_use]
    pub fn identity_in(&self, epoch_number: u32) -> LedgerIdentity {
        let epoch = self.epochs.iter().find(|epoch| epoch.number == epoch_number);
        LedgerIdentity { epoch: epoch.copied().unwrap_or(Epoch::FIRST), ..self.identity() }
    }

    /// The season key in force.
    #[must_use]
    pub fn current_key(&self) -> Option<KeyId> {
        self.season_keys.last().map(|status| status.key_id)
    }

    /// The seasons in play of which something is true, and whose they are, ordered by season.
    #[must_use]
    pub fn seasons_where(&self, is_meant: impl Fn(&Season) -> bool) -> Vec<(UserId, SeasonId)> {
        let meant = self.seasons.ordered_where(is_meant).into_iter();
        meant.map(|(season_id, season)| (season.user_id, season_id)).collect()
    }

    /// The users of whom something is true, ordered.
    #[must_use]
    pub fn users_where(&self, is_meant: impl Fn(&User) -> bool) -> Vec<UserId> {
        self.users.ordered_where(is_meant).into_iter().map(|(user_id, _)| user_id).collect()
    }

    /// What the keys of a season in play are asked for with.
    #[must_use]
    pub fn key_request(&self, season: &Season) -> SeasonKeyRequest {
        SeasonKeyRequest {
            key_id: season.key_id,
            identity: self.identity_in(season.epoch_number),
            user_id: season.user_id,
            season_number: season.season_number,
        }
    }

    /// Checks the accounts, and those of one season that an event touched.
    ///
    /// # Errors
    /// [`Unbalanced`] when they do not sum to zero or one is below zero that may not be.
    pub fn check_accounts(&self, touched: Option<SeasonId>) -> Result<(), Unbalanced> {
        self.accounts.check()?;
        let Some(season) = touched.and_then(|id| self.seasons.get(&id)) else { return Ok(()) };
        let own = [("balance", season.balance), ("escrow", season.escrow)];
        match own.into_iter().find(|(_, coins)| *coins < 0) {
            None => Ok(()),
            Some((account, coins)) => {
                Err(Unbalanced::Negative { account, millicoins: i128::from(coins) * 1_000 })
            }
        }
    }

    /// The hash of the whole state.
    #[must_use]
    pub fn hash(&self) -> EventHash {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        EventHash::new(digest::STATE.derive(&[&bytes]))
    }

    /// Appends the state as snapshots hold it (FORMAT.md): all but the genesis, which the ledger
    /// has. [`Self::hash`] is over these bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        self.encode_with_breaks(into, &mut || {});
    }

    /// The same; `take_break` is called again and again, after few entries each.
    pub fn encode_with_breaks(&self, into: &mut Vec<u8>, take_break: &mut dyn FnMut()) {
        let (epochs, season_keys) = (&self.epochs, &self.season_keys);
        codec::encode(&(&self.genesis_hash, epochs, season_keys, &self.accounts), into);
        self.users.encode(into, take_break);
        self.seasons.encode(into, take_break);
    }

    /// The state of a ledger from exactly these bytes.
    ///
    /// # Errors
    /// [`MalformedState`] when they do not decode, or are another ledger's.
    pub fn decode(genesis: Genesis, bytes: &[u8]) -> Result<Self, MalformedState> {
        let malformed = |problem: String| MalformedState { problem };
        let (parts, taken) = bincode::decode_from_slice(bytes, bincode::config::standard())
            .map_err(|error| malformed(error.to_string()))?;
        let (genesis_hash, epochs, season_keys, accounts, users, seasons) = parts;
        let state = Self { genesis_hash, genesis, epochs, season_keys, accounts, users, seasons };
        if taken != bytes.len() {
            return Err(malformed(format!("{} trailing bytes", bytes.len() - taken)));
        }
        if state.genesis_hash != genesis.hash() {
            return Err(malformed("it is another ledger's".to_owned()));
        }
        Ok(state)
    }
}

/// Bytes are not those of a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state does not decode: {problem}")]
pub struct MalformedState {
    /// What is wrong.
    pub problem: String,
}
