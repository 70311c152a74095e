//! What stands in paths. What is no id names nothing.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use daybook_schema::{DayNumber, Period, SeasonId, SimulinId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::schemas;
use crate::error::{ApiError, Code};
use crate::service::Service;

/// The parts of a path, whatever bytes stand there.
pub(crate) struct InPath<T>(Result<T, PathRejection>);

impl<T: DeserializeOwned + Send> FromRequestParts<Service> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, service).await;
        Ok(Self(path.map(|Path(path)| path)))
    }
}

/// A season.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SeasonInPath {
    /// The season.
    #[param(example = "ssn_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b")]
    id: String,
}

/// A day of a season.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DayInPath {
    /// The season.
    #[param(example = "ssn_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b")]
    id: String,
    /// The day, 1 to 28.
    #[param(value_type = u8, minimum = 1, maximum = 28, example = 1)]
    day: String,
}

/// A board.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct BoardInPath {
    /// weekly (the ISO week), seasonal (the quarter) or all_time, in UTC.
    #[param(schema_with = schemas::periods)]
    period: String,
}

/// A companion.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SimulinInPath {
    /// The companion.
    #[param(example = "sim_019ad0b0-1c2d-8e3f-8a4b-5c6d7e8f9a0b")]
    id: String,
}

/// A part of a path as what it means.
fn parsed<T: std::str::FromStr>(text: Option<&String>) -> Result<T, ApiError> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| ApiError::new(Code::NotFound))
}

impl InPath<SeasonInPath> {
    pub(crate) fn season_id(&self) -> Result<SeasonId, ApiError> {
        parsed(self.0.as_ref().ok().map(|path| &path.id))
    }
}

impl InPath<DayInPath> {
    pub(crate) fn season_id(&self) -> Result<SeasonId, ApiError> {
        parsed(self.0.as_ref().ok().map(|path| &path.id))
    }

    pub(crate) fn day_number(&self) -> Result<DayNumber, ApiError> {
        parsed(self.0.as_ref().ok().map(|path| &path.day))
    }
}

impl InPath<BoardInPath> {
    pub(crate) fn period(&self) -> Result<Period, ApiError> {
        parsed(self.0.as_ref().ok().map(|path| &path.period))
    }
}

impl InPath<SimulinInPath> {
    pub(crate) fn simulin_id(&self) -> Result<SimulinId, ApiError> {
        parsed(self.0.as_ref().ok().map(|path| &path.id))
    }
}
