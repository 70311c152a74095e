//! What is played, as JSON: the seed's columns in camelCase. The same shapes come from rows of the
//! read models and from a command's events.

mod from_events;
mod from_ledger;

use daybook_projections::{
    BetDetails, DayDetails, SeasonDetails, SeasonSummary, SimulinDetails, TriggerDetails,
    WeekDetails,
};
use daybook_schema::{
    BetId, BetType, DayId, Hand, Pot, SeasonId, SeasonPhase, SimulinId, SimulinPath, SimulinStage,
    Species, Trigger, TriggerId, UserId, Weather,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Shapes that are made of a row of the read models with the same fields.
macro_rules! shapes {
    ($($(#[$meta:meta])* $name:ident of $row:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)+
    })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $field: $type,)+
        }

        impl From<$row> for $name {
            fn from(row: $row) -> Self {
                Self { $($field: row.$field,)+ }
            }
        }
    )+};
}

shapes! {
    /// A season. Times are in seconds since 1970.
    Season of SeasonSummary {
        /// Its id.
        #[schema(value_type = String, example = "ssn_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b")]
        id: SeasonId,
        /// Whose it is.
        #[schema(value_type = String, example = "usr_019ad0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b")]
        user_id: UserId,
        /// Which of the user's.
        season_number: i64,
        /// The day that is open, or was last.
        current_day: i64,
        /// The part of the season: planting, growth or harvest.
        #[schema(value_type = String)]
        phase: SeasonPhase,
        /// The balance; as it was when the season ended, if it has.
        coins: i64,
        /// What its stakes gave to the jackpot, in coins.
        jackpot_contribution: f64,
        /// When it started.
        started_at: i64,
        /// When it ended, however it did.
        completed_at: Option<i64>,
        /// The score, if it was played to its end.
        final_score: Option<i64>,
    }

    /// A day of a season.
    Day of DayDetails {
        /// Its id.
        #[schema(value_type = String)]
        id: DayId,
        /// Its season.
        #[schema(value_type = String)]
        season_id: SeasonId,
        /// Which day, 1 to 28.
        day_number: i64,
        /// The revealed key in hex; empty until the day is resolved.
        seed: String,
        /// The pots' levels, such as `{"water": 75, "sun": 60, "pest": 90, "growth": 45}`; empty
        /// until then.
        #[schema(value_type = Object)]
        pot_levels: Value,
        /// What befell it: `{"type": "boon", "potId", "delta"}`, or
        /// `{"type": "trouble", "kind", "severity", "cleared"}`.
        #[schema(value_type = Vec<Object>)]
        events: Value,
        /// Its weather, shown before betting.
        #[schema(value_type = String)]
        weather: Weather,
        /// Whether it is resolved.
        resolved: bool,
        /// When it opened.
        created_at: i64,
    }

    /// A bet.
    Bet of BetDetails {
        /// Its id.
        #[schema(value_type = String)]
        id: BetId,
        /// Its season.
        #[schema(value_type = String)]
        season_id: SeasonId,
        /// The day.
        day_number: i64,
        /// The pot.
        #[schema(value_type = String)]
        pot_id: Pot,
        /// How.
        #[schema(value_type = String)]
        bet_type: BetType,
        /// The stake, in coins.
        amount: i64,
        /// What came back, once it is resolved.
        payout: Option<i64>,
        /// Whether it was won; null until it is resolved, and where the stake was given back.
        won: Option<bool>,
        /// When it was resolved.
        resolved_at: Option<i64>,
        /// When it was placed.
        placed_at: i64,
    }

    /// A trigger that was earned.
    EarnedTrigger of TriggerDetails {
        /// Its id.
        #[schema(value_type = String)]
        id: TriggerId,
        /// Its season.
        #[schema(value_type = String)]
        season_id: SeasonId,
        /// The day.
        day_number: i64,
        /// Which.
        #[schema(value_type = String)]
        trigger_type: Trigger,
        /// When.
        earned_at: i64,
        /// What it was earned by: `category`, and where it has them `potId` and `betIds`. These two
        /// are left out where the read models do not have the season yet.
        #[schema(value_type = Object)]
        metadata: Value,
    }

    /// A week that was evaluated.
    Week of WeekDetails {
        /// Its season.
        #[schema(value_type = String)]
        season_id: SeasonId,
        /// Which week, 1 to 4.
        week_number: i64,
        /// Its hand.
        #[schema(value_type = String)]
        hand: Hand,
        /// What the hand multiplied the week's score by.
        multiplier: i64,
        /// The week's score, multiplied.
        score: i64,
        /// Coins that the jackpot paid.
        jackpot_coins: i64,
    }

    /// A companion.
    Simulin of SimulinDetails {
        /// Its id.
        #[schema(value_type = String, example = "sim_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b")]
        id: SimulinId,
        /// Whose it is.
        #[schema(value_type = String)]
        user_id: UserId,
        /// What it is called.
        name: String,
        /// Its species.
        #[schema(value_type = String)]
        species: Species,
        /// How grown it is.
        #[schema(value_type = String)]
        stage: SimulinStage,
        /// Its path, once chosen.
        #[schema(value_type = Option<String>)]
        path: Option<SimulinPath>,
        /// Its level, 1 to 25.
        bond_level: i64,
        /// Its experience.
        #[serde(rename = "bondXP")]
        bond_xp: i64,
        /// Its traits, each 0 to 100.
        #[schema(value_type = Object)]
        personality: Value,
        /// Its abilities.
        #[schema(value_type = Vec<String>)]
        abilities: Value,
        /// When it was adopted, in seconds since 1970.
        created_at: i64,
        /// When it was retired.
        retired_at: Option<i64>,
    }
}

/// A season with all that is in it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WholeSeason {
    /// The season.
    pub(crate) season: Season,
    /// How it ended, if it has: completed, abandoned, expired_idle, expired_key, expired_restore;
    /// expired where the read models cannot tell yet why.
    pub(crate) end: Option<String>,
    /// Its days, in order.
    pub(crate) days: Vec<Day>,
    /// Its bets, by day.
    pub(crate) bets: Vec<Bet>,
    /// Its triggers, by day.
    pub(crate) triggers: Vec<EarnedTrigger>,
    /// Its weeks that were evaluated.
    pub(crate) weeks: Vec<Week>,
}

impl From<SeasonDetails> for WholeSeason {
    fn from(details: SeasonDetails) -> Self {
        let SeasonDetails { season, end, days, bets, triggers, weeks } = details;
        Self {
            season: season.into(),
            end,
            days: days.into_iter().map(Into::into).collect(),
            bets: bets.into_iter().map(Into::into).collect(),
            triggers: triggers.into_iter().map(Into::into).collect(),
            weeks: weeks.into_iter().map(Into::into).collect(),
        }
    }
}

/// A season that was started.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct StartedSeason {
    /// The season.
    pub(crate) season: Season,
    /// Its first day.
    pub(crate) day: Day,
}

/// Bets that were placed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PlacedBets {
    /// In the order of the request.
    pub(crate) bets: Vec<Bet>,
}

/// A day that was resolved, and what came after it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Advanced {
    /// The resolved day.
    pub(crate) day: ResolvedDay,
    /// Its bets, in the order of the pots.
    pub(crate) bets: Vec<ResolvedBet>,
    /// The triggers that were earned.
    pub(crate) triggers: Vec<ResolvedTrigger>,
    /// The week, if it ended.
    pub(crate) week: Option<Week>,
    /// Coins that came at the morning, because the balance was below 50.
    pub(crate) stipend: i64,
    /// What the balance changed by: payouts, jackpot and stipend.
    pub(crate) coins_change: i64,
    /// What the companion gained.
    pub(crate) simulin: Option<GrownSimulin>,
    /// The next day, unless it was the last.
    pub(crate) next_day: Option<Day>,
    /// The season's end, if it was.
    pub(crate) end: Option<SeasonEnd>,
}

/// A resolved day, with its revealed key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResolvedDay {
    /// Its season.
    #[schema(value_type = String)]
    pub(crate) season_id: SeasonId,
    /// Which day.
    pub(crate) day_number: i64,
    /// The revealed key in hex.
    pub(crate) seed: String,
    /// The pots' levels.
    #[schema(value_type = Object)]
    pub(crate) pot_levels: Value,
    /// What befell it.
    #[schema(value_type = Vec<Object>)]
    pub(crate) events: Value,
    /// The day's score, three times in harvest.
    pub(crate) score: i64,
    /// Always true.
    pub(crate) resolved: bool,
}

/// What became of a bet.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResolvedBet {
    /// The pot.
    #[schema(value_type = String)]
    pub(crate) pot_id: Pot,
    /// The stake.
    pub(crate) amount: i64,
    /// Whether it was won.
    pub(crate) won: bool,
    /// The highest threshold reached, if it was: 50, 80 or 100.
    pub(crate) threshold: Option<i64>,
    /// What came back.
    pub(crate) payout: i64,
}

/// A trigger that the day earned.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResolvedTrigger {
    /// Its id.
    #[schema(value_type = String)]
    pub(crate) id: TriggerId,
    /// Which.
    #[schema(value_type = String)]
    pub(crate) trigger_type: Trigger,
    /// When.
    pub(crate) earned_at: i64,
}

/// What a companion gained on a day.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GrownSimulin {
    /// The companion.
    #[schema(value_type = String)]
    pub(crate) id: SimulinId,
    /// The experience that came.
    pub(crate) gained: i64,
    /// The experience from now on.
    #[serde(rename = "bondXP")]
    pub(crate) bond_xp: i64,
    /// The level, if it is a new one.
    pub(crate) bond_level: Option<i64>,
}

/// How a season ended.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeasonEnd {
    /// The season.
    #[schema(value_type = String)]
    pub(crate) id: SeasonId,
    /// completed or abandoned.
    pub(crate) end: &'static str,
    /// When, in seconds since 1970.
    pub(crate) completed_at: i64,
    /// The score, if it was played to its end.
    pub(crate) final_score: Option<i64>,
    /// The balance at the end.
    pub(crate) coins: i64,
    /// Stakes of the open day that came back to it.
    pub(crate) escrow_returned: i64,
    /// k28 in hex, from which all day keys follow; null where the season key was lost.
    pub(crate) season_secret: Option<String>,
}
