//! The check of every row against the rows before it: one for recovery, replay and verification.

use daybook_schema::chain::CommandPart;
use daybook_schema::{Event, EventHash, EventHeader, Head, StoredEvent, UnixMicros};

use crate::database::StoredGenesis;
use crate::event_row::RowView;
use crate::scan::ScannedRow;
use crate::stream_heads::StreamHeads;
use crate::verdict::{Finding, Verdict};

/// Checks rows one after another, from the first.
#[derive(Clone, Debug)]
pub(crate) struct ChainCheck {
    head: Head,
    recorded_at: UnixMicros,
    last_part: Option<CommandPart>,
    heads: StreamHeads,
}

impl ChainCheck {
    /// A check that starts from the genesis, which it holds to its own hash first.
    pub(crate) fn start(stored: Option<StoredGenesis>) -> Result<(Self, StoredGenesis), Finding> {
        let stored = stored.ok_or_else(|| {
            Finding::at(
                Verdict::BrokenLink,
                0,
                "the genesis is missing, or is not as its format says",
            )
        })?;
        let computed = stored.genesis.hash();
        if computed != stored.hash {
            let detail = format!("the genesis hashes to {computed}, but {} is stored", stored.hash);
            return Err(Finding::at(Verdict::BrokenLink, 0, detail));
        }
        let check = Self {
            head: Head { seq: 0, hash: stored.hash },
            recorded_at: stored.genesis.created_at,
            last_part: None,
            heads: StreamHeads::default(),
        };
        Ok((check, stored))
    }

    /// A check that goes on after a command's last event.
    pub(crate) const fn resume(head: Head, recorded_at: UnixMicros, heads: StreamHeads) -> Self {
        Self { head, recorded_at, last_part: None, heads }
    }

    /// The newest event of each stream that may get another.
    pub(crate) const fn stream_heads(&self) -> &StreamHeads {
        &self.heads
    }

    /// The newest row that was checked.
    pub(crate) const fn head(&self) -> Head {
        self.head
    }

    /// The time of the newest row, or of the genesis.
    pub(crate) const fn newest_recorded_at(&self) -> UnixMicros {
        self.recorded_at
    }

    pub(crate) fn into_heads(self) -> StreamHeads {
        self.heads
    }

    /// Checks the next row; gives it with its event.
    pub(crate) fn next<'row>(
        &mut self,
        seen: &'row ScannedRow<'_>,
    ) -> Result<(&'row RowView<'row>, Event), Finding> {
        let expected = self.head.seq.cast_signed() + 1;
        let stored_seq = match seen {
            Ok(row) => row.header.seq.get().cast_signed(),
            Err(row) => row.seq,
        };
        if stored_seq > expected {
            let detail = format!("event {expected} is missing, the next one is {stored_seq}");
            return Err(Finding::at(Verdict::Gap, expected, detail));
        }
        if stored_seq < expected {
            let detail = format!("a row with seq {stored_seq} is in the place of event {expected}");
            return Err(Finding::at(Verdict::Unreadable, expected, detail));
        }
        let row = seen.as_ref().map_err(|refused| Finding::from(&**refused))?;
        let event = check_row(row, &self.head.hash)?;
        self.next_read_ahead(&row.header, &row.hash, &event)?;
        Ok((row, event))
    }

    /// Checks the next row, which was read ahead: it holds to the hash of the row before it already.
    pub(crate) fn next_read_ahead(
        &mut self,
        header: &EventHeader,
        hash: &EventHash,
        event: &Event,
    ) -> Result<(), Finding> {
        self.check_command(header.command, header.recorded_at)
            .and_then(|()| self.heads.record_next(header, event))
            .map_err(|detail| {
                Finding::at(Verdict::BrokenLink, header.seq.get().cast_signed(), detail)
            })?;
        self.go_on_from(header, hash);
        Ok(())
    }

    /// Checks the end: a command that was begun must be whole.
    pub(crate) fn finish(&self) -> Result<(), Finding> {
        match self.last_part {
            Some(part) if part.place + 1 < part.size => Err(Finding::at(
                Verdict::BrokenLink,
                self.head.seq.cast_signed(),
                format!("the command ends after {} of its {} events", part.place + 1, part.size),
            )),
            _ => Ok(()),
        }
    }

    fn check_command(&self, part: CommandPart, recorded_at: UnixMicros) -> Result<(), String> {
        let follows = self.last_part.filter(|last| last.place + 1 < last.size);
        let holds = match follows {
            Some(last) => part.place == last.place + 1 && part.size == last.size,
            None => part.place == 0,
        };
        if !holds {
            let (place, size) = follows.map_or((0, part.size), |last| (last.place + 1, last.size));
            return Err(format!(
                "event {} of a command of {}, expected event {place} of {size}",
                part.place, part.size
            ));
        }
        let (found, before) = (recorded_at.get(), self.recorded_at.get());
        if found < before {
            return Err(format!("recorded_at goes back from {before} to {found}"));
        }
        if follows.is_some() && found != before {
            return Err(format!("recorded_at is {found}, the command's is {before}"));
        }
        Ok(())
    }

    /// Goes on to an event that needs no check: the engine handed it over as it committed it.
    pub(crate) fn advance(&mut self, stored: &StoredEvent) {
        self.heads.record(stored.header.seq, stored.header.stream, &stored.event);
        self.go_on_from(&stored.header, &stored.hash);
    }

    fn go_on_from(&mut self, header: &EventHeader, hash: &EventHash) {
        self.head = Head { seq: header.seq.get(), hash: *hash };
        self.recorded_at = header.recorded_at;
        self.last_part = Some(header.command);
    }
}

/// A row with its event.
pub(crate) const fn stored(row: &RowView<'_>, event: Event) -> StoredEvent {
    StoredEvent { header: row.header, event, hash: row.hash }
}

/// A row's event, decoded.
pub(crate) fn decode(row: &RowView<'_>) -> Result<Event, Finding> {
    let RowView { header, payload, .. } = row;
    Event::decode(header.kind, header.version, payload).map_err(|error| {
        Finding::at(Verdict::Unreadable, header.seq.get().cast_signed(), error.to_string())
    })
}

/// Holds a row to the hash of the row before it: what a reader that starts in the middle can check.
pub(crate) fn check_row(row: &RowView<'_>, previous: &EventHash) -> Result<Event, Finding> {
    let event = decode(row)?;
    let computed = row.header.hash(previous, row.payload);
    if computed != row.hash {
        let detail = format!("the row hashes to {computed}, but {} is stored", row.hash);
        let seq = row.header.seq.get().cast_signed();
        return Err(Finding::at(Verdict::Altered, seq, detail));
    }
    Ok(event)
}
