//! Making a command again from its events, and its keys from what they reveal: what an audit needs.

use daybook_schema::commands::{BetOrder, BetOrders, ClientSeed};
use daybook_schema::events::SeasonStarted;
use daybook_schema::{
    ClientSeedSource, Command, Commitment, DayKey, Event, SeasonId, UserId, limits,
};

use crate::decide::NewEvent;
use crate::season_keys::{SeasonKeyRequest, SeasonKeys, commitment_of, previous_key};
use crate::state::State;

/// The events are not those of any command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no command gives events that start with {first} and end with {last}")]
pub struct IncompleteCommand {
    /// The kind of the first event.
    pub first: &'static str,
    /// The kind of the last event.
    pub last: &'static str,
}

/// The command that gave these events, in a state as it was before them.
///
/// # Errors
/// [`IncompleteCommand`] when no command gives such events.
pub fn reconstruct(state: &State, events: &[NewEvent]) -> Result<Command, IncompleteCommand> {
    let refused = |first: &Event, last: &Event| IncompleteCommand {
        first: first.kind().as_str(),
        last: last.kind().as_str(),
    };
    let (Some(NewEvent { stream, event: first }), Some(NewEvent { event: last, .. })) =
        (events.first(), events.last())
    else {
        return Err(IncompleteCommand { first: "nothing", last: "nothing" });
    };
    let resolved = events.iter().find_map(|NewEvent { stream, event }| match event {
        Event::DayResolved(event) => Some((stream.as_season(), event.day_number)),
        _ => None,
    });
    let user_id = stream.as_user();
    let command = match (first, last) {
        (_, Event::UserErased(_)) => Command::EraseUser { user_id },
        (_, Event::SessionStarted(_)) => Command::StartSession { user_id },
        (Event::UserRegistered(_), _) => Command::RegisterUser { user_id },
        (Event::CommitmentPublished(_), _) => Command::RenewCommitment { user_id },
        (Event::SessionEnded(event), _) => Command::EndSession {
            user_id,
            session_number: event.session_number,
            reason: event.reason,
        },
        (Event::SimulinAdopted(event), _) => {
            Command::AdoptSimulin { user_id, species: event.species }
        }
        (Event::SimulinPathChosen(event), _) => {
            Command::ChooseSimulinPath { user_id, simulin_id: event.simulin_id, path: event.path }
        }
        (Event::SimulinRetired(event), _) => {
            Command::RetireSimulin { user_id, simulin_id: event.simulin_id }
        }
        (Event::KeyRotated(event), _) => {
            Command::RotateKey { key_id: event.key_id, compromised: event.compromised }
        }
        (Event::LedgerRestored(event), _) => {
            let (nonce, lost_heads) = (event.epoch.nonce, event.lost_heads.clone());
            match lost_heads.is_empty() {
                true => Command::RestoreLedger { nonce },
                false => Command::AcceptLoss { nonce, lost_heads },
            }
        }
        (Event::SeasonStarted(event), _) => start_of(event),
        _ => {
            let season_id = resolved.map_or(stream.as_season(), |(season_id, _)| season_id);
            let user_id = owner(state, season_id);
            return match (first, resolved) {
                (_, Some((season_id, expected_day))) => {
                    Ok(Command::AdvanceDay { user_id, season_id, expected_day })
                }
                (Event::SeasonAbandoned(_), _) => Ok(Command::AbandonSeason { user_id, season_id }),
                (Event::SeasonExpired(_), _) => Ok(Command::ExpireSeason { user_id, season_id }),
                (Event::SuspicionFlagged(event), _) => Ok(Command::FlagSuspicion {
                    user_id,
                    season_id,
                    day_number: event.day_number,
                    code: event.code,
                }),
                (Event::BetPlaced(_), _) => bets_of(events)
                    .map(|bets| Command::PlaceBets { user_id, season_id, bets })
                    .ok_or_else(|| refused(first, last)),
                _ => Err(refused(first, last)),
            };
        }
    };
    Ok(command)
}

/// Whose season it is; the id of nobody where there is no such season, so that it is not found.
fn owner(state: &State, season_id: SeasonId) -> UserId {
    state.seasons.get(&season_id).map_or(UserId::from_bytes([0; 16]), |season| season.user_id)
}

fn start_of(event: &SeasonStarted) -> Command {
    Command::StartSeason {
        user_id: event.user_id,
        commitment: event.commitment,
        client_seed: match event.client_seed_source {
            ClientSeedSource::ClientSeed => ClientSeed::Digest(event.client_digest),
            ClientSeedSource::IdempotencyKey => ClientSeed::CommandId,
        },
        simulin_id: event.companion.map(|companion| companion.simulin_id),
    }
}

fn bets_of(events: &[NewEvent]) -> Option<BetOrders> {
    let bets: Vec<BetOrder> = events
        .iter()
        .map_while(|new| match &new.event {
            Event::BetPlaced(bet) => {
                Some(BetOrder { pot_id: bet.pot_id, bet_type: bet.bet_type, amount: bet.amount })
            }
            _ => None,
        })
        .collect();
    BetOrders::new(&bets).ok()
}

/// The keys that a command's events reveal, each only if it hashes to what was known before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditKeys {
    revealed: Option<(u8, DayKey)>,
    published: Option<Commitment>,
}

impl AuditKeys {
    /// Gathers the keys from a command's events, in a state as it was before them.
    #[must_use]
    pub fn from_events(state: &State, events: &[NewEvent]) -> Self {
        let mut keys = Self::default();
        for NewEvent { stream, event } in events {
            let day_28 = limits::DAYS_PER_SEASON;
            let (day, key) = match event {
                Event::CommitmentPublished(event) => {
                    keys.published = Some(event.commitment);
                    continue;
                }
                Event::SeasonStarted(event) => {
                    if commitment_of(&event.day_key_zero) == event.commitment {
                        keys.revealed = Some((0, event.day_key_zero));
                    }
                    continue;
                }
                Event::DayResolved(event) => (event.day_number.get(), Some(event.day_key)),
                Event::SeasonAbandoned(event) => (day_28, event.season_secret),
                Event::SeasonExpired(event) => (day_28, event.season_secret),
                _ => continue,
            };
            let season = state.seasons.get(&stream.as_season());
            let known = season.map(|season| (season.day_number.get() - 1, season.revealed_key));
            keys.revealed =
                key.map(|key| (day, key)).filter(|(day, key)| follows(*day, *key, known));
        }
        keys
    }
}

/// Whether a key of a day hashes down to the key of an earlier day.
fn follows(day: u8, key: DayKey, known: Option<(u8, DayKey)>) -> bool {
    known.is_some_and(|(known_day, known_key)| {
        day.checked_sub(known_day)
            .is_some_and(|steps| (0..steps).fold(key, |key, _| previous_key(&key)) == known_key)
    })
}

impl SeasonKeys for AuditKeys {
    fn day_key(&self, _: &SeasonKeyRequest, day: u8) -> Option<DayKey> {
        self.revealed.filter(|(revealed, _)| *revealed == day).map(|(_, key)| key)
    }

    fn commitment(&self, _: &SeasonKeyRequest) -> Option<Commitment> {
        self.published
    }
}
