//! Leaderboard and retention, by one fold over the events, until there are read models.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use daybook_ledger::{Reader, StoredEvent};
use daybook_schema::{Event, EventKind, SeasonId, Seq, SessionEndReason, StreamKind, UserId};
use serde::Serialize;

const LEADERBOARD_ROWS: usize = 10;
/// Days after the first at which retention is shown.
const RETENTION_DAYS: [i64; 6] = [1, 3, 7, 14, 21, 27];
const COHORTS_SHOWN: usize = 10;

/// A row of the leaderboard; equal scores share a rank.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaderboardRow {
    pub(crate) rank: u64,
    pub(crate) user_id: String,
    pub(crate) score: u64,
    pub(crate) season_id: String,
    /// How many seasons the player completed.
    pub(crate) seasons: u64,
}

/// The players first seen on one UTC day, and how many of them came back.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetentionRow {
    /// Days since 1970-01-01.
    pub(crate) cohort_day: i64,
    pub(crate) cohort_size: u64,
    pub(crate) retained: Vec<RetainedCell>,
}

/// How many of a cohort came back n days later; none where the ledger ends before.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RetainedCell {
    pub(crate) day_n: i64,
    pub(crate) players: Option<u64>,
}

/// What the events tell.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) seasons_started: u64,
    pub(crate) seasons_completed: u64,
    pub(crate) leaderboard: Vec<LeaderboardRow>,
    pub(crate) retention: Vec<RetentionRow>,
    kinds: BTreeSet<EventKind>,
}

#[derive(Default)]
struct Fold {
    summary: Summary,
    owners: HashMap<SeasonId, UserId>,
    best: HashMap<UserId, (u64, SeasonId, u64)>,
    active: BTreeMap<UserId, BTreeSet<i64>>,
    last_active_day: i64,
}

impl Summary {
    pub(crate) fn of(reader: &Reader) -> Result<Self> {
        let mut fold = Fold::default();
        for stored in reader.events_from(Seq::MIN) {
            fold.add(&stored?);
        }
        fold.finish();
        Ok(fold.summary)
    }

    /// The names of the kinds that did not occur.
    pub(crate) fn kinds_missing(&self) -> Vec<&'static str> {
        let all = EventKind::ALL.iter().filter(|kind| !self.kinds.contains(kind));
        all.map(|kind| kind.as_str()).collect()
    }
}

impl Fold {
    fn add(&mut self, stored: &StoredEvent) {
        let kind = stored.event.kind();
        self.summary.kinds.insert(kind);
        let season_id = stored.header.stream.as_season();
        match &stored.event {
            Event::SeasonStarted(event) => {
                self.summary.seasons_started += 1;
                self.owners.insert(season_id, event.user_id);
            }
            Event::SeasonCompleted(event) => {
                self.summary.seasons_completed += 1;
                if let Some(&user) = self.owners.get(&season_id) {
                    let score = event.final_score.get();
                    let best = self.best.entry(user).or_insert((score, season_id, 0));
                    if score > best.0 {
                        (best.0, best.1) = (score, season_id);
                    }
                    best.2 += 1;
                }
            }
            _ => {}
        }
        self.note_activity(stored);
    }

    /// Active is a user who started a session or had a command accepted; the engine's own commands
    /// do not count.
    fn note_activity(&mut self, stored: &StoredEvent) {
        if stored.header.command.place != 0 {
            return;
        }
        let user = match &stored.event {
            Event::SeasonExpired(_)
            | Event::SuspicionFlagged(_)
            | Event::CommitmentPublished(_) => return,
            Event::SessionEnded(event) if event.reason != SessionEndReason::Logout => return,
            event => match event.kind().stream() {
                StreamKind::Ledger => return,
                StreamKind::User => stored.header.stream.as_user(),
                StreamKind::Season => match self.owners.get(&stored.header.stream.as_season()) {
                    Some(&user) => user,
                    None => return,
                },
            },
        };
        let day = stored.header.recorded_at.utc_day();
        self.last_active_day = self.last_active_day.max(day);
        self.active.entry(user).or_default().insert(day);
    }

    fn finish(&mut self) {
        let mut best: Vec<_> = self.best.iter().collect();
        best.sort_by_key(|(user, (score, ..))| (std::cmp::Reverse(*score), **user));
        let rank = |score: u64| 1 + best.iter().filter(|(_, (other, ..))| *other > score).count();
        self.summary.leaderboard = best
            .iter()
            .take(LEADERBOARD_ROWS)
            .map(|(user, (score, season, seasons))| LeaderboardRow {
                rank: rank(*score) as u64,
                user_id: user.to_string(),
                score: *score,
                season_id: season.to_string(),
                seasons: *seasons,
            })
            .collect();
        self.summary.retention = self.retention();
    }

    fn retention(&self) -> Vec<RetentionRow> {
        let mut cohorts: BTreeMap<i64, Vec<&BTreeSet<i64>>> = BTreeMap::new();
        for days in self.active.values() {
            if let Some(first) = days.first() {
                cohorts.entry(*first).or_default().push(days);
            }
        }
        let cell = |first: i64, members: &[&BTreeSet<i64>], day_n: i64| {
            let day = first + day_n;
            let players = members.iter().filter(|days| days.contains(&day)).count() as u64;
            RetainedCell { day_n, players: (day <= self.last_active_day).then_some(players) }
        };
        let rows = cohorts.iter().take(COHORTS_SHOWN);
        rows.map(|(&first, members)| RetentionRow {
            cohort_day: first,
            cohort_size: members.len() as u64,
            retained: RETENTION_DAYS.map(|day_n| cell(first, members, day_n)).to_vec(),
        })
        .collect()
    }
}
