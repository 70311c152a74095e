//! `daybook tail`.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use daybook_ledger::{Follower, Reader, StoredEvent};

use crate::Outcome;
use crate::arguments::TailArguments;
use crate::event_json::EventJson;

pub(crate) fn run(arguments: &TailArguments) -> Result<Outcome> {
    let mut follower = Follower::new(Reader::open(&arguments.data.data)?, arguments.from);
    let wanted = |stored: &StoredEvent| {
        (arguments.kind.is_empty() || arguments.kind.contains(&stored.event.kind()))
            && arguments.stream.is_none_or(|stream| stream == stored.header.stream)
    };
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let timeout = if arguments.follow { Duration::from_secs(3_600) } else { Duration::ZERO };
    loop {
        let events = follower.next_events(timeout)?;
        if events.is_empty() && !arguments.follow {
            return Ok(Outcome::Holds);
        }
        for stored in events.iter().filter(|stored| wanted(stored)) {
            serde_json::to_writer(&mut stdout, &EventJson::from(stored))
                .map_err(std::io::Error::from)
                .and_then(|()| stdout.write_all(b"\n"))
                .context("stdout cannot be written")?;
        }
        stdout.flush().context("stdout cannot be written")?;
    }
}
