//! Commands sent to an engine of this process, by players in the middle of their seasons.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use daybook_ledger::{Accepted, Ledger, NewLedger, Options, Pending, Submission, Time};
use daybook_schema::Command;
use daybook_simulator::{Keyring, SeasonKey};
use hdrhistogram::Histogram;

use crate::cpu::CpuTimes;
use crate::player::{HurriedClock, Player};

/// Who plays.
#[derive(Clone, Copy)]
pub struct Players {
    pub seasons: usize,
    /// Whether they also log in and out, and have simulins.
    pub mix: bool,
}

/// An engine and its players, whose turn goes round.
pub struct Load {
    pub ledger: Ledger,
    players: Vec<Player>,
    turn: usize,
}

/// What came of a round.
pub struct Round {
    pub events: u64,
    pub commands: u64,
    pub seconds: f64,
    /// Events that were committed together, on average.
    pub batch_events: f64,
    cpu_before: CpuTimes,
    cpu_after: CpuTimes,
}

impl Round {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    /// CPU time an event by thread, in microseconds.
    pub fn cpu_by_thread(&self) -> BTreeMap<String, f64> {
        self.cpu_after.each_since(&self.cpu_before, self.events)
    }

    /// That of the engine's threads, all together.
    pub fn engine_cpu_micros(&self) -> f64 {
        let by_thread = self.cpu_by_thread();
        by_thread.iter().filter(|(name, _)| name.starts_with("daybook-")).map(|(_, it)| it).sum()
    }
}

/// Opens a ledger, or makes one, whose time runs so fast that no bet comes too soon.
pub fn open(dir: &Path) -> Result<Ledger> {
    open_at(dir, HurriedClock::default())
}

fn open_at(dir: &Path, clock: HurriedClock) -> Result<Ledger> {
    let options = Options::new(dir, Keyring::new([SeasonKey::new([7; 32])]))
        .create(NewLedger::random())
        .time(Time::Source(Box::new(clock)));
    Ok(Ledger::open(options)?)
}

impl Load {
    /// A new ledger with so many seasons in play.
    pub fn begin(dir: &Path, seasons: usize) -> Result<Self> {
        Self::begin_with(dir, Players { seasons, mix: false })
    }

    /// The same with players of some kind.
    pub fn begin_with(dir: &Path, players: Players) -> Result<Self> {
        let mut load = Self::registered_with(dir, players)?;
        load.start_all()?;
        Ok(load)
    }

    /// A new ledger with so many users, who play nothing yet.
    pub fn registered(dir: &Path, users: usize) -> Result<Self> {
        Self::registered_with(dir, Players { seasons: users, mix: false })
    }

    fn registered_with(dir: &Path, Players { seasons, mix }: Players) -> Result<Self> {
        // Of a single player many seasons are played, of which a day allows few.
        let ledger =
            open_at(dir, HurriedClock::times(if seasons == 1 { 4_000_000 } else { 1_000 }))?;
        let key_id = SeasonKey::new([7; 32]).key_id();
        ledger
            .submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?
            .wait()?;
        let new = if mix { Player::with_sessions_and_simulin } else { Player::new };
        let players = (0..seasons).map(|_| new()).collect();
        let mut load = Self { ledger, players, turn: 0 };
        load.all(|player| Some(player.register()))?;
        load.all(Player::adopt)?;
        Ok(load)
    }

    /// Starts a season for each user.
    pub fn start_all(&mut self) -> Result<()> {
        self.all(|player| Some(player.start()))
    }

    /// Plays until each has begun so many seasons.
    pub fn play_to_season(&mut self, number: u32, waiting: usize) -> Result<()> {
        while self.players.iter().any(|player| player.seasons_begun() < number) {
            self.keep_waiting(waiting, Duration::MAX, 100_000)?;
        }
        Ok(())
    }

    /// Sends a command of each player who has one.
    fn all(&mut self, command: impl Fn(&Player) -> Option<Command>) -> Result<()> {
        for chunk in self.players.chunks_mut(2_048) {
            let mut sent = Vec::with_capacity(chunk.len());
            for player in chunk {
                if let Some(command) = command(player) {
                    sent.push((self.ledger.submit(Submission::new(command))?, player));
                }
            }
            for (pending, player) in sent {
                player.learn(&pending.wait()?);
            }
        }
        Ok(())
    }

    /// Keeps so many commands waiting, until there were so many events or the time is over.
    pub fn keep_waiting(
        &mut self,
        waiting: usize,
        length: Duration,
        events_max: u64,
    ) -> Result<Round> {
        let waiting = waiting.min(self.players.len());
        let mut sent: VecDeque<(usize, Pending<Accepted>)> = VecDeque::new();
        let (mut events, mut commands) = (0, 0);
        let (batches, cpu_before) = (self.ledger.health().batches, CpuTimes::now()?);
        let began = Instant::now();
        while events < events_max && (commands % 64 != 0 || began.elapsed() < length) {
            if sent.len() >= waiting {
                let (index, pending) = sent.pop_front().context("a command")?;
                let accepted = pending.wait()?;
                events += accepted.events.len() as u64;
                commands += 1;
                self.players.get_mut(index).context("a player")?.learn(&accepted);
            }
            let (index, command) = self.next_command()?;
            sent.push_back((index, self.ledger.submit(Submission::new(command))?));
        }
        for (index, pending) in sent {
            let accepted = pending.wait()?;
            events += accepted.events.len() as u64;
            commands += 1;
            self.players.get_mut(index).context("a player")?.learn(&accepted);
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu_after = CpuTimes::now()?;
        let batches = self.ledger.health().batches - batches;
        let batch_events = events as f64 / batches.max(1) as f64;
        Ok(Round { events, commands, seconds, batch_events, cpu_before, cpu_after })
    }

    /// Sends commands at their times, whatever is answered meanwhile; gives how long each took from
    /// the time that it was due, in microseconds.
    pub fn at_rate(
        &mut self,
        commands_per_second: f64,
        length: Duration,
    ) -> Result<Histogram<u64>> {
        let count = (commands_per_second * length.as_secs_f64()) as u64;
        let (send, answers) = sync_channel::<(usize, Instant, Pending<Accepted>)>(65_536);
        let (learnt, to_learn) = channel();
        let collecting = std::thread::spawn(move || -> Result<Histogram<u64>> {
            let mut latency = Histogram::new(3)?;
            for (index, due, pending) in answers {
                let accepted = pending.wait()?;
                latency.record(u64::try_from(due.elapsed().as_micros())?)?;
                let _ = learnt.send((index, accepted));
            }
            Ok(latency)
        });
        let mut is_waiting = vec![false; self.players.len()];
        let began = Instant::now();
        for number in 0..count {
            let due = began + Duration::from_secs_f64(number as f64 / commands_per_second);
            let early = due.saturating_duration_since(Instant::now());
            if early > Duration::from_micros(200) {
                std::thread::sleep(early);
            }
            // A player whose command is under way has no other.
            let (index, command) = loop {
                while let Ok((index, accepted)) = to_learn.try_recv() {
                    self.players.get_mut(index).context("a player")?.learn(&accepted);
                    *is_waiting.get_mut(index).context("a player")? = false;
                }
                let (index, command) = self.next_command()?;
                if !std::mem::replace(is_waiting.get_mut(index).context("a player")?, true) {
                    break (index, command);
                }
            };
            send.send((index, due, self.ledger.submit(Submission::new(command))?))?;
        }
        drop(send);
        let latency =
            collecting.join().map_err(|_| anyhow::anyhow!("the collector panicked"))??;
        for (index, accepted) in to_learn {
            self.players.get_mut(index).context("a player")?.learn(&accepted);
        }
        Ok(latency)
    }

    /// The next command, and whose it is.
    fn next_command(&mut self) -> Result<(usize, Command)> {
        let index = self.turn % self.players.len();
        self.turn += 1;
        let player = self.players.get(index).context("a player")?;
        Ok((index, player.command()))
    }
}
