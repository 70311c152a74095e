//! What the service tells of itself as telemetry: the ledger's flags, and what took longer than it
//! may.

use daybook_schema::Seq;

use crate::error::{ApiError, Code};
use crate::reading::unread;
use crate::service::Service;
use crate::telemetry::{FlagsTaken, Row, now_ms};

/// Flags that are taken over at once.
const FLAGS_MAX: u32 = 100;

impl Service {
    /// Takes the next flags over as `error` events, each once; tells whether there may be more.
    pub(crate) async fn tell_flags(&self) -> Result<bool, ApiError> {
        let identity = self.epochs().newest();
        let after = self.telemetry.flags_taken(identity).await?;
        let flags = self.reads.flags_after(after, FLAGS_MAX).await;
        let flags = flags.map_err(|error| unread(&error))?;
        let Some(last) = flags.last().map(|flag| flag.seq) else { return Ok(false) };
        let is_more = u32::try_from(flags.len()) == Ok(FLAGS_MAX);
        let kept_ms = i64::from(self.settings.telemetry.kept_days) * 86_400_000;
        let (now, mut rows) = (now_ms(), Vec::new());
        for flag in flags {
            // Older ones would be taken out at once.
            if flag.flagged_at * 1_000 < now - kept_ms {
                continue;
            }
            let seq = Seq::new(flag.seq.unsigned_abs()).map_err(|_| Code::Internal)?;
            let stored = self.ledger_reads.read(move |reader| reader.event(seq)).await?;
            let at_ms = stored.header.recorded_at.get().div_euclid(1_000);
            rows.push(Row::of_flag(flag.code.as_str(), stored.hash, at_ms, now));
        }
        let taken = FlagsTaken { identity, seq: last };
        self.telemetry.store_own(rows, Some(taken)).await?;
        Ok(is_more)
    }

    /// Tells what took longer than it may since this was last asked.
    pub(crate) async fn tell_over_budget(&self) -> Result<(), ApiError> {
        let now = now_ms();
        let over = self.monitor.take_over_budget().into_iter();
        let rows: Vec<Row> =
            over.map(|over| Row::of_performance(over.metric, over.value_ms, now)).collect();
        match rows.is_empty() {
            true => Ok(()),
            false => Ok(self.telemetry.store_own(rows, None).await?),
        }
    }
}
