//! The rows that reads give.

use std::str::FromStr;

use daybook_schema::{
    BetId, BetType, DayId, Hand, Pot, SeasonId, SeasonPhase, SimulinId, SimulinPath, SimulinStage,
    Species, SuspicionCode, Trigger, TriggerId, UserId, Weather,
};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A column that is read as a value of ours.
pub(super) trait Column: Sized {
    fn get(row: &SqliteRow, name: &str) -> Result<Self, sqlx::Error>;
}

macro_rules! plain_columns {
    ($($type:ty),+) => {$(
        impl Column for $type {
            fn get(row: &SqliteRow, name: &str) -> Result<Self, sqlx::Error> {
                row.try_get(name)
            }
        }
    )+};
}
plain_columns!(i64, Option<i64>, String, f64, bool, Option<bool>);

macro_rules! parsed_columns {
    ($($type:ty),+) => {$(
        impl Column for $type {
            fn get(row: &SqliteRow, name: &str) -> Result<Self, sqlx::Error> {
                let text: &str = row.try_get(name)?;
                <$type>::from_str(text).map_err(|error| sqlx::Error::ColumnDecode {
                    index: name.to_owned(),
                    source: Box::new(error),
                })
            }
        }

        impl Column for Option<$type> {
            fn get(row: &SqliteRow, name: &str) -> Result<Self, sqlx::Error> {
                let text: Option<&str> = row.try_get(name)?;
                match text {
                    None => Ok(None),
                    Some(_) => <$type as Column>::get(row, name).map(Some),
                }
            }
        }
    )+};
}
parsed_columns!(
    SeasonId,
    UserId,
    DayId,
    BetId,
    TriggerId,
    SeasonPhase,
    Weather,
    Pot,
    BetType,
    Trigger,
    Hand,
    SimulinId,
    SimulinPath,
    SimulinStage,
    Species,
    SuspicionCode
);

/// A text that holds JSON.
impl Column for serde_json::Value {
    fn get(row: &SqliteRow, name: &str) -> Result<Self, sqlx::Error> {
        let text: &str = row.try_get(name)?;
        serde_json::from_str(text).map_err(|error| sqlx::Error::ColumnDecode {
            index: name.to_owned(),
            source: Box::new(error),
        })
    }
}

macro_rules! rows {
    ($($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty,)+
    })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl<'row> sqlx::FromRow<'row, SqliteRow> for $name {
            fn from_row(row: &'row SqliteRow) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: <$type as Column>::get(row, stringify!($field))?,)+ })
            }
        }
    )+};
}

rows! {
    /// A season; times are seconds since 1970.
    pub struct SeasonSummary {
        /// Its id.
        id: SeasonId,
        /// Whose it is.
        user_id: UserId,
        /// Which of the user's.
        season_number: i64,
        /// The day that is open, or was last.
        current_day: i64,
        /// The part of the season that day lies in.
        phase: SeasonPhase,
        /// The balance, in whole coins; as it was when the season ended, if it has.
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
    pub struct DayDetails {
        /// Its id.
        id: DayId,
        /// Its season.
        season_id: SeasonId,
        /// Which day.
        day_number: i64,
        /// The revealed key in hex, empty until the day is resolved.
        seed: String,
        /// The pots' levels as a JSON object, empty until then.
        pot_levels: serde_json::Value,
        /// What befell it, as a JSON array.
        events: serde_json::Value,
        /// Its weather.
        weather: Weather,
        /// Whether it is resolved.
        resolved: bool,
        /// When it opened.
        created_at: i64,
    }

    /// A bet.
    pub struct BetDetails {
        /// Its id.
        id: BetId,
        /// Its season.
        season_id: SeasonId,
        /// The day.
        day_number: i64,
        /// The pot.
        pot_id: Pot,
        /// How.
        bet_type: BetType,
        /// The stake.
        amount: i64,
        /// What came back, once it is resolved.
        payout: Option<i64>,
        /// Whether it was won; none where the stake was given back.
        won: Option<bool>,
        /// When it was resolved.
        resolved_at: Option<i64>,
        /// When it was placed.
        placed_at: i64,
    }

    /// A trigger.
    pub struct TriggerDetails {
        /// Its id.
        id: TriggerId,
        /// Its season.
        season_id: SeasonId,
        /// The day.
        day_number: i64,
        /// Which.
        trigger_type: Trigger,
        /// When it was earned.
        earned_at: i64,
        /// What it was earned by, as a JSON object.
        metadata: serde_json::Value,
    }

    /// A week that was evaluated.
    pub struct WeekDetails {
        /// Its season.
        season_id: SeasonId,
        /// Which week.
        week_number: i64,
        /// Its hand.
        hand: Hand,
        /// What the hand multiplied by.
        multiplier: i64,
        /// The week's score, multiplied.
        score: i64,
        /// Coins that the jackpot paid.
        jackpot_coins: i64,
    }

    /// A companion.
    pub struct SimulinDetails {
        /// Its id.
        id: SimulinId,
        /// Whose it is.
        user_id: UserId,
        /// What it is called; its species where it has no name.
        name: String,
        /// Its species.
        species: Species,
        /// How grown it is.
        stage: SimulinStage,
        /// Its path, once chosen.
        path: Option<SimulinPath>,
        /// Its level.
        bond_level: i64,
        /// Its experience.
        #[serde(rename = "bondXP")]
        bond_xp: i64,
        /// Its traits, as a JSON object.
        personality: serde_json::Value,
        /// Its abilities, as a JSON array.
        abilities: serde_json::Value,
        /// When it was adopted.
        created_at: i64,
        /// When it was retired.
        retired_at: Option<i64>,
    }

    /// Something suspicious that is on record.
    pub struct FlagDetails {
        /// The event that put it there.
        seq: i64,
        /// The season.
        season_id: SeasonId,
        /// Whose season it is.
        user_id: UserId,
        /// The day it concerns.
        day_number: i64,
        /// What was suspicious.
        code: SuspicionCode,
        /// When it was put on record.
        flagged_at: i64,
    }
}

/// A season with all that is in it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeasonDetails {
    /// The season.
    pub season: SeasonSummary,
    /// How it ended, if it has: completed, abandoned, expired_idle, expired_key or expired_restore.
    pub end: Option<String>,
    /// Its days in order.
    pub days: Vec<DayDetails>,
    /// Its bets by day.
    pub bets: Vec<BetDetails>,
    /// Its triggers by day.
    pub triggers: Vec<TriggerDetails>,
    /// Its weeks that were evaluated.
    pub weeks: Vec<WeekDetails>,
}
