//! `daybook tail`.

mod about;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daybook_ledger::{Follower, Reader, StoredEvent};

use crate::Outcome;
use crate::arguments::{AboutArguments, TailArguments};
use crate::output::{grouped, note};

/// A view of the events with names and fields, for `sqlite3` on a ledger.
const READABLE_EVENTS: &str = include_str!("tail/readable_events.sql");

pub(crate) fn run(arguments: &TailArguments) -> Result<Outcome> {
    if arguments.sql {
        let written = std::io::stdout().lock().write_all(READABLE_EVENTS.as_bytes());
        written.context("stdout cannot be written")?;
        return Ok(Outcome::Holds);
    }
    let reader = Reader::open(&arguments.data.data)?;
    let from = match arguments.since {
        Some(since) => reader.first_since(since)?.max(arguments.from),
        None => arguments.from,
    };
    if let Some(events) = about(&reader, arguments)? {
        return print_some(events, arguments);
    }
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
    } else if printed == 0 {
        let events = grouped(head.seq);
        note(&format!("nothing is printed: none of the {events} events is what was asked for"));
    }
    Ok(Outcome::Holds)
}

/// The events that a user, a season or a bet is about, if one is named.
fn about(reader: &Reader, arguments: &TailArguments) -> Result<Option<Vec<StoredEvent>>> {
    let AboutArguments { user, season, bet } = arguments.about;
    let events = match (user, season, bet) {
        (Some(user_id), ..) => about::of_user(reader, user_id)?,
        (_, Some(season_id), _) => {
            let game_db = arguments.database.path(&arguments.data.data).ok();
            about::of_season(reader, season_id, game_db.as_deref())?
        }
        (.., Some(bet_id)) => about::of_bet(reader, bet_id)?,
        (None, None, None) => return Ok(None),
    };
    Ok(Some(events))
}

/// Prints those of some events that are wanted.
fn print_some(events: Vec<StoredEvent>, arguments: &TailArguments) -> Result<Outcome> {
    let limit = usize::try_from(arguments.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let wanted = events.iter().filter(|stored| {
        stored.header.seq >= arguments.from
            && is_wanted(stored, arguments)
            && !is_after(stored, arguments)
    });
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    wanted.take(limit).try_for_each(|stored| write_event(&mut stdout, stored))?;
    stdout.flush().context("stdout cannot be written")?;
    Ok(Outcome::Holds)
}

fn is_wanted(stored: &StoredEvent, arguments: &TailArguments) -> bool {
    (arguments.kind.is_empty() || arguments.kind.contains(&stored.event.kind()))
        && arguments.stream.is_none_or(|stream| stream == stored.header.stream)
        // A time that is still to come lies beyond every event that there is.
        && arguments.since.is_none_or(|since| stored.header.recorded_at >= since)
}

fn is_after(stored: &StoredEvent, arguments: &TailArguments) -> bool {
    stored.header.seq > arguments.until
        || arguments.until_time.is_some_and(|time| stored.header.recorded_at >= time)
}

fn write_event(stdout: &mut impl Write, stored: &StoredEvent) -> Result<()> {
    serde_json::to_writer(&mut *stdout, stored)
        .map_err(std::io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .context("stdout cannot be written")
}

/// Prints the events that are wanted, and says how many there were.
fn print(follower: &mut Follower, arguments: &TailArguments) -> Result<u64> {
    let is_after = |stored: &StoredEvent| is_after(stored, arguments);
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
            if printed < limit && is_wanted(stored, arguments) {
                write_event(&mut stdout, stored)?;
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
