//! `seasons`, `days`, `bets`, `daily_triggers`, `week_results` and the leaderboards: what happened
//! in each season, and how it compares.
//!
//! A batch is folded in memory and then written, with a few statements for each table. What a season
//! in play needs from one batch to the next lies in `season_streams`, so that a batch looks up
//! nothing else, and every row that changes can be written whole.

mod keys;
mod progress;
mod tables;

use daybook_schema::{Event, SeasonId, Seq, StreamKind};
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use super::users::{self, Placeholder, Referring};
use crate::insert::{BindRow, Insert, Map, Values, insert, load};
use crate::projection::{ApplyError, Changes, EVENTS_PER_TURN, ProjectedEvent, Projection};
use keys::SeasonKeys;
use progress::{Ended, Progress};
pub use tables::DayEvent;
use tables::{Rows, SeasonRow, SeasonRows};

/// The seasons with all that happens in them, and the leaderboards.
#[derive(Debug)]
pub struct Seasons;

impl Projection for Seasons {
    fn name(&self) -> &'static str {
        "seasons"
    }

    fn version(&self) -> u32 {
        3
    }

    fn tables(&self) -> &'static [&'static str] {
        &[
            "seasons",
            "days",
            "bets",
            "daily_triggers",
            "season_streams",
            "season_ends",
            "season_coins",
            "season_keys",
            "week_results",
            "flags",
            "leaderboard_entries",
            "leaderboard_history",
            "leaderboard_boards",
        ]
    }

    fn shared_tables(&self) -> &'static [&'static str] {
        &["users"]
    }

    fn fold<'a>(
        &'a self,
        database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        Box::pin(async move {
            let mut batch = Batch::load(database, events).await?;
            for events in events.chunks(EVENTS_PER_TURN) {
                events.iter().try_for_each(|event| batch.fold(event))?;
                tokio::task::yield_now().await;
            }
            Ok(Box::new(batch) as Box<dyn Changes>)
        })
    }
}

/// A season that the batch's events are about.
struct Touched {
    progress: Progress,
    last_seq: Seq,
    ended: Option<Ended>,
}

/// The rows that a batch of events makes.
#[derive(Default)]
struct Batch {
    /// What was stored of the seasons in play.
    stored: Map<SeasonId, Progress>,
    keys: SeasonKeys,
    seasons: Rows<SeasonId, Touched>,
    users: Vec<Placeholder>,
    started: Vec<Referring>,
    erased: Vec<Placeholder>,
    rows: SeasonRows,
}

impl Batch {
    async fn load(
        database: &mut SqliteConnection,
        events: &[ProjectedEvent],
    ) -> Result<Self, ApplyError> {
        let mut concerned: Vec<SeasonId> = events
            .iter()
            .map(|event| &event.stored)
            .filter(|stored| stored.event.kind().stream() == StreamKind::Season)
            .map(|stored| stored.header.stream.as_season())
            .collect();
        // Events come in runs of one command's: most repeats go before anything is sorted.
        concerned.dedup();
        concerned.sort_unstable();
        concerned.dedup();
        let statement = "SELECT season_id, progress FROM season_streams \
            WHERE season_id IN (SELECT value FROM json_each(?1)) AND progress IS NOT NULL";
        let stored = load(database, statement, &concerned).await?;
        let asks_for_keys = |event: &ProjectedEvent| {
            matches!(event.stored.event, Event::SeasonExpired(_) | Event::KeyRotated(_))
        };
        let keys = match events.iter().any(asks_for_keys) {
            true => SeasonKeys::load(database).await?,
            false => SeasonKeys::default(),
        };
        Ok(Self { stored, keys, ..Self::default() })
    }

    fn fold(&mut self, event: &ProjectedEvent) -> Result<(), ApplyError> {
        let header = &event.stored.header;
        match &event.stored.event {
            Event::UserRegistered(_) => {
                self.users.push(Placeholder::new(header.stream.as_user(), header.recorded_at));
            }
            Event::KeyRotated(rotated) => self.keys.rotate(rotated),
            Event::UserErased(_) => {
                self.erased.push(Placeholder::new(header.stream.as_user(), header.recorded_at));
            }
            other if other.kind().stream() == StreamKind::Season => self.fold_season(event)?,
            _ => {}
        }
        Ok(())
    }

    fn fold_season(&mut self, event: &ProjectedEvent) -> Result<(), ApplyError> {
        let (id, last_seq) = (event.stored.header.stream.as_season(), event.stored.header.seq);
        if let Event::SeasonStarted(started) = &event.stored.event {
            self.started.push(Referring::new(event, started.user_id));
            let progress = self.rows.start(event, started);
            self.seasons.put(id, Touched { progress, last_seq, ended: None });
            return Ok(());
        }
        if let Some(progress) = self.stored.remove(&id) {
            self.seasons.put(id, Touched { progress, last_seq, ended: None });
        }
        let Some(season) = self.seasons.get_mut(&id).filter(|season| season.ended.is_none()) else {
            return Err(ApplyError::event(event, format!("season {id} is not in play")));
        };
        season.last_seq = last_seq;
        season.ended = self.rows.fold(event, &mut season.progress, &self.keys)?;
        Ok(())
    }

    async fn store(self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        users::add(database, &self.users).await?;
        users::require(database, &self.started).await?;
        let seasons = self.seasons.iter();
        let seasons: Vec<SeasonRow> = seasons
            .map(|(id, season)| season.progress.season_row(*id, season.ended.as_ref()))
            .collect();
        let streams = self.seasons.iter();
        let streams: Vec<StreamRow<'_>> = streams
            .map(|(id, season)| {
                let progress = Some(&season.progress).filter(|_| season.ended.is_none());
                StreamRow(*id, season.last_seq, progress)
            })
            .collect();
        insert(database, &SeasonRow::STORE, seasons).await?;
        insert(database, &StreamRow::STORE, streams).await?;
        self.keys.store(database).await?;
        self.rows.store(database).await?;
        users::erase(database, &self.erased).await
    }
}

impl Changes for Batch {
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin((*self).store(database))
    }
}

/// A season's stream: its id, its newest event, and what is needed to go on while it is in play.
struct StreamRow<'a>(SeasonId, Seq, Option<&'a Progress>);

impl StreamRow<'_> {
    const STORE: Insert = Insert {
        into: "season_streams (season_id, last_seq, progress)",
        row: "(?, ?, ?)",
        tail: "ON CONFLICT (season_id) DO UPDATE SET last_seq = excluded.last_seq, \
            progress = excluded.progress",
    };
}

impl BindRow for StreamRow<'_> {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.0)?.number(self.1.get())?;
        match self.2 {
            Some(progress) => values.json(progress)?,
            None => values.add(None::<String>)?,
        };
        Ok(())
    }
}
