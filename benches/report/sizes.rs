//! Bytes of an event, on disk and in memory, and where they go.

use std::path::Path;

use anyhow::{Context, Result};
use daybook_bots::{Play, Simulated};
use daybook_ledger::{Ledger, ledger_path};
use daybook_projections::{DatabaseSettings, FeedSource, GameDatabase, Workers, all_projections};
use rusqlite::Connection;

use crate::figures::{Figure, Floor, Report};
use crate::{Scale, child};

pub fn run(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    report.section("Bytes of an event, of the demo's mix");
    let dir = tempfile::tempdir_in(parent)?;
    let play = Play { players: scale.players, days: 30, seed: 7 };
    let ledger = Ledger::open(Simulated::from_seed(play.seed).options(dir.path()))?;
    play.run(&ledger, &mut |_, _| {})?;
    let events = ledger.close().wait()?.seq;
    let game_path = dir.path().join("game.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let database = GameDatabase::open(&game_path, DatabaseSettings::default()).await?;
        let source = FeedSource::ledger(dir.path());
        Workers::catch_up(&database, &all_projections(), &source).await?;
        database.empty_log().await?;
        database.close().await?;
        anyhow::Ok(())
    })?;
    for (name, path, most) in
        [("ledger.db", ledger_path(dir.path()), 96.0), ("game.db", game_path, 166.0)]
    {
        let bytes = std::fs::metadata(&path)?.len() as f64 / events as f64;
        let figure = Figure::new(format!("{name}, {events} events"), bytes, "bytes/event");
        report.add(match scale.events > 100_000 {
            true => figure.floor(Floor::AtMost(most)),
            false => figure,
        });
        for (table, bytes) in by_table(&path)? {
            let each = bytes as f64 / events as f64;
            if each >= 0.5 {
                report.add(Figure::new(format!("  {name}: {table}"), each, "bytes/event"));
            }
        }
    }
    if scale.events > 100_000 {
        let memory = tempfile::tempdir_in(parent)?;
        let bytes = child::ask("memory", memory.path(), false)?;
        let bytes = bytes.first().copied().context("bytes")?;
        report.add(
            Figure::new("memory of a season in play", bytes, "bytes").floor(Floor::AtMost(600.0)),
        );
    }
    Ok(())
}

/// The bytes of each table and index.
fn by_table(path: &Path) -> Result<Vec<(String, i64)>> {
    let connection = Connection::open(path)?;
    let mut sizes =
        connection.prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC")?;
    let sizes = sizes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(sizes.collect::<rusqlite::Result<_>>()?)
}
