//! `daybook tail`.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daybook_ledger::{Follower, ReadError, Reader, StoredEvent};
use daybook_schema::{Seq, UnixMicros};

use crate::Outcome;
use crate::arguments::TailArguments;
use crate::event_json::EventJson;
use crate::output::{grouped, note};

pub(crate) fn run(arguments: &TailArguments) -> Result<Outcome> {
    let reader = Reader::open(&arguments.data.data)?;
    let from = match arguments.since {
        Some(since) => first_since(&reader, since)?.max(arguments.from),
        None => arguments.from,
    };
    let mut follower = Follower::new(reader, from);
    let printed = print(&mut follower, arguments)?;
    if let (0, Some(stream)) = (printed, arguments.stream)
        && follower.reader().find_stream_head(stream)?.is_none()
    {
        bail!("there is no event of the user, season or ledger that --stream names");
    }
    let head = follower.reader().head()?;
    if printed == 0 && arguments.from.get() > head.seq {
        note(&format!("nothing is printed: the ledger ends at {}", grouped(head.seq)));
    }
    Ok(Outcome::Holds)
}

/// Prints the events that are wanted, and says how many there were.
fn print(follower: &mut Follower, arguments: &TailArguments) -> Result<u64> {
    let is_wanted = |stored: &StoredEvent| {
        (arguments.kind.is_empty() || arguments.kind.contains(&stored.event.kind()))
            && arguments.stream.is_none_or(|stream| stream == stored.header.stream)
            // A time that is still to come lies beyond every event that there is.
            && arguments.since.is_none_or(|since| stored.header.recorded_at >= since)
    };
    let is_after = |stored: &StoredEvent| {
        stored.header.seq > arguments.until
            || arguments.until_time.is_some_and(|time| stored.header.recorded_at >= time)
    };
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let timeout = if arguments.follow { Duration::from_secs(3_600) } else { Duration::ZERO };
    let mut printed = 0;
    while printed < limit {
        let events = follower.next_events(timeout)?;
        let is_over = events
            .last()
            .map_or(!arguments.follow, |last| last.header.seq == arguments.until || is_after(last));
        for stored in events.iter().take_while(|stored| !is_after(stored)) {
            if printed < limit && is_wanted(stored) {
                serde_json::to_writer(&mut stdout, &EventJson::from(stored))
                    .map_err(std::io::Error::from)
                    .and_then(|()| stdout.write_all(b"\n"))
                    .context("stdout cannot be written")?;
                printed += 1;
            }
        }
        stdout.flush().context("stdout cannot be written")?;
        if is_over {
            break;
        }
    }
    Ok(printed)
}

/// The first event that was recorded at a time or later, or the one that comes next: times never go back.
fn first_since(reader: &Reader, time: UnixMicros) -> Result<Seq, ReadError> {
    let (mut first, mut end) = (1, reader.head()?.seq + 1);
    while first < end {
        let middle = first + (end - first) / 2;
        match reader.event(Seq::clamped(middle))?.header.recorded_at < time {
            true => first = middle + 1,
            false => end = middle,
        }
    }
    Ok(Seq::clamped(first))
}
