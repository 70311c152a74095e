//! The events that a user, a season or a bet is about, found without looking at every event where
//! that can be.

use std::path::Path;

use anyhow::{Context, Result};
use daybook_ledger::{Reader, StoredEvent};
use daybook_projections::season_head;
use daybook_schema::{
    BetId, Epoch, Event, LedgerIdentity, SeasonId, Seq, StreamId, UnixMicros, UserId,
};

/// The events of a user and of that user's seasons.
pub(super) fn of_user(reader: &Reader, user_id: UserId) -> Result<Vec<StoredEvent>> {
    let seqs = reader.find_events_of(user_id)?;
    let events = seqs.into_iter().map(|seq| reader.event(seq)).collect::<Result<Vec<_>, _>>()?;
    (!events.is_empty())
        .then_some(events)
        .with_context(|| format!("there is no event of the user `{user_id}`"))
}

/// The events of a season: its newest one is looked up in `game.db`, and what came later than that
/// looked through.
pub(super) fn of_season(
    reader: &Reader,
    season_id: SeasonId,
    game_db: Option<&Path>,
) -> Result<Vec<StoredEvent>> {
    let stream = StreamId::from(season_id);
    let known = match game_db.filter(|path| path.exists()) {
        Some(path) => crate::runtime()?.block_on(season_head(path, season_id)).ok().flatten(),
        None => None,
    };
    // A position may be of another past, or of another ledger.
    let is_its = |seq: &Seq| reader.event(*seq).is_ok_and(|event| event.header.stream == stream);
    let Some(known) = known.filter(is_its) else {
        let head = reader.find_stream_head(stream)?;
        let head =
            head.with_context(|| format!("there is no event of the season `{season_id}`"))?;
        return Ok(reader.stream_from_head(head)?);
    };
    let mut events = reader.stream_from_head(known)?;
    let is_over = events.last().is_some_and(|last| {
        matches!(
            last.event,
            Event::SeasonCompleted(_) | Event::SeasonAbandoned(_) | Event::SeasonExpired(_)
        )
    });
    if !is_over {
        for event in reader.events_from(known.next()) {
            let event = event?;
            if event.header.stream == stream {
                events.push(event);
            }
        }
    }
    Ok(events)
}

/// The events of a bet: an id begins with the time of its first event, and the others follow in its
/// season.
pub(super) fn of_bet(reader: &Reader, bet_id: BetId) -> Result<Vec<StoredEvent>> {
    let [a, b, c, d, e, f, ..] = *bet_id.as_bytes();
    let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let (from, until) =
        (UnixMicros::new(millis * 1_000), UnixMicros::new(millis.saturating_add(1) * 1_000));
    let mut at_the_time = Vec::new();
    for event in reader.events_from(reader.first_since(from)?) {
        let event = event?;
        if event.header.recorded_at >= until {
            break;
        }
        at_the_time.push(event);
    }
    let placed = match placed_in(reader, &[Epoch::FIRST], bet_id, &at_the_time) {
        Some(placed) => placed,
        None => placed_in(reader, &reader.epochs()?, bet_id, &at_the_time)
            .with_context(|| format!("there is no bet `{bet_id}`"))?,
    };
    let Event::BetPlaced(bet) = placed.event.clone() else { return Ok(vec![placed]) };
    let (stream, next) = (placed.header.stream, placed.header.seq.next());
    let mut events = vec![placed];
    for event in reader.events_from(next) {
        let event = event?;
        let ends = event.header.stream == stream
            && match &event.event {
                Event::BetResolved(it) => {
                    it.pot_id == bet.pot_id && it.day_number == bet.day_number
                }
                Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => true,
                _ => false,
            };
        if ends {
            events.push(event);
            break;
        }
    }
    Ok(events)
}

/// The placing of a bet among some events, if its id was derived in one of these epochs.
fn placed_in(
    reader: &Reader,
    epochs: &[Epoch],
    bet_id: BetId,
    events: &[StoredEvent],
) -> Option<StoredEvent> {
    let ledger_id = reader.genesis().ledger_id;
    let is_it = |stored: &&StoredEvent| {
        let Event::BetPlaced(bet) = &stored.event else { return false };
        let (at, season_id) = (stored.header.recorded_at, stored.header.stream.as_season());
        epochs.iter().any(|&epoch| {
            let identity = LedgerIdentity { ledger_id, epoch };
            identity.bet_id(at, season_id, bet.day_number, bet.pot_id) == bet_id
        })
    };
    events.iter().find(is_it).cloned()
}
