//! A whole season made of the ledger's own events: for what the read models do not have yet.

use daybook_projections::DayEvent;
use daybook_schema::{BetType, DayNumber, Event, StoredEvent};
use serde_json::json;

use super::from_events::{At, whole};
use super::{Bet, Day, EarnedTrigger, Season, Week, WholeSeason};
use crate::heads::Epochs;

impl WholeSeason {
    /// A season of its events so far; none where they do not begin one.
    pub(crate) fn from_ledger(events: &[StoredEvent], epochs: &Epochs) -> Option<Self> {
        let mut season: Option<Self> = None;
        let mut jackpot_millicoins = 0_u64;
        for stored in events {
            let at = At {
                identity: epochs.identity_at(stored.header.seq),
                season_id: stored.header.stream.as_season(),
                recorded_at: stored.header.recorded_at,
            };
            if let Event::SeasonStarted(started) = &stored.event {
                season = Some(Self {
                    season: Season::started(at, started),
                    end: None,
                    days: Vec::new(),
                    bets: Vec::new(),
                    triggers: Vec::new(),
                    weeks: Vec::new(),
                });
            }
            if let Event::BetResolved(resolved) = &stored.event {
                jackpot_millicoins += resolved.jackpot_share.get();
            }
            if let Some(season) = &mut season {
                season.take(at, &stored.event);
            }
        }
        let mut season = season?;
        // Whole until here: a sum of parts of coins would not be exact.
        let millicoins = u32::try_from(jackpot_millicoins).unwrap_or(u32::MAX);
        season.season.jackpot_contribution = f64::from(millicoins) / 1_000.0;
        Some(season)
    }

    fn take(&mut self, at: At, event: &Event) {
        match event {
            Event::DayOpened(opened) => {
                self.season.current_day = i64::from(opened.day_number.get());
                self.season.phase = opened.day_number.phase();
                self.days.push(Day::opened(at, opened));
            }
            Event::BetPlaced(placed) => {
                self.season.coins -= whole(placed.amount.get());
                self.bets.push(Bet::placed(at, placed));
            }
            Event::BetResolved(resolved) => {
                self.season.coins += whole(resolved.payout.get());
                let day = i64::from(resolved.day_number.get());
                let bet = self.bets.iter_mut().rev();
                let mut bet = bet.filter(|bet| bet.day_number == day);
                if let Some(bet) = bet.find(|bet| bet.pot_id == resolved.pot_id) {
                    bet.won = Some(bet.bet_type != BetType::Fold && resolved.threshold.is_some());
                    bet.payout = Some(whole(resolved.payout.get()));
                    bet.resolved_at = Some(at.recorded_at.seconds());
                }
            }
            Event::DayResolved(resolved) => {
                if let Some(day) = self.days.last_mut() {
                    day.seed = resolved.day_key.to_string();
                    day.pot_levels = json!(resolved.pot_levels);
                    day.events = json!(DayEvent::of(resolved));
                    day.resolved = true;
                }
            }
            Event::TriggerEarned(earned) => {
                let (day, trigger_type) = (earned.day_number, earned.trigger_type);
                self.triggers.push(EarnedTrigger {
                    id: at.identity.trigger_id(at.recorded_at, at.season_id, day, trigger_type),
                    season_id: at.season_id,
                    day_number: i64::from(DayNumber::get(day)),
                    trigger_type,
                    earned_at: at.recorded_at.seconds(),
                    metadata: json!({ "category": trigger_type.category() }),
                });
            }
            Event::WeekEvaluated(week) => self.weeks.push(Week::evaluated(at, week)),
            Event::JackpotPaid(paid) => {
                self.season.coins += whole(paid.amount.get());
                if let Some(week) = self.weeks.last_mut() {
                    week.jackpot_coins = whole(paid.amount.get());
                }
            }
            Event::StipendGranted(granted) => self.season.coins += whole(granted.amount.get()),
            _ => self.take_end(at, event),
        }
    }

    fn take_end(&mut self, at: At, event: &Event) {
        let (end, coins, final_score) = match event {
            Event::SeasonCompleted(it) => ("completed", it.coins, Some(it.final_score.get())),
            Event::SeasonAbandoned(it) => ("abandoned", it.coins, None),
            // Why it expired the read models tell.
            Event::SeasonExpired(it) => ("expired", it.coins, None),
            _ => return,
        };
        self.end = Some(end.to_owned());
        self.season.coins = whole(coins.get());
        self.season.completed_at = Some(at.recorded_at.seconds());
        self.season.final_score = final_score.map(whole);
        for bet in self.bets.iter_mut().filter(|bet| bet.resolved_at.is_none()) {
            bet.payout = Some(bet.amount);
            bet.resolved_at = Some(at.recorded_at.seconds());
        }
    }
}
