//! The read models once more, straight from the events, in code of the tests' own: one fold over
//! everything in memory, no batches, no SQL.

mod expected;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use daybook_ledger::Reader;
use daybook_schema::{
    Epoch, Event, LedgerIdentity, Period, Pot, PotEvent, SeasonId, SessionEndReason, SimulinId,
    StoredEvent, StreamKind, Trigger, UserId,
};

/// What each query must give, as text.
pub struct Recomputed {
    expected: Vec<(&'static str, BTreeSet<String>)>,
}

#[derive(Default)]
struct Season {
    user: String,
    number: u32,
    day: u8,
    coins: i64,
    jackpot: u64,
    started: i64,
    ended: Option<i64>,
    score: Option<u64>,
    weather: String,
    companion: Option<Pot>,
    last_seq: u64,
}

#[derive(Default)]
struct Fold {
    seasons: BTreeMap<SeasonId, Season>,
    days: BTreeMap<(SeasonId, u8), [String; 6]>,
    bets: BTreeMap<(SeasonId, u8, Pot), Bet>,
    triggers: BTreeSet<String>,
    weeks: BTreeMap<(SeasonId, u8), (String, u64)>,
    simulins: BTreeMap<SimulinId, [String; 10]>,
    completions: Vec<(UserId, SeasonId, u64, StoredEvent)>,
    owners: BTreeMap<SeasonId, UserId>,
    active: BTreeMap<UserId, BTreeSet<i64>>,
    registered: BTreeMap<UserId, i64>,
    steps: BTreeMap<UserId, Vec<&'static str>>,
    economics: BTreeMap<Cell, [u64; 5]>,
    economics_days: BTreeMap<(i64, Cell), [u64; 5]>,
    first_weeks: BTreeMap<UserId, (SeasonId, Option<i64>, [u64; 5])>,
    coins: BTreeMap<i64, [u64; 9]>,
    plays: BTreeMap<UserId, Vec<(i64, i64, u64)>>,
    ends: BTreeSet<String>,
    flags: BTreeSet<String>,
    newest_day: i64,
    sessions: BTreeMap<(UserId, u32), Session>,
}

/// A pot, a type of bet and a weather.
type Cell = (String, String, String);

/// When a session began, and when and why it ended.
type Session = (i64, Option<(i64, String)>);

struct Bet {
    id: String,
    bet_type: String,
    amount: u64,
    placed: i64,
    payout: Option<u64>,
    won: Option<bool>,
    resolved: Option<i64>,
}

fn or_null<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn phase(day: u8) -> &'static str {
    match day {
        1..=7 => "planting",
        8..=21 => "growth",
        _ => "harvest",
    }
}

const ABILITIES: [&str; 4] = ["root_sense", "leaf_shelter", "bright_bloom", "evergreen"];

fn stage(level: u8) -> (&'static str, String) {
    let (name, count) = match level {
        1..=7 => ("sproutling", 1),
        8..=15 => ("cultivar", 2),
        16..=24 => ("bloomform", 3),
        _ => ("legendary", 4),
    };
    (name, serde_json::to_string(&ABILITIES[..count]).unwrap())
}

impl Fold {
    fn add(&mut self, identity: LedgerIdentity, stored: &StoredEvent) {
        let at = stored.header.recorded_at;
        let seconds = at.get().div_euclid(1_000_000);
        let id = stored.header.stream.as_season();
        let user_id = stored.header.stream.as_user();
        self.newest_day = at.utc_day();
        // No key of the bots' is compromised, and nothing was restored.
        let how = match &stored.event {
            Event::SeasonCompleted(_) => Some("completed"),
            Event::SeasonAbandoned(_) => Some("abandoned"),
            Event::SeasonExpired(_) => Some("expired_idle"),
            _ => None,
        };
        self.ends.extend(how.map(|how| format!("{id}|{how}|{seconds}")));
        if stored.event.kind().stream() == StreamKind::Season {
            self.seasons.entry(id).or_default().last_seq = stored.header.seq.get();
        }
        match &stored.event {
            Event::SeasonStarted(event) => {
                self.owners.insert(id, event.user_id);
                let season = self.seasons.entry(id).or_default();
                season.user = event.user_id.to_string();
                season.number = event.season_number.get();
                season.day = 1;
                season.coins = 500;
                season.started = seconds;
                season.companion = event.companion.map(|it| it.species.attuned_pot());
            }
            Event::SuspicionFlagged(event) => {
                let (seq, user, day) = (stored.header.seq, self.owners[&id], event.day_number);
                self.flags.insert(format!("{seq}|{id}|{user}|{day}|{}|{seconds}", event.code));
            }
            Event::DayOpened(event) => {
                let day = event.day_number.get();
                let season = self.seasons.get_mut(&id).unwrap();
                season.day = day;
                season.weather = event.weather.to_string();
                let day_id = identity.day_id(at, id, event.day_number).to_string();
                let row = [
                    day_id,
                    String::new(),
                    "{}".to_owned(),
                    "[]".to_owned(),
                    event.weather.to_string(),
                    format!("0|{seconds}"),
                ];
                self.days.insert((id, day), row);
            }
            Event::DayResolved(event) => {
                let season = &self.seasons[&id];
                if season.number == 1 && event.day_number.get() == 7 {
                    let owner = self.owners[&id];
                    let first = self.first_weeks.entry(owner).or_insert((id, None, [0; 5]));
                    first.1 = Some(at.utc_day());
                }
                let row = self.days.get_mut(&(id, event.day_number.get())).unwrap();
                row[1] = event.day_key.to_string();
                let levels = &event.pot_levels;
                row[2] = format!(
                    "{{\"water\":{},\"sun\":{},\"pest\":{},\"growth\":{}}}",
                    levels.water, levels.sun, levels.pest, levels.growth
                );
                let pots = event.pot_events.iter().filter_map(|(pot, event)| {
                    let delta = match event {
                        PotEvent::None => return None,
                        PotEvent::Boon => 15,
                        PotEvent::Bane => -15,
                        PotEvent::Windfall => 45,
                    };
                    Some(format!("{{\"type\":\"{event}\",\"potId\":\"{pot}\",\"delta\":{delta}}}"))
                });
                let troubles = event.troubles.iter().map(|it| {
                    format!(
                        "{{\"type\":\"trouble\",\"kind\":\"{}\",\"severity\":{},\"cleared\":{}}}",
                        it.kind, it.severity, it.cleared
                    )
                });
                let events: Vec<String> = pots.chain(troubles).collect();
                row[3] = format!("[{}]", events.join(","));
                row[5] = row[5].replacen('0', "1", 1);
            }
            Event::BetPlaced(event) => {
                let bet_id = identity.bet_id(at, id, event.day_number, event.pot_id);
                let bet = Bet {
                    id: bet_id.to_string(),
                    bet_type: event.bet_type.to_string(),
                    amount: event.amount.get(),
                    placed: seconds,
                    payout: None,
                    won: None,
                    resolved: None,
                };
                self.bets.insert((id, event.day_number.get(), event.pot_id), bet);
                self.seasons.get_mut(&id).unwrap().coins -= event.amount.get().cast_signed();
            }
            Event::BetResolved(event) => {
                let key = (id, event.day_number.get(), event.pot_id);
                let bet = self.bets.get_mut(&key).unwrap();
                bet.payout = Some(event.payout.get());
                bet.won = Some(event.threshold.is_some());
                bet.resolved = Some(seconds);
                let season = self.seasons.get_mut(&id).unwrap();
                season.coins += event.payout.get().cast_signed();
                season.jackpot += event.jackpot_share.get();
                let cell = (event.pot_id.to_string(), bet.bet_type.clone(), season.weather.clone());
                let day = self.economics_days.entry((at.utc_day(), cell.clone())).or_default();
                let (stake, payout) = (event.amount.get(), event.payout.get());
                let won = u64::from(payout > 0 || event.threshold.is_some());
                let mut all = vec![self.economics.entry(cell).or_default(), day];
                if season.number == 1 && event.day_number.get() <= 7 {
                    let owner = self.owners[&id];
                    all.push(&mut self.first_weeks.entry(owner).or_insert((id, None, [0; 5])).2);
                }
                for sums in all {
                    for (sum, more) in sums.iter_mut().zip([1, won, stake, stake * stake, payout]) {
                        *sum += more;
                    }
                }
            }
            Event::TriggerEarned(event) => self.add_trigger(identity, stored, event),
            Event::WeekEvaluated(event) => {
                let row = format!("{}|{}|{}", event.hand, event.multiplier, event.score);
                self.weeks.insert((id, event.week_number.get()), (row, 0));
            }
            Event::JackpotPaid(event) => {
                self.weeks.get_mut(&(id, event.week_number.get())).unwrap().1 = event.amount.get();
                self.seasons.get_mut(&id).unwrap().coins += event.amount.get().cast_signed();
            }
            Event::StipendGranted(event) => {
                self.seasons.get_mut(&id).unwrap().coins += event.amount.get().cast_signed();
            }
            Event::SeasonCompleted(event) => {
                let season = self.seasons.get_mut(&id).unwrap();
                season.ended = Some(seconds);
                season.score = Some(event.final_score.get());
                let owner = self.owners[&id];
                self.completions.push((owner, id, event.final_score.get(), stored.clone()));
            }
            Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => {
                let season = self.seasons.get_mut(&id).unwrap();
                season.ended = Some(seconds);
                let open = self.bets.range_mut((id, 0, Pot::Water)..=(id, 28, Pot::Growth));
                for (_, bet) in open.filter(|(_, bet)| bet.resolved.is_none()) {
                    bet.payout = Some(bet.amount);
                    bet.resolved = Some(seconds);
                    season.coins += bet.amount.cast_signed();
                }
            }
            Event::SessionStarted(event) => {
                let session = (user_id, event.session_number.get());
                self.sessions.insert(session, (seconds, None));
            }
            Event::SessionEnded(event) => {
                let session = self.sessions.get_mut(&(user_id, event.session_number.get()));
                session.unwrap().1 = Some((seconds, event.reason.to_string()));
            }
            Event::SimulinAdopted(event) => {
                let row = [
                    user_id.to_string(),
                    event.species.to_string(),
                    event.species.to_string(),
                    "sproutling".to_owned(),
                    "NULL".to_owned(),
                    "1".to_owned(),
                    "0".to_owned(),
                    serde_json::to_string(&event.personality).unwrap(),
                    "[\"root_sense\"]".to_owned(),
                    format!("{seconds}|NULL"),
                ];
                self.simulins.insert(event.simulin_id, row);
            }
            Event::SimulinPathChosen(event) => {
                self.simulins.get_mut(&event.simulin_id).unwrap()[4] = event.path.to_string();
            }
            Event::SimulinRetired(event) => {
                let row = self.simulins.get_mut(&event.simulin_id).unwrap();
                row[9] = row[9].replace("NULL", &seconds.to_string());
            }
            Event::SimulinXpGained(event) => {
                self.simulins.get_mut(&event.simulin_id).unwrap()[6] = event.bond_xp.to_string();
            }
            Event::SimulinLevelReached(event) => {
                let row = self.simulins.get_mut(&event.simulin_id).unwrap();
                let (stage, abilities) = stage(event.bond_level.get());
                row[5] = event.bond_level.to_string();
                row[3] = stage.to_owned();
                row[8] = abilities;
            }
            _ => {}
        }
        self.note_activity(stored);
        self.note_coins(stored);
    }

    fn note_coins(&mut self, stored: &StoredEvent) {
        let moved: &[(usize, u64)] = match &stored.event {
            Event::SeasonStarted(event) => &[(0, event.coins.get())],
            Event::StipendGranted(event) => &[(1, event.amount.get())],
            Event::SeasonCompleted(event) => &[(2, event.coins.get())],
            Event::SeasonAbandoned(event) => {
                &[(2, event.coins.get()), (4, event.escrow_returned.get())]
            }
            Event::SeasonExpired(event) => {
                &[(2, event.coins.get()), (4, event.escrow_returned.get())]
            }
            Event::BetPlaced(event) => &[(3, event.amount.get())],
            Event::BetResolved(event) => {
                &[(5, event.amount.get()), (6, event.payout.get()), (7, event.jackpot_share.get())]
            }
            Event::JackpotPaid(event) => &[(8, event.amount.get())],
            _ => return,
        };
        let day = self.coins.entry(stored.header.recorded_at.utc_day()).or_default();
        moved.iter().for_each(|(column, amount)| day[*column] += amount);
    }

    fn add_trigger(
        &mut self,
        identity: LedgerIdentity,
        stored: &StoredEvent,
        event: &daybook_schema::events::TriggerEarned,
    ) {
        let at = stored.header.recorded_at;
        let id = stored.header.stream.as_season();
        let day = event.day_number;
        let bet = |pot: Pot| {
            let bet = self.bets.get(&(id, day.get(), pot));
            bet.map(|bet| format!("\"{}\"", bet.id))
        };
        let own = |pots: &[Pot]| -> String {
            let ids: Vec<String> = pots.iter().filter_map(|pot| bet(*pot)).collect();
            if ids.is_empty() { String::new() } else { format!(",\"betIds\":[{}]", ids.join(",")) }
        };
        let pot = |pot: Pot| format!(",\"potId\":\"{pot}\"");
        let (category, rest) = match event.trigger_type {
            Trigger::FirstBloom => ("betting", pot(Pot::Growth) + &own(&[Pot::Growth])),
            Trigger::PerfectRead => ("betting", own(Pot::ALL)),
            Trigger::TroubleSlayer => ("farming", String::new()),
            Trigger::GrowthSpurt => ("farming", pot(Pot::Growth)),
            Trigger::SimulinSync => {
                let attuned = self.seasons[&id].companion.unwrap();
                ("companion", pot(attuned) + &own(&[attuned]))
            }
        };
        let seconds = at.get().div_euclid(1_000_000);
        let trigger_id = identity.trigger_id(at, id, day, event.trigger_type);
        self.triggers.insert(format!(
            "{trigger_id}|{id}|{day}|{}|{seconds}|{{\"category\":\"{category}\"{rest}}}",
            event.trigger_type
        ));
    }

    fn note_activity(&mut self, stored: &StoredEvent) {
        let user = match stored.event.kind().stream() {
            StreamKind::Ledger => return,
            StreamKind::User => stored.header.stream.as_user(),
            StreamKind::Season => self.owners[&stored.header.stream.as_season()],
        };
        let day = stored.header.recorded_at.utc_day();
        let steps = self.steps.entry(user).or_default();
        let (step, before) = match &stored.event {
            Event::UserRegistered(_) => {
                self.registered.insert(user, day);
                ("registered", 0)
            }
            Event::SeasonStarted(_) => ("first_season", 1),
            Event::BetPlaced(_) => ("first_bet", 2),
            Event::WeekEvaluated(_) => ("first_week", 3),
            Event::SeasonCompleted(_) => ("completed_season", 4),
            _ => ("", usize::MAX),
        };
        if steps.len() == before {
            steps.push(step);
        }
        let is_first = stored.header.command.place == 0;
        let is_own = match &stored.event {
            Event::SeasonExpired(_) | Event::SuspicionFlagged(_) => false,
            Event::CommitmentPublished(_) => false,
            Event::SessionEnded(event) => is_first && event.reason == SessionEndReason::Logout,
            Event::SessionStarted(_) | Event::UserErased(_) => true,
            _ => is_first,
        };
        if is_own {
            self.active.entry(user).or_default().insert(day);
            let (plays, at) =
                (self.plays.entry(user).or_default(), stored.header.recorded_at.seconds());
            match plays.last_mut() {
                Some((_, last, commands)) if at - *last < 1_800 => {
                    (*last, *commands) = (at, *commands + 1);
                }
                _ => plays.push((at, at, 1)),
            }
        }
    }
}

fn day_text(day: i64) -> String {
    let epoch = jiff::civil::date(1970, 1, 1);
    epoch.checked_add(jiff::Span::new().days(day)).unwrap().to_string()
}

/// The first day of the period of a day, by stepping back to it.
fn first_day(period: Period, day: i64) -> i64 {
    let date = |day: i64| -> jiff::civil::Date { day_text(day).parse().unwrap() };
    let is_first = |day: i64| match period {
        Period::Weekly => date(day).weekday() == jiff::civil::Weekday::Monday,
        Period::Seasonal => date(day).day() == 1 && [1, 4, 7, 10].contains(&date(day).month()),
        Period::AllTime => day == 0,
    };
    (0..=day).rev().find(|day| is_first(*day)).unwrap()
}

impl Recomputed {
    pub fn of(events: &[StoredEvent], data_dir: &Path) -> Self {
        let ledger_id = Reader::open(data_dir).unwrap().genesis().ledger_id;
        let identity = LedgerIdentity { ledger_id, epoch: Epoch::FIRST };
        let mut fold = Fold::default();
        for stored in events {
            fold.add(identity, stored);
        }
        let mut expected = vec![
            (
                "SELECT id, user_id, season_number, current_day, phase, coins, jackpot_contribution, \
              started_at, completed_at, final_score FROM seasons",
                fold.seasons(),
            ),
            ("SELECT season_id, last_seq FROM season_streams", fold.streams()),
            (
                "SELECT id, season_id, day_number, seed, pot_levels, events, weather, resolved, \
              created_at FROM days",
                fold.days(),
            ),
            (
                "SELECT id, season_id, day_number, pot_id, bet_type, amount, payout, won, resolved_at, \
              placed_at FROM bets",
                fold.bets(),
            ),
            (
                "SELECT id, season_id, day_number, trigger_type, earned_at, metadata \
              FROM daily_triggers",
                fold.triggers.clone(),
            ),
            (
                "SELECT season_id, week_number, hand, multiplier, score, jackpot_coins \
              FROM week_results",
                fold.weeks(),
            ),
            (
                "SELECT id, user_id, name, species, stage, path, bond_level, bond_xp, personality, \
              abilities, created_at, retired_at FROM simulins",
                fold.simulins(),
            ),
            (
                "SELECT pot_id, bet_type, weather, bets, won, staked, staked_squared, paid \
              FROM bet_economics",
                fold.economics(),
            ),
            (
                "SELECT day, pot_id, bet_type, weather, bets, won, staked, staked_squared, paid \
              FROM bet_economics_days",
                fold.economics_days(),
            ),
            (
                "SELECT user_id, season_id, resolved_day, bets, staked, paid FROM first_weeks",
                fold.first_weeks(),
            ),
            (
                "SELECT day, started, stipends, ended, placed, given_back, staked, paid, \
              jackpot_in_millicoins, jackpot_out FROM coin_days",
                fold.coin_days(),
            ),
            ("SELECT season_id, how, ended_at FROM season_ends", fold.ends.clone()),
            (
                "SELECT seq, season_id, user_id, day_number, code, flagged_at FROM flags",
                fold.flags.clone(),
            ),
            (
                "SELECT id, coins, CASE WHEN completed_at IS NULL THEN coins ELSE 0 END FROM seasons",
                fold.balances(),
            ),
            (
                "SELECT season_id, sum(amount) FILTER (WHERE kind <> 'end'), sum(amount) \
              FROM coin_movements GROUP BY season_id",
                fold.balances(),
            ),
        ];
        expected.extend(fold.boards(identity));
        expected.extend(fold.analytics());
        Self { expected }
    }

    /// Holds a `game.db` to what the events tell.
    pub async fn hold(&self, game_db: &Path) {
        let connection = rusqlite::Connection::open(game_db).unwrap();
        for (query, expected) in &self.expected {
            let mut statement = connection.prepare(query).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                let texts = (0..columns).map(|column| {
                    Ok(match row.get_ref(column)? {
                        rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                        rusqlite::types::ValueRef::Integer(value) => value.to_string(),
                        rusqlite::types::ValueRef::Real(value) => format!("{value:?}"),
                        other => other.as_str().unwrap().to_owned(),
                    })
                });
                Ok(texts.collect::<rusqlite::Result<Vec<String>>>()?.join("|"))
            });
            let found: BTreeSet<String> = rows.unwrap().map(Result::unwrap).collect();
            let missing: Vec<_> = expected.difference(&found).take(2).collect();
            let foreign: Vec<_> = found.difference(expected).take(2).collect();
            assert!(
                missing.is_empty() && foreign.is_empty(),
                "{query}\nmissing {missing:#?}\nforeign {foreign:#?}"
            );
        }
    }
}
