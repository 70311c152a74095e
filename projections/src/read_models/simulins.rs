//! `simulins`: the companions.

use daybook_schema::events::{Personality, SimulinAdopted};
use daybook_schema::{
    Ability, BondLevel, Event, SimulinId, SimulinPath, SimulinStage, Species, UserId,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::users::{self, Placeholder, Referring};
use crate::insert::{Map, load, write};
use crate::projection::{ApplyError, Changes, EVENTS_PER_TURN, ProjectedEvent, Projection};

/// The table `simulins`.
#[derive(Debug)]
pub struct Simulins;

/// A row of the table, in the order of its columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SimulinRow {
    id: SimulinId,
    user_id: UserId,
    name: String,
    species: Species,
    stage: SimulinStage,
    path: Option<SimulinPath>,
    bond_level: u8,
    bond_xp: u32,
    personality: Personality,
    abilities: Vec<Ability>,
    created_at: i64,
    retired_at: Option<i64>,
}

const LOAD: &str = "SELECT id, json_object('id', id, 'user_id', user_id, 'name', name, \
    'species', species, 'stage', stage, 'path', path, 'bond_level', bond_level, 'bond_xp', bond_xp, \
    'personality', json(personality), 'abilities', json(abilities), 'created_at', created_at, \
    'retired_at', retired_at) \
    FROM simulins WHERE id IN (SELECT value FROM json_each(?1))";

const LOAD_NAMES: &str = "SELECT simulin_id, json_quote(name) FROM simulin_names \
    WHERE simulin_id IN (SELECT value FROM json_each(?1))";

const STORE: &str = "INSERT INTO simulins (id, user_id, name, species, stage, path, bond_level, \
    bond_xp, personality, abilities, created_at, retired_at) \
    SELECT value->>'id', value->>'user_id', value->>'name', value->>'species', value->>'stage', \
    value->>'path', value->>'bond_level', value->>'bond_xp', value->'personality', \
    value->'abilities', value->>'created_at', value->>'retired_at' FROM json_each(?1) WHERE true \
    ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, path = excluded.path, \
    bond_level = excluded.bond_level, bond_xp = excluded.bond_xp, abilities = excluded.abilities, \
    retired_at = excluded.retired_at";

impl Projection for Simulins {
    fn name(&self) -> &'static str {
        "simulins"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["simulins"]
    }

    fn shared_tables(&self) -> &'static [&'static str] {
        &["users", "simulin_names"]
    }

    fn after_rebuild(&self) -> &'static [&'static str] {
        &["UPDATE simulins SET name = named.name FROM simulin_names AS named \
           WHERE named.simulin_id = simulins.id"]
    }

    fn fold<'a>(
        &'a self,
        database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        Box::pin(async move {
            let mut concerned: Vec<SimulinId> = events.iter().filter_map(simulin_of).collect();
            concerned.sort_unstable();
            concerned.dedup();
            let rows = load(database, LOAD, &concerned).await?;
            let mut batch = Batch { rows, ..Batch::default() };
            for events in events.chunks(EVENTS_PER_TURN) {
                events.iter().try_for_each(|event| batch.fold(event))?;
                tokio::task::yield_now().await;
            }
            Ok(Box::new(batch) as Box<dyn Changes>)
        })
    }
}

/// The rows that a batch of events makes.
#[derive(Default)]
struct Batch {
    rows: Map<SimulinId, SimulinRow>,
    users: Vec<Placeholder>,
    owners: Vec<Referring>,
    adopted: Vec<SimulinId>,
}

impl Changes for Batch {
    fn write<'a>(
        mut self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(async move {
            users::add(database, &self.users).await?;
            users::require(database, &self.owners).await?;
            for (id, name) in load(database, LOAD_NAMES, &self.adopted).await? {
                if let Some(row) = self.rows.get_mut(&id) {
                    row.name = name;
                }
            }
            // Ids grow in time: in their order the rows lie side by side.
            let mut rows: Vec<SimulinRow> = self.rows.into_values().collect();
            rows.sort_unstable_by_key(|row| row.id);
            write(database, STORE, &rows).await
        })
    }
}

impl Batch {
    fn fold(&mut self, event: &ProjectedEvent) -> Result<(), ApplyError> {
        let header = &event.stored.header;
        if let Event::UserRegistered(_) = event.stored.event {
            self.users.push(Placeholder::new(header.stream.as_user(), header.recorded_at));
        }
        let Some(id) = simulin_of(event) else { return Ok(()) };
        if let Event::SimulinAdopted(adopted) = &event.stored.event {
            self.owners.push(Referring::new(event, header.stream.as_user()));
            self.adopted.push(id);
            self.rows.insert(id, adopted_row(event, adopted));
            return Ok(());
        }
        let missing = || ApplyError::event(event, format!("there is no simulin {id}"));
        let row = self.rows.get_mut(&id).ok_or_else(missing)?;
        match &event.stored.event {
            Event::SimulinPathChosen(event) => row.path = Some(event.path),
            Event::SimulinRetired(_) => row.retired_at = Some(header.recorded_at.seconds()),
            Event::SimulinXpGained(event) => row.bond_xp = event.bond_xp.get(),
            Event::SimulinLevelReached(event) => {
                row.bond_level = event.bond_level.get();
                row.stage = event.bond_level.stage();
                row.abilities = abilities_at(row.stage);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The simulin that an event is about.
const fn simulin_of(event: &ProjectedEvent) -> Option<SimulinId> {
    match &event.stored.event {
        Event::SimulinAdopted(event) => Some(event.simulin_id),
        Event::SimulinPathChosen(event) => Some(event.simulin_id),
        Event::SimulinRetired(event) => Some(event.simulin_id),
        Event::SimulinXpGained(event) => Some(event.simulin_id),
        Event::SimulinLevelReached(event) => Some(event.simulin_id),
        _ => None,
    }
}

/// A new simulin's row; its species stands for the name until that is looked up.
fn adopted_row(event: &ProjectedEvent, adopted: &SimulinAdopted) -> SimulinRow {
    let header = &event.stored.header;
    let stage = BondLevel::MIN.stage();
    SimulinRow {
        id: adopted.simulin_id,
        user_id: header.stream.as_user(),
        name: adopted.species.to_string(),
        species: adopted.species,
        stage,
        path: None,
        bond_level: BondLevel::MIN.get(),
        bond_xp: 0,
        personality: adopted.personality,
        abilities: abilities_at(stage),
        created_at: header.recorded_at.seconds(),
        retired_at: None,
    }
}

/// Every ability up to a stage's.
fn abilities_at(stage: SimulinStage) -> Vec<Ability> {
    SimulinStage::ALL.iter().filter(|passed| **passed <= stage).map(|at| at.ability()).collect()
}
