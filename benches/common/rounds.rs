//! Rounds of commands of many seasons at a steady rate, and how far the read models lag behind
//! them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_ledger::{Ledger, Submission};
use daybook_projections::Reads;
use hdrhistogram::Histogram;

use crate::player::Player;

/// The read models that are waited for.
pub const NAMES: [&str; 3] = ["seasons", "simulins", "analytics"];
/// Commands of one round.
const COMMANDS_PER_ROUND: usize = 50;
/// Commands of a season, a bet and an advance for each day, but for a few at its end.
const COMMANDS_PER_SEASON: usize = 54;

/// Players whose turn goes round.
pub struct Rounds {
    pub ledger: Ledger,
    pub players: Vec<Player>,
    pub turn: usize,
}

impl Rounds {
    /// Registers players and starts a season for each.
    pub async fn begin(ledger: &Ledger, seasons: usize) -> Result<Self> {
        let mut players: Vec<Player> = (0..seasons).map(|_| Player::new()).collect();
        for chunk in players.chunks_mut(1_000) {
            for command in [Player::register, Player::start] {
                let sent =
                    chunk.iter().map(|player| ledger.submit(Submission::new(command(player))));
                let sent = sent.collect::<Result<Vec<_>, _>>()?;
                for (player, pending) in chunk.iter_mut().zip(sent) {
                    player.learn(&pending.await?);
                }
            }
        }
        Ok(Self { ledger: ledger.clone(), players, turn: 0 })
    }

    /// Whether every season has commands left.
    pub fn are_left(&self) -> bool {
        self.turn < COMMANDS_PER_SEASON * self.players.len()
    }

    /// Submits the next commands; gives the newest seq of their answers.
    pub async fn submit(&mut self, commands: usize) -> Result<u64> {
        let mut waiting = Vec::new();
        for step in 0..commands {
            let index = (self.turn + step) % self.players.len();
            let player = self.players.get(index).context("a player")?;
            waiting.push((index, self.ledger.submit(Submission::new(player.command()))?));
        }
        self.turn += commands;
        let mut newest = 0;
        for (index, pending) in waiting {
            let accepted = pending.await?;
            newest = newest.max(accepted.head.seq);
            self.players.get_mut(index).context("a player")?.learn(&accepted);
        }
        Ok(newest)
    }

    /// Submits the next commands, and measures from their answers until their rows can be read, in
    /// microseconds.
    pub async fn submit_and_read(
        &mut self,
        commands: usize,
        reads: &Reads,
        lag_us: &mut Histogram<u64>,
    ) -> Result<u64> {
        let newest = self.submit(commands).await?;
        let answered = Instant::now();
        let stands = reads.wait_for(&NAMES, newest, Duration::from_secs(10)).await?;
        ensure!(!stands.is_stale, "the read models follow");
        lag_us.record(u64::try_from(answered.elapsed().as_micros())?)?;
        Ok(newest)
    }

    /// Plays at a rate, as long as there are commands; gives the rate that came out, and the lag of
    /// the read models where they are waited for.
    pub async fn play(
        &mut self,
        events_per_second: f64,
        seconds: u64,
        reads: Option<&Reads>,
    ) -> Result<(f64, Histogram<u64>)> {
        let first = self.ledger.head().seq;
        let mut lag_us: Histogram<u64> = Histogram::new(3)?;
        let started = tokio::time::Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) && self.are_left() {
            let newest = match reads {
                Some(reads) => self.submit_and_read(COMMANDS_PER_ROUND, reads, &mut lag_us).await?,
                None => self.submit(COMMANDS_PER_ROUND).await?,
            };
            // As many events as there should be by now.
            let due =
                started + Duration::from_secs_f64((newest - first) as f64 / events_per_second);
            tokio::time::sleep_until(due).await;
        }
        let rate = (self.ledger.head().seq - first) as f64 / started.elapsed().as_secs_f64();
        Ok((rate, lag_us))
    }
}

/// A lag as it is printed.
pub fn lag_text(lag_us: &Histogram<u64>) -> String {
    let ms = |microseconds: u64| microseconds as f64 / 1e3;
    let (p50, p99) = (lag_us.value_at_quantile(0.5), lag_us.value_at_quantile(0.99));
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms(p50), ms(p99), ms(lag_us.max()))
}
