//! What a start needs of a ledger, rebuilt from its events: state, chain, and the ids of the commands
//! that were answered lately.

use std::ops::ControlFlow;
use std::path::Path;

use daybook_schema::{Event, Genesis, StoredEvent, StreamKind, UserId};
use daybook_simulator::State;
use rusqlite::Connection;

use crate::check::{Finding, Verdict};
use crate::command_ids::{Applied, CommandIds};
use crate::losses::KnownHead;
use crate::replay::{Fold, ReplayError, unreadable_page};

use crate::scan::{Seen, scan_after};
use crate::{database, snapshot};

/// A ledger after some of its rows: what snapshots hold and what the engine begins with.
pub(crate) struct Recovery {
    pub(crate) fold: Fold,
    pub(crate) ids: CommandIds,
}

impl Recovery {
    /// A ledger with no events yet.
    pub(crate) fn from_genesis(connection: &Connection) -> Result<Self, ReplayError> {
        Ok(Self { fold: Fold::start(connection)?, ids: CommandIds::default() })
    }

    /// Checks the next row and applies it.
    pub(crate) fn apply(&mut self, seen: Seen<'_>) -> Result<(), Finding> {
        let Self { fold, ids } = self;
        fold.apply(seen, &mut |state, stored| remember(ids, state, stored))
    }

    /// Applies an event that was handed over as committed, after the one that was applied last.
    pub(crate) fn apply_committed(&mut self, stored: &StoredEvent) {
        remember(&mut self.ids, &self.fold.state, stored);
        self.fold.check.advance(stored);
        self.fold.evolve(stored);
    }

    /// Applies every row that is left, and makes sure that none is left out.
    pub(crate) fn go_to_end(&mut self, connection: &Connection) -> Result<(), ReplayError> {
        let base = self.fold.check.head().seq.cast_signed();
        let broken = scan_after(connection, base, |seen| match self.apply(seen) {
            Ok(()) => ControlFlow::Continue(()),
            Err(finding) => ControlFlow::Break(finding),
        });
        match broken {
            Ok(None) => Ok(self.fold.check.finish()?),
            Ok(Some(finding)) => Err(finding.into()),
            Err(error) => Err(unreadable_page(&error, self.fold.check.head()).into()),
        }
    }
}

/// What was found among the snapshots.
pub(crate) struct FoundSnapshots {
    /// The newest that the ledger confirms.
    pub(crate) snapshot: Option<Recovery>,
    /// Sound ones of events that the ledger does not have.
    pub(crate) lacking: Vec<KnownHead>,
}

/// Looks for the newest snapshot that the ledger confirms. One that is of no use is ignored, and said so.
pub(crate) fn newest_snapshot(
    connection: &Connection,
    (data_dir, genesis): (&Path, &Genesis),
) -> Result<FoundSnapshots, ReplayError> {
    let mut lacking = Vec::new();
    for file in snapshot::list(data_dir)? {
        let path = file.path.display().to_string();
        let recovery = match snapshot::read(&file.path, genesis) {
            Ok(recovery) => recovery,
            Err(error) => {
                tracing::warn!(path, %error, "a snapshot is ignored");
                continue;
            }
        };
        let head = recovery.fold.check.head();
        if database::has_head(connection, head)? {
            return Ok(FoundSnapshots { snapshot: Some(recovery), lacking });
        }
        let epoch = Some(recovery.fold.state.identity().epoch);
        lacking.push(KnownHead { head, epoch, source: path });
    }
    Ok(FoundSnapshots { snapshot: None, lacking })
}

/// Rows that were committed are no longer there.
pub(crate) fn vanished(seq: u64) -> Finding {
    Finding::at(Verdict::Gap, seq.cast_signed(), format!("event {seq} was there and is gone"))
}

/// Remembers the id of a command at its first event.
fn remember(ids: &mut CommandIds, state: &State, stored: &StoredEvent) {
    let header = &stored.header;
    let Some(mark) = header.command.mark else { return };
    let applied = Applied { hash: mark.hash, first: header.seq, size: header.command.size };
    ids.remember_applied((command_user(state, stored), mark.id), applied, header.recorded_at);
}

/// Whose command it was, from its first event and the state before it.
fn command_user(state: &State, stored: &StoredEvent) -> Option<UserId> {
    let stream = stored.header.stream;
    match (&stored.event, stored.event.kind().stream()) {
        (Event::SeasonStarted(event), _) => Some(event.user_id),
        (_, StreamKind::User) => Some(stream.as_user()),
        (_, StreamKind::Season) => {
            state.seasons.get(&stream.as_season()).map(|season| season.user_id)
        }
        (_, StreamKind::Ledger) => None,
    }
}
