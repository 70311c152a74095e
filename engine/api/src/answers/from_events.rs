//! Answers made of a command's events: a repeat of the command gets the same one.

use daybook_ledger::Accepted;
use daybook_projections::DayEvent;
use daybook_schema::events::{
    BetPlaced, BetResolved, DayOpened, DayResolved, SeasonStarted, SimulinAdopted, WeekEvaluated,
};
use daybook_schema::{
    BondLevel, DayNumber, Event, LedgerIdentity, SeasonId, SeasonPhase, SimulinStage, UnixMicros,
    UserId,
};
use serde_json::{Value, json};

use super::{
    Advanced, Bet, Day, GrownSimulin, PlacedBets, ResolvedBet, ResolvedDay, ResolvedTrigger,
    Season, SeasonEnd, Simulin, StartedSeason, Week,
};
use crate::commands::{Applied, missing};
use crate::error::ApiError;

/// Where and when a command's events happened.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) identity: LedgerIdentity,
    pub(crate) season_id: SeasonId,
    pub(crate) recorded_at: UnixMicros,
}

/// Coins and the like: none is beyond what an `i64` holds.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A value of ours as JSON.
fn as_json(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Applied {
    /// Where and when its events happened; the first of them is the season's.
    fn place(&self) -> Result<At, ApiError> {
        let Accepted { events, recorded_at, .. } = &self.accepted;
        let season_id = events.first().ok_or_else(missing)?.stream.as_season();
        Ok(At { identity: self.identity, season_id, recorded_at: *recorded_at })
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.accepted.events.iter().map(|new| &new.event)
    }

    /// The answer to a start.
    pub(crate) fn started_season(&self) -> Result<StartedSeason, ApiError> {
        let at = self.place()?;
        let (mut season, mut day) = (None, None);
        for event in self.events() {
            match event {
                Event::SeasonStarted(started) => season = Some(Season::started(at, started)),
                Event::DayOpened(opened) => day = Some(Day::opened(at, opened)),
                _ => {}
            }
        }
        let (season, day) = season.zip(day).ok_or_else(missing)?;
        Ok(StartedSeason { season, day })
    }

    /// The answer to bets.
    pub(crate) fn placed_bets(&self) -> Result<PlacedBets, ApiError> {
        let at = self.place()?;
        let bets = self.events().filter_map(|event| match event {
            Event::BetPlaced(placed) => Some(Bet::placed(at, placed)),
            _ => None,
        });
        Ok(PlacedBets { bets: bets.collect() })
    }

    /// The answer to an advance.
    pub(crate) fn advanced(&self) -> Result<Advanced, ApiError> {
        let at = self.place()?;
        let mut advanced = Advancing::default();
        self.events().for_each(|event| advanced.take(at, event));
        advanced.finish()
    }

    /// The answer to an abandonment.
    pub(crate) fn abandoned(&self) -> Result<SeasonEnd, ApiError> {
        let at = self.place()?;
        let ended = self.events().find_map(|event| match event {
            Event::SeasonAbandoned(abandoned) => Some(SeasonEnd {
                id: at.season_id,
                end: "abandoned",
                completed_at: at.recorded_at.seconds(),
                final_score: None,
                coins: whole(abandoned.coins.get()),
                escrow_returned: whole(abandoned.escrow_returned.get()),
                season_secret: abandoned.season_secret.map(|secret| secret.to_string()),
            }),
            _ => None,
        });
        ended.ok_or_else(missing)
    }

    /// The answer to an adoption: the companion by the name that it was given first.
    pub(crate) fn adopted(&self, user_id: UserId, name: String) -> Result<Simulin, ApiError> {
        let adopted = self.adoption()?;
        let stage = BondLevel::MIN.stage();
        let passed = SimulinStage::ALL.iter().filter(|passed| **passed <= stage);
        Ok(Simulin {
            id: adopted.simulin_id,
            user_id,
            name,
            species: adopted.species,
            stage,
            path: None,
            bond_level: i64::from(BondLevel::MIN.get()),
            bond_xp: 0,
            personality: as_json(adopted.personality),
            abilities: as_json(passed.map(|passed| passed.ability()).collect::<Vec<_>>()),
            created_at: self.at(),
            retired_at: None,
        })
    }

    /// The event of an adoption.
    pub(crate) fn adoption(&self) -> Result<&SimulinAdopted, ApiError> {
        let adopted = self.events().find_map(|event| match event {
            Event::SimulinAdopted(adopted) => Some(adopted),
            _ => None,
        });
        adopted.ok_or_else(missing)
    }
}

/// An advance, as its events come.
#[derive(Default)]
struct Advancing {
    day: Option<ResolvedDay>,
    bets: Vec<ResolvedBet>,
    triggers: Vec<ResolvedTrigger>,
    week: Option<Week>,
    stipend: i64,
    simulin: Option<GrownSimulin>,
    next_day: Option<Day>,
    end: Option<SeasonEnd>,
}

impl Advancing {
    fn take(&mut self, at: At, event: &Event) {
        match event {
            Event::BetResolved(resolved) => self.bets.push(ResolvedBet::of(resolved)),
            Event::DayResolved(resolved) => self.day = Some(ResolvedDay::of(at, resolved)),
            Event::TriggerEarned(earned) => {
                let (day_number, trigger_type) = (earned.day_number, earned.trigger_type);
                let At { identity, season_id, recorded_at } = at;
                let id = identity.trigger_id(recorded_at, season_id, day_number, trigger_type);
                let earned_at = recorded_at.seconds();
                self.triggers.push(ResolvedTrigger { id, trigger_type, earned_at });
            }
            Event::SimulinXpGained(gained) => {
                let before = self.simulin.take();
                self.simulin = Some(GrownSimulin {
                    id: gained.simulin_id,
                    gained: before.as_ref().map_or(0, |before| before.gained)
                        + i64::from(gained.gained.get()),
                    bond_xp: i64::from(gained.bond_xp.get()),
                    bond_level: before.and_then(|before| before.bond_level),
                });
            }
            Event::SimulinLevelReached(reached) => {
                if let Some(simulin) = &mut self.simulin {
                    simulin.bond_level = Some(i64::from(reached.bond_level.get()));
                }
            }
            Event::WeekEvaluated(week) => self.week = Some(Week::evaluated(at, week)),
            Event::JackpotPaid(paid) => {
                if let Some(week) = &mut self.week {
                    week.jackpot_coins = whole(paid.amount.get());
                }
            }
            Event::StipendGranted(granted) => self.stipend = whole(granted.amount.get()),
            Event::DayOpened(opened) => self.next_day = Some(Day::opened(at, opened)),
            Event::SeasonCompleted(completed) => {
                self.end = Some(SeasonEnd {
                    id: at.season_id,
                    end: "completed",
                    completed_at: at.recorded_at.seconds(),
                    final_score: Some(whole(completed.final_score.get())),
                    coins: whole(completed.coins.get()),
                    escrow_returned: 0,
                    season_secret: Some(completed.season_secret.to_string()),
                });
            }
            _ => {}
        }
    }

    fn finish(self) -> Result<Advanced, ApiError> {
        let Self { day, bets, triggers, week, stipend, simulin, next_day, end } = self;
        let payouts: i64 = bets.iter().map(|bet| bet.payout).sum();
        let jackpot = week.as_ref().map_or(0, |week| week.jackpot_coins);
        let (day, coins_change) = (day.ok_or_else(missing)?, payouts + jackpot + stipend);
        Ok(Advanced { day, bets, triggers, week, stipend, coins_change, simulin, next_day, end })
    }
}

impl Season {
    pub(super) fn started(at: At, started: &SeasonStarted) -> Self {
        Self {
            id: at.season_id,
            user_id: started.user_id,
            season_number: i64::from(started.season_number.get()),
            current_day: 1,
            phase: SeasonPhase::Planting,
            coins: whole(started.coins.get()),
            jackpot_contribution: 0.0,
            started_at: at.recorded_at.seconds(),
            completed_at: None,
            final_score: None,
        }
    }
}

impl Day {
    /// A day as it is before it is resolved.
    pub(crate) fn opened(at: At, opened: &DayOpened) -> Self {
        let DayOpened { day_number, weather } = *opened;
        Self {
            id: at.identity.day_id(at.recorded_at, at.season_id, day_number),
            season_id: at.season_id,
            day_number: number_of(day_number),
            seed: String::new(),
            pot_levels: json!({}),
            events: json!([]),
            weather,
            resolved: false,
            created_at: at.recorded_at.seconds(),
        }
    }
}

fn number_of(day: DayNumber) -> i64 {
    i64::from(day.get())
}

impl Bet {
    /// A bet as it is before it is resolved.
    pub(crate) fn placed(at: At, placed: &BetPlaced) -> Self {
        let BetPlaced { day_number, pot_id, bet_type, amount } = *placed;
        Self {
            id: at.identity.bet_id(at.recorded_at, at.season_id, day_number, pot_id),
            season_id: at.season_id,
            day_number: number_of(day_number),
            pot_id,
            bet_type,
            amount: whole(amount.get()),
            payout: None,
            won: None,
            resolved_at: None,
            placed_at: at.recorded_at.seconds(),
        }
    }
}

impl ResolvedDay {
    /// What a day's resolution tells.
    pub(crate) fn of(at: At, resolved: &DayResolved) -> Self {
        Self {
            season_id: at.season_id,
            day_number: number_of(resolved.day_number),
            seed: resolved.day_key.to_string(),
            pot_levels: as_json(resolved.pot_levels),
            events: as_json(DayEvent::of(resolved)),
            score: whole(resolved.score.get()),
            resolved: true,
        }
    }
}

impl ResolvedBet {
    fn of(resolved: &BetResolved) -> Self {
        Self {
            pot_id: resolved.pot_id,
            amount: whole(resolved.amount.get()),
            won: resolved.threshold.is_some(),
            threshold: resolved.threshold.map(|threshold| i64::from(threshold.number())),
            payout: whole(resolved.payout.get()),
        }
    }
}

impl Week {
    pub(super) fn evaluated(at: At, week: &WeekEvaluated) -> Self {
        Self {
            season_id: at.season_id,
            week_number: i64::from(week.week_number.get()),
            hand: week.hand,
            multiplier: i64::from(week.multiplier.get()),
            score: whole(week.score.get()),
            jackpot_coins: 0,
        }
    }
}
