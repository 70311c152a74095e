//! What players call their simulins.

use daybook_projections::sqlx;
use daybook_schema::{SimulinId, UserId};

use super::{Accounts, failed};
use crate::error::ApiError;

impl Accounts {
    /// Names a simulin that has no name yet, and tells its name: a retry keeps the first.
    pub(crate) async fn name_simulin(
        &self,
        user_id: UserId,
        simulin_id: SimulinId,
        name: &str,
    ) -> Result<String, ApiError> {
        if let Some(first) = self.names_of_simulins(&[simulin_id]).await?.pop() {
            return Ok(first.1);
        }
        let mut writing = self.begin().await?;
        // Who was erased meanwhile leaves no name.
        sqlx::query(
            "INSERT OR IGNORE INTO simulin_names (simulin_id, name, user_id) \
             SELECT ?1, ?2, id FROM users WHERE id = ?3",
        )
        .bind(simulin_id.to_string())
        .bind(name.to_owned())
        .bind(user_id.to_string())
        .execute(&mut *writing)
        .await
        .map_err(failed)?;
        let first = sqlx::query_scalar("SELECT name FROM simulin_names WHERE simulin_id = ?1");
        let first: Option<String> = first
            .bind(simulin_id.to_string())
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed)?;
        writing.commit().await?;
        Ok(first.unwrap_or_else(|| name.to_owned()))
    }

    /// The names of some simulins.
    pub(crate) async fn names_of_simulins(
        &self,
        simulins: &[SimulinId],
    ) -> Result<Vec<(SimulinId, String)>, ApiError> {
        let ids: Vec<String> = simulins.iter().map(ToString::to_string).collect();
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT simulin_id, name FROM simulin_names \
             WHERE simulin_id IN (SELECT value FROM json_each(?1))",
        )
        .bind(serde_json::Value::from(ids).to_string())
        .fetch_all(&*self.readers())
        .await
        .map_err(failed)?;
        Ok(rows.into_iter().filter_map(|(id, name)| Some((id.parse().ok()?, name))).collect())
    }
}
