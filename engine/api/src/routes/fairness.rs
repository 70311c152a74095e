//! What players hold the operator to: the ledger's newest head, and the commitment to the draws of
//! their next season.

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::SubmitError;
use daybook_schema::{Commitment, EventHash, KeyId, LedgerId};
use daybook_simulator::{PublishedCommitment, Rejection};
use serde::Serialize;
use utoipa::ToSchema;

use crate::commands::Signs;
use crate::error::{ApiError, ErrorBody};
use crate::guards::LoggedInAs;
use crate::service::Service;

/// The newest head.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeadAnswer {
    /// The newest committed event's place; 0 where there is none.
    seq: u64,
    /// Its hash.
    #[schema(value_type = String)]
    hash: EventHash,
    /// The ledger.
    #[schema(value_type = String)]
    ledger_id: LedgerId,
    /// The ledger's epoch: a loss that was accepted begins another.
    epoch: u32,
}

/// The ledger's newest committed head. Who keeps it can show later whether the ledger still has it:
/// `daybook verify --head SEQ:HASH`. It needs no session.
#[utoipa::path(get, path = "/api/head", tag = "fairness", operation_id = "showHead",
    responses((status = 200, description = "The head", body = HeadAnswer)))]
pub(crate) async fn head(State(service): State<Service>, signs: Signs) -> Response {
    let identity = service.epochs().newest();
    let reading = service.reading_newest(signs);
    let head = reading.head();
    let (ledger_id, epoch) = (identity.ledger_id, identity.epoch.number);
    reading.answer(HeadAnswer { seq: head.seq, hash: head.hash, ledger_id, epoch })
}

/// A commitment, as it was published.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NextCommitment {
    /// The season that it is for.
    season_number: u32,
    /// The commitment: it is named when the season is started.
    #[schema(value_type = String)]
    commitment: Commitment,
    /// The season key that it comes from.
    #[schema(value_type = String)]
    key_id: KeyId,
    /// The event that published it.
    seq: u64,
}

/// The commitment to the draws of one's next season. It is published when the season before it ends.
#[utoipa::path(get, path = "/api/fairness/next", tag = "fairness", operation_id = "nextCommitment",
    security(("session" = [])),
    responses(
        (status = 200, description = "The commitment", body = NextCommitment),
        (status = 409, description = "SEASON_IN_PROGRESS", body = ErrorBody),
    ))]
pub(crate) async fn next(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    signs: Signs,
) -> Result<Response, ApiError> {
    let (user_id, reading) = (session.user_id, service.reading_newest(signs));
    let asked = service.ask(move |state| {
        let user = state.users.get(&user_id).ok_or(Rejection::UserNotFound { user_id })?;
        let in_progress = |season_id| Rejection::SeasonInProgress { season_id };
        match user.next_commitment {
            Some(next) if state.is_good(next.key_id, next.epoch_number) => Ok(next),
            // It is being renewed.
            Some(_) => Err(Rejection::CommitmentOutdated),
            // It is published when the season in play ends.
            None => Err(user.season_in_play.map_or(Rejection::CommitmentOutdated, in_progress)),
        }
    });
    match asked.await? {
        Ok(published) => {
            let PublishedCommitment { season_number, commitment, key_id, seq, .. } = published;
            let (season_number, seq) = (season_number.get(), seq.get());
            let body = NextCommitment { season_number, commitment, key_id, seq };
            Ok(reading.answer(body))
        }
        Err(rejection) => {
            let rejections = Box::new(rejection.into());
            Err(SubmitError::Rejected { rejections, repeated: false }.into())
        }
    }
}
