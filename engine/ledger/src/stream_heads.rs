//! The newest event of each stream: what the next one is linked to.

use std::collections::HashMap;

use daybook_schema::{Event, Seq, StreamId, UserId};
use daybook_simulator::streams;
use foldhash::fast::RandomState;

/// The newest event of every stream that may get another, and each user's number of seasons.
///
/// A stream is forgotten when it ends: no event may follow, and a stream can only begin with the
/// event that its kind begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamHeads {
    heads: HashMap<StreamId, Seq, RandomState>,
    season_counts: HashMap<UserId, u32, RandomState>,
}

impl StreamHeads {
    /// Those of a snapshot.
    pub(crate) fn new(
        heads: impl Iterator<Item = (StreamId, Seq)>,
        season_counts: impl Iterator<Item = (UserId, u32)>,
    ) -> Self {
        Self { heads: heads.collect(), season_counts: season_counts.collect() }
    }

    /// All of them, ordered by stream.
    pub(crate) fn ordered(&self) -> Vec<(StreamId, Seq)> {
        let mut ordered: Vec<_> = self.heads.iter().map(|(stream, seq)| (*stream, *seq)).collect();
        ordered.sort_unstable_by_key(|(stream, _)| *stream);
        ordered
    }

    /// The newest event of a stream.
    pub(crate) fn previous(&self, stream: StreamId) -> Option<Seq> {
        self.heads.get(&stream).copied()
    }

    /// Records an event as its stream's newest.
    pub(crate) fn record(&mut self, seq: Seq, stream: StreamId, event: &Event) {
        if streams::ends_stream(event) {
            self.heads.remove(&stream);
            return;
        }
        if let Some((user_id, season_number)) = streams::started_season(event) {
            self.season_counts.insert(user_id, season_number.get());
        }
        self.heads.insert(stream, seq);
    }

    /// Whether the event may begin a stream.
    pub(crate) fn may_begin(&self, event: &Event) -> bool {
        let season_count_of = |user_id| self.season_counts.get(&user_id).copied().unwrap_or(0);
        streams::may_begin_stream(event, season_count_of)
    }
}
