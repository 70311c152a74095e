//! A day's end: bets and troubles resolve, triggers are earned, the week is evaluated, and the next
//! morning comes, or the season is complete.

use daybook_schema::events::{
    BetResolved, DayOpened, DayResolved, JackpotPaid, SeasonCompleted, StipendGranted,
    TriggerEarned, Trouble, Troubles, WeekEvaluated,
};
use daybook_schema::{
    BetType, Coins, DayKey, DayNumber, Hand, Millicoins, PerPot, Pot, Score, SeasonId, SeasonPhase,
    SimulinPath, Threshold, Trigger, UserId, limits,
};

use super::simulins::CompanionBond;
use super::{Decision, NewEvent};
use crate::draws::{DayDraw, draw_day, draw_weather, threshold_reached};
use crate::hands::{WeekTriggers, evaluate_hand, hand_multiplier};
use crate::payouts::{multiplier, pays};
use crate::rejection::{Rejection, Rejections};
use crate::rulesets::Rules;
use crate::season_keys::day_seed;
use crate::state::{PlacedBet, Season};

const XP_QUALIFYING_DAY: u32 = 10;
const XP_SIMULIN_SYNC: u32 = 40;
const XP_PERFECT_READ_WATCHER: u32 = 40;
const XP_HAND: u32 = 25;
const SCORE_TROUBLE_CLEARED: u64 = 50;
const SCORE_HARVEST_FACTOR: u64 = 3;

/// The day's end of one season, as its events are collected.
struct Resolution<'a> {
    decision: &'a Decision<'a>,
    rules: &'a Rules,
    season_id: SeasonId,
    season: &'a Season,
    day_key: DayKey,
    draw: DayDraw,
    /// The balance as payouts come in.
    balance: u64,
    /// Millicoins that the day's stakes add to the jackpot.
    jackpot_shares: u64,
    events: Vec<NewEvent>,
}

/// What the day's end found out, for score, hand and companion.
struct DayResult {
    score: Score,
    triggers: Vec<Trigger>,
}

impl Decision<'_> {
    pub(super) fn advance(
        &self,
        user_id: UserId,
        season_id: SeasonId,
        expected: DayNumber,
    ) -> Result<Vec<NewEvent>, Rejections> {
        let season = self.playable(user_id, season_id)?;
        let current = season.day_number;
        if expected != current {
            return Err(Rejection::WrongDay { expected, current }.into());
        }
        let request = self.state.key_request(season);
        let day_key =
            self.context.keys.day_key(&request, current.get()).ok_or(Rejection::KeyUnavailable)?;
        let seed = day_seed(&day_key, &season.client_digest, current.get());
        let rules = self.rules_of(season)?;
        let draw = draw_day(rules, season.weather, &seed);
        let mut resolution = Resolution {
            decision: self,
            rules,
            season_id,
            season,
            day_key,
            draw,
            balance: season.coins().get(),
            jackpot_shares: 0,
            events: Vec::with_capacity(12),
        };
        resolution.resolve_bets();
        let result = resolution.resolve_day();
        let mut bond = CompanionBond::of(self, user_id, season.companion);
        resolution.gain_day_xp(&result, bond.as_mut());
        let (mut week_scores, mut jackpot_won) = (season.week_scores, season.jackpot_won.get());
        if current.ends_week() {
            let (score, won) = resolution.end_week(&result, bond.as_mut());
            week_scores = week_scores.saturating_add(score);
            jackpot_won = jackpot_won.saturating_add(won);
        }
        match current.next() {
            Some(next) => {
                let weather = draw_weather(rules, season.weather, &seed);
                resolution.open(DayOpened { day_number: next, weather });
            }
            None => {
                let kept = resolution.balance.saturating_sub(jackpot_won);
                resolution.complete(Score::clamped(week_scores.saturating_add(kept)));
                let next = season.season_number.next().get();
                resolution.events.push(self.next_commitment(user_id, next)?);
            }
        }
        Ok(resolution.events)
    }
}

impl Resolution<'_> {
    fn push(&mut self, event: impl Into<daybook_schema::Event>) {
        self.events.push(NewEvent::new(self.season_id, event));
    }

    /// The threshold at which a bet is won, if it is; a fold never wins.
    fn won(&self, pot: Pot, bet: &PlacedBet) -> Option<Threshold> {
        if bet.bet_type == BetType::Fold {
            return None;
        }
        threshold_reached(i64::from(self.draw.pots.get(pot).level.get()))
    }

    fn bets(&self) -> impl Iterator<Item = (Pot, PlacedBet)> + use<> {
        let bets: PerPot<Option<PlacedBet>> = self.season.bets;
        Pot::ALL.iter().filter_map(move |&pot| bets.get(pot).map(|bet| (pot, bet)))
    }

    fn resolve_bets(&mut self) {
        let (rules, weather) = (self.rules, self.season.weather);
        for (pot, bet) in self.bets() {
            let threshold = self.won(pot, &bet);
            let payout = threshold
                .and_then(|reached| multiplier(rules, weather, pot, bet.bet_type, reached))
                .map_or(Coins::ZERO, |multiplier| pays(bet.amount, multiplier));
            let share = bet.amount.get().saturating_mul(rules.jackpot_millicoins_per_coin);
            self.balance = self.balance.saturating_add(payout.get());
            self.jackpot_shares = self.jackpot_shares.saturating_add(share);
            self.push(BetResolved {
                day_number: self.season.day_number,
                pot_id: pot,
                amount: bet.amount,
                threshold,
                payout,
                jackpot_share: Millicoins::clamped(share),
            });
        }
    }

    fn resolve_day(&mut self) -> DayResult {
        let day_number = self.season.day_number;
        let troubles = Troubles::take_from(self.draw.troubles.iter().map(|&(kind, severity)| {
            let needed = self.clears_at(kind.pot(), severity.get());
            let cleared = i64::from(self.draw.pots.get(kind.pot()).level.get()) >= needed;
            Trouble { kind, severity, cleared }
        }));
        let score = self.day_score(&troubles);
        self.push(DayResolved {
            day_number,
            day_key: self.day_key,
            pot_levels: PerPot::from_fn(|pot| self.draw.pots.get(pot).level),
            pot_events: PerPot::from_fn(|pot| self.draw.pots.get(pot).event),
            troubles,
            score,
        });
        let triggers: Vec<Trigger> = Trigger::ALL
            .iter()
            .copied()
            .filter(|&trigger| self.is_earned(trigger, &troubles))
            .collect();
        for &trigger_type in &triggers {
            self.push(TriggerEarned { day_number, trigger_type });
        }
        DayResult { score, triggers }
    }

    /// The level that clears a trouble of a pot.
    fn clears_at(&self, pot: Pot, severity: u8) -> i64 {
        let bet = self.season.bets.get(pot).is_some_and(|bet| bet.qualifies());
        let tender = self.season.companion.is_some_and(|c| c.path == Some(SimulinPath::Tender));
        40 + 8 * i64::from(severity) - if bet { 10 } else { 0 } - if tender { 5 } else { 0 }
    }

    fn day_score(&self, troubles: &Troubles) -> Score {
        let won: u64 = self
            .bets()
            .filter(|(pot, bet)| self.won(*pot, bet).is_some())
            .map(|(_, bet)| bet.amount.get().min(limits::SCORE_BET_COINS_MAX))
            .sum();
        let cleared = troubles.iter().filter(|trouble| trouble.cleared).count();
        let points = won + SCORE_TROUBLE_CLEARED * u64::try_from(cleared).unwrap_or(0);
        let harvest = self.season.day_number.phase() == SeasonPhase::Harvest;
        Score::clamped(points * if harvest { SCORE_HARVEST_FACTOR } else { 1 })
    }

    fn is_earned(&self, trigger: Trigger, troubles: &Troubles) -> bool {
        let level = |pot: Pot| self.draw.pots.get(pot).level.get();
        match trigger {
            Trigger::FirstBloom => self
                .season
                .bets
                .growth
                .is_some_and(|bet| bet.qualifies() && self.won(Pot::Growth, &bet).is_some()),
            Trigger::PerfectRead => {
                let bets: Vec<(Pot, PlacedBet)> = self.bets().collect();
                let right = |(pot, bet): &(Pot, PlacedBet)| match bet.bet_type {
                    BetType::Fold => level(*pot) < 50,
                    _ => self.won(*pot, bet).is_some(),
                };
                bets.len() == Pot::ALL.len()
                    && bets.iter().filter(|(_, bet)| bet.qualifies()).count() >= 2
                    && bets.iter().all(right)
            }
            Trigger::TroubleSlayer => {
                !troubles.is_empty() && troubles.iter().all(|trouble| trouble.cleared)
            }
            Trigger::GrowthSpurt => level(Pot::Growth) >= 80,
            Trigger::SimulinSync => self.season.companion.is_some_and(|companion| {
                let attuned = companion.species.attuned_pot();
                let sum = |pot: Pot| self.draw.pots.get(pot).sum;
                self.season.bets.get(attuned).is_some_and(|bet| bet.qualifies())
                    && Pot::ALL.iter().all(|&pot| pot == attuned || sum(pot) < sum(attuned))
            }),
        }
    }

    fn gain_day_xp(&mut self, result: &DayResult, bond: Option<&mut CompanionBond>) {
        let Some(bond) = bond else { return };
        let watcher = self.season.companion.is_some_and(|c| c.path == Some(SimulinPath::Watcher));
        let mut xp = 0;
        if self.bets().any(|(_, bet)| bet.qualifies()) {
            xp += XP_QUALIFYING_DAY;
        }
        if result.triggers.contains(&Trigger::SimulinSync) {
            xp += XP_SIMULIN_SYNC;
        }
        if watcher && result.triggers.contains(&Trigger::PerfectRead) {
            xp += XP_PERFECT_READ_WATCHER;
        }
        bond.gain(xp, &mut self.events);
    }

    /// Evaluates the week that ends today; gives its score and the coins won from the jackpot.
    fn end_week(&mut self, result: &DayResult, bond: Option<&mut CompanionBond>) -> (u64, u64) {
        let day = self.season.day_number;
        let mut week: WeekTriggers = self.season.week_triggers;
        result.triggers.iter().for_each(|&trigger| week.insert(day.index_in_week(), trigger));
        let hand = evaluate_hand(&week);
        let multiplier = hand_multiplier(hand);
        let points = self.season.week_day_scores.saturating_add(result.score.get());
        let score = Score::clamped(points.saturating_mul(u64::from(multiplier.get())));
        let week_number = day.week();
        self.push(WeekEvaluated { week_number, hand, multiplier, score });
        let mut won = 0;
        if hand == Hand::RoyalFlush {
            won = self.jackpot_payment();
            if won > 0 {
                self.balance = self.balance.saturating_add(won);
                self.push(JackpotPaid { week_number, amount: Coins::clamped(won) });
            }
        }
        if let Some(bond) = bond.filter(|_| hand != Hand::None) {
            bond.gain(XP_HAND, &mut self.events);
        }
        (score.get(), won)
    }

    /// The whole coins of the jackpot, today's shares included, up to the most that is paid.
    fn jackpot_payment(&self) -> u64 {
        let before = self.decision.state.accounts.jackpot;
        let coins = (before + i128::from(self.jackpot_shares)) / 1_000;
        let coins = u64::try_from(coins).unwrap_or(0);
        coins.min(self.rules.jackpot_payment_coins_max.get())
    }

    fn open(&mut self, opened: DayOpened) {
        let floor = self.rules.stipend_coins.get();
        if self.balance < floor {
            let amount = Coins::clamped(floor - self.balance);
            self.push(StipendGranted { day_number: opened.day_number, amount });
        }
        self.push(opened);
    }

    fn complete(&mut self, final_score: Score) {
        self.push(SeasonCompleted {
            final_score,
            coins: Coins::clamped(self.balance),
            season_secret: self.day_key,
        });
    }
}
