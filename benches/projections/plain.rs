//! A plain program that writes the same tables, as the measure of ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use daybook_ledger::Reader;
use daybook_projections::all_projections;
use daybook_schema::{Epoch, Event, LedgerIdentity, Seq, StoredEvent, limits};
use rusqlite::Connection;
use rusqlite::types::Value;

/// Events applied in one transaction, as ours are.
const PER_TRANSACTION: usize = limits::EVENTS_PER_APPLY_MAX;

/// The rows of a table, as they were written first.
struct Table {
    insert: String,
    rows: Vec<Vec<Value>>,
}

/// Every row of the finished read models into another file, once, with prepared statements: no
/// updates of rows that are there already, no lookups, no foreign keys to be checked.
pub fn rows_once(finished: &Path, target: &Path, events: u64) -> Result<f64> {
    let source = Connection::open(finished)?;
    let mut tables = BTreeMap::new();
    let own: Vec<&str> =
        all_projections().iter().flat_map(|it| it.tables().iter().copied()).collect();
    for table in ["users"].iter().chain(&own) {
        let mut statement = source.prepare(&format!("SELECT * FROM {table}"))?;
        let columns: Vec<String> = source
            .prepare("SELECT name FROM pragma_table_info(?1)")?
            .query_map([table], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
        let insert =
            format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        let rows = statement.query_map([], |row| {
            columns.iter().map(|column| row.get::<_, Value>(column.as_str())).collect()
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<Vec<Value>>>>()?;
        tables.insert(*table, Table { insert, rows });
    }
    let mut plain = database(target, finished)?;

    // Side by side, as the events bring them: of each table its share in every transaction.
    let transactions = usize::try_from(events)?.div_ceil(PER_TRANSACTION);
    let order: Vec<&str> = ["users"].into_iter().chain(own).collect();
    let started = Instant::now();
    for index in 0..transactions {
        let transaction = plain.transaction()?;
        for name in &order {
            let table = tables.get(name).context("a table")?;
            let share = |index: usize| table.rows.len() * index / transactions;
            let rows = table.rows.get(share(index)..share(index + 1)).unwrap_or_default();
            let mut insert = transaction.prepare_cached(&table.insert)?;
            for row in rows {
                insert.execute(rusqlite::params_from_iter(row))?;
            }
        }
        transaction.commit()?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// The seed's tables as a plain program keeps them: for every event the statements that it takes,
/// prepared, in transactions as large as ours. It has no analytics, no ranks, no positions and no
/// checks.
pub fn event_by_event(dir: &Path, target: &Path, schema_of: &Path) -> Result<f64> {
    let events: Vec<StoredEvent> =
        Reader::open(dir)?.events_from(Seq::MIN).collect::<Result<_, _>>()?;
    let mut plain = database(target, schema_of)?;
    let ledger_id = Reader::open(dir)?.genesis().ledger_id;
    let identity = LedgerIdentity { ledger_id, epoch: Epoch::FIRST };
    let started = Instant::now();
    for batch in events.chunks(PER_TRANSACTION) {
        let transaction = plain.transaction()?;
        for stored in batch {
            apply_seasons(&transaction, identity, stored)?;
        }
        transaction.commit()?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Runs a prepared statement.
fn run(database: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<()> {
    database.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn apply_seasons(
    database: &Connection,
    identity: LedgerIdentity,
    stored: &StoredEvent,
) -> Result<()> {
    let seconds = stored.header.recorded_at.seconds();
    let id = stored.header.stream.as_season().to_string();
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| run(database, sql, values);
    match &stored.event {
        Event::UserRegistered(_) => {
            let user = stored.header.stream.as_user().to_string();
            let email = format!("erased+{user}@erased.invalid");
            run(
                "INSERT INTO users (id, email, display_name, created_at) VALUES (?, ?, 'player', ?)",
                &[&user, &email, &seconds],
            )
        }
        Event::SeasonStarted(event) => run(
            "INSERT INTO seasons (id, user_id, season_number, started_at) VALUES (?, ?, ?, ?)",
            &[&id, &event.user_id.to_string(), &event.season_number.get(), &seconds],
        ),
        Event::WeekEvaluated(event) => run(
            "INSERT INTO week_results VALUES (?, ?, ?, ?, ?, 0, ?)",
            &[
                &id,
                &event.week_number.get(),
                &event.hand.as_str(),
                &event.multiplier.get(),
                &event.score.get().cast_signed(),
                &seconds,
            ],
        ),
        Event::SeasonCompleted(event) => run(
            "UPDATE seasons SET completed_at = ?, final_score = ? WHERE id = ?",
            &[&seconds, &event.final_score.get().cast_signed(), &id],
        ),
        Event::SeasonAbandoned(_) | Event::SeasonExpired(_) => {
            run("UPDATE seasons SET completed_at = ? WHERE id = ?", &[&seconds, &id])
        }
        _ => apply_days(database, identity, stored),
    }
}

fn apply_days(database: &Connection, identity: LedgerIdentity, stored: &StoredEvent) -> Result<()> {
    let at = stored.header.recorded_at;
    let seconds = at.seconds();
    let season = stored.header.stream.as_season();
    let id = season.to_string();
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| run(database, sql, values);
    match &stored.event {
        Event::DayOpened(event) => {
            let day = event.day_number.get();
            let day_id = identity.day_id(at, season, event.day_number).to_string();
            run(
                "INSERT INTO days (id, season_id, day_number, seed, pot_levels, events, weather, \
                 created_at) VALUES (?, ?, ?, '', '{}', '[]', ?, ?)",
                &[&day_id, &id, &day, &event.weather.as_str(), &seconds],
            )?;
            run(
                "UPDATE seasons SET current_day = ?, phase = ? WHERE id = ?",
                &[&day, &event.day_number.phase().as_str(), &id],
            )
        }
        Event::DayResolved(event) => {
            let levels = serde_json::to_string(&event.pot_levels)?;
            let troubles = serde_json::to_string(&event.troubles)?;
            run(
                "UPDATE days SET seed = ?, pot_levels = ?, events = ?, resolved = 1 \
                 WHERE season_id = ? AND day_number = ?",
                &[&event.day_key.to_string(), &levels, &troubles, &id, &event.day_number.get()],
            )
        }
        Event::TriggerEarned(event) => {
            let (day, trigger) = (event.day_number, event.trigger_type);
            let trigger = identity.trigger_id(at, season, day, trigger).to_string();
            run(
                "INSERT INTO daily_triggers VALUES (?, ?, ?, ?, ?, '{}')",
                &[&trigger, &id, &event.day_number.get(), &event.trigger_type.as_str(), &seconds],
            )
        }
        _ => apply_bets(database, identity, stored),
    }
}

fn apply_bets(database: &Connection, identity: LedgerIdentity, stored: &StoredEvent) -> Result<()> {
    let at = stored.header.recorded_at;
    let seconds = at.seconds();
    let season = stored.header.stream.as_season();
    let id = season.to_string();
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| run(database, sql, values);
    match &stored.event {
        Event::BetPlaced(event) => {
            let bet = identity.bet_id(at, season, event.day_number, event.pot_id).to_string();
            let amount = event.amount.get().cast_signed();
            run(
                "INSERT INTO bets (id, season_id, day_number, pot_id, bet_type, amount, placed_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                &[
                    &bet,
                    &id,
                    &event.day_number.get(),
                    &event.pot_id.as_str(),
                    &event.bet_type.as_str(),
                    &amount,
                    &seconds,
                ],
            )?;
            run("UPDATE seasons SET coins = coins - ? WHERE id = ?", &[&amount, &id])
        }
        Event::BetResolved(event) => {
            let payout = event.payout.get().cast_signed();
            let share = event.jackpot_share.get() as f64 / 1_000.0;
            run(
                "UPDATE bets SET payout = ?, won = ?, resolved_at = ? \
                 WHERE season_id = ? AND day_number = ? AND pot_id = ?",
                &[
                    &payout,
                    &event.threshold.is_some(),
                    &seconds,
                    &id,
                    &event.day_number.get(),
                    &event.pot_id.as_str(),
                ],
            )?;
            run(
                "UPDATE seasons SET coins = coins + ?, \
                 jackpot_contribution = jackpot_contribution + ? WHERE id = ?",
                &[&payout, &share, &id],
            )
        }
        _ => apply_simulins(database, stored),
    }
}

fn apply_simulins(database: &Connection, stored: &StoredEvent) -> Result<()> {
    let seconds = stored.header.recorded_at.seconds();
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| run(database, sql, values);
    match &stored.event {
        Event::SimulinAdopted(event) => run(
            "INSERT INTO simulins (id, user_id, name, species, stage, personality, created_at) \
             VALUES (?, ?, ?, ?, 'sproutling', '{}', ?)",
            &[
                &event.simulin_id.to_string(),
                &stored.header.stream.as_user().to_string(),
                &event.species.as_str(),
                &event.species.as_str(),
                &seconds,
            ],
        ),
        Event::SimulinXpGained(event) => run(
            "UPDATE simulins SET bond_xp = ? WHERE id = ?",
            &[&event.bond_xp.get(), &event.simulin_id.to_string()],
        ),
        Event::SimulinLevelReached(event) => run(
            "UPDATE simulins SET bond_level = ?, stage = ? WHERE id = ?",
            &[
                &event.bond_level.get(),
                &event.bond_level.stage().as_str(),
                &event.simulin_id.to_string(),
            ],
        ),
        _ => Ok(()),
    }
}

/// An empty file with the tables and indexes of another.
fn database(target: &Path, schema_of: &Path) -> Result<Connection> {
    let source = Connection::open(schema_of)?;
    let schema: Vec<String> = source
        .prepare(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let plain = Connection::open(target)?;
    plain.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=OFF; \
         PRAGMA cache_size=-65536; PRAGMA wal_autocheckpoint=8192;",
    )?;
    schema.iter().try_for_each(|sql| plain.execute_batch(sql))?;
    plain.set_prepared_statement_cache_capacity(64);
    Ok(plain)
}
