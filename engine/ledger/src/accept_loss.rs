//! Accepting that events are lost: a new epoch begins, and what an older one left is withdrawn.

use daybook_schema::events::LostHeads;
use daybook_schema::{Command, EpochNonce, Genesis, Head, limits};

use crate::housekeeping::Keeper;
use crate::ledger::Ledger;
use crate::lost_heads::KnownHead;
use crate::newest_head::NewestHead;
use crate::open_error::OpenError;
use crate::restored::Restored;
use crate::snapshot;
use crate::status::{Failure, Stopped};
use crate::submission::{Submission, SubmitError};

/// What tells of a ledger's newest events, and is brought up to date when their loss was accepted.
#[derive(Clone, Copy)]
pub(crate) struct Restore<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) genesis: &'a Genesis,
    pub(crate) newest_head: Option<&'a NewestHead>,
}

impl Restore<'_> {
    /// Accepts that events are lost, if any are, and brings what an older epoch left into this one:
    /// also after an interruption.
    pub(crate) fn run(
        self,
        missing: &[KnownHead],
        restored: Option<Restored>,
    ) -> Result<(), OpenError> {
        let restore = || {
            if let Some(restored) = &restored {
                tracing::warn!(until = %restored.head, "the ledger was put back from a backup");
            }
            if !missing.is_empty() || restored.is_some() {
                self.begin_epoch(missing)?;
                Restored::remove(self.ledger.data_dir())?;
            }
            self.finish_restore()
        };
        // In a thread of its own, because it waits for answers, which async code that opens a
        // ledger must not.
        std::thread::scope(|scope| {
            scope.spawn(restore).join().unwrap_or_else(|_| {
                Err(SubmitError::Unavailable(Stopped::Failed(Failure::ThreadStopped)).into())
            })
        })
    }

    /// Accepts that events are lost: what tells of them goes, once a new epoch is on disk.
    fn begin_epoch(self, missing: &[KnownHead]) -> Result<(), OpenError> {
        let Self { ledger, genesis, newest_head } = self;
        for known in missing {
            tracing::warn!(%known, "the loss of this event is accepted");
        }
        let mut heads: Vec<Head> = missing.iter().map(|known| known.head).collect();
        heads.sort_unstable_by_key(|head| (head.seq, *head.hash.as_bytes()));
        heads.dedup();
        let mut commands = Vec::new();
        for named in heads.chunks(limits::LOST_HEADS_MAX) {
            let lost_heads = LostHeads::take_from(named.iter().copied());
            commands.push(Command::AcceptLoss { nonce: random_nonce()?, lost_heads });
        }
        if commands.is_empty() {
            // After a restore nobody knows which events came after the backup.
            commands.push(Command::RestoreLedger { nonce: random_nonce()? });
        }
        for command in commands {
            let accepted = ledger.submit(Submission::new(command))?.wait()?;
            tracing::warn!(head = %accepted.head, "a new epoch begins");
        }
        // Killed from here on, the next start goes on without being told again.
        if let Some(newest_head) = newest_head {
            let (identity, head) = ledger.status().identified_head();
            newest_head.write(identity, head)?;
        }
        Ok(snapshot::remove_unconfirmed(ledger.data_dir(), genesis)?)
    }

    /// Withdraws the seasons and commitments of older epochs.
    fn finish_restore(self) -> Result<(), OpenError> {
        let withdrawn = Keeper::new(self.ledger).withdraw_outdated()?;
        tracing::warn!(
            seasons_expired = withdrawn.seasons_expired,
            commitments_renewed = withdrawn.commitments_renewed,
            "seasons and commitments of an older epoch were withdrawn"
        );
        Ok(())
    }
}

fn random_nonce() -> Result<EpochNonce, SubmitError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| SubmitError::Undecided {
        reason: format!("the system gave no random bytes: {error}"),
    })?;
    Ok(EpochNonce::new(nonce))
}
