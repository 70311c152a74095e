//! The season keys, and which of them were compromised: what an expired season is told apart by.

use daybook_schema::KeyId;
use daybook_schema::events::KeyRotated;
use sqlx::{Row, SqliteConnection};

use crate::insert::{Map, write};
use crate::projection::ApplyError;

/// The season keys that were ever in force.
#[derive(Default)]
pub(super) struct SeasonKeys {
    compromised: Map<String, bool>,
    changed: bool,
}

impl SeasonKeys {
    pub(super) async fn load(database: &mut SqliteConnection) -> Result<Self, ApplyError> {
        let rows = sqlx::query("SELECT key_id, compromised FROM season_keys");
        let mut keys = Self::default();
        for row in rows.fetch_all(database).await? {
            keys.compromised.insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(keys)
    }

    /// A key comes into force; those before it may be known to others.
    pub(super) fn rotate(&mut self, rotated: &KeyRotated) {
        if rotated.compromised {
            self.compromised.values_mut().for_each(|compromised| *compromised = true);
        }
        self.compromised.insert(rotated.key_id.to_string(), false);
        self.changed = true;
    }

    pub(super) fn is_compromised(&self, key_id: KeyId) -> bool {
        self.compromised.get(&key_id.to_string()).copied().unwrap_or(false)
    }

    pub(super) async fn store(&self, database: &mut SqliteConnection) -> Result<(), ApplyError> {
        if !self.changed {
            return Ok(());
        }
        let rows: Vec<(&String, bool)> =
            self.compromised.iter().map(|(key_id, compromised)| (key_id, *compromised)).collect();
        let statement = "INSERT OR REPLACE INTO season_keys (key_id, compromised) \
            SELECT value->>0, value->>1 FROM json_each(?1)";
        write(database, statement, &rows).await
    }
}
