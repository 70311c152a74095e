//! The newest event of each stream: what the next one is linked to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use daybook_schema::{Event, EventHeader, Seq, StreamId, UserId};
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

    /// Checks what an event says that it follows against its stream's newest, then records it.
    ///
    /// # Errors
    /// What does not hold; then nothing is recorded.
    pub(crate) fn record_next(
        &mut self,
        header: &EventHeader,
        event: &Event,
    ) -> Result<(), String> {
        let shown = |seq: Option<Seq>| seq.map_or(0, Seq::get);
        let given = header.stream_prev;
        let refused =
            |expected| format!("stream_prev is {}, expected {}", shown(given), shown(expected));
        match self.heads.entry(header.stream) {
            Entry::Occupied(newest) if given != Some(*newest.get()) => {
                return Err(refused(Some(*newest.get())));
            }
            Entry::Vacant(_) if given.is_some() => return Err(refused(None)),
            Entry::Vacant(newest) => {
                let count_of = |user_id| self.season_counts.get(&user_id).copied().unwrap_or(0);
                if !streams::may_begin_stream(event, count_of) {
                    return Err(format!("no stream begins with this {}", event.kind()));
                }
                newest.insert(header.seq);
            }
            Entry::Occupied(newest) if streams::ends_stream(event) => {
                newest.remove();
            }
            Entry::Occupied(mut newest) => {
                newest.insert(header.seq);
            }
        }
        if let Some((user_id, season_number)) = streams::started_season(event) {
            self.season_counts.insert(user_id, season_number.get());
        }
        Ok(())
    }
}
