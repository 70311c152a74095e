//! Going through a ledger: verification, recovery, replay, scans and exports.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daybook_export::{Export, Format, Selection};
use daybook_ledger::{Reader, replay, snapshots_path};
use daybook_schema::{EventKind, Seq};

use crate::figures::{Figure, Floor, Report, Values};
use crate::load::Load;
use crate::{Scale, ceilings, child};

/// Events that are exported at most.
const EXPORTED_MAX: u64 = 1_000_000;

pub fn run(parent: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    let seasons = scale.seasons.min(20_000);
    let dir = tempfile::tempdir_in(parent)?;
    let mut load = Load::begin(dir.path(), seasons)?;
    load.keep_waiting(4_096, Duration::from_secs(600), scale.events)?;
    load.ledger.close().wait()?;
    report.section("Going through a ledger");
    verification(dir.path(), scale, report)?;
    reading(dir.path(), report)?;
    exports(dir.path(), report)?;
    drop(dir);
    recovery(parent, seasons, scale, report)
}

fn verification(dir: &Path, scale: Scale, report: &mut Report) -> Result<()> {
    let one = |task: &str, on_one_core: bool| -> Result<f64> {
        child::ask(task, dir, on_one_core)?.first().copied().context("a rate")
    };
    let mut values: [Values; 5] = Default::default();
    for _ in 0..scale.rounds {
        let [scan, chain, chain_all, full, full_all] = &mut values;
        scan.add(one("scan-and-hash", true)?);
        chain.add(one("verify", true)?);
        chain_all.add(one("verify", false)?);
        full.add(one("verify-full", true)?);
        full_all.add(one("verify-full", false)?);
    }
    let [scan, chain, chain_all, full, full_all] = values;
    let cores = std::thread::available_parallelism()?;
    let all = format!("on {cores} cores");
    let per_second = "events/s";
    report.add(
        Figure::new("verify, the chain, on a core", chain.clone(), per_second)
            .beside("plain rusqlite that reads and hashes", &scan)
            .floor(Floor::Ratio(0.8)),
    );
    report.add(
        Figure::new(format!("verify, the chain, {all}"), chain_all, per_second)
            .beside("on a core", &chain)
            .floor(Floor::Ratio(1.8)),
    );
    report.add(
        Figure::new("verify --full, on a core", full.clone(), per_second)
            .floor(Floor::AtLeast(1e6)),
    );
    report.add(
        Figure::new(format!("verify --full, {all}"), full_all, per_second)
            .beside("on a core", &full)
            .floor(Floor::Ratio(1.8)),
    );
    let read = ceilings::read_sequentially(dir)? / 1e6;
    report.add(Figure::new("the file read from beginning to end, warm", read, "MB/s"));
    Ok(())
}

fn reading(dir: &Path, report: &mut Report) -> Result<()> {
    let timed = |read: &mut dyn FnMut() -> Result<u64>| -> Result<f64> {
        let began = Instant::now();
        let events = read()?;
        ensure!(events > 0, "events are read");
        Ok(events as f64 / began.elapsed().as_secs_f64())
    };
    let reader = Reader::open(dir)?;
    let newest = reader.head()?.seq;
    let replayed = timed(&mut || Ok(replay(dir, None, |_, _| {})?.head.seq))?;
    report.add(Figure::new("replay of the state", replayed, "events/s"));
    let all = timed(&mut || {
        let mut events = reader.events_from(Seq::MIN);
        events.try_fold(0, |count, event| event.map(|_| count + 1)).map_err(Into::into)
    })?;
    report.add(Figure::new("scan of all events", all, "events/s"));
    let kinds = [EventKind::WeekEvaluated];
    let of_kind = timed(&mut || {
        let mut events = reader.events_of_kinds(&kinds, Seq::MIN);
        events.try_fold(0, |count, event| event.map(|_| count + 1_u64))?;
        Ok(newest)
    })?;
    report.add(Figure::new("scan by kind, events passed", of_kind, "events/s"));
    let last = reader.event(Seq::clamped(newest))?;
    let began = Instant::now();
    let head = reader.find_stream_head(last.header.stream)?.unwrap_or(last.header.seq);
    let stream = reader.stream_from_head(head)?;
    let micros = began.elapsed().as_secs_f64() * 1e6;
    report.add(Figure::new(format!("a stream of {} events", stream.len()), micros, "us"));
    Ok(())
}

fn exports(dir: &Path, report: &mut Report) -> Result<()> {
    let reader = Reader::open(dir)?;
    let events = reader.head()?.seq.min(EXPORTED_MAX);
    for (name, format) in
        [("Parquet", Format::Parquet), ("CSV", Format::Csv), ("JSONL", Format::Jsonl)]
    {
        let place = tempfile::tempdir_in(dir)?;
        let directory = place.path().join("export");
        let selection = Selection {
            from: Seq::MIN,
            until: Some(Seq::clamped(events)),
            from_time: None,
            until_time: None,
            kinds: Vec::new(),
            season: None,
            user: None,
        };
        let export = Export { directory, format, selection };
        let began = Instant::now();
        export.run(&reader, &mut |_| {})?;
        let rate = events as f64 / began.elapsed().as_secs_f64();
        report.add(Figure::new(format!("export as {name}"), rate, "events/s"));
    }
    Ok(())
}

/// How long a start takes after a kill under full load, with a snapshot and without.
fn recovery(parent: &Path, seasons: usize, scale: Scale, report: &mut Report) -> Result<()> {
    report.section("A start after a kill under full load");
    let dir = tempfile::tempdir_in(parent)?;
    let events = child::kill_under_load(dir.path(), seasons, scale.events)?;
    let what = format!("{} million events, {seasons} seasons in play", events / 1_000_000);
    let started = |task| -> Result<f64> {
        child::ask(task, dir.path(), false)?.first().copied().context("a time")
    };
    let floor = Floor::AtMost(1_000.0);
    report
        .add(Figure::new(format!("with a snapshot, {what}"), started("open")?, "ms").floor(floor));
    std::fs::remove_dir_all(snapshots_path(dir.path()))?;
    report.add(Figure::new(format!("without a snapshot, {what}"), started("open")?, "ms"));
    Ok(())
}
