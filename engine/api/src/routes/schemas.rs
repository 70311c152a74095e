//! Schemas of enumerations: their names, so that the document cannot differ from the types.

use daybook_schema::{BetType, Period, Pot, SimulinPath, Species};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

fn names(names: impl Iterator<Item = &'static str>) -> Object {
    let text = SchemaType::Type(Type::String);
    ObjectBuilder::new().schema_type(text).enum_values(Some(names.collect::<Vec<_>>())).build()
}

/// The pots.
pub(crate) fn pots() -> Object {
    names(Pot::ALL.iter().map(|pot| pot.as_str()))
}

/// The types of bets.
pub(crate) fn bet_types() -> Object {
    names(BetType::ALL.iter().map(|bet_type| bet_type.as_str()))
}

/// The species.
pub(crate) fn species() -> Object {
    names(Species::ALL.iter().map(|species| species.as_str()))
}

/// The paths.
pub(crate) fn paths() -> Object {
    names(SimulinPath::ALL.iter().map(|path| path.as_str()))
}

/// The periods of leaderboards.
pub(crate) fn periods() -> Object {
    names(Period::ALL.iter().map(|period| period.as_str()))
}
