//! The rows of the tables, in the order of their columns, and the statements that write them.

use std::hash::Hash;

use daybook_schema::{
    BetId, BetType, DayId, Hand, PerPot, Pot, PotEvent, PotLevel, SeasonId, SeasonPhase, Seq,
    Severity, Trigger, TriggerCategory, TriggerId, TroubleKind, UserId, Weather,
};
use serde::Serialize;
use sqlx::SqliteConnection;

use super::progress::Progress;
use crate::projection::ApplyError;
use crate::read_models::leaderboards::{self, Completion};
use crate::rows::{Map, write};

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

    fn rows(&self) -> Vec<&R> {
        self.rows.iter().map(|(_, row)| row).collect()
    }
}

/// The rows of a batch beside those of the seasons themselves.
#[derive(Default)]
pub(super) struct SeasonRows {
    pub(super) days: Rows<(SeasonId, u8), DayRow>,
    pub(super) bets: Rows<(SeasonId, u8, u8), BetRow>,
    pub(super) triggers: Vec<TriggerRow>,
    pub(super) weeks: Rows<(SeasonId, u8), WeekRow>,
    pub(super) completions: Vec<Completion>,
}

impl SeasonRows {
    pub(super) async fn store(&self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        write(database, DayRow::STORE, &self.days.rows()).await?;
        write(database, BetRow::STORE, &self.bets.rows()).await?;
        write(database, TriggerRow::STORE, &self.triggers).await?;
        write(database, WeekRow::STORE, &self.weeks.rows()).await?;
        leaderboards::apply(database, &self.completions).await
    }
}

#[derive(Serialize)]
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
    pub(super) const STORE: &str = "INSERT INTO seasons (id, user_id, season_number, current_day, phase, coins, \
        jackpot_contribution, started_at, completed_at, final_score) \
        SELECT value->>'id', value->>'user_id', value->>'season_number', value->>'current_day', value->>'phase', \
        value->>'coins', (value->>'jackpot_millicoins') / 1000.0, value->>'started_at', value->>'completed_at', \
        value->>'final_score' FROM json_each(?1) WHERE true \
        ON CONFLICT (id) DO UPDATE SET current_day = excluded.current_day, phase = excluded.phase, \
        coins = excluded.coins, jackpot_contribution = excluded.jackpot_contribution, \
        completed_at = excluded.completed_at, final_score = excluded.final_score";
}

/// A season's stream: its id, its newest event, and what is needed to go on while it is in play.
#[derive(Serialize)]
pub(super) struct StreamRow<'a>(
    pub(super) SeasonId,
    pub(super) Seq,
    pub(super) Option<&'a Progress>,
);

impl StreamRow<'_> {
    pub(super) const STORE: &'static str = "INSERT INTO season_streams (season_id, last_seq, progress) \
        SELECT value->>0, value->>1, value->>2 FROM json_each(?1) WHERE true \
        ON CONFLICT (season_id) DO UPDATE SET last_seq = excluded.last_seq, progress = excluded.progress";
}

#[derive(Serialize)]
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
    pub(super) const STORE: &str = "INSERT INTO days (id, season_id, day_number, seed, pot_levels, events, \
        weather, resolved, created_at) \
        SELECT value->>'id', value->>'season_id', value->>'day_number', value->>'seed', \
        coalesce(value->>'pot_levels', '{}'), value->>'events', value->>'weather', value->>'resolved', \
        value->>'created_at' FROM json_each(?1) WHERE true \
        ON CONFLICT (id) DO UPDATE SET seed = excluded.seed, pot_levels = excluded.pot_levels, \
        events = excluded.events, resolved = excluded.resolved";
}

/// What befell a day: a pot's event or a trouble.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum DayEvent {
    Pot {
        #[serde(rename = "type")]
        event: PotEvent,
        #[serde(rename = "potId")]
        pot_id: Pot,
        delta: i16,
    },
    Trouble {
        #[serde(rename = "type")]
        event: &'static str,
        kind: TroubleKind,
        severity: Severity,
        cleared: bool,
    },
}

#[derive(Serialize)]
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
    pub(super) const STORE: &str = "INSERT INTO bets (id, season_id, day_number, pot_id, bet_type, amount, payout, \
        won, resolved_at, placed_at) \
        SELECT value->>'id', value->>'season_id', value->>'day_number', value->>'pot_id', value->>'bet_type', \
        value->>'amount', value->>'payout', value->>'won', value->>'resolved_at', value->>'placed_at' \
        FROM json_each(?1) WHERE true \
        ON CONFLICT (id) DO UPDATE SET payout = excluded.payout, won = excluded.won, \
        resolved_at = excluded.resolved_at";
}

#[derive(Serialize)]
pub(super) struct TriggerRow {
    pub(super) id: TriggerId,
    pub(super) season_id: SeasonId,
    pub(super) day_number: u8,
    pub(super) trigger_type: Trigger,
    pub(super) earned_at: i64,
    pub(super) metadata: TriggerMetadata,
}

impl TriggerRow {
    pub(super) const STORE: &str = "INSERT INTO daily_triggers (id, season_id, day_number, trigger_type, earned_at, \
        metadata) \
        SELECT value->>'id', value->>'season_id', value->>'day_number', value->>'trigger_type', \
        value->>'earned_at', value->>'metadata' FROM json_each(?1)";
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

#[derive(Serialize)]
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
    pub(super) const STORE: &str = "INSERT INTO week_results (season_id, week_number, hand, multiplier, score, \
        jackpot_coins, evaluated_at) \
        SELECT value->>'season_id', value->>'week_number', value->>'hand', value->>'multiplier', value->>'score', \
        value->>'jackpot_coins', value->>'evaluated_at' FROM json_each(?1) WHERE true \
        ON CONFLICT (season_id, week_number) DO UPDATE SET jackpot_coins = excluded.jackpot_coins";
}
