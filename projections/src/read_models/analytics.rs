//! What analysts ask first, from the ledger: activity, retention, the funnel, sessions, the
//! economics of bets, coins.

mod bets;
mod coins;
mod logins;
mod plays;

use daybook_schema::{
    BetType, DayNumber, Event, EventKind, PerPot, SeasonId, SeasonNumber, Seq, SessionEndReason,
    StreamKind, UserId, Weather, limits,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::calendar::day_text;
use crate::insert::{BindRow, Insert, Map, Values, insert, load, write};
use crate::projection::{ApplyError, Changes, EVENTS_PER_TURN, ProjectedEvent, Projection};
pub use bets::LARGE_WIN_MIN;
use bets::{Economics, Sums};
use coins::CoinDays;
use logins::Logins;
use plays::{NewestPlay, Plays};

/// Activity, retention, the funnel, sessions, the economics of bets, and coins.
#[derive(Debug)]
pub struct Analytics;

/// The steps of the funnel, each reached after the one before it.
const FUNNEL: [&str; 5] =
    ["registered", "first_season", "first_bet", "first_week", "completed_season"];

/// What is kept of a user.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct UserActivity {
    /// The UTC day of the registration, since 1970.
    registered_day: Option<i64>,
    /// The first and the newest UTC day on which the user was active.
    first_day: Option<i64>,
    last_day: Option<i64>,
    /// Steps of the funnel that were reached.
    steps: usize,
    /// The newest play session.
    play: Option<NewestPlay>,
}

/// What is kept of a season in play.
#[derive(Clone, Serialize, Deserialize)]
struct OpenSeason {
    user_id: UserId,
    day: Option<DayNumber>,
    weather: Option<Weather>,
    bets: PerPot<Option<BetType>>,
    /// The bets of days 1 to 7, if it is the user's first season and day 7 is not resolved.
    first_week: Option<Sums>,
}

impl Projection for Analytics {
    fn name(&self) -> &'static str {
        "analytics"
    }

    fn version(&self) -> u32 {
        3
    }

    fn tables(&self) -> &'static [&'static str] {
        &[
            "daily_active_users",
            "cohort_retention",
            "funnel_steps",
            "bet_economics",
            "bet_economics_days",
            "user_days",
            "login_sessions",
            "play_sessions",
            "coin_days",
            "first_weeks",
            "large_wins",
            "ledger_events",
            "analytics_progress",
            "user_activity",
            "season_activity",
        ]
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

impl Changes for Batch {
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin((*self).store(database))
    }
}

/// What a batch of events changes.
#[derive(Default)]
struct Batch {
    seasons: Map<SeasonId, OpenSeason>,
    ended: Vec<SeasonId>,
    users: Map<UserId, UserActivity>,
    /// Users by the day on which they were active.
    active: Map<i64, u64>,
    /// Each day on which a user was active, and whether it was the first.
    user_days: Vec<(String, UserId, bool)>,
    logins: Logins,
    plays: Plays,
    coins: CoinDays,
    /// What the operator did to the ledger: seq, kind, time, fields.
    ledger_events: Vec<(Seq, EventKind, i64, String)>,
    /// The day of the newest event before the batch, and of the batch's own.
    days: (Option<i64>, Option<i64>),
    /// Users by the day on which they first were active and the days since then.
    retained: Map<(i64, i64), u64>,
    /// Users by the day of registration and the step that they reached.
    steps: Map<(i64, usize), u64>,
    economics: Economics,
}

impl Batch {
    async fn load(
        database: &mut SqliteConnection,
        events: &[ProjectedEvent],
    ) -> Result<Self, ApplyError> {
        let of = |kind| {
            let headers =
                events.iter().filter(move |event| event.stored.event.kind().stream() == kind);
            headers.map(|event| event.stored.header.stream)
        };
        let mut season_ids: Vec<SeasonId> =
            of(StreamKind::Season).map(|id| id.as_season()).collect();
        season_ids.dedup();
        season_ids.sort_unstable();
        season_ids.dedup();
        let statement = "SELECT season_id, state FROM season_activity \
            WHERE season_id IN (SELECT value FROM json_each(?1))";
        let seasons: Map<SeasonId, OpenSeason> = load(database, statement, &season_ids).await?;
        let started = events.iter().filter_map(|event| match &event.stored.event {
            Event::SeasonStarted(started) => Some(started.user_id),
            _ => None,
        });
        let mut user_ids: Vec<UserId> = of(StreamKind::User).map(|id| id.as_user()).collect();
        user_ids.extend(started.chain(seasons.values().map(|season| season.user_id)));
        user_ids.dedup();
        user_ids.sort_unstable();
        user_ids.dedup();
        let statement = "SELECT user_id, json_object( \
            'registered_day', unixepoch(registered_day) / 86400, \
            'first_day', unixepoch(first_day) / 86400, \
            'last_day', unixepoch(last_day) / 86400, 'steps', steps, \
            'play', CASE WHEN played_at IS NOT NULL THEN \
            json_object('started_at', play_started_at, 'played_at', played_at) END) \
            FROM user_activity \
            WHERE user_id IN (SELECT value FROM json_each(?1))";
        let users = load(database, statement, &user_ids).await?;
        let newest = "SELECT unixepoch(newest_day) / 86400 FROM analytics_progress";
        let newest: Option<i64> = sqlx::query_scalar(newest).fetch_optional(database).await?;
        let day = |event: &ProjectedEvent| event.stored.header.recorded_at.utc_day();
        let days = (newest.or(events.first().map(day)), events.last().map(day));
        Ok(Self { seasons, users, days, ..Self::default() })
    }

    fn fold(&mut self, event: &ProjectedEvent) -> Result<(), ApplyError> {
        let header = &event.stored.header;
        let day = header.recorded_at.utc_day();
        let user_id = match event.stored.event.kind().stream() {
            StreamKind::Ledger => {
                let (kind, at) = (event.stored.event.kind(), header.recorded_at.seconds());
                let payload = serde_json::to_string(&event.stored.event)?;
                self.ledger_events.push((header.seq, kind, at, payload));
                return Ok(());
            }
            StreamKind::User => header.stream.as_user(),
            StreamKind::Season => self.fold_season(event)?,
        };
        self.coins.fold(&event.stored.event, day);
        self.logins.fold(event);
        if let Event::UserRegistered(_) = &event.stored.event {
            self.users.entry(user_id).or_default().registered_day = Some(day);
        }
        if tells_of_a_command(&event.stored.event, header.command.place == 0) {
            let user = self.users.entry(user_id).or_default();
            self.plays.note(user_id, &mut user.play, header.recorded_at.seconds());
            self.note_active(user_id, day);
        }
        let step = match &event.stored.event {
            Event::UserRegistered(_) => 0,
            Event::SeasonStarted(_) => 1,
            Event::BetPlaced(_) => 2,
            Event::WeekEvaluated(_) => 3,
            Event::SeasonCompleted(_) => 4,
            _ => return Ok(()),
        };
        let user = self.users.entry(user_id).or_default();
        if user.steps == step {
            user.steps += 1;
            let cohort = user.registered_day.unwrap_or(day);
            // Steps that nobody of a day reached stand there as zero.
            for later in 0..FUNNEL.len() {
                self.steps.entry((cohort, later)).or_default();
            }
            *self.steps.entry((cohort, step)).or_default() += 1;
        }
        Ok(())
    }

    /// Folds an event of a season; tells whose it is.
    fn fold_season(&mut self, event: &ProjectedEvent) -> Result<UserId, ApplyError> {
        let season_id = event.stored.header.stream.as_season();
        if let Event::SeasonStarted(started) = &event.stored.event {
            let user_id = started.user_id;
            let bets = PerPot::from_fn(|_| None);
            let is_first = started.season_number == SeasonNumber::MIN;
            let first_week = is_first.then(Sums::default);
            let season = OpenSeason { user_id, day: None, weather: None, bets, first_week };
            self.seasons.insert(season_id, season);
            return Ok(user_id);
        }
        let missing = || ApplyError::event(event, format!("season {season_id} is not in play"));
        let season = self.seasons.get_mut(&season_id).ok_or_else(missing)?;
        let user_id = season.user_id;
        match &event.stored.event {
            Event::DayOpened(opened) => {
                season.day = Some(opened.day_number);
                season.weather = Some(opened.weather);
                season.bets = PerPot::from_fn(|_| None);
            }
            Event::BetPlaced(placed) => {
                *season.bets.get_mut(placed.pot_id) = Some(placed.bet_type);
            }
            Event::BetResolved(resolved) => {
                let known = season.weather.zip(*season.bets.get(resolved.pot_id));
                let known = known.filter(|_| season.day == Some(resolved.day_number));
                let missing = || ApplyError::event(event, "there is no such bet");
                let (weather, bet_type) = known.ok_or_else(missing)?;
                let day = event.stored.header.recorded_at.utc_day();
                let cell = (resolved.pot_id, bet_type, weather);
                let bet = Sums::of(cell, resolved);
                self.economics.add(day, cell, bet);
                if let Some(first_week) = &mut season.first_week {
                    first_week.add(bet);
                }
                let at = event.stored.header.recorded_at.seconds();
                self.economics.note_win((season_id, user_id), bet_type, resolved, at);
            }
            Event::DayResolved(resolved) if resolved.day_number.get() == limits::DAYS_PER_WEEK => {
                if let Some(bets) = season.first_week.take() {
                    let day = event.stored.header.recorded_at.utc_day();
                    self.economics.end_first_week(user_id, season_id, day, bets);
                }
            }
            Event::SeasonCompleted(_) | Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => {
                self.seasons.remove(&season_id);
                self.ended.push(season_id);
            }
            _ => {}
        }
        Ok(user_id)
    }

    fn note_active(&mut self, user_id: UserId, day: i64) {
        let user = self.users.entry(user_id).or_default();
        if user.last_day == Some(day) {
            return;
        }
        user.last_day = Some(day);
        let first_day = *user.first_day.get_or_insert(day);
        self.user_days.push((day_text(day), user_id, first_day == day));
        *self.active.entry(day).or_default() += 1;
        *self.retained.entry((first_day, day - first_day)).or_default() += 1;
    }

    async fn store(self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        let mut users: Vec<_> = self.users.into_iter().collect();
        users.sort_unstable_by_key(|(user_id, _)| *user_id);
        insert(database, &STORE_USERS, users).await?;
        let mut seasons: Vec<_> = self.seasons.into_iter().collect();
        seasons.sort_unstable_by_key(|(season_id, _)| *season_id);
        insert(database, &STORE_SEASONS, seasons).await?;
        let ended = "DELETE FROM season_activity \
            WHERE season_id IN (SELECT value FROM json_each(?1))";
        write(database, ended, &self.ended).await?;
        let active = self.active.into_iter().map(|(day, users)| (day_text(day), users));
        write(database, STORE_ACTIVE, &active.collect::<Vec<_>>()).await?;
        let mut retained: Vec<_> = self.retained.into_iter().collect();
        // A cohort's own day comes first: the others take its size from there.
        retained.sort_unstable_by_key(|((_, day_n), _)| *day_n);
        let (own, later): (Vec<_>, Vec<_>) = retained
            .into_iter()
            .map(|((cohort, day_n), users)| (day_text(cohort), day_n, users))
            .partition(|(_, day_n, _)| *day_n == 0);
        write(database, STORE_COHORTS, &own).await?;
        write(database, STORE_RETAINED, &later).await?;
        if let (Some(before), Some(newest)) = self.days {
            reach_day(database, before, newest).await?;
        }
        write(database, STORE_USER_DAYS, &self.user_days).await?;
        self.logins.store(database).await?;
        let steps = self
            .steps
            .into_iter()
            .map(|((cohort, step), users)| (day_text(cohort), step + 1, FUNNEL.get(step), users));
        write(database, STORE_STEPS, &steps.collect::<Vec<_>>()).await?;
        self.plays.store(database).await?;
        self.coins.store(database).await?;
        write(database, STORE_LEDGER_EVENTS, &self.ledger_events).await?;
        self.economics.store(database).await
    }
}

const STORE_USERS: Insert = Insert {
    into: "user_activity (user_id, registered_day, first_day, last_day, steps, \
        play_started_at, played_at)",
    row: "(?, ?, ?, ?, ?, ?, ?)",
    tail: "ON CONFLICT (user_id) DO UPDATE SET registered_day = excluded.registered_day, \
        first_day = excluded.first_day, last_day = excluded.last_day, steps = excluded.steps, \
        play_started_at = excluded.play_started_at, played_at = excluded.played_at",
};

impl BindRow for (UserId, UserActivity) {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        let (user_id, user) = self;
        let text = |day: Option<i64>| day.map(day_text);
        values.text(user_id)?.add(text(user.registered_day))?.add(text(user.first_day))?;
        values.add(text(user.last_day))?.number(user.steps as u64)?;
        values
            .add(user.play.map(|play| play.started_at))?
            .add(user.play.map(|play| play.played_at))?;
        Ok(())
    }
}

const STORE_SEASONS: Insert = Insert {
    into: "season_activity (season_id, state)",
    row: "(?, ?)",
    tail: "ON CONFLICT (season_id) DO UPDATE SET state = excluded.state",
};

impl BindRow for (SeasonId, OpenSeason) {
    fn bind(&self, values: &mut Values) -> Result<(), ApplyError> {
        values.text(self.0)?.json(&self.1)?;
        Ok(())
    }
}

const STORE_ACTIVE: &str = "INSERT INTO daily_active_users (day, users) \
    SELECT value->>0, value->>1 FROM json_each(?1) WHERE true \
    ON CONFLICT (day) DO UPDATE SET users = users + excluded.users";

/// A cohort grows on its own day alone, and every one of it is there on that day.
const STORE_COHORTS: &str = "INSERT INTO cohort_retention (cohort_day, day_n, cohort_size, retained) \
    SELECT value->>0, 0, value->>2, value->>2 FROM json_each(?1) WHERE true \
    ON CONFLICT (cohort_day, day_n) DO UPDATE SET cohort_size = cohort_size + excluded.cohort_size, \
    retained = retained + excluded.retained";

const STORE_RETAINED: &str = "INSERT INTO cohort_retention (cohort_day, day_n, cohort_size, retained) \
    SELECT later.value->>0, later.value->>1, own.cohort_size, later.value->>2 \
    FROM json_each(?1) AS later JOIN cohort_retention AS own \
    ON own.cohort_day = later.value->>0 AND own.day_n = 0 WHERE true \
    ON CONFLICT (cohort_day, day_n) DO UPDATE SET retained = retained + excluded.retained";

const STORE_USER_DAYS: &str = "INSERT INTO user_days (day, user_id, is_new) \
    SELECT value->>0, value->>1, value->>2 FROM json_each(?1)";

/// Each cohort has a row for every day that the ledger has reached, though nobody came back on it.
async fn reach_day(
    database: &mut SqliteConnection,
    before: i64,
    newest: i64,
) -> Result<(), ApplyError> {
    if newest > before {
        sqlx::query(
            "WITH RECURSIVE days (day) AS (SELECT ?1 + 1 UNION ALL SELECT day + 1 FROM days WHERE day < ?2) \
             INSERT INTO cohort_retention (cohort_day, day_n, cohort_size, retained) \
             SELECT cohort_day, day - unixepoch(cohort_day) / 86400 AS day_n, cohort_size, 0 \
             FROM cohort_retention AS own JOIN days ON day > unixepoch(cohort_day) / 86400 \
             WHERE own.day_n = 0 ON CONFLICT DO NOTHING",
        )
        .bind(before)
        .bind(newest)
        .execute(&mut *database)
        .await?;
    }
    sqlx::query("INSERT OR REPLACE INTO analytics_progress (id, newest_day) VALUES (1, ?1)")
        .bind(day_text(newest))
        .execute(database)
        .await?;
    Ok(())
}

const STORE_LEDGER_EVENTS: &str = "INSERT INTO ledger_events (seq, kind, recorded_at, payload) \
    SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?1)";

const STORE_STEPS: &str = "INSERT INTO funnel_steps (cohort_day, step, name, users) \
    SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?1) WHERE true \
    ON CONFLICT (cohort_day, step) DO UPDATE SET users = users + excluded.users";

/// Whether an event tells of a command of the user's own: of each such command one event does, be
/// it the first or not. The engine's commands and the operator's do not make a user active.
const fn tells_of_a_command(event: &Event, is_first: bool) -> bool {
    match event {
        // What these come after in their command is the end of older sessions.
        Event::SessionStarted(_) | Event::UserErased(_) => true,
        Event::SeasonExpired(_) | Event::SuspicionFlagged(_) | Event::CommitmentPublished(_) => {
            false
        }
        Event::SessionEnded(ended) => matches!(ended.reason, SessionEndReason::Logout) && is_first,
        _ => is_first,
    }
}
