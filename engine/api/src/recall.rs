//! A day of a season as it was: what was staked, what was drawn from which key, what was paid. It
//! comes from the ledger's own events, and so for ever.

use daybook_projections::DayEvent;
use daybook_schema::events::{BetPlaced, BetResolved, DayOpened, DayResolved, SeasonStarted};
use daybook_schema::{
    BetId, BetType, ClientDigest, ClientSeedSource, Commitment, DayKey, DayNumber, Event, Hand,
    Head, KeyId, PerPot, Pot, PotLevel, SeasonId, StoredEvent, Trigger, UserId, Weather,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, Code};
use crate::heads::Epochs;
use crate::service::Service;

/// A day as it was. Times are in seconds since 1970.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recall {
    /// The season.
    #[schema(value_type = String)]
    season_id: SeasonId,
    /// The day.
    #[schema(value_type = u8)]
    day_number: DayNumber,
    /// Its weather, which was shown before betting.
    #[schema(value_type = String)]
    weather: Weather,
    /// When it opened.
    opened_at: i64,
    /// When it was resolved.
    resolved_at: i64,
    /// The newest event of the command that resolved it, as SEQ:HASH: `daybook verify --head` holds
    /// a ledger to it.
    #[schema(value_type = String)]
    head: String,
    /// What the draws came from.
    draw: Draw,
    /// The pots' levels.
    #[schema(value_type = Object)]
    pot_levels: PerPot<PotLevel>,
    /// What befell it: boons, banes, windfalls, troubles.
    #[schema(value_type = Vec<Object>)]
    events: Vec<DayEvent>,
    /// The stakes, in the order in which they were placed.
    stakes: Vec<Stake>,
    /// The triggers that were earned.
    #[schema(value_type = Vec<String>)]
    triggers: Vec<Trigger>,
    /// The hand of the week, if the week ended.
    #[schema(value_type = Option<String>)]
    hand: Option<Hand>,
    /// The day's score.
    score: u64,
    /// The coins, before and after.
    funds: Funds,
}

/// What a day's draws came from: anybody can draw them again.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Draw {
    /// The day's key, which was revealed when it was resolved. It hashes to the one before it.
    #[schema(value_type = String)]
    day_key: DayKey,
    /// The key that was revealed before it.
    #[schema(value_type = String)]
    previous_day_key: DayKey,
    /// What the operator had committed to before the season began.
    #[schema(value_type = String)]
    commitment: Commitment,
    /// The season key that it comes from.
    #[schema(value_type = String)]
    key_id: KeyId,
    /// The player's part.
    #[schema(value_type = String)]
    client_digest: ClientDigest,
    /// Where the player's part came from: client_seed or idempotency_key.
    #[schema(value_type = String)]
    client_seed_source: ClientSeedSource,
    /// The rules.
    ruleset: u16,
}

/// A stake and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stake {
    /// The bet.
    #[schema(value_type = String)]
    bet_id: BetId,
    /// The pot.
    #[schema(value_type = String)]
    pot_id: Pot,
    /// How.
    #[schema(value_type = String)]
    bet_type: BetType,
    /// The stake, in coins.
    amount: u64,
    /// When it was placed.
    placed_at: i64,
    /// The event that placed it.
    seq: u64,
    /// Whether it was won.
    won: bool,
    /// The highest threshold that the pot's level reached, if it was won.
    threshold: Option<u8>,
    /// What came back.
    payout: u64,
}

/// A day's coins.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Funds {
    /// The balance when the day opened, its stipend included.
    before: u64,
    /// What came at its morning, because the balance was below 50.
    stipend: u64,
    /// What was staked.
    staked: u64,
    /// What the bets paid.
    paid: u64,
    /// What the jackpot paid.
    jackpot: u64,
    /// The balance when it was resolved.
    after: u64,
}

/// A resolved day, and what a claim about it may be.
pub(crate) struct Recalled {
    pub(crate) recall: Recall,
    pub(crate) pot_levels: PerPot<PotLevel>,
    /// The most coins that a client can take the day to have earned: payouts, the jackpot, and the
    /// stipend of the morning after.
    pub(crate) coins_max: u64,
    /// Whether the season is over.
    pub(crate) is_over: bool,
}

/// A season, as its events are read back.
struct Fold<'a> {
    epochs: &'a Epochs,
    started: Option<SeasonStarted>,
    balance: u64,
    /// What came at the next morning.
    stipend: u64,
    revealed: Option<DayKey>,
    days: Vec<Folded>,
    is_over: bool,
}

/// A day, as far as it was told.
struct Folded {
    opened: DayOpened,
    opened_at: i64,
    funds: Funds,
    stakes: Vec<Stake>,
    triggers: Vec<Trigger>,
    hand: Option<Hand>,
    resolved: Option<Resolved>,
}

struct Resolved {
    at: i64,
    /// The last event of the command that resolved it.
    last_seq: u64,
    day: DayResolved,
    previous_day_key: DayKey,
}

impl Fold<'_> {
    fn take(&mut self, stored: &StoredEvent) {
        let at = stored.header.recorded_at.seconds();
        if let Event::SeasonStarted(started) = &stored.event {
            self.balance = started.coins.get();
            self.revealed = Some(started.day_key_zero);
            self.started = Some(SeasonStarted::clone(started));
        }
        if let Event::StipendGranted(granted) = &stored.event {
            self.stipend = granted.amount.get();
            self.balance += self.stipend;
        }
        if let Event::DayOpened(opened) = &stored.event {
            let (before, stipend) = (self.balance, std::mem::take(&mut self.stipend));
            self.days.push(Folded {
                opened: opened.clone(),
                opened_at: at,
                funds: Funds { before, stipend, after: before, ..Funds::default() },
                stakes: Vec::new(),
                triggers: Vec::new(),
                hand: None,
                resolved: None,
            });
        }
        match &stored.event {
            Event::SeasonCompleted(_) | Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => {
                self.is_over = true;
            }
            _ => self.take_of_day(stored, at),
        }
    }

    fn take_of_day(&mut self, stored: &StoredEvent, at: i64) {
        let identity = self.epochs.identity_at(stored.header.seq);
        let Some(day) = self.days.last_mut() else { return };
        match &stored.event {
            Event::BetPlaced(placed) => {
                let BetPlaced { day_number, pot_id, bet_type, amount } = *placed;
                let season_id = stored.header.stream.as_season();
                let recorded_at = stored.header.recorded_at;
                day.stakes.push(Stake {
                    bet_id: identity.bet_id(recorded_at, season_id, day_number, pot_id),
                    pot_id,
                    bet_type,
                    amount: amount.get(),
                    placed_at: at,
                    seq: stored.header.seq.get(),
                    won: false,
                    threshold: None,
                    payout: 0,
                });
                self.balance = self.balance.saturating_sub(amount.get());
                day.funds.staked += amount.get();
            }
            Event::BetResolved(resolved) => {
                day.resolve(resolved);
                self.balance += resolved.payout.get();
                day.funds.paid += resolved.payout.get();
            }
            Event::DayResolved(resolved) => {
                let previous = self.revealed.replace(resolved.day_key);
                let previous_day_key = previous.unwrap_or(resolved.day_key);
                let part = &stored.header.command;
                let last_seq = stored.header.seq.get() + u64::from(part.size - 1 - part.place);
                let resolved = resolved.clone();
                day.resolved = Some(Resolved { at, last_seq, day: resolved, previous_day_key });
            }
            Event::TriggerEarned(earned) => day.triggers.push(earned.trigger_type),
            Event::WeekEvaluated(week) => day.hand = Some(week.hand),
            Event::JackpotPaid(paid) => {
                self.balance += paid.amount.get();
                day.funds.jackpot = paid.amount.get();
            }
            _ => return,
        }
        day.funds.after = self.balance;
    }
}

impl Folded {
    fn resolve(&mut self, resolved: &BetResolved) {
        let stake = self.stakes.iter_mut().find(|stake| stake.pot_id == resolved.pot_id);
        if let Some(stake) = stake {
            stake.won = resolved.threshold.is_some();
            stake.threshold = resolved.threshold.map(|threshold| threshold.number());
            stake.payout = resolved.payout.get();
        }
    }

    fn recall(
        self,
        season_id: SeasonId,
        started: &SeasonStarted,
        resolved: Resolved,
        head: Head,
    ) -> Recall {
        let Resolved { at, day, previous_day_key, .. } = resolved;
        Recall {
            season_id,
            day_number: self.opened.day_number,
            weather: self.opened.weather,
            opened_at: self.opened_at,
            resolved_at: at,
            head: head.to_string(),
            draw: Draw {
                day_key: day.day_key,
                previous_day_key,
                commitment: started.commitment,
                key_id: started.key_id,
                client_digest: started.client_digest,
                client_seed_source: started.client_seed_source,
                ruleset: started.ruleset.get(),
            },
            pot_levels: day.pot_levels,
            events: DayEvent::of(&day),
            stakes: self.stakes,
            triggers: self.triggers,
            hand: self.hand,
            score: day.score.get(),
            funds: self.funds,
        }
    }
}

impl Service {
    /// A resolved day of a user's season.
    ///
    /// # Errors
    /// [`Code::NotFound`] where the user has no such season, or it had no such day;
    /// [`Code::DayNotResolved`] where the day is still to come, or under way.
    pub(crate) async fn recall(
        &self,
        user_id: UserId,
        season_id: SeasonId,
        day_number: DayNumber,
    ) -> Result<Recalled, ApiError> {
        let events = self.season_events(user_id, season_id).await?;
        let mut fold = Fold {
            epochs: self.epochs(),
            started: None,
            balance: 0,
            stipend: 0,
            revealed: None,
            days: Vec::new(),
            is_over: false,
        };
        events.iter().for_each(|stored| fold.take(stored));
        let Fold { started, is_over, mut days, .. } = fold;
        let started = started.ok_or(Code::NotFound)?;
        let place = days.iter().position(|day| day.opened.day_number == day_number);
        let not_resolved = match is_over {
            // It never will be.
            true => Code::NotFound,
            false => Code::DayNotResolved,
        };
        let place = place.ok_or(not_resolved)?;
        let next_stipend = days.get(place + 1).map_or(0, |next| next.funds.stipend);
        let mut day = days.swap_remove(place);
        let resolved = day.resolved.take().ok_or(not_resolved)?;
        // Hashes within a command stay in the house.
        let head = self.head_at(resolved.last_seq).await?;
        let recall = day.recall(season_id, &started, resolved, head);
        let coins_max = recall.funds.paid + recall.funds.jackpot + next_stipend;
        Ok(Recalled { pot_levels: recall.pot_levels, recall, coins_max, is_over })
    }
}
