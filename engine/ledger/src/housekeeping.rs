//! What an engine needs done beside its players' commands: idle seasons expire, what is no longer
//! good is withdrawn, commitments are renewed, suspicion is put on record.

use std::collections::VecDeque;
use std::time::Duration;

use daybook_schema::{Command, SeasonId, SuspicionCode, UnixMicros, UserId, limits};
use daybook_simulator::{Rejection, Rejections, State};

use crate::ledger::Ledger;
use crate::submission::{Accepted, Pending, Submission, SubmitError};

/// How long the keeper's commands wait where others fill the queue.
const WAIT_FOR_TURN: Duration = Duration::from_millis(5);

/// What was withdrawn because its key or epoch is no longer good, and what took its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Seasons in play that were expired.
    pub seasons_expired: usize,
    /// Commitments that were published anew.
    pub commitments_renewed: usize,
}

/// Does an engine's own work. It blocks: a service gives it a thread, and calls it now and then.
///
/// Its commands wait for their turn where players fill the queue. What it had begun when it was
/// interrupted it goes on with at the next call.
pub struct Keeper<'a> {
    ledger: &'a Ledger,
    submission: Box<dyn FnMut(Command) -> Submission + 'a>,
}

impl<'a> Keeper<'a> {
    /// Keeps an engine.
    #[must_use]
    pub fn new(ledger: &'a Ledger) -> Self {
        Self::with(ledger, Submission::new)
    }

    /// Keeps an engine with submissions that the caller makes, such as with ids and times of a
    /// simulation.
    pub fn with(ledger: &'a Ledger, submission: impl FnMut(Command) -> Submission + 'a) -> Self {
        Self { ledger, submission: Box::new(submission) }
    }

    /// Expires every season that is idle by a time, and tells what was recorded for each.
    ///
    /// # Errors
    /// [`SubmitError`] of the first command that was refused.
    pub fn expire_idle(&mut self, now: UnixMicros) -> Result<Vec<(UserId, Accepted)>, SubmitError> {
        self.expire_idle_of(now, |_| true)
    }

    /// The same of some users alone.
    ///
    /// # Errors
    /// As [`Self::expire_idle`].
    pub fn expire_idle_of(
        &mut self,
        now: UnixMicros,
        is_meant: impl Fn(UserId) -> bool,
    ) -> Result<Vec<(UserId, Accepted)>, SubmitError> {
        let idle = move |state: &State| -> Vec<(UserId, SeasonId)> {
            state.seasons_where(|season| state.expirable_at(season) <= now)
        };
        let mut idle = self.in_turn(|ledger| ledger.query(idle))?.wait()?;
        idle.retain(|(user_id, _)| is_meant(*user_id));
        self.expire(&idle)
    }

    /// Publishes every waiting commitment anew that is not of the key and epoch in force.
    ///
    /// # Errors
    /// As [`Self::expire_idle`].
    pub fn renew_commitments(&mut self) -> Result<Vec<(UserId, Accepted)>, SubmitError> {
        let users = self.in_turn(|ledger| ledger.query(State::users_to_renew))?.wait()?;
        let renew = users.iter().map(|&user_id| (user_id, Command::RenewCommitment { user_id }));
        self.submit_all(renew)
    }

    /// Expires the seasons in play whose key or epoch is no longer good, and renews commitments:
    /// what a rotation and a restore need.
    ///
    /// # Errors
    /// As [`Self::expire_idle`].
    pub fn withdraw_outdated(&mut self) -> Result<Withdrawn, SubmitError> {
        let seasons = self.in_turn(|ledger| ledger.query(State::withdrawn_seasons))?.wait()?;
        let seasons_expired = self.expire(&seasons)?.len();
        let commitments_renewed = self.renew_commitments()?.len();
        Ok(Withdrawn { seasons_expired, commitments_renewed })
    }

    /// Puts the suspicion on record that a refused bet raises, if it raises one and the season is
    /// in play. The same suspicion of the same day is recorded once.
    ///
    /// # Errors
    /// As [`Self::expire_idle`].
    pub fn flag(
        &mut self,
        user_id: UserId,
        season_id: SeasonId,
        refused: &Rejections,
    ) -> Result<Option<Accepted>, SubmitError> {
        let is_rapid = |rejection: &Rejection| matches!(rejection, Rejection::RapidBet { .. });
        if !refused.iter().any(is_rapid) {
            return Ok(None);
        }
        let day = move |state: &State| Some(state.seasons.get(&season_id)?.day_number);
        let Some(day_number) = self.in_turn(|ledger| ledger.query(day))?.wait()? else {
            return Ok(None);
        };
        let code = SuspicionCode::RapidBet;
        let flag = Command::FlagSuspicion { user_id, season_id, day_number, code };
        let submission = (self.submission)(flag);
        match self.in_turn(|ledger| ledger.submit(submission.clone()))?.wait() {
            Ok(accepted) => Ok(Some(accepted)),
            Err(SubmitError::Rejected { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn expire(
        &mut self,
        seasons: &[(UserId, SeasonId)],
    ) -> Result<Vec<(UserId, Accepted)>, SubmitError> {
        let expire = seasons
            .iter()
            .map(|&(user_id, season_id)| (user_id, Command::ExpireSeason { user_id, season_id }));
        self.submit_all(expire)
    }

    /// Submits commands with a bounded number of them waiting, and gives their answers in order.
    fn submit_all(
        &mut self,
        commands: impl Iterator<Item = (UserId, Command)>,
    ) -> Result<Vec<(UserId, Accepted)>, SubmitError> {
        let mut waiting: VecDeque<(UserId, Pending<Accepted>)> = VecDeque::new();
        let mut answered = Vec::new();
        for (user_id, command) in commands {
            if waiting.len() >= limits::COMMANDS_PER_BATCH_MAX
                && let Some((user_id, first)) = waiting.pop_front()
            {
                answered.push((user_id, first.wait()?));
            }
            let submission = (self.submission)(command);
            let pending = self.in_turn(|ledger| ledger.submit(submission.clone()))?;
            waiting.push_back((user_id, pending));
        }
        for (user_id, pending) in waiting {
            answered.push((user_id, pending.wait()?));
        }
        Ok(answered)
    }

    /// Waits for a turn where others fill the queue.
    fn in_turn<T>(
        &self,
        ask: impl Fn(&Ledger) -> Result<T, SubmitError>,
    ) -> Result<T, SubmitError> {
        loop {
            match ask(self.ledger) {
                Err(SubmitError::Overloaded | SubmitError::Locked { .. }) => {
                    std::thread::sleep(WAIT_FOR_TURN);
                }
                other => return other,
            }
        }
    }
}
