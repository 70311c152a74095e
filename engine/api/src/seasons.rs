//! A user's season, wherever it is known: by the engine while it is in play, by the ledger, by the
//! read models.

use daybook_schema::{SeasonId, Seq, StoredEvent, StreamId, UserId};

use crate::error::{ApiError, Code};
use crate::reading::unread;
use crate::service::Service;

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
        let head = self.season_stream_head(user_id, season_id).await?;
        self.ledger_reads.read(move |reader| reader.stream_from_head(head)).await
    }

    /// The newest event of a user's season.
    ///
    /// # Errors
    /// [`Code::NotFound`] where the user has no such season.
    async fn season_stream_head(
        &self,
        user_id: UserId,
        season_id: SeasonId,
    ) -> Result<Seq, ApiError> {
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
        let head = match known.await? {
            Known::InPlay => self.ledger.stream_head(stream)?.await?,
            Known::NewestEnded { commitment } => self.last_before(commitment, stream).await?,
            Known::Not => None,
        };
        match head {
            Some(head) => Ok(head),
            None => self.ended_season_head(user_id, season_id).await,
        }
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
            Some((owner, head)) if owner == user_id => Ok(head),
            // It may be among what is not applied yet.
            None if is_stale => Err(ApiError::new(Code::Unavailable)),
            _ => Err(ApiError::new(Code::NotFound)),
        }
    }
}
