//! `daybook demo`: bots play whole seasons through the real engine, then the ledger is proven.

mod directory;
mod summary;
mod telemetry;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use daybook_bots::{Play, Played, Simulated};
use daybook_ledger::{Head, Ledger, Report, Verdict, VerifyOptions, keys, verify};
use daybook_projections::{DatabaseSettings, FeedSource, GameDatabase, Workers, all_projections};
use daybook_schema::{Epoch, LedgerIdentity};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::arguments::DemoArguments;
use crate::arguments::shared::game_db_path;
use crate::output::{grouped, progress_bar, table, write_json, write_line};
use directory::KeysPlace;
use summary::{LeaderboardRow, RetentionRow, Summary};
use telemetry::TelemetryFile;

#[derive(Serialize)]
struct DemoJson {
    players: u32,
    seasons: u64,
    events: u64,
    commands: u64,
    seconds: f64,
    events_per_second: f64,
    projections_seconds: f64,
    telemetry_events: u64,
    telemetry_seconds: f64,
    latency_us: LatencyJson,
    head_seq: u64,
    head_hash: String,
    verdict: &'static str,
    leaderboard: Vec<LeaderboardRow>,
    retention: Vec<RetentionRow>,
}

#[derive(Serialize)]
struct LatencyJson {
    p50: u64,
    p95: u64,
    p99: u64,
    max: u64,
}

/// Whether a keys directory beside the data holds this demo's keys already; else one that keys can
/// be put into is there afterwards.
fn keys_kept(simulated: &Simulated, directory: &Path) -> Result<bool> {
    let own = [simulated.first_key.key_id(), simulated.second_key.key_id()];
    let kept = keys::load(directory)
        .is_ok_and(|keys| own.iter().all(|key_id| keys.season_keys.contains(key_id)));
    if !kept {
        keys::prepare(directory).context("the demo's keys have no place")?;
    }
    Ok(kept)
}

pub(crate) fn run(arguments: &DemoArguments) -> Result<Outcome> {
    let data = &arguments.data.data;
    let keys_dir = arguments.keys.directory(data);
    let simulated = Simulated::from_seed(arguments.seed);
    // Everything that can be refused is refused before anything is removed.
    let game_db = game_db_path(data)?;
    let keys_kept = directory::check(data, &keys_dir)? == KeysPlace::Elsewhere
        && keys_kept(&simulated, &keys_dir)?;
    let lock = directory::prepare(data)?;
    if keys_kept {
        // The head is of an earlier ledger with this id, which was just removed.
        keys::load(&keys_dir)?.newest_head.remove(simulated.new.ledger_id)?;
    }
    let ledger = Ledger::open(simulated.options(data).lock(lock))?;
    if !keys_kept {
        keys::init(&keys_dir, &simulated.first_key)?;
        keys::add_season_key(&keys_dir, &simulated.second_key)?;
    }

    let started = Instant::now();
    let runtime = crate::runtime()?;
    let mut telemetry = TelemetryFile::open(&runtime, data)?;
    let played = play(arguments, &ledger, &mut telemetry)?;
    let head = ledger.close().wait()?;
    let identity = LedgerIdentity { ledger_id: simulated.new.ledger_id, epoch: Epoch::FIRST };
    keys::load(&keys_dir)?.newest_head.write(identity, head)?;
    let play_seconds = started.elapsed().as_secs_f64();

    let storing = Instant::now();
    let telemetry_events = telemetry.finish(&played.erased)?;
    let stored = Stored { events: telemetry_events, seconds: storing.elapsed().as_secs_f64() };

    let projected = project(&runtime, data, &game_db)?;

    let bar = progress_bar(head.seq, "verifying");
    let options =
        VerifyOptions { full: true, heads: vec![head.into()], ..VerifyOptions::default() };
    let report = verify(data, &options, &mut |done, _| bar.set_position(done))?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let demo = DemoReport {
        arguments,
        played: &played,
        head,
        report: &report,
        projected: &projected,
        stored: &stored,
    };
    if arguments.json.json {
        write_json(&demo.to_json(play_seconds, seconds))?;
    } else {
        write_line(&demo.to_text(play_seconds))?;
    }
    Ok(match report.verdict {
        Verdict::Intact => Outcome::Holds,
        _ => Outcome::DoesNotHold,
    })
}

fn play(
    arguments: &DemoArguments,
    ledger: &Ledger,
    telemetry: &mut TelemetryFile<'_>,
) -> Result<Played> {
    let bar = progress_bar(u64::from(arguments.days), "playing");
    let DemoArguments { players, days, seed, .. } = *arguments;
    let mut progress = |day, events| {
        bar.set_position(u64::from(day));
        bar.set_message(format!("days, {} events", grouped(events)));
    };
    let play = Play { players, days, seed };
    let played = play.run_telling(ledger, &mut progress, &mut |told| telemetry.tell(told));
    bar.finish_and_clear();
    played.with_context(|| {
        format!("the demo in `{}` could not be played to its end", arguments.data.data.display())
    })
}

/// Telemetry that was stored, and how long it took.
struct Stored {
    events: u64,
    seconds: f64,
}

/// What the read models tell, and how long they took.
struct Projected {
    summary: Summary,
    seconds: f64,
}

/// Lets the projections follow the ledger into `game.db`, and reads the demo's tables from there.
fn project(runtime: &Runtime, data: &Path, game_db: &Path) -> Result<Projected> {
    let bar = progress_bar(0, "projecting");
    let projected = runtime.block_on(async {
        let database = GameDatabase::open(game_db, DatabaseSettings::default()).await?;
        let started = Instant::now();
        Workers::catch_up(&database, &all_projections(), &FeedSource::ledger(data)).await?;
        let seconds = started.elapsed().as_secs_f64();
        let summary = Summary::read(&database).await?;
        database.close().await?;
        anyhow::Ok(Projected { summary, seconds })
    });
    bar.finish_and_clear();
    projected.context("the read models could not be made")
}

struct DemoReport<'a> {
    arguments: &'a DemoArguments,
    played: &'a Played,
    head: Head,
    report: &'a Report,
    projected: &'a Projected,
    stored: &'a Stored,
}

impl DemoReport<'_> {
    fn events_per_second(&self, play_seconds: f64) -> f64 {
        self.head.seq as f64 / play_seconds.max(f64::MIN_POSITIVE)
    }

    fn to_json(&self, play_seconds: f64, seconds: f64) -> DemoJson {
        let latency = &self.played.latency_us;
        DemoJson {
            players: self.arguments.players,
            seasons: self.projected.summary.seasons_started,
            events: self.head.seq,
            commands: self.played.commands,
            seconds,
            events_per_second: self.events_per_second(play_seconds),
            projections_seconds: self.projected.seconds,
            telemetry_events: self.stored.events,
            telemetry_seconds: self.stored.seconds,
            latency_us: LatencyJson {
                p50: latency.value_at_quantile(0.5),
                p95: latency.value_at_quantile(0.95),
                p99: latency.value_at_quantile(0.99),
                max: latency.max(),
            },
            head_seq: self.head.seq,
            head_hash: self.head.hash.to_string(),
            verdict: self.report.verdict.as_str(),
            leaderboard: self.projected.summary.leaderboard.clone(),
            retention: self.projected.summary.retention.clone(),
        }
    }

    fn to_text(&self, play_seconds: f64) -> String {
        let latency = &self.played.latency_us;
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let data = self.arguments.data.data.display();
        let seasons = self.projected.summary.seasons_started;
        format!(
            "Played {} seasons ({} completed) of {} players over {} UTC {}: {} events of {} commands.\n\
             {} events/s in {play_seconds:.1} s, every answer synced to disk (SQLite FULL); \
             latency p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms.\n\
             Read models in game.db: {:.1} s, {} events/s.\n\
             Telemetry of the players' clients in telemetry.db: {} events, {:.1} s.\n\n\
             Leaderboard, all time\n{}\n\n\
             Retention, percent of the players first seen on a day (the first 10 are shown) that came back n days later\n{}\n\n\
             Audit\n{}\n\n\
             Next: daybook replay --data {data} --season {}",
            grouped(seasons),
            grouped(self.projected.summary.seasons_completed),
            grouped(self.arguments.players),
            self.arguments.days,
            if self.arguments.days == 1 { "day" } else { "days" },
            grouped(self.head.seq),
            grouped(self.played.commands),
            grouped(self.events_per_second(play_seconds) as u64),
            at(0.5),
            at(0.95),
            at(0.99),
            latency.max() as f64 / 1_000.0,
            self.projected.seconds,
            grouped((self.head.seq as f64 / self.projected.seconds.max(f64::MIN_POSITIVE)) as u64),
            grouped(self.stored.events),
            self.stored.seconds,
            self.leaderboard(),
            self.retention(),
            crate::verify::to_text(self.report, &[], true),
            self.projected.summary.leaderboard.first().map_or("ID", |row| &row.season_id),
        )
    }

    fn leaderboard(&self) -> String {
        let rows = self.projected.summary.leaderboard.iter().map(|row| {
            vec![
                row.user_id.clone(),
                row.rank.to_string(),
                grouped(row.score),
                row.season_id.clone(),
            ]
        });
        table(&["player", "rank", "best score", "season"], rows).to_string()
    }

    fn retention(&self) -> String {
        let mut head = vec!["first seen".to_owned(), "players".to_owned()];
        let days = self.projected.summary.retention.first().map(|row| &row.retained);
        head.extend(days.into_iter().flatten().map(|cell| format!("day {}", cell.day_n)));
        let rows = self.projected.summary.retention.iter().map(|row| {
            let mut cells = vec![row.cohort_day.clone(), grouped(row.cohort_size)];
            cells.extend(row.retained.iter().map(|cell| match cell.players {
                Some(players) => {
                    format!("{:.0}", players as f64 * 100.0 / row.cohort_size.max(1) as f64)
                }
                None => String::new(),
            }));
            cells
        });
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        table(&head, rows).to_string()
    }
}
