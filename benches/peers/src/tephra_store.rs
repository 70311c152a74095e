//! tephra: embedded, with a writer that commits together what waits.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use tephra::{
    AppendCondition, AppendError, Event, EventType, Position, PositionRange, Query, QueryItem,
    SegmentConfig, SegmentSet, Tag, Tags, WriteCoordinator, WriterConfig,
};

use crate::LENGTH;
use crate::commands::Commands;

/// Each event is tagged with its season, and nothing is appended to a season that went on.
pub fn run(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    let set = SegmentSet::open(dir.join("tephra"), SegmentConfig::new(256 << 20))?;
    let (coordinator, writer) = WriteCoordinator::start(set, WriterConfig::default())?;
    let (reply, answers) = flume::unbounded::<(u64, Result<PositionRange, AppendError>)>();
    let mut newest = vec![0_u64; commands.seasons];
    let (mut count, mut under_way, began) = (0, 0, Instant::now());
    let mut next = commands.all.iter().enumerate();
    loop {
        let command = next.next().filter(|_| began.elapsed() < LENGTH);
        if under_way >= waiting || command.is_none() {
            if under_way == 0 {
                break;
            }
            let (token, range) = answers.recv()?;
            let answered = &commands.all[token as usize];
            newest[answered.season] = range?.last.get();
            count += answered.events.len();
            under_way -= 1;
        }
        let Some((number, command)) = command else { continue };
        let tags = Tags::new([Tag::new(format!("season:{}", command.season))?])?;
        let mut events = Vec::with_capacity(command.events.len());
        for event in &command.events {
            events.push(Event::new(
                &EventType::new(event.kind.to_string())?,
                &tags,
                &event.payload,
            )?);
        }
        let query = Query::item(QueryItem::with_tags(tags));
        let condition = AppendCondition::new(query).after(Position::new(newest[command.season]));
        writer.append_submit(events, Some(condition), number as u64, reply.clone())?;
        under_way += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    coordinator.shutdown();
    Ok(count as f64 / seconds)
}
