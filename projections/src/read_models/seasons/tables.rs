//! The rows of the tables, in the order of their columns, and the statements that write them.

use std::hash::Hash;

use daybook_schema::events::DayResolved;
use daybook_schema::{
    BetId, BetType, DayId, Hand, PerPot, Pot, PotEvent, PotLevel, SeasonId, SeasonPhase, Seq,
    Severity, SuspicionCode, Trigger, TriggerCategory, TriggerId, TroubleKind, UserId, Weather,
};
use daybook_simulator::RULESET_1;
use serde::Serialize;
use sqlx::SqliteConnection;

use crate::insert::{BindRow, Insert, Map, Values, insert};
use crate::projection::ApplyError;
use crate::read_models::leaderboards::{self, Completion};

/// Rows in the order in which they came to be, the newest state of each.
pub(super) struct Rows<K, R> {
    rows: Vec<(K, R)>,
    places: Map<K, usize>,
}

impl<K, R> Default for Rows<K, R> {
    fn default() -> Self {
        Self { rows: Vec::new(), places: Map::default() }
    }
}

impl<K: Copy + Eq + Hash, R> Rows<K, R> {
    /// Puts a row in the place of an earlier state of it, or at the end.
    pub(super) fn put(&mut self, key: K, row: R) {
        let end = self.rows.len();
        let place = *self.places.entry(key).or_insert(end);
        match self.rows.get_mut(place) {
            Some((_, earlier)) => *earlier = row,
            None => self.rows.push((key, row)),
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut R> {
        self.rows.get_mut(*self.places.get(key)?).map(|(_, row)| row)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter().map(|(key, row)| (key, row))
    }

    fn into_rows(self) -> impl Iterator<Item = R> {
        self.rows.into_iter().map(|(_, row)| row)
    }
}

/// The rows of a batch beside those of the seasons themselves.
#[derive(Default)]
pub(super) struct SeasonRows {
    pub(super) days: Rows<(SeasonId, u8), DayRow>,
    pub(super) bets: Rows<(SeasonId, u8, u8), BetRow>,
    pub(super) triggers: Vec<TriggerRow>,
    pub(super) weeks: Rows<(SeasonId, u8), WeekRow>,
    pub(super) ends: Vec<EndRow>,
    pub(super) flags: Vec<FlagRow>,
    pub(super) coins: Vec<CoinRow>,
    pub(super) completions: Vec<Completion>,
}

impl SeasonRows {
    pub(super) async fn store(self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        insert(database, &DayRow::STORE, self.days.into_rows()).await?;
        insert(database, &BetRow::STORE, self.bets.into_rows()).await?;
        insert(database, &TriggerRow::STORE, &self.triggers).await?;
        insert(database, &WeekRow::STORE, self.weeks.into_rows()).await?;
        insert(database, &EndRow::STORE, &self.ends).await?;
        insert(database, &FlagRow::STORE, &self.flags).await?;
        insert(database, &CoinRow::STORE, &self.coins).await?;
        leaderboards::apply(database, &self.completions).await
    }
}

pub(super) struct SeasonRow {
    pub(super) id: SeasonId,
    pub(super) user_id: UserId,
    pub(super) season_number: u32,
    pub(super) current_day: u8,
    pub(super) phase: SeasonPhase,
    pub(super) coins: u64,
    pub(super) jackpot_millicoins: u64,
    pub(super) started_at: i64,
    pub(super) completed_at: Option<i64>,
    pub(super) final_score: Option<u64>,
}

impl SeasonRow {
    pub(super) const STORE: Insert = Insert {
        into: "seasons (id, user_id, season_number, current_day, phase, coins, \
            jackpot_contribution, started_at, completed_at, final_score)",
        row: "(?, ?, ?, ?, ?, ?, ? / 1000.0, ?, ?, ?)",
        tail: "ON CONFLICT (id) DO UPDATE SET current_day = excluded.current_day, \
            phase = excluded.phase, coins = excluded.coins, \
            jackpot_contribution = excluded.jackpot_contribution, \
            completed_at = excluded.completed_at, final_score = excluded.final_score",
    };
}

impl BindRow for SeasonRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.id)?.text(self.user_id)?.add(self.season_number)?.add(self.current_day)?;
        values.add(self.phase.as_str())?.number(self.coins)?.number(self.jackpot_millicoins)?;
        values.add(self.started_at)?.add(self.completed_at)?;
        values.add(self.final_score.map(u64::cast_signed))?;
        Ok(())
    }
}

pub(super) struct DayRow {
    pub(super) id: DayId,
    pub(super) season_id: SeasonId,
    pub(super) day_number: u8,
    pub(super) seed: String,
    pub(super) pot_levels: Option<PerPot<PotLevel>>,
    pub(super) events: Vec<DayEvent>,
    pub(super) weather: Weather,
    pub(super) resolved: bool,
    pub(super) created_at: i64,
}

impl DayRow {
    pub(super) const STORE: Insert = Insert {
        into: "days (id, season_id, day_number, seed, pot_levels, events, weather, \
            resolved, created_at)",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (id) DO UPDATE SET seed = excluded.seed, \
            pot_levels = excluded.pot_levels, events = excluded.events, resolved = excluded.resolved",
    };
}

impl BindRow for DayRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values
            .text(self.id)?
            .text(self.season_id)?
            .add(self.day_number)?
            .add(self.seed.as_str())?;
        match &self.pot_levels {
            Some(levels) => values.json(levels)?,
            None => values.add("{}")?,
        };
        values.json(&self.events)?.add(self.weather.as_str())?;
        values.add(self.resolved)?.add(self.created_at)?;
        Ok(())
    }
}

/// What befell a day: a pot's event or a trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DayEvent {
    /// What came to a pot.
    Pot {
        /// boon, bane or windfall.
        #[serde(rename = "type")]
        event: PotEvent,
        /// The pot.
        #[serde(rename = "potId")]
        pot_id: Pot,
        /// What it did to the pot's level.
        delta: i16,
    },
    /// A trouble.
    Trouble {
        /// "trouble".
        #[serde(rename = "type")]
        event: &'static str,
        /// Which.
        kind: TroubleKind,
        /// How bad.
        severity: Severity,
        /// Whether it was cleared.
        cleared: bool,
    },
}

impl DayEvent {
    /// What befell a day, in the order of its draws.
    #[must_use]
    pub fn of(resolved: &DayResolved) -> Vec<Self> {
        let delta = |event: PotEvent| {
            let entries = RULESET_1.pot_events.entries;
            entries.iter().find(|(kind, ..)| *kind == event).map_or(0, |(.., delta)| *delta)
        };
        let pots = resolved.pot_events.iter().filter(|(_, event)| **event != PotEvent::None);
        let pots = pots.map(|(pot_id, &event)| Self::Pot { event, pot_id, delta: delta(event) });
        let troubles = resolved.troubles.iter().map(|trouble| Self::Trouble {
            event: "trouble",
            kind: trouble.kind,
            severity: trouble.severity,
            cleared: trouble.cleared,
        });
        pots.chain(troubles).collect()
    }
}

pub(super) struct BetRow {
    pub(super) id: BetId,
    pub(super) season_id: SeasonId,
    pub(super) day_number: u8,
    pub(super) pot_id: Pot,
    pub(super) bet_type: BetType,
    pub(super) amount: u64,
    pub(super) payout: Option<u64>,
    pub(super) won: Option<bool>,
    pub(super) resolved_at: Option<i64>,
    pub(super) placed_at: i64,
}

impl BetRow {
    pub(super) const STORE: Insert = Insert {
        into: "bets (id, season_id, day_number, pot_id, bet_type, amount, payout, won, \
            resolved_at, placed_at)",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (id) DO UPDATE SET payout = excluded.payout, won = excluded.won, \
            resolved_at = excluded.resolved_at",
    };
}

impl BindRow for BetRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.id)?.text(self.season_id)?.add(self.day_number)?;
        values.add(self.pot_id.as_str())?.add(self.bet_type.as_str())?.number(self.amount)?;
        values.add(self.payout.map(u64::cast_signed))?.add(self.won)?;
        values.add(self.resolved_at)?.add(self.placed_at)?;
        Ok(())
    }
}

pub(super) struct TriggerRow {
    pub(super) id: TriggerId,
    pub(super) season_id: SeasonId,
    pub(super) day_number: u8,
    pub(super) trigger_type: Trigger,
    pub(super) earned_at: i64,
    pub(super) metadata: TriggerMetadata,
}

impl TriggerRow {
    pub(super) const STORE: Insert = Insert {
        into: "daily_triggers (id, season_id, day_number, trigger_type, earned_at, \
            metadata)",
        row: "(?, ?, ?, ?, ?, ?)",
        tail: "",
    };
}

impl BindRow for &TriggerRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.id)?.text(self.season_id)?.add(self.day_number)?;
        values.add(self.trigger_type.as_str())?.add(self.earned_at)?.json(&self.metadata)?;
        Ok(())
    }
}

/// What a trigger was earned by.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TriggerMetadata {
    pub(super) category: TriggerCategory,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pot_id: Option<Pot>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) bet_ids: Vec<BetId>,
}

pub(super) struct FlagRow {
    pub(super) seq: Seq,
    pub(super) season_id: SeasonId,
    pub(super) user_id: UserId,
    pub(super) day_number: u8,
    pub(super) code: SuspicionCode,
    pub(super) flagged_at: i64,
}

impl FlagRow {
    pub(super) const STORE: Insert = Insert {
        into: "flags (seq, season_id, user_id, day_number, code, flagged_at)",
        row: "(?, ?, ?, ?, ?, ?)",
        tail: "",
    };
}

impl BindRow for &FlagRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.number(self.seq.get())?.text(self.season_id)?.text(self.user_id)?;
        values.add(self.day_number)?.add(self.code.as_str())?.add(self.flagged_at)?;
        Ok(())
    }
}

pub(super) struct WeekRow {
    pub(super) season_id: SeasonId,
    pub(super) week_number: u8,
    pub(super) hand: Hand,
    pub(super) multiplier: u16,
    pub(super) score: u64,
    pub(super) jackpot_coins: u64,
    pub(super) evaluated_at: i64,
}

impl WeekRow {
    pub(super) const STORE: Insert = Insert {
        into: "week_results (season_id, week_number, hand, multiplier, score, \
            jackpot_coins, evaluated_at)",
        row: "(?, ?, ?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (season_id, week_number) DO UPDATE SET \
            jackpot_coins = excluded.jackpot_coins",
    };
}

impl BindRow for WeekRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.season_id)?.add(self.week_number)?.add(self.hand.as_str())?;
        values.add(self.multiplier)?.number(self.score)?.number(self.jackpot_coins)?;
        values.add(self.evaluated_at)?;
        Ok(())
    }
}

/// How a season ended.
#[derive(Clone, Copy)]
pub(super) enum SeasonEnd {
    Completed,
    Abandoned,
    ExpiredIdle,
    ExpiredKey,
    ExpiredRestore,
}

impl SeasonEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Abandoned => "abandoned",
            Self::ExpiredIdle => "expired_idle",
            Self::ExpiredKey => "expired_key",
            Self::ExpiredRestore => "expired_restore",
        }
    }
}

pub(super) struct EndRow {
    pub(super) season_id: SeasonId,
    pub(super) how: SeasonEnd,
    pub(super) ended_at: i64,
}

impl EndRow {
    const STORE: Insert =
        Insert { into: "season_ends (season_id, how, ended_at)", row: "(?, ?, ?)", tail: "" };
}

impl BindRow for &EndRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.season_id)?.add(self.how.as_str())?.add(self.ended_at)?;
        Ok(())
    }
}

/// Why coins move without a bet.
#[derive(Clone, Copy)]
pub(super) enum CoinKind {
    Start,
    Stipend,
    Jackpot,
    End,
}

impl CoinKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stipend => "stipend",
            Self::Jackpot => "jackpot",
            Self::End => "end",
        }
    }
}

pub(super) struct CoinRow {
    pub(super) season_id: SeasonId,
    pub(super) day_number: u8,
    pub(super) kind: CoinKind,
    pub(super) amount: i64,
    pub(super) moved_at: i64,
}

impl CoinRow {
    const STORE: Insert = Insert {
        into: "season_coins (season_id, day_number, kind, amount, moved_at)",
        row: "(?, ?, ?, ?, ?)",
        tail: "",
    };
}

impl BindRow for &CoinRow {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.season_id)?.add(self.day_number)?.add(self.kind.as_str())?;
        values.add(self.amount)?.add(self.moved_at)?;
        Ok(())
    }
}
