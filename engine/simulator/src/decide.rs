//! Deciding a command: events, or every rejection that applies. Nothing is changed here.

mod advance;
mod bets;
mod expiry_and_suspicion;
mod operator;
mod season_start;
mod simulins;
mod users;

use daybook_schema::event_json::{PayloadText, stream_text};
use daybook_schema::events::LostHeads;
use daybook_schema::{
    Command, CommandId, DayNumber, Event, LedgerIdentity, RulesetNumber, SeasonId, SeasonNumber,
    StreamId, UnixMicros, UserId, limits,
};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::rejection::{Rejection, Rejections};
use crate::rulesets::{Rules, Rulesets};
use crate::season_keys::{SeasonKeyRequest, SeasonKeys};
use crate::state::{Season, SeasonEnd, State, User};

/// What a decision depends on beside the state: nothing else.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The time of the command, which its events are recorded with.
    pub now: UnixMicros,
    /// The command's id, if the client made it.
    pub client_command_id: Option<CommandId>,
    /// The day that bets are meant for, if the client named it. It is checked and not recorded.
    pub expected_day: Option<DayNumber>,
    /// The ruleset that a season is started with; the newest where none is named. An audit names
    /// the one that the ledger recorded.
    pub starting_ruleset: Option<RulesetNumber>,
    /// Before this time no season is expired for being idle: its player may have been kept away by
    /// the same outage as the engine. An audit, which is told of no outage, sets none.
    pub idle_expiry_from: UnixMicros,
    /// Where season keys come from.
    pub keys: &'a dyn SeasonKeys,
}

impl<'a> Context<'a> {
    /// A context at a time, of a command whose client named nothing.
    #[must_use]
    pub const fn new(now: UnixMicros, keys: &'a dyn SeasonKeys) -> Self {
        Self {
            now,
            client_command_id: None,
            expected_day: None,
            starting_ruleset: None,
            idle_expiry_from: UnixMicros::new(i64::MIN),
            keys,
        }
    }
}

/// An event that a decision asks to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// What happens.
    pub event: Event,
}

impl Serialize for NewEvent {
    /// With the names that a stored event has: the fields are a text that holds JSON.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = self.event.kind();
        let mut json = serializer.serialize_struct("NewEvent", 4)?;
        json.serialize_field("stream", &stream_text(kind.stream(), self.stream))?;
        json.serialize_field("kind", &kind)?;
        json.serialize_field("version", &self.event.version())?;
        json.serialize_field("payload", &PayloadText(&self.event))?;
        json.end()
    }
}

impl NewEvent {
    fn new(stream: impl Into<StreamId>, event: impl Into<Event>) -> Self {
        Self { stream: stream.into(), event: event.into() }
    }
}

/// What every part of the decision looks at.
#[derive(Clone, Copy)]
struct Decision<'a> {
    rulesets: &'a Rulesets,
    state: &'a State,
    context: &'a Context<'a>,
}

/// Decides a command: a season's by the rules that it started with.
///
/// # Errors
/// [`Rejections`] with all that apply; then nothing is to be recorded.
pub fn decide(
    rulesets: &Rulesets,
    state: &State,
    command: &Command,
    context: &Context<'_>,
) -> Result<Vec<NewEvent>, Rejections> {
    let decision = Decision { rulesets, state, context };
    match *command {
        Command::RegisterUser { user_id } => decision.register(user_id),
        Command::EraseUser { user_id } => decision.erase(user_id),
        Command::StartSession { user_id } => decision.start_session(user_id),
        Command::EndSession { user_id, session_number, reason } => {
            decision.end_session(user_id, session_number, reason)
        }
        Command::AdoptSimulin { user_id, species } => decision.adopt(user_id, species),
        Command::ChooseSimulinPath { user_id, simulin_id, path } => {
            decision.choose_path(user_id, simulin_id, path)
        }
        Command::RetireSimulin { user_id, simulin_id } => decision.retire(user_id, simulin_id),
        Command::StartSeason { user_id, commitment, client_seed, simulin_id } => {
            decision.start_season(user_id, commitment, client_seed, simulin_id)
        }
        Command::PlaceBets { user_id, season_id, ref bets } => {
            decision.place_bets(user_id, season_id, bets)
        }
        Command::AdvanceDay { user_id, season_id, expected_day } => {
            decision.advance(user_id, season_id, expected_day)
        }
        Command::AbandonSeason { user_id, season_id } => decision.abandon(user_id, season_id),
        Command::ExpireSeason { user_id, season_id } => decision.expire(user_id, season_id),
        Command::FlagSuspicion { user_id, season_id, day_number, code } => {
            decision.flag(user_id, season_id, day_number, code)
        }
        Command::RenewCommitment { user_id } => decision.renew_commitment(user_id),
        Command::RotateKey { key_id, compromised } => decision.rotate_key(key_id, compromised),
        Command::RestoreLedger { nonce } => Ok(decision.restore(nonce, LostHeads::default())),
        Command::AcceptLoss { nonce, ref lost_heads } => match lost_heads.is_empty() {
            true => Err(Rejection::NoHeadLost.into()),
            false => Ok(decision.restore(nonce, lost_heads.clone())),
        },
    }
}

impl<'a> Decision<'a> {
    fn user(&self, user_id: UserId) -> Result<&'a User, Rejection> {
        match self.state.users.get(&user_id) {
            None => Err(Rejection::UserNotFound { user_id }),
            Some(user) if user.erased => Err(Rejection::UserErased { user_id }),
            Some(user) => Ok(user),
        }
    }

    /// A season in play of the user, or why it is not.
    fn season(&self, user_id: UserId, season_id: SeasonId) -> Result<&'a Season, Rejection> {
        let user = self.user(user_id)?;
        if user.season_in_play == Some(season_id)
            && let Some(season) = self.state.seasons.get(&season_id)
        {
            return Ok(season);
        }
        match user.newest_ended {
            Some(ended) if ended.season_id == season_id => Err(match ended.end {
                SeasonEnd::Expired => Rejection::SeasonExpired,
                SeasonEnd::Completed | SeasonEnd::Abandoned => Rejection::SeasonComplete,
            }),
            _ if self.was_season(user_id, user, season_id) => Err(Rejection::SeasonComplete),
            _ => Err(Rejection::SeasonNotFound { season_id }),
        }
    }

    /// A season in play whose key and epoch are still good.
    fn playable(&self, user_id: UserId, season_id: SeasonId) -> Result<&'a Season, Rejection> {
        let season = self.season(user_id, season_id)?;
        if self.state.is_good(season.key_id, season.epoch_number) {
            Ok(season)
        } else {
            Err(Rejection::SeasonWithdrawn)
        }
    }

    /// The rules that a season started with.
    fn rules_of(&self, season: &Season) -> Result<&'a Rules, Rejection> {
        let ruleset = season.ruleset;
        self.rulesets.get(ruleset).ok_or(Rejection::RulesetUnknown { ruleset })
    }

    /// The rules that a season is started with.
    fn starting_rules(&self) -> Result<&'a Rules, Rejection> {
        match self.context.starting_ruleset {
            None => Ok(self.rulesets.newest()),
            Some(ruleset) => {
                self.rulesets.get(ruleset).ok_or(Rejection::RulesetUnknown { ruleset })
            }
        }
    }

    /// Whether the id is that of one of the user's newest seasons: ids derive, so none is
    /// remembered.
    fn was_season(&self, user_id: UserId, user: &User, season_id: SeasonId) -> bool {
        let at = time_of(season_id.as_bytes());
        self.is_derived(user.season_count, |identity, number| {
            identity.season_id(at, user_id, SeasonNumber::clamped(number)) == season_id
        })
    }

    /// Whether one of the newest numbers up to `count` derives what is looked for. The search is
    /// bounded: however much a user did before, an unknown id costs no more than that.
    fn is_derived(&self, count: u32, derives: impl Fn(LedgerIdentity, u32) -> bool) -> bool {
        let epochs = self.state.epochs.iter().rev().take(limits::DERIVED_EPOCHS_SEARCHED_MAX);
        // So many in all, however many epochs there are.
        let epoch_count = u32::try_from(epochs.len()).unwrap_or(u32::MAX).max(1);
        let searched = limits::DERIVED_NUMBERS_SEARCHED_MAX / epoch_count;
        let oldest = count.saturating_sub(searched).saturating_add(1);
        let ledger_id = self.state.identity().ledger_id;
        epochs.into_iter().any(|&epoch| {
            let identity = LedgerIdentity { ledger_id, epoch };
            (oldest..=count).rev().any(|number| derives(identity, number))
        })
    }

    /// The commitment to the user's next season, as a command's last event.
    fn next_commitment(&self, user_id: UserId, next: u32) -> Result<NewEvent, Rejection> {
        let key_id = self.state.current_key().ok_or(Rejection::KeyUnavailable)?;
        let season_number = SeasonNumber::clamped(next);
        let request =
            SeasonKeyRequest { key_id, identity: self.state.identity(), user_id, season_number };
        let commitment = self.context.keys.commitment(&request).ok_or(Rejection::KeyUnavailable)?;
        Ok(NewEvent::new(
            user_id,
            daybook_schema::events::CommitmentPublished { season_number, key_id, commitment },
        ))
    }
}

/// The time that a derived id starts with.
fn time_of(id: &[u8; 16]) -> UnixMicros {
    let [a, b, c, d, e, f, ..] = *id;
    UnixMicros::new(i64::from_be_bytes([0, 0, a, b, c, d, e, f]) * 1_000)
}
