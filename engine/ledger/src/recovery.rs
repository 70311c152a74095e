//! What a start needs of a ledger, rebuilt from its events: state, chain, and the ids of the
//! commands that were answered lately.

use std::path::Path;

use daybook_schema::StoredEvent;
use daybook_simulator::State;
use daybook_simulator::streams::user_of_command;
use rusqlite::Connection;

use crate::chain_check;
use crate::command_ids::{Applied, CommandIds};
use crate::database::LedgerConnection;
use crate::event_row::RowView;
use crate::read_ahead::{flow, read_ahead};
use crate::replay::{Fold, ReplayError, unreadable_page};
use crate::verdict::{Finding, Verdict};

use crate::scan::{ScannedRow, scan_after};

/// A ledger after some of its rows: what snapshots hold and what the engine begins with.
#[derive(Clone)]
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
    pub(crate) fn apply(&mut self, seen: ScannedRow<'_>) -> Result<(), Finding> {
        let Self { fold, ids } = self;
        fold.apply(seen, &mut |state, stored| remember(ids, state, stored))
    }

    /// Applies the next row, which the writer handed over as it committed it: there is nothing to
    /// check.
    pub(crate) fn apply_committed(&mut self, row: RowView<'_>) -> Result<(), Finding> {
        let stored = chain_check::stored(&row, chain_check::decode(&row)?);
        remember(&mut self.ids, &self.fold.state, &stored);
        self.fold.check.advance(&stored);
        self.fold.evolve(&stored);
        Ok(())
    }

    /// Applies every row that is left, and makes sure that none is left out.
    pub(crate) fn go_to_end(
        &mut self,
        connection: &LedgerConnection,
        path: &Path,
    ) -> Result<(), ReplayError> {
        let base = self.fold.check.head();
        let broken = read_ahead(connection, path, base, None, |stored| {
            let Self { fold, ids } = self;
            flow(fold.apply_read_ahead(&stored, &mut |state, stored| remember(ids, state, stored)))
        });
        if let Some(finding) = broken {
            return Err(finding.into());
        }
        let (base, read) = (base.seq.cast_signed(), self.fold.check.head().seq.cast_signed());
        let broken = scan_after(connection, base, read, |seen| flow(self.apply(seen)));
        match broken {
            Ok(None) => Ok(self.fold.check.finish()?),
            Ok(Some(finding)) => Err(finding.into()),
            Err(error) => Err(unreadable_page(&error, self.fold.check.head()).into()),
        }
    }
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
    let user_id = user_of_command(state, header.stream, &stored.event);
    ids.remember_applied(user_id, mark.id, applied, header.recorded_at);
}
