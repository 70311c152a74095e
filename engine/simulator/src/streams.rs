//! Streams: what begins one, what ends one, and whose it is.

use daybook_schema::{Command, Event, SeasonNumber, StreamId, StreamKind, UserId};

use crate::state::State;

/// The season that an event starts: its user and its number among that user's seasons.
#[must_use]
pub const fn started_season(event: &Event) -> Option<(UserId, SeasonNumber)> {
    match event {
        Event::SeasonStarted(started) => Some((started.user_id, started.season_number)),
        _ => None,
    }
}

/// Whether a stream may begin with an event, where its user has started so many seasons before it.
pub fn may_begin_stream(event: &Event, season_count_of: impl FnOnce(UserId) -> u32) -> bool {
    match event {
        Event::UserRegistered(_) => true,
        Event::SeasonStarted(started) => {
            started.season_number.get() == season_count_of(started.user_id).saturating_add(1)
        }
        event => event.kind().stream() == StreamKind::Ledger,
    }
}

/// Whether a stream ends with an event: nothing follows in it.
#[must_use]
pub const fn ends_stream(event: &Event) -> bool {
    matches!(event, Event::SeasonCompleted(_) | Event::SeasonAbandoned(_) | Event::SeasonExpired(_))
}

/// Whether an event ends a season without revealing its secret: its season key was lost.
#[must_use]
pub const fn ends_unrevealed(event: &Event) -> bool {
    match event {
        Event::SeasonAbandoned(ended) => ended.season_secret.is_none(),
        Event::SeasonExpired(ended) => ended.season_secret.is_none(),
        _ => false,
    }
}

/// Whose command an event is the first of, by the state before it; none for the operator's.
#[must_use]
pub fn user_of_command(state: &State, stream: StreamId, first: &Event) -> Option<UserId> {
    match first.kind().stream() {
        StreamKind::Ledger => None,
        StreamKind::User => Some(stream.as_user()),
        StreamKind::Season => started_season(first)
            .map(|(user_id, _)| user_id)
            .or_else(|| state.seasons.get(&stream.as_season()).map(|season| season.user_id)),
    }
}

/// Whether a refusal of a command may be kept for whoever asks again: a registered user's, and the
/// operator's. Of others there could be any number. A registration may be anybody's, who must not
/// fill what belongs to the user; refused once it is refused for ever.
#[must_use]
pub fn is_refusal_kept(state: &State, command: &Command) -> bool {
    let is_registered = |user_id| state.users.contains_key(&user_id);
    !matches!(command, Command::RegisterUser { .. }) && command.user_id().is_none_or(is_registered)
}
