//! The rows that each table should have, as text, from what was folded.

use std::collections::{BTreeMap, BTreeSet};

use daybook_schema::{LedgerIdentity, Period, SeasonId, UserId};

use super::{Fold, day_text, first_day, or_null, phase};

const FUNNEL: [&str; 5] =
    ["registered", "first_season", "first_bet", "first_week", "completed_season"];

fn joined(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("|")
}

impl Fold {
    pub(super) fn seasons(&self) -> BTreeSet<String> {
        let rows = self.seasons.iter().map(|(id, it)| {
            format!(
                "{id}|{}|{}|{}|{}|{}|{:?}|{}|{}|{}",
                it.user,
                it.number,
                it.day,
                phase(it.day),
                it.coins,
                it.jackpot as f64 / 1_000.0,
                it.started,
                or_null(it.ended),
                or_null(it.score)
            )
        });
        rows.collect()
    }

    pub(super) fn streams(&self) -> BTreeSet<String> {
        self.seasons.iter().map(|(id, season)| format!("{id}|{}", season.last_seq)).collect()
    }

    pub(super) fn days(&self) -> BTreeSet<String> {
        let rows = self.days.iter().map(|((season, day), row)| {
            format!("{}|{season}|{day}|{}", row[0], row[1..].join("|"))
        });
        rows.collect()
    }

    pub(super) fn bets(&self) -> BTreeSet<String> {
        let rows = self.bets.iter().map(|((season, day, pot), it)| {
            format!(
                "{}|{season}|{day}|{pot}|{}|{}|{}|{}|{}|{}",
                it.id,
                it.bet_type,
                it.amount,
                or_null(it.payout),
                or_null(it.won.map(u8::from)),
                or_null(it.resolved),
                it.placed
            )
        });
        rows.collect()
    }

    pub(super) fn weeks(&self) -> BTreeSet<String> {
        let rows = self.weeks.iter();
        rows.map(|((season, week), (row, coins))| format!("{season}|{week}|{row}|{coins}"))
            .collect()
    }

    pub(super) fn simulins(&self) -> BTreeSet<String> {
        self.simulins.iter().map(|(id, row)| format!("{id}|{}", row.join("|"))).collect()
    }

    pub(super) fn economics(&self) -> BTreeSet<String> {
        let rows = self.economics.iter().map(|((pot, bet_type, weather), sums)| {
            format!("{pot}|{bet_type}|{weather}|{}", joined(sums))
        });
        rows.collect()
    }

    pub(super) fn economics_days(&self) -> BTreeSet<String> {
        let rows = self.economics_days.iter().map(|((day, (pot, bet_type, weather)), sums)| {
            format!("{}|{pot}|{bet_type}|{weather}|{}", day_text(*day), joined(sums))
        });
        rows.collect()
    }

    pub(super) fn first_weeks(&self) -> BTreeSet<String> {
        let rows = self.first_weeks.iter().filter_map(|(user, (season, resolved, sums))| {
            let [bets, _, staked, _, paid] = sums;
            let day = day_text((*resolved)?);
            Some(format!("{user}|{season}|{day}|{bets}|{staked}|{paid}"))
        });
        rows.collect()
    }

    pub(super) fn coin_days(&self) -> BTreeSet<String> {
        let rows = self.coins.iter();
        rows.map(|(day, moved)| format!("{}|{}", day_text(*day), joined(moved))).collect()
    }

    /// Of each season what it had at its end, or has, and what is left of it now.
    pub(super) fn balances(&self) -> BTreeSet<String> {
        let rows = self.seasons.iter().map(|(id, season)| {
            let left = if season.ended.is_some() { 0 } else { season.coins };
            format!("{id}|{}|{left}", season.coins)
        });
        rows.collect()
    }

    pub(super) fn boards(&self, identity: LedgerIdentity) -> Vec<(&'static str, BTreeSet<String>)> {
        let mut history = BTreeSet::new();
        let mut entries = BTreeSet::new();
        for &period in Period::ALL {
            let mut boards: BTreeMap<i64, Vec<(u64, String, String)>> = BTreeMap::new();
            let mut bests: BTreeMap<(i64, UserId), (u64, SeasonId, i64, String)> = BTreeMap::new();
            let mut newest = 0;
            for (user, season, score, stored) in &self.completions {
                let at = stored.header.recorded_at;
                let first = first_day(period, at.utc_day());
                newest = first;
                let seconds = at.get().div_euclid(1_000_000);
                let first_i32 = i32::try_from(first).unwrap();
                let id = identity.leaderboard_entry_id(at, period, first_i32, *user).to_string();
                let best = bests.entry((first, *user)).or_insert((*score, *season, seconds, id));
                if *score > best.0 {
                    (best.0, best.1, best.2) = (*score, *season, seconds);
                }
            }
            for ((first, user), (score, season, seconds, id)) in &bests {
                let day = day_text(*first);
                history.insert(format!("{period}|{day}|{user}|{id}|{season}|{score}|{seconds}"));
                let row = format!("{user}|{season}|{score}|{period}|{seconds}");
                boards.entry(*first).or_default().push((*score, id.clone(), row));
            }
            let shown = boards.remove(&newest).unwrap_or_default();
            for (score, id, row) in &shown {
                let rank = 1 + shown.iter().filter(|(other, ..)| other > score).count();
                entries.insert(format!("{id}|{row}|{rank}"));
            }
        }
        vec![
            (
                "SELECT period, first_day, user_id, id, season_id, score, calculated_at \
              FROM leaderboard_history",
                history,
            ),
            (
                "SELECT id, user_id, season_id, score, period, calculated_at, rank \
              FROM leaderboard_entries",
                entries,
            ),
        ]
    }

    pub(super) fn analytics(&self) -> Vec<(&'static str, BTreeSet<String>)> {
        let mut active: BTreeMap<i64, usize> = BTreeMap::new();
        let mut retained: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        for days in self.active.values() {
            let first = *days.first().unwrap();
            for day in days {
                *active.entry(*day).or_default() += 1;
                *retained.entry((first, day - first)).or_default() += 1;
            }
        }
        let mut steps: BTreeMap<(i64, usize, &str), usize> = BTreeMap::new();
        for (user, reached) in &self.steps {
            for (step, name) in reached.iter().enumerate() {
                *steps.entry((self.registered[user], step + 1, name)).or_default() += 1;
                for (later, name) in FUNNEL.iter().enumerate() {
                    steps.entry((self.registered[user], later + 1, name)).or_default();
                }
            }
        }
        let active = active.iter().map(|(day, users)| format!("{}|{users}", day_text(*day)));
        // Every day that was reached has a row, though nobody came back on it.
        let sizes = retained.iter().filter(|((_, day_n), _)| *day_n == 0);
        let retained = &retained;
        let cohorts = sizes.flat_map(move |((first, _), size)| {
            (0..=self.newest_day - first).map(move |day_n| {
                let users = retained.get(&(*first, day_n)).copied().unwrap_or(0);
                format!("{}|{day_n}|{size}|{users}", day_text(*first))
            })
        });
        let user_days = self.active.iter().flat_map(|(user, days)| {
            let first = *days.first().unwrap();
            days.iter()
                .map(move |day| format!("{}|{user}|{}", day_text(*day), u8::from(*day == first)))
        });
        let sessions = self.sessions.iter().map(|((user, number), (start, end))| {
            let end = end.as_ref().map(|(at, reason)| format!("{at}|{reason}|{}", at - start));
            let end = end.unwrap_or_else(|| "NULL|NULL|NULL".to_owned());
            format!("{user}|{number}|{start}|{end}")
        });
        let plays = self.plays.iter().flat_map(|(user, plays)| {
            plays.iter().map(move |(first, last, commands)| {
                format!("{user}|{first}|{last}|{commands}|{}", last - first)
            })
        });
        let steps = steps
            .iter()
            .map(|((day, step, name), users)| format!("{}|{step}|{name}|{users}", day_text(*day)));
        vec![
            ("SELECT day, users FROM daily_active_users", active.collect()),
            (
                "SELECT cohort_day, day_n, cohort_size, retained FROM cohort_retention",
                cohorts.collect(),
            ),
            ("SELECT cohort_day, step, name, users FROM funnel_steps", steps.collect()),
            ("SELECT day, user_id, is_new FROM user_days", user_days.collect()),
            (
                "SELECT user_id, session_number, started_at, ended_at, reason, seconds \
              FROM login_sessions",
                sessions.collect(),
            ),
            (
                "SELECT user_id, started_at, ended_at, commands, seconds FROM play_sessions",
                plays.collect(),
            ),
        ]
    }
}
