//! Companions: to adopt, to list, to give a path, to retire.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use daybook_ledger::SubmitError;
use daybook_schema::{Command, SimulinId, SimulinPath, Species, UserId};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::is_name;
use super::in_path::{InPath, SimulinInPath};
use super::pages::cut;
use super::schemas;
use crate::adoptions::Counted;
use crate::answers::Simulin;
use crate::commands::{NotApplied, Sending};
use crate::error::{ApiError, Detail, ErrorBody};
use crate::guards::LoggedInAs;
use crate::reading::{AtLeast, unread};
use crate::service::{Service, in_full};
use crate::validation::{Nothing, RequestBody, Valid, ValidQuery, reported};

/// A companion to adopt.
#[derive(Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Adoption {
    /// Its species.
    #[schema(schema_with = schemas::species)]
    #[garde(skip)]
    species: Species,
    /// What it is called; its species where it has no name. A retry keeps the first.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, nullable = false, example = "Drop")]
    #[garde(inner(custom(is_name)))]
    name: Option<String>,
}

impl RequestBody for Adoption {
    fn faults(&self) -> Vec<Detail> {
        reported(self.validate())
    }
}

/// A companion.
#[derive(Serialize, ToSchema)]
pub(crate) struct SimulinAnswer {
    /// The companion.
    simulin: Simulin,
}

/// Adopts a companion. A user has at most three, and adopts at most 20 a UTC day.
#[utoipa::path(post, path = "/api/simulins", tag = "companions", operation_id = "adoptSimulin",
    security(("session" = [])),
    request_body = Adoption,
    responses(
        (status = 201, description = "It is adopted", body = SimulinAnswer),
        (status = 409, description = "SIMULIN_LIMIT: three are with the user already", body = ErrorBody),
    ))]
pub(crate) async fn adopt(
    State(service): State<Service>,
    sending: Sending,
    Valid(adoption): Valid<Adoption>,
) -> Result<Response, ApiError> {
    in_full(async move {
        let (user_id, species) = (sending.session.user_id, adoption.species);
        let command = Command::AdoptSimulin { user_id, species };
        let applied = match count(&service, user_id).await {
            Ok(counted) => {
                let applied = service.command(&sending, command, None).await?;
                if !applied.accepted.repeated {
                    counted.keep();
                }
                applied
            }
            // Whoever may adopt no more gets the first answer again all the same.
            Err(limit) if sending.key.is_some() => {
                match service.command_again(&sending, command).await {
                    Err(NotApplied::Submitted(SubmitError::TooLate)) => return Err(limit),
                    other => other?,
                }
            }
            Err(limit) => return Err(limit),
        };
        let simulin_id = applied.adoption()?.simulin_id;
        let given = adoption.name.as_deref().map(str::trim).unwrap_or(species.as_str());
        let name = service.accounts.name_simulin(user_id, simulin_id, given).await?;
        let simulin = applied.adopted(user_id, name)?;
        Ok(applied.answer(StatusCode::CREATED, SimulinAnswer { simulin }))
    })
    .await
}

/// Counts an adoption of today. After a start the ledger tells of others.
async fn count(service: &Service, user_id: UserId) -> Result<Counted<'_>, ApiError> {
    let before = match service.adoptions.knows(user_id) {
        true => 0,
        false => service.adopted_today(user_id).await?,
    };
    service.adoptions.count(user_id, before, service.settings.adoptions_per_day_max)
}

/// Which companions.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SimulinsAsked {
    /// Those adopted before it: the `next` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>, nullable = false,
             pattern = "^sim_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
    before: Option<SimulinId>,
    /// At most so many.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[schema(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<u32>,
}

impl RequestBody for SimulinsAsked {}

/// A page of companions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SimulinsPage {
    /// The newest first, retired ones too.
    simulins: Vec<Simulin>,
    /// Where the next page goes on (`before`), if there is one.
    #[schema(value_type = Option<String>)]
    next: Option<SimulinId>,
}

/// One's companions, the newest first.
#[utoipa::path(get, path = "/api/simulins", tag = "companions", operation_id = "listSimulins",
    security(("session" = [])),
    params(SimulinsAsked),
    responses((status = 200, description = "A page", body = SimulinsPage)))]
pub(crate) async fn list(
    State(service): State<Service>,
    LoggedInAs(session): LoggedInAs,
    at_least: AtLeast,
    ValidQuery(asked): ValidQuery<SimulinsAsked>,
) -> Result<Response, ApiError> {
    let reading = service.reading(at_least, &["simulins"]).await?;
    let limit = asked.limit.unwrap_or(20);
    let rows = service.reads.simulins_of(session.user_id, asked.before, limit + 1).await;
    let mut rows = rows.map_err(|error| unread(&error))?;
    let next = cut(&mut rows, limit).map(|last| last.id);
    let ids: Vec<SimulinId> = rows.iter().map(|row| row.id).collect();
    let mut simulins: Vec<Simulin> = rows.into_iter().map(Simulin::from).collect();
    // A name may be newer than what the read models were filled with.
    for (id, name) in service.accounts.names_of_simulins(&ids).await? {
        simulins
            .iter_mut()
            .filter(|simulin| simulin.id == id)
            .for_each(|it| it.name = name.clone());
    }
    Ok(reading.answer(SimulinsPage { simulins, next }))
}

/// A path to choose.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChosenPath {
    /// The path.
    #[schema(schema_with = schemas::paths)]
    path: SimulinPath,
}

impl RequestBody for ChosenPath {}

/// What became of a companion.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChangedSimulin {
    /// The companion.
    simulin: Changed,
}

/// What changed of a companion.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changed {
    /// The companion.
    #[schema(value_type = String)]
    id: SimulinId,
    /// Its path, if that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    path: Option<SimulinPath>,
    /// When it was retired, if it was, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retired_at: Option<i64>,
}

/// Chooses a companion's path, once, from cultivar on.
#[utoipa::path(post, path = "/api/simulins/{id}/path", tag = "companions", operation_id = "chooseSimulinPath",
    security(("session" = [])),
    params(SimulinInPath),
    request_body = ChosenPath,
    responses(
        (status = 200, description = "It is chosen", body = ChangedSimulin),
        (status = 404, description = "SIMULIN_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "PATH_ALREADY_CHOSEN, SIMULIN_TOO_YOUNG, SIMULIN_RETIRED", body = ErrorBody),
    ))]
pub(crate) async fn choose_path(
    State(service): State<Service>,
    sending: Sending,
    at: InPath<SimulinInPath>,
    Valid(ChosenPath { path }): Valid<ChosenPath>,
) -> Result<Response, ApiError> {
    let (user_id, simulin_id) = (sending.session.user_id, at.simulin_id()?);
    let command = Command::ChooseSimulinPath { user_id, simulin_id, path };
    let applied = service.command(&sending, command, None).await?;
    let simulin = Changed { id: simulin_id, path: Some(path), retired_at: None };
    Ok(applied.answer(StatusCode::OK, ChangedSimulin { simulin }))
}

/// Retires a companion: another may be adopted in its place.
#[utoipa::path(post, path = "/api/simulins/{id}/retire", tag = "companions", operation_id = "retireSimulin",
    security(("session" = [])),
    params(SimulinInPath),
    request_body = Nothing,
    responses(
        (status = 200, description = "It is retired", body = ChangedSimulin),
        (status = 404, description = "SIMULIN_NOT_FOUND", body = ErrorBody),
        (status = 409, description = "SIMULIN_RETIRED", body = ErrorBody),
    ))]
pub(crate) async fn retire(
    State(service): State<Service>,
    sending: Sending,
    at: InPath<SimulinInPath>,
    _: Valid<Nothing>,
) -> Result<Response, ApiError> {
    let (user_id, simulin_id) = (sending.session.user_id, at.simulin_id()?);
    let command = Command::RetireSimulin { user_id, simulin_id };
    let applied = service.command(&sending, command, None).await?;
    let simulin = Changed { id: simulin_id, path: None, retired_at: Some(applied.at()) };
    Ok(applied.answer(StatusCode::OK, ChangedSimulin { simulin }))
}
