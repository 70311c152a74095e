//! What a season's events do not say themselves: whose it is, and what was bet in which weather.

use std::collections::HashMap;

use daybook_ledger::{ReadError, Reader};
use daybook_schema::{BetType, Event, PerPot, SeasonId, StoredEvent, UserId, Weather};

/// A season as far as its events were seen.
#[derive(Clone, Copy)]
pub(crate) struct Season {
    pub(crate) user_id: UserId,
    pub(crate) weather: Option<Weather>,
    pub(crate) bets: PerPot<Option<BetType>>,
}

impl Season {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::DayOpened(opened) => {
                self.weather = Some(opened.weather);
                self.bets = PerPot::from_fn(|_| None);
            }
            Event::BetPlaced(placed) => *self.bets.get_mut(placed.pot_id) = Some(placed.bet_type),
            _ => {}
        }
    }
}

/// The seasons whose events are being exported.
#[derive(Default)]
pub(crate) struct Seasons(HashMap<SeasonId, Season>);

impl Seasons {
    /// The season that an event belongs to, with that event in it. One that began before the export
    /// is read back from the ledger.
    pub(crate) fn with(
        &mut self,
        reader: &Reader,
        stored: &StoredEvent,
    ) -> Result<Option<Season>, ReadError> {
        let season_id = stored.header.stream.as_season();
        let mut season = match (&stored.event, self.0.get(&season_id)) {
            (_, Some(known)) => *known,
            (Event::SeasonStarted(started), None) => begun(started.user_id),
            (_, None) => match stored.header.stream_prev {
                Some(before) => match read_back(&reader.stream_from_head(before)?) {
                    Some(season) => season,
                    None => return Ok(None),
                },
                None => return Ok(None),
            },
        };
        season.apply(&stored.event);
        match &stored.event {
            Event::SeasonCompleted(_) | Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => {
                self.0.remove(&season_id);
            }
            // It changes nothing, and may come after the season's end.
            Event::SuspicionFlagged(_) => {}
            _ => {
                self.0.insert(season_id, season);
            }
        }
        Ok(Some(season))
    }
}

fn begun(user_id: UserId) -> Season {
    Season { user_id, weather: None, bets: PerPot::from_fn(|_| None) }
}

fn read_back(events: &[StoredEvent]) -> Option<Season> {
    let mut events = events.iter().map(|stored| &stored.event);
    let Some(Event::SeasonStarted(started)) = events.next() else { return None };
    let mut season = begun(started.user_id);
    events.for_each(|event| season.apply(event));
    Some(season)
}
