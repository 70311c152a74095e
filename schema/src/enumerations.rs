//! The enumerations of the game, with the names that the tables and the JSON use.

use serde::{Deserialize, Serialize};

use crate::quantities::words;

/// A text is not one of an enumeration's names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {} `{given}`, expected one of {}", words(what), known.join(", "))]
pub struct UnknownName {
    /// The enumeration.
    pub what: &'static str,
    /// The text.
    pub given: String,
    /// All names there are.
    pub known: &'static [&'static str],
}

named_enum! {
    /// What a user may do.
    pub enum Role {
        /// Plays.
        Player = 1 => "player",
        /// Runs the service.
        Admin = 2 => "admin",
        /// Looks after the players.
        Moderator = 3 => "moderator",
    }
}

named_enum! {
    /// The part of a season that a day lies in.
    pub enum SeasonPhase {
        /// Days 1 to 7.
        Planting = 1 => "planting",
        /// Days 8 to 21.
        Growth = 2 => "growth",
        /// Days 22 to 28, whose scores count three times.
        Harvest = 3 => "harvest",
    }
}

named_enum! {
    /// The weather of a day, shown before betting.
    pub enum Weather {
        /// Sunny.
        Sunny = 0 => "sunny",
        /// Cloudy; what the day before day 1 counts as.
        Cloudy = 1 => "cloudy",
        /// Rainy.
        Rainy = 2 => "rainy",
        /// Stormy.
        Stormy = 3 => "stormy",
    }
}

named_enum! {
    /// One of the four pots, in the order in which all is drawn and resolved.
    pub enum Pot {
        /// Returns 96 %.
        Water = 0 => "water",
        /// Returns 94 %.
        Sun = 1 => "sun",
        /// Returns 92 %.
        Pest = 2 => "pest",
        /// Returns 90 %.
        Growth = 3 => "growth",
    }
}

named_enum! {
    /// How a player bets on a pot.
    pub enum BetType {
        /// Decides on nothing: 0 coins.
        Fold = 0 => "fold",
        /// Up to a tenth of the balance.
        Call = 1 => "call",
        /// Up to half of the balance.
        Raise = 2 => "raise",
        /// The balance, up to 10,000.
        AllIn = 3 => "all-in",
    }
}

named_enum! {
    /// The highest threshold that a pot's level reached. In JSON it is its number.
    pub enum Threshold as number {
        /// 50 to 79.
        Fifty = 50 => "50",
        /// 80 to 99.
        Eighty = 80 => "80",
        /// 100.
        Hundred = 100 => "100",
    }
}

named_enum! {
    /// A pot's event of a day.
    pub enum PotEvent {
        /// Nothing.
        None = 0 => "none",
        /// +15.
        Boon = 1 => "boon",
        /// −15.
        Bane = 2 => "bane",
        /// +45.
        Windfall = 3 => "windfall",
    }
}

named_enum! {
    /// What befell the farm, each kind at a pot of its own.
    pub enum TroubleKind {
        /// At water.
        Drought = 0 => "drought",
        /// At sun.
        Frost = 1 => "frost",
        /// At pest.
        Aphids = 2 => "aphids",
        /// At growth.
        Blight = 3 => "blight",
    }
}

impl TroubleKind {
    /// The pot that clears it.
    #[must_use]
    pub const fn pot(self) -> Pot {
        match self {
            Self::Drought => Pot::Water,
            Self::Frost => Pot::Sun,
            Self::Aphids => Pot::Pest,
            Self::Blight => Pot::Growth,
        }
    }
}

named_enum! {
    /// What a player can earn once a day, in the order in which a day's are recorded.
    pub enum Trigger {
        /// A qualifying bet on growth won.
        FirstBloom = 0 => "first_bloom",
        /// All four pots decided, and rightly.
        PerfectRead = 1 => "perfect_read",
        /// All the day's troubles cleared.
        TroubleSlayer = 2 => "trouble_slayer",
        /// Growth at 80 or more.
        GrowthSpurt = 3 => "growth_spurt",
        /// The companion's pot was the best, with a bet on it.
        SimulinSync = 4 => "simulin_sync",
    }
}

impl Trigger {
    /// The category that flushes are made of.
    #[must_use]
    pub const fn category(self) -> TriggerCategory {
        match self {
            Self::FirstBloom | Self::PerfectRead => TriggerCategory::Betting,
            Self::TroubleSlayer | Self::GrowthSpurt => TriggerCategory::Farming,
            Self::SimulinSync => TriggerCategory::Companion,
        }
    }
}

named_enum! {
    /// What kind of play a trigger rewards.
    pub enum TriggerCategory {
        /// first_bloom, perfect_read.
        Betting = 0 => "betting",
        /// trouble_slayer, growth_spurt.
        Farming = 1 => "farming",
        /// simulin_sync.
        Companion = 2 => "companion",
    }
}

named_enum! {
    /// What a week's triggers make, best first.
    pub enum Hand {
        /// The five triggers, first of each of exactly five days, in the one order.
        RoyalFlush = 9 => "royal_flush",
        /// Five days in a row, one category.
        StraightFlush = 8 => "straight_flush",
        /// Five days in a row with all five types.
        Straight = 7 => "straight",
        /// Five or more of one category.
        Flush = 6 => "flush",
        /// Three of one type and two of another.
        FullHouse = 5 => "full_house",
        /// Four of one type.
        FourOfAKind = 4 => "four_of_a_kind",
        /// Three of one type.
        ThreeOfAKind = 3 => "three_of_a_kind",
        /// Two of one type and two of another.
        TwoPair = 2 => "two_pair",
        /// Two of one type.
        Pair = 1 => "pair",
        /// None of these.
        None = 0 => "none",
    }
}

named_enum! {
    /// A simulin's kind, which is attuned to one pot.
    pub enum Species {
        /// Water.
        Dewdrop = 0 => "dewdrop",
        /// Sun.
        Sunpetal = 1 => "sunpetal",
        /// Pest.
        Ladybot = 2 => "ladybot",
        /// Growth.
        Sprig = 3 => "sprig",
    }
}

impl Species {
    /// The pot it is attuned to.
    #[must_use]
    pub const fn attuned_pot(self) -> Pot {
        match self {
            Self::Dewdrop => Pot::Water,
            Self::Sunpetal => Pot::Sun,
            Self::Ladybot => Pot::Pest,
            Self::Sprig => Pot::Growth,
        }
    }
}

named_enum! {
    /// How grown a simulin is.
    pub enum SimulinStage {
        /// Levels 1 to 7.
        Sproutling = 0 => "sproutling",
        /// Levels 8 to 15.
        Cultivar = 1 => "cultivar",
        /// Levels 16 to 24.
        Bloomform = 2 => "bloomform",
        /// Level 25.
        Legendary = 3 => "legendary",
    }
}

impl SimulinStage {
    /// The ability that comes with the stage; a name, which changes no draw.
    #[must_use]
    pub const fn ability(self) -> Ability {
        match self {
            Self::Sproutling => Ability::RootSense,
            Self::Cultivar => Ability::LeafShelter,
            Self::Bloomform => Ability::BrightBloom,
            Self::Legendary => Ability::Evergreen,
        }
    }
}

named_enum! {
    /// What a simulin can do; a name, which changes no draw.
    pub enum Ability {
        /// From sproutling on.
        RootSense = 0 => "root_sense",
        /// From cultivar on.
        LeafShelter = 1 => "leaf_shelter",
        /// From bloomform on.
        BrightBloom = 2 => "bright_bloom",
        /// As a legendary.
        Evergreen = 3 => "evergreen",
    }
}

named_enum! {
    /// What a simulin devotes itself to: chosen once, from cultivar on.
    pub enum SimulinPath {
        /// Troubles are cleared 5 lower.
        Tender = 0 => "tender",
        /// 40 XP for a perfect read.
        Watcher = 1 => "watcher",
        /// Half as much XP again.
        Lucky = 2 => "lucky",
    }
}

named_enum! {
    /// What a leaderboard covers, in UTC.
    pub enum Period {
        /// An ISO week.
        Weekly = 0 => "weekly",
        /// A calendar quarter.
        Seasonal = 1 => "seasonal",
        /// All time.
        AllTime = 2 => "all_time",
    }
}

named_enum! {
    /// Why a session ended.
    pub enum SessionEndReason {
        /// The player logged out.
        Logout = 0 => "logout",
        /// Its time was over.
        Expired = 1 => "expired",
        /// The account was locked.
        Locked = 2 => "locked",
        /// The account was erased.
        Erased = 3 => "erased",
        /// The user began more sessions than may be open at once, and this was the oldest.
        Replaced = 4 => "replaced",
        /// The user or the operator ended it: by ending sessions, or with a new password.
        Revoked = 5 => "revoked",
    }
}

named_enum! {
    /// What was suspicious.
    pub enum SuspicionCode {
        /// Bets faster than a person's.
        RapidBet = 0 => "rapid_bet",
        /// A claim of more coins than there could be.
        CoinManipulation = 1 => "coin_manipulation",
        /// A claim of other pot levels than were drawn.
        LevelManipulation = 2 => "level_manipulation",
    }
}

named_enum! {
    /// Where a client's seed came from.
    pub enum ClientSeedSource {
        /// The 32 bytes of `clientSeed`.
        ClientSeed = 1 => "client_seed",
        /// The 16 bytes of the command's id.
        IdempotencyKey = 2 => "idempotency_key",
    }
}

/// One value for each pot.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    bincode::Encode,
    bincode::Decode,
    Serialize,
    Deserialize,
)]
pub struct PerPot<T> {
    /// Of water.
    pub water: T,
    /// Of sun.
    pub sun: T,
    /// Of pest.
    pub pest: T,
    /// Of growth.
    pub growth: T,
}

impl<T> PerPot<T> {
    /// One value each, made in pot order.
    pub fn from_fn(mut make: impl FnMut(Pot) -> T) -> Self {
        Self {
            water: make(Pot::Water),
            sun: make(Pot::Sun),
            pest: make(Pot::Pest),
            growth: make(Pot::Growth),
        }
    }

    /// The value of one pot.
    #[must_use]
    pub const fn get(&self, pot: Pot) -> &T {
        match pot {
            Pot::Water => &self.water,
            Pot::Sun => &self.sun,
            Pot::Pest => &self.pest,
            Pot::Growth => &self.growth,
        }
    }

    /// The value of one pot, to be changed.
    pub const fn get_mut(&mut self, pot: Pot) -> &mut T {
        match pot {
            Pot::Water => &mut self.water,
            Pot::Sun => &mut self.sun,
            Pot::Pest => &mut self.pest,
            Pot::Growth => &mut self.growth,
        }
    }

    /// The pots with their values, in pot order.
    pub fn iter(&self) -> impl Iterator<Item = (Pot, &T)> {
        Pot::ALL.iter().map(|&pot| (pot, self.get(pot)))
    }
}
