//! A user's season, wherever it is known: by the engine while it is in play, by the ledger, by the
//! read models.

use daybook_schema::{Event, SeasonId, Seq, StoredEvent, StreamId, UnixMicros, UserId};
use daybook_simulator::streams::ends_stream;

use crate::adoptions::today_began_at;
use crate::error::{ApiError, Code};
use crate::reading::unread;
use crate::service::Service;

/// Events of a user's own stream in which the end of a season is looked for.
const SEARCHED_MAX: usize = 1_000;

/// What the engine knows of a season.
enum Known {
    InPlay,
    /// It is the user's newest that ended; the commitment to the next one may follow its last
    /// event.
    NewestEnded {
        commitment: Option<Seq>,
    },
    Not,
}

impl Service {
    /// The events of a season that is in play, or was: from the ledger itself.
    ///
    /// # Errors
    /// [`Code::NotFound`] where the user has no such season.
    pub(crate) async fn season_events(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Vec<StoredEvent>, ApiError> {
        let (head, is_in_play) = self.season_stream_head(user_id, season_id).await?;
        let events = self
            .ledger_reads
            .read_for(user_id, move |reader| reader.stream_from_head(head))
            .await?;
        // Half a season is not given out for a whole one.
        match events.last().is_some_and(|last| is_in_play || ends_stream(&last.event)) {
            true => Ok(events),
            false => Err(ApiError::new(Code::Unavailable)),
        }
    }

    /// The newest event of a user's season, and whether it is in play.
    ///
    /// # Errors
    /// [`Code::NotFound`] where the user has no such season.
    async fn season_stream_head(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<(Seq, bool), ApiError> {
        let known = self.ask(move |state| {
            let Some(user) = state.users.get(&user_id) else { return Known::Not };
            if user.season_in_play == Some(season_id) {
                return Known::InPlay;
            }
            match user.newest_ended.filter(|ended| ended.season_id == season_id) {
                Some(_) => {
                    let commitment = user.next_commitment.map(|published| published.seq);
                    Known::NewestEnded { commitment }
                }
                None => Known::Not,
            }
        });
        let stream = StreamId::from(season_id);
        let (head, is_in_play) = match known.await? {
            Known::InPlay => (self.ledger.stream_head(stream)?.await?, true),
            Known::NewestEnded { commitment } => {
                (self.last_before(commitment, stream).await?, false)
            }
            Known::Not => (None, false),
        };
        match head {
            Some(head) => Ok((head, is_in_play)),
            None => Ok((self.ended_season_head(user_id, season_id).await?, false)),
        }
    }

    /// How many companions a user adopted on this UTC day, by the user's own stream.
    pub(crate) async fn adopted_today(&self, user_id: UserId) -> Result<u32, ApiError> {
        let since = UnixMicros::from_seconds(today_began_at());
        let Some(head) = self.ledger.stream_head(user_id.into())?.await? else { return Ok(0) };
        let counted = self.ledger_reads.read_for(user_id, move |reader| {
            let (mut next, mut count) = (Some(head), 0);
            while let Some(seq) = next {
                let stored = reader.event(seq)?;
                if stored.header.recorded_at < since {
                    break;
                }
                count += u32::from(matches!(stored.event, Event::SimulinAdopted(_)));
                next = stored.header.stream_prev;
            }
            Ok(count)
        });
        counted.await
    }

    /// The event before a commitment, if it is of a stream.
    async fn last_before(
        &self,
        commitment: Option<Seq>,
        stream: StreamId,
    ) -> Result<Option<Seq>, ApiError> {
        let before = commitment.and_then(|seq| Seq::new(seq.get() - 1).ok());
        let Some(before) = before else { return Ok(None) };
        let stored = self.ledger_reads.read(move |reader| reader.event(before)).await?;
        Ok((stored.header.stream == stream).then_some(before))
    }

    /// The same of a season that the engine does not remember: the read models do.
    async fn ended_season_head(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Seq, ApiError> {
        let newest = self.ledger.head().seq;
        let reading = self.reads.wait_for(&["seasons"], newest, self.settings.read_wait).await;
        let is_stale = reading.map_err(|error| unread(&error))?.is_stale;
        let stream = self.reads.season_stream(season_id).await.map_err(|error| unread(&error))?;
        match stream {
            Some((owner, _)) if owner != user_id => Err(ApiError::new(Code::NotFound)),
            Some((_, head)) if !is_stale => Ok(head),
            // Its end may be among what is not applied yet: the ledger has it.
            Some(_) | None if is_stale => {
                let found = self.find_ended_season_head(user_id, season_id).await?;
                found.or(stream.map(|(_, head)| head)).ok_or_else(|| ApiError::new(Code::NotFound))
            }
            _ => Err(ApiError::new(Code::NotFound)),
        }
    }

    /// The same by the user's own stream: a season's end is followed by the commitment to the next.
    /// Commitments that were renewed come later, and lead elsewhere.
    async fn find_ended_season_head(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Option<Seq>, ApiError> {
        let stream = StreamId::from(season_id);
        let Some(head) = self.ledger.stream_head(user_id.into())?.await? else { return Ok(None) };
        let found = self.ledger_reads.read_for(user_id, move |reader| {
            let mut next = Some(head);
            for _ in 0..SEARCHED_MAX {
                let Some(seq) = next else { return Ok(None) };
                let stored = reader.event(seq)?;
                let before = Seq::new(seq.get() - 1).ok();
                if let (Event::CommitmentPublished(_), Some(before)) = (&stored.event, before)
                    && reader.event(before)?.header.stream == stream
                {
                    return Ok(Some(before));
                }
                next = stored.header.stream_prev;
            }
            Ok(None)
        });
        found.await
    }
}
