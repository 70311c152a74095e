//! The demo's clock: bots act in the order of their times, while the engine's pipeline stays full.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use anyhow::{Context, Result};
use daybook_ledger::{Accepted, Keeper, Ledger, Pending, Submission, SubmitError};
use daybook_schema::{
    Command, CommandId, Event, KeyId, SessionEndReason, UnixMicros, UserId, limits,
};
use daybook_simulator::{Generator, Rejection};
use hdrhistogram::Histogram;

use crate::bot::{Bot, Step};
use crate::client::{Client, Told};
use crate::{Play, generator};

/// When the demo's clock begins: 2026-01-05 00:00 UTC, a Monday.
pub const STARTS_AT: UnixMicros = UnixMicros::from_seconds(1_767_571_200);

const DAY_MICROS: i64 = 86_400 * 1_000_000;
/// After the last day the clock runs on so long, so that idle seasons expire.
const DAYS_AFTERWARDS: u32 = 31;
/// A session is over after a week.
const SESSION_MICROS: i64 = 7 * DAY_MICROS;

/// What playing gave.
pub struct Played {
    /// Commands that were answered.
    pub commands: u64,
    /// How long the answers took, in microseconds.
    pub latency_us: Histogram<u64>,
    /// Bots that had themselves erased.
    pub erased: Vec<UserId>,
}

/// The generators of the bots' clients are numbered from here.
const CLIENTS: u64 = 1 << 40;

/// A bot's place in the day's order.
type Turn = Reverse<(UnixMicros, u32)>;

struct InFlight {
    bot: u32,
    sent: Instant,
    pending: Pending<Accepted>,
}

pub(crate) struct Driver<'a> {
    ledger: &'a Ledger,
    bots: Vec<Bot>,
    clients: Vec<Client>,
    tell: &'a mut dyn FnMut(Told),
    joins_on: Vec<u32>,
    days: u32,
    turns: BinaryHeap<Turn>,
    in_flight: VecDeque<InFlight>,
    answers: Vec<Option<Result<Accepted, SubmitError>>>,
    waiting: Vec<bool>,
    own: Generator,
    played: Played,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        ledger: &'a Ledger,
        play: Play,
        tell: &'a mut dyn FnMut(Told),
    ) -> Result<Self> {
        let Play { players, days, seed } = play;
        let mut own = generator(seed, u64::MAX - 1);
        // Two of five join on the first day, the others over the first half of the demo.
        let joins_on: Vec<u32> = (0..players)
            .map(|index| {
                let later = u32::try_from(own.below(u64::from(days / 2 + 1))).unwrap_or(0);
                if index < 6 || own.below(5) < 2 { 0 } else { later }
            })
            .collect();
        let bots: Vec<Bot> = (0..players)
            .zip(&joins_on)
            .map(|(index, day)| Bot::new(generator(seed, u64::from(index)), index, midnight(*day)))
            .collect();
        let of_client = |index: u32| u64::from(index) | CLIENTS;
        let clients = (0..).zip(&bots);
        let clients = clients
            .map(|(index, bot)| Client::new(generator(seed, of_client(index)), bot.user_id))
            .collect();
        Ok(Self {
            ledger,
            bots,
            clients,
            tell,
            joins_on,
            days,
            turns: BinaryHeap::new(),
            in_flight: VecDeque::new(),
            answers: vec![None; players as usize],
            waiting: vec![false; players as usize],
            own,
            played: Played { commands: 0, latency_us: Histogram::new(3)?, erased: Vec::new() },
        })
    }

    /// Plays all days. `progress` is told the day and the number of events.
    pub(crate) fn play(
        &mut self,
        first_key: KeyId,
        second_key: KeyId,
        progress: &mut dyn FnMut(u32, u64),
    ) -> Result<Played> {
        let key = |key_id| Command::RotateKey { key_id, compromised: false };
        self.submit_own(key(first_key), STARTS_AT)?;
        for day in 0..self.days {
            if day == self.days / 2 {
                self.submit_own(key(second_key), midnight(day))?;
                self.renew_commitments(midnight(day))?;
            }
            self.keep_house(midnight(day))?;
            self.play_day(day)?;
            progress(day + 1, self.ledger.head().seq);
        }
        self.keep_house(midnight(self.days + DAYS_AFTERWARDS))?;
        let empty = Played { commands: 0, latency_us: Histogram::new(3)?, erased: Vec::new() };
        Ok(std::mem::replace(&mut self.played, empty))
    }

    fn bot(&mut self, index: u32) -> Result<&mut Bot> {
        self.bots.get_mut(index as usize).context("a bot of the demo")
    }

    fn play_day(&mut self, day: u32) -> Result<()> {
        for index in 0..u32::try_from(self.bots.len())? {
            let joined = self.joins_on.get(index as usize).copied().unwrap_or(0);
            let Some(since) = day.checked_sub(joined) else { continue };
            let bot = self.bot(index)?;
            if let Some(second) = bot.comes_on(since) {
                bot.begin_visit();
                let at = midnight(day).plus_micros(i64::try_from(second * 1_000_000)?);
                self.turns.push(Reverse((at, index)));
            }
        }
        while let Some(Reverse((at, index))) = self.turns.pop() {
            self.take_turn(at, index)?;
        }
        self.settle_all()
    }

    fn take_turn(&mut self, at: UnixMicros, index: u32) -> Result<()> {
        self.await_answer(index)?;
        if self.react(at, index)? {
            return Ok(());
        }
        let bot = self.bot(index)?;
        let think = bot.think();
        match bot.step(at) {
            Step::Send(command) => {
                let id = bot.command_id(at);
                self.submit(index, Submission::new(command).with_id(id).at(at))?;
                self.turns.push(Reverse((at.plus_micros(think), index)));
            }
            Step::Rest | Step::Gone => {}
        }
        Ok(())
    }

    /// Lets the bot learn from its answer; true when its visit is over because of it.
    fn react(&mut self, at: UnixMicros, index: u32) -> Result<bool> {
        let answer = self.answers.get_mut(index as usize).and_then(Option::take);
        match answer {
            None => Ok(false),
            Some(Ok(accepted)) => {
                let over = is_of(&accepted, |event| matches!(event, Event::SessionEnded(_)));
                let bot = self.bot(index)?;
                bot.learn(&accepted);
                let user_id = bot.user_id;
                if is_of(&accepted, |event| matches!(event, Event::UserErased(_))) {
                    self.played.erased.push(user_id);
                } else if let Some(client) = self.clients.get_mut(index as usize) {
                    client.learn(&accepted, self.tell);
                }
                Ok(over)
            }
            Some(Err(SubmitError::Rejected { rejections, .. })) => {
                let rapid = rejections.iter().any(|r| matches!(r, Rejection::RapidBet { .. }));
                let bot = self.bot(index)?;
                if !rapid {
                    bot.give_up_visit();
                    return Ok(false);
                }
                bot.slow_down();
                let user_id = bot.user_id;
                if let Some((season_id, _)) = bot.season_and_day() {
                    self.keep(at, |keeper| keeper.flag(user_id, season_id, &rejections))?;
                }
                Ok(false)
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn submit(&mut self, bot: u32, submission: Submission) -> Result<()> {
        while self.in_flight.len() >= limits::BOT_COMMANDS_WAITING_MAX {
            self.settle_oldest()?;
        }
        let pending = self.ledger.submit(submission)?;
        self.in_flight.push_back(InFlight { bot, sent: Instant::now(), pending });
        if let Some(waiting) = self.waiting.get_mut(bot as usize) {
            *waiting = true;
        }
        self.settle_ready()
    }

    /// Takes in the answers that are there; they come in the order of the commands.
    fn settle_ready(&mut self) -> Result<()> {
        while let Some(oldest) = self.in_flight.front_mut() {
            let Some(answer) = oldest.pending.try_wait() else { return Ok(()) };
            let (bot, sent) = (oldest.bot, oldest.sent);
            self.in_flight.pop_front();
            self.take_in(bot, sent, answer)?;
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<()> {
        if let Some(InFlight { bot, sent, pending }) = self.in_flight.pop_front() {
            let answer = pending.wait();
            self.take_in(bot, sent, answer)?;
        }
        Ok(())
    }

    fn take_in(
        &mut self,
        bot: u32,
        sent: Instant,
        answer: Result<Accepted, SubmitError>,
    ) -> Result<()> {
        self.played.commands += 1;
        self.played.latency_us.record(u64::try_from(sent.elapsed().as_micros())?)?;
        if let Some(slot) = self.answers.get_mut(bot as usize) {
            *slot = Some(answer);
        }
        if let Some(waiting) = self.waiting.get_mut(bot as usize) {
            *waiting = false;
        }
        Ok(())
    }

    fn await_answer(&mut self, bot: u32) -> Result<()> {
        while self.waiting.get(bot as usize).copied().unwrap_or(false) {
            self.settle_oldest()?;
        }
        Ok(())
    }

    fn settle_all(&mut self) -> Result<()> {
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        for index in 0..u32::try_from(self.bots.len())? {
            self.react(midnight(self.days), index)?;
        }
        Ok(())
    }

    /// Submits a command of the engine's own and waits for it.
    fn submit_own(&mut self, command: Command, at: UnixMicros) -> Result<Accepted> {
        let name = command.name();
        let submission = own_submission(&mut self.own, at, command);
        self.played.commands += 1;
        let pending = self.ledger.submit(submission)?;
        pending.wait().with_context(|| format!("{name} was refused"))
    }

    /// Lets the engine's keeper work at a time of the demo.
    fn keep<T>(
        &mut self,
        at: UnixMicros,
        work: impl FnOnce(&mut Keeper<'_>) -> Result<T, SubmitError>,
    ) -> Result<T> {
        let Self { ledger, own, played, .. } = self;
        let mut keeper = Keeper::with(ledger, |command| {
            played.commands += 1;
            own_submission(own, at, command)
        });
        Ok(work(&mut keeper)?)
    }

    fn renew_commitments(&mut self, at: UnixMicros) -> Result<()> {
        for (user_id, accepted) in self.keep(at, |keeper| keeper.renew_commitments())? {
            let bot = self.bots.iter_mut().find(|bot| bot.user_id == user_id);
            bot.into_iter().for_each(|bot| bot.renew(&accepted));
        }
        Ok(())
    }

    /// What a service does beside its players: sessions that are over end, idle seasons expire.
    fn keep_house(&mut self, at: UnixMicros) -> Result<()> {
        let over: Vec<(u32, UserId, daybook_schema::SessionNumber)> = (0..)
            .zip(&self.bots)
            .filter_map(|(index, bot)| {
                let (number, since) = bot.session?;
                (at.micros_since(since) >= SESSION_MICROS).then_some((index, bot.user_id, number))
            })
            .collect();
        for (index, user_id, session_number) in over {
            let reason = SessionEndReason::Expired;
            self.submit_own(Command::EndSession { user_id, session_number, reason }, at)?;
            self.bot(index)?.session_expired();
        }
        for (user_id, accepted) in self.keep(at, |keeper| keeper.expire_idle(at))? {
            let bot = self.bots.iter_mut().find(|bot| bot.user_id == user_id);
            bot.into_iter().for_each(|bot| bot.learn(&accepted));
        }
        Ok(())
    }
}

/// Whether a command had an event of a kind.
fn is_of(accepted: &Accepted, is_it: impl Fn(&Event) -> bool) -> bool {
    accepted.events.iter().any(|new| is_it(&new.event))
}

/// A command of the engine's own, with a simulated id.
fn own_submission(own: &mut Generator, at: UnixMicros, command: Command) -> Submission {
    let mut random = [0; 10];
    random.split_at_mut(8).0.copy_from_slice(&own.next_u64().to_le_bytes());
    Submission::new(command).with_id(CommandId::from_parts(at, random)).at(at)
}

/// The beginning of a day of the demo.
const fn midnight(day: u32) -> UnixMicros {
    STARTS_AT.plus_micros(day as i64 * DAY_MICROS)
}
