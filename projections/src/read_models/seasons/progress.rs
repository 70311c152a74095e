//! A season in play, as far as rows still to come need it, and how each event changes it.

use daybook_schema::events::{BetPlaced, BetResolved, DayOpened, DayResolved, SeasonStarted};
use daybook_schema::{
    BetId, BetType, Coins, DayId, DayNumber, Epoch, Event, KeyId, PerPot, Pot, SeasonId, Trigger,
    UnixMicros, UserId, Weather, limits,
};
use serde::{Deserialize, Serialize};

use super::keys::SeasonKeys;
use super::tables::{
    BetRow, CoinKind, CoinRow, DayEvent, DayRow, EndRow, FlagRow, SeasonEnd, SeasonRow, SeasonRows,
    TriggerMetadata, TriggerRow, WeekRow,
};
use crate::projection::{ApplyError, ProjectedEvent};
use crate::read_models::leaderboards::Completion;

/// What is kept of a season from its start to its end.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    user_id: UserId,
    season_number: u32,
    key_id: KeyId,
    epoch: Epoch,
    started_at: i64,
    companion_pot: Option<Pot>,
    coins: u64,
    jackpot_millicoins: u64,
    today: Option<Today>,
    week: Option<Week>,
}

/// The day that is open, or was resolved last.
#[derive(Clone, Serialize, Deserialize)]
struct Today {
    id: DayId,
    day_number: DayNumber,
    weather: Weather,
    opened_at: i64,
    bets: PerPot<Option<OpenBet>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct OpenBet {
    id: BetId,
    bet_type: BetType,
    amount: u64,
    placed_at: i64,
}

/// The week that was evaluated last: a jackpot may still be paid for it.
#[derive(Clone, Serialize, Deserialize)]
struct Week {
    number: u8,
    hand: daybook_schema::Hand,
    multiplier: u16,
    score: u64,
    evaluated_at: i64,
}

/// When a season ended, and with what score.
pub(super) struct Ended {
    at: i64,
    final_score: Option<u64>,
}

impl Progress {
    fn new(started: &SeasonStarted, event: &ProjectedEvent) -> Self {
        Self {
            user_id: started.user_id,
            season_number: started.season_number.get(),
            key_id: started.key_id,
            epoch: event.identity.epoch,
            started_at: event.stored.header.recorded_at.seconds(),
            companion_pot: started.companion.map(|companion| companion.species.attuned_pot()),
            coins: started.coins.get(),
            jackpot_millicoins: 0,
            today: None,
            week: None,
        }
    }

    /// Why the engine ended it: the ledger was restored since it began, its key was compromised, or
    /// it was idle.
    fn expired_by(&self, now: Epoch, keys: &SeasonKeys) -> SeasonEnd {
        if self.epoch.number != now.number {
            SeasonEnd::ExpiredRestore
        } else if keys.is_compromised(self.key_id) {
            SeasonEnd::ExpiredKey
        } else {
            SeasonEnd::ExpiredIdle
        }
    }

    fn current_day(&self) -> u8 {
        self.today.as_ref().map_or(DayNumber::MIN, |today| today.day_number).get()
    }

    pub(super) fn season_row(&self, id: SeasonId, ended: Option<&Ended>) -> SeasonRow {
        let day = self.today.as_ref().map_or(DayNumber::MIN, |today| today.day_number);
        SeasonRow {
            id,
            user_id: self.user_id,
            season_number: self.season_number,
            current_day: day.get(),
            phase: day.phase(),
            coins: self.coins,
            jackpot_millicoins: self.jackpot_millicoins,
            started_at: self.started_at,
            completed_at: ended.map(|ended| ended.at),
            final_score: ended.and_then(|ended| ended.final_score),
        }
    }
}

impl Today {
    fn row(&self, season_id: SeasonId) -> DayRow {
        DayRow {
            id: self.id,
            season_id,
            day_number: self.day_number.get(),
            seed: String::new(),
            pot_levels: None,
            events: Vec::new(),
            weather: self.weather,
            resolved: false,
            created_at: self.opened_at,
        }
    }

    fn bet_row(&self, season_id: SeasonId, pot: Pot, bet: &OpenBet) -> BetRow {
        BetRow {
            id: bet.id,
            season_id,
            day_number: self.day_number.get(),
            pot_id: pot,
            bet_type: bet.bet_type,
            amount: bet.amount,
            payout: None,
            won: None,
            resolved_at: None,
            placed_at: bet.placed_at,
        }
    }

    /// What a trigger was earned by: the pot and the bets that its rule looks at.
    fn metadata(&self, trigger: Trigger, companion_pot: Option<Pot>) -> TriggerMetadata {
        let pot_id = match trigger {
            Trigger::FirstBloom | Trigger::GrowthSpurt => Some(Pot::Growth),
            Trigger::SimulinSync => companion_pot,
            Trigger::PerfectRead | Trigger::TroubleSlayer => None,
        };
        let counts = |pot: Pot| match trigger {
            Trigger::FirstBloom | Trigger::SimulinSync => pot_id == Some(pot),
            Trigger::PerfectRead => true,
            Trigger::TroubleSlayer | Trigger::GrowthSpurt => false,
        };
        let bets = self.bets.iter().filter(|(pot, _)| counts(*pot));
        let bet_ids = bets.filter_map(|(_, bet)| Some(bet.as_ref()?.id)).collect();
        TriggerMetadata { category: trigger.category(), pot_id, bet_ids }
    }
}

/// Where an event stands.
struct At<'a> {
    event: &'a ProjectedEvent,
    season_id: SeasonId,
    recorded_at: UnixMicros,
}

impl At<'_> {
    fn seconds(&self) -> i64 {
        self.recorded_at.seconds()
    }

    fn refuse(&self, reason: impl Into<String>) -> ApplyError {
        ApplyError::event(self.event, reason)
    }
}

impl SeasonRows {
    /// Begins a season.
    pub(super) fn start(&mut self, event: &ProjectedEvent, started: &SeasonStarted) -> Progress {
        let progress = Progress::new(started, event);
        let (season_id, moved_at) = (event.stored.header.stream.as_season(), progress.started_at);
        let (kind, amount) = (CoinKind::Start, progress.coins.cast_signed());
        self.coins.push(CoinRow { season_id, day_number: 1, kind, amount, moved_at });
        progress
    }

    /// Folds an event of a season in play; tells when the season ended, if it did.
    pub(super) fn fold(
        &mut self,
        event: &ProjectedEvent,
        progress: &mut Progress,
        keys: &SeasonKeys,
    ) -> Result<Option<Ended>, ApplyError> {
        let recorded_at = event.stored.header.recorded_at;
        let season_id = event.stored.header.stream.as_season();
        let at = At { event, season_id, recorded_at };
        match &event.stored.event {
            Event::DayOpened(opened) => self.open_day(&at, progress, opened),
            Event::BetPlaced(placed) => self.place_bet(&at, progress, placed)?,
            Event::BetResolved(resolved) => self.resolve_bet(&at, progress, resolved)?,
            Event::DayResolved(resolved) => self.resolve_day(&at, progress, resolved)?,
            Event::TriggerEarned(earned) => {
                let companion_pot = progress.companion_pot;
                let today = today(&at, progress, earned.day_number)?;
                let (day_number, trigger) = (earned.day_number, earned.trigger_type);
                self.triggers.push(TriggerRow {
                    id: event.identity.trigger_id(recorded_at, season_id, day_number, trigger),
                    season_id,
                    day_number: earned.day_number.get(),
                    trigger_type: earned.trigger_type,
                    earned_at: at.seconds(),
                    metadata: today.metadata(earned.trigger_type, companion_pot),
                });
            }
            Event::WeekEvaluated(evaluated) => {
                let week = Week {
                    number: evaluated.week_number.get(),
                    hand: evaluated.hand,
                    multiplier: evaluated.multiplier.get(),
                    score: evaluated.score.get(),
                    evaluated_at: at.seconds(),
                };
                self.put_week(season_id, &week, 0);
                progress.week = Some(week);
            }
            Event::JackpotPaid(paid) => {
                let week = progress.week.as_ref();
                let week = week.filter(|week| week.number == paid.week_number.get());
                let week = week.ok_or_else(|| at.refuse("its week was not evaluated"))?;
                self.put_week(season_id, week, paid.amount.get());
                progress.coins += paid.amount.get();
                let day = paid.week_number.get() * limits::DAYS_PER_WEEK;
                self.move_coins(&at, day, CoinKind::Jackpot, paid.amount.get().cast_signed());
            }
            Event::SuspicionFlagged(flagged) => self.flags.push(FlagRow {
                seq: event.stored.header.seq,
                season_id,
                user_id: progress.user_id,
                day_number: flagged.day_number.get(),
                code: flagged.code,
                flagged_at: at.seconds(),
            }),
            Event::StipendGranted(granted) => {
                progress.coins += granted.amount.get();
                let day = granted.day_number.get();
                self.move_coins(&at, day, CoinKind::Stipend, granted.amount.get().cast_signed());
            }
            _ => return Ok(self.fold_end(&at, progress, keys)),
        }
        Ok(None)
    }

    /// Folds an event that may end a season.
    fn fold_end(
        &mut self,
        at: &At<'_>,
        progress: &mut Progress,
        keys: &SeasonKeys,
    ) -> Option<Ended> {
        let (event, season_id, recorded_at) = (at.event, at.season_id, at.recorded_at);
        match &event.stored.event {
            Event::SeasonCompleted(completed) => {
                progress.coins = completed.coins.get();
                let score = completed.final_score;
                let (user_id, identity) = (progress.user_id, event.identity);
                self.completions.push(Completion {
                    identity,
                    user_id,
                    season_id,
                    score,
                    recorded_at,
                });
                self.end(at, progress, SeasonEnd::Completed);
                let final_score = Some(score.get());
                Some(Ended { at: at.seconds(), final_score })
            }
            Event::SeasonAbandoned(end) => {
                let ended = self.break_off(at, progress, end.coins);
                self.end(at, progress, SeasonEnd::Abandoned);
                Some(ended)
            }
            Event::SeasonExpired(end) => {
                let ended = self.break_off(at, progress, end.coins);
                let how = progress.expired_by(event.identity.epoch, keys);
                self.end(at, progress, how);
                Some(ended)
            }
            _ => None,
        }
    }

    fn open_day(&mut self, at: &At<'_>, progress: &mut Progress, opened: &DayOpened) {
        let today = Today {
            id: at.event.identity.day_id(at.recorded_at, at.season_id, opened.day_number),
            day_number: opened.day_number,
            weather: opened.weather,
            opened_at: at.seconds(),
            bets: PerPot::from_fn(|_| None),
        };
        self.days.put((at.season_id, opened.day_number.get()), today.row(at.season_id));
        progress.today = Some(today);
    }

    fn place_bet(
        &mut self,
        at: &At<'_>,
        progress: &mut Progress,
        placed: &BetPlaced,
    ) -> Result<(), ApplyError> {
        let (identity, BetPlaced { day_number, pot_id, .. }) = (at.event.identity, placed);
        let bet = OpenBet {
            id: identity.bet_id(at.recorded_at, at.season_id, *day_number, *pot_id),
            bet_type: placed.bet_type,
            amount: placed.amount.get(),
            placed_at: at.seconds(),
        };
        let today = today(at, progress, placed.day_number)?;
        let row = today.bet_row(at.season_id, placed.pot_id, &bet);
        *today.bets.get_mut(placed.pot_id) = Some(bet);
        self.put_bet(row);
        progress.coins = lowered(at, progress.coins, placed.amount)?;
        Ok(())
    }

    fn resolve_bet(
        &mut self,
        at: &At<'_>,
        progress: &mut Progress,
        resolved: &BetResolved,
    ) -> Result<(), ApplyError> {
        let today = today(at, progress, resolved.day_number)?;
        let bet = today.bets.get(resolved.pot_id).as_ref();
        let bet = bet.ok_or_else(|| at.refuse("there is no such bet"))?;
        let mut row = today.bet_row(at.season_id, resolved.pot_id, bet);
        row.payout = Some(resolved.payout.get());
        row.won = Some(resolved.threshold.is_some());
        row.resolved_at = Some(at.seconds());
        self.put_bet(row);
        progress.coins += resolved.payout.get();
        progress.jackpot_millicoins += resolved.jackpot_share.get();
        Ok(())
    }

    fn resolve_day(
        &mut self,
        at: &At<'_>,
        progress: &mut Progress,
        resolved: &DayResolved,
    ) -> Result<(), ApplyError> {
        let today = today(at, progress, resolved.day_number)?;
        let mut row = today.row(at.season_id);
        row.seed = resolved.day_key.to_string();
        row.pot_levels = Some(resolved.pot_levels);
        row.events = DayEvent::of(resolved);
        row.resolved = true;
        self.days.put((at.season_id, resolved.day_number.get()), row);
        Ok(())
    }

    /// The season ends before its time: stakes that are still out come back, and count as not
    /// staked.
    fn break_off(&mut self, at: &At<'_>, progress: &mut Progress, coins: Coins) -> Ended {
        if let Some(today) = &progress.today {
            for (pot, bet) in today.bets.iter() {
                let Some(bet) = bet else { continue };
                let mut row = today.bet_row(at.season_id, pot, bet);
                row.payout = Some(bet.amount);
                row.resolved_at = Some(at.seconds());
                self.put_bet(row);
            }
        }
        progress.coins = coins.get();
        Ended { at: at.seconds(), final_score: None }
    }

    /// What is left of the balance goes back.
    fn end(&mut self, at: &At<'_>, progress: &Progress, how: SeasonEnd) {
        let ended_at = at.seconds();
        self.ends.push(EndRow { season_id: at.season_id, how, ended_at });
        let left = -progress.coins.cast_signed();
        self.move_coins(at, progress.current_day(), CoinKind::End, left);
    }

    fn move_coins(&mut self, at: &At<'_>, day_number: u8, kind: CoinKind, amount: i64) {
        let (season_id, moved_at) = (at.season_id, at.seconds());
        if amount == 0 {
            return;
        }
        self.coins.push(CoinRow { season_id, day_number, kind, amount, moved_at });
    }

    fn put_bet(&mut self, row: BetRow) {
        self.bets.put((row.season_id, row.day_number, row.pot_id.number()), row);
    }

    fn put_week(&mut self, season_id: SeasonId, week: &Week, jackpot_coins: u64) {
        let row = WeekRow {
            season_id,
            week_number: week.number,
            hand: week.hand,
            multiplier: week.multiplier,
            score: week.score,
            jackpot_coins,
            evaluated_at: week.evaluated_at,
        };
        self.weeks.put((season_id, week.number), row);
    }
}

/// The day that is open, if it is the one that an event is about.
fn today<'a>(
    at: &At<'_>,
    progress: &'a mut Progress,
    day: DayNumber,
) -> Result<&'a mut Today, ApplyError> {
    let today = progress.today.as_mut().filter(|today| today.day_number == day);
    today.ok_or_else(|| at.refuse(format!("day {day} is not open")))
}

fn lowered(at: &At<'_>, coins: u64, by: Coins) -> Result<u64, ApplyError> {
    coins.checked_sub(by.get()).ok_or_else(|| at.refuse("the balance does not hold the stake"))
}
